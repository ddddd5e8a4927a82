package chaos

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/locksmith-reboot/locksmith"
)

// Call is one call of a client of the lock, and what it was told.
type Call struct {
	Op      string // one of the Op constants
	Machine string // of OpLock and OpUnlock
	Max     int    // of OpSetMax, and what OpRead was told
	Holders string // what OpRead was told: sorted, with commas
	Err     error  // nil: done
	From    time.Duration
	To      time.Duration
}

// What a Call does.
const (
	OpLock   = "lock"
	OpUnlock = "unlock"
	OpSetMax = "set-max"
	OpRead   = "read"
)

// slots is the model's state: a semaphore, comparable.
type slots struct {
	max     int
	holders string
}

func (s slots) list() []string {
	return slices.DeleteFunc(strings.Split(s.holders, ","), func(m string) bool { return m == "" })
}

// unsure says that nobody knows whether the call was carried out, or will be.
func (c Call) unsure() bool {
	full, _ := errors.AsType[*locksmith.FullError](c.Err)
	return c.Err != nil && full == nil && !errors.Is(c.Err, locksmith.ErrHolderExists) && !errors.Is(c.Err, locksmith.ErrNotHolder)
}

// next is what the semaphore is after the call, and the error that its caller has to
// be told.
func (s slots) next(c Call) (slots, error) {
	holders := s.list()
	i, held := slices.BinarySearch(holders, c.Machine)
	switch c.Op {
	case OpLock:
		if held {
			return s, locksmith.ErrHolderExists
		}
		if len(holders) >= s.max {
			return s, &locksmith.FullError{}
		}
		holders = slices.Insert(holders, i, c.Machine)
	case OpUnlock:
		if !held {
			return s, locksmith.ErrNotHolder
		}
		holders = slices.Delete(holders, i, i+1)
	case OpSetMax:
		s.max = c.Max
	}
	s.holders = strings.Join(holders, ",")
	return s, nil
}

// told says whether the caller was told what the semaphore's state asks for.
func (s slots) told(c Call, want error) bool {
	if c.Op == OpRead {
		return c.Max == s.max && c.Holders == s.holders
	}
	if full, _ := errors.AsType[*locksmith.FullError](want); full != nil {
		got, _ := errors.AsType[*locksmith.FullError](c.Err)
		return got != nil
	}
	return errors.Is(c.Err, want)
}

// CheckCalls judges whether the calls, of one group with max slots at first, can
// have been carried out one after the other, each between its beginning and its end,
// with the answers that were given. porcupine.Unknown: that would take too long.
func CheckCalls(calls []Call, max int) porcupine.CheckResult {
	const never = int64(1) << 62
	var ops []porcupine.Operation
	for i, c := range calls {
		op := porcupine.Operation{ClientId: i, Input: c, Call: int64(c.From), Return: int64(c.To)}
		if c.unsure() {
			if c.Op == OpRead {
				continue
			}
			op.Return = never // it may be carried out at any later time
		}
		ops = append(ops, op)
	}
	model := porcupine.Model{
		Init: func() any { return slots{max: max} },
		Step: func(state, input, _ any) (bool, any) {
			s, c := state.(slots), input.(Call)
			next, want := s.next(c)
			return c.unsure() || s.told(c, want), next
		},
	}
	return porcupine.CheckOperationsTimeout(model, ops, 10*time.Second)
}
