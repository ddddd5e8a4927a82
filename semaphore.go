package locksmith

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Semaphore is the stored record of one group: how many slots it has, how many
// are free, and which machines hold one. The zero value is not valid; use
// NewSemaphore or ParseSemaphore.
//
// Semaphore.Semaphore is Max minus the number of holders. It is negative after
// Max was lowered below that number: nobody is evicted, and nothing is granted
// until it is positive again. Holders is sorted and without duplicates.
type Semaphore struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// NewSemaphore is the semaphore of a group that nobody has written yet: one
// slot, free.
func NewSemaphore() Semaphore {
	return Semaphore{Semaphore: 1, Max: 1, Holders: []string{}}
}

// ParseSemaphore reads a stored document. Holders and max decide: where the
// document contradicts them (its semaphore is not max minus holders, or holders
// are unsorted or repeated), faults says how, one sentence each, and the value
// returned is the mended one, to be written back by the next change.
//
// A document that is no semaphore at all (no JSON, a missing or unknown field, a
// wrong type, an empty holder) is an error and must not be overwritten.
func ParseSemaphore(doc []byte) (s Semaphore, faults []string, err error) {
	var raw struct {
		Semaphore *int             `json:"semaphore"`
		Max       *int             `json:"max"`
		Holders   *json.RawMessage `json:"holders"`
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return Semaphore{}, nil, fmt.Errorf("not a semaphore: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Semaphore{}, nil, errors.New("not a semaphore: more follows after the document")
	}
	if raw.Semaphore == nil || raw.Max == nil {
		return Semaphore{}, nil, errors.New(`not a semaphore: needs the fields "semaphore" and "max"`)
	}
	s = Semaphore{Max: *raw.Max, Holders: []string{}}
	// Clients of old write a nil slice as null, and a pointer field is nil for
	// both null and absent: either way nobody holds a slot.
	if raw.Holders != nil {
		if err := json.Unmarshal(*raw.Holders, &s.Holders); err != nil {
			return Semaphore{}, nil, fmt.Errorf("not a semaphore: holders: %v", err)
		}
	}
	if slices.Contains(s.Holders, "") {
		return Semaphore{}, nil, errors.New("not a semaphore: an empty holder")
	}
	if !slices.IsSorted(s.Holders) {
		faults = append(faults, "holders are not sorted")
		slices.Sort(s.Holders)
	}
	if n := len(s.Holders); n > 0 {
		if s.Holders = slices.Compact(s.Holders); len(s.Holders) != n {
			faults = append(faults, "a holder is listed twice")
		}
	}
	if s.Holders == nil {
		s.Holders = []string{}
	}
	s.Semaphore = s.Max - len(s.Holders)
	if s.Semaphore > s.Max { // it wrapped around, and would grant slots that are not there
		return Semaphore{}, nil, fmt.Errorf("not a semaphore: max is out of range: %d", s.Max)
	}
	if s.Semaphore != *raw.Semaphore {
		faults = append(faults, fmt.Sprintf("semaphore is %d, but max %d less %d holders is %d",
			*raw.Semaphore, s.Max, len(s.Holders), s.Semaphore))
	}
	return s, faults, nil
}

// Document is the stored form: exactly the three fields, compact, in this order.
func (s Semaphore) Document() string {
	if s.Holders == nil {
		s.Holders = []string{}
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic("locksmith: a semaphore of ints and strings did not marshal: " + err.Error())
	}
	return string(b)
}

// Holds says whether machine holds a slot.
func (s Semaphore) Holds(machine string) bool {
	_, ok := slices.BinarySearch(s.Holders, machine)
	return ok
}

// Lock gives machine a slot. It returns ErrHolderExists if machine holds one
// already, and a *FullError if none is free. The receiver is not changed.
func (s Semaphore) Lock(machine string) (Semaphore, error) {
	i, held := slices.BinarySearch(s.Holders, machine)
	if held {
		return s, ErrHolderExists
	}
	if s.Semaphore <= 0 {
		return s, &FullError{Semaphore: s.Semaphore}
	}
	s.Holders = slices.Insert(slices.Clone(s.Holders), i, machine)
	s.Semaphore--
	return s, nil
}

// Unlock takes machine's slot back. It returns ErrNotHolder if it holds none.
// The receiver is not changed.
func (s Semaphore) Unlock(machine string) (Semaphore, error) {
	i, held := slices.BinarySearch(s.Holders, machine)
	if !held {
		return s, ErrNotHolder
	}
	s.Holders = slices.Delete(slices.Clone(s.Holders), i, i+1)
	s.Semaphore++
	return s, nil
}

// SetMax changes how many slots there are. Holders stay. It refuses a negative
// number. The receiver is not changed.
func (s Semaphore) SetMax(n int) (Semaphore, error) {
	if n < 0 {
		return s, fmt.Errorf("maximum is %d, must be 0 or more", n)
	}
	s.Max, s.Semaphore = n, n-len(s.Holders)
	return s, nil
}
