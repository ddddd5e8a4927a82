package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Phases of a run, in this order.
const (
	phaseEmpty   = "empty"   // nobody has come yet
	phaseBefore  = "before"  // all machines have rebooted once, and everything rests
	phaseBody    = "body"    // rollouts and faults
	phaseAfter   = "after"   // everything rests again
	phaseVacated = "vacated" // everybody has gone
)

// head is the first entry of a record.
type head struct {
	Started  time.Time `json:"started"`
	Duration float64   `json:"duration"` // seconds of the body, as asked for
	Seed     uint64    `json:"seed"`
	Machines int       `json:"machines"`
	Leak     string    `json:"leak,omitempty"`
}

// sample is everything at one moment. A value that could not be had is missing.
type sample struct {
	At     float64            `json:"at"` // seconds since the run started
	Phase  string             `json:"phase"`
	Values map[string]float64 `json:"values"` // "PROCESS.WHAT" or "etcd.WHAT"
	Lives  map[string]int     `json:"lives"`  // of each process: which of its lives this is, from 1
}

// event is something that was done to the fleet, or by it.
type event struct {
	At   float64 `json:"at"` // seconds since the run started
	What string  `json:"what"`
}

// ending is the last entry of a record.
type ending struct {
	Reboots  int      `json:"reboots"`
	Rollouts int      `json:"rollouts"`
	Faults   int      `json:"faults"`
	Broken   []string `json:"broken,omitempty"` // promises, in words
	Short    string   `json:"short,omitempty"`  // why the run was cut short; empty: it was not
}

// record is a whole run.
type record struct {
	Head    head
	Samples []sample
	Events  []event
	Ending  *ending // nil: it was cut short
}

// entry is one line of the file: exactly one of its fields.
type entry struct {
	Head   *head   `json:"head,omitempty"`
	Sample *sample `json:"sample,omitempty"`
	Event  *event  `json:"event,omitempty"`
	Ending *ending `json:"ending,omitempty"`
}

// recorder keeps a record, and writes it to a file as it grows: what a run left that
// was cut short can be judged as far as it goes.
type recorder struct {
	start time.Time
	file  *os.File // nil: none

	mu  sync.Mutex
	rec record
	err error // the first
}

func newRecorder(path string, h head) (*recorder, error) {
	r := &recorder{start: h.Started, rec: record{Head: h}}
	if path != "" {
		var err error
		if r.file, err = os.Create(path); err != nil {
			return nil, err
		}
	}
	r.write(entry{Head: &h})
	return r, nil
}

// write is called with mu, or before anybody else knows of r.
func (r *recorder) write(e entry) {
	if r.file == nil {
		return
	}
	if err := json.NewEncoder(r.file).Encode(e); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *recorder) now() float64 { return time.Since(r.start).Round(time.Millisecond).Seconds() }

func (r *recorder) sample(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Samples = append(r.rec.Samples, s)
	r.write(entry{Sample: &s})
}

func (r *recorder) event(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := event{At: r.now(), What: fmt.Sprintf(format, args...)}
	r.rec.Events = append(r.rec.Events, e)
	r.write(entry{Event: &e})
}

// end closes the record and returns it.
func (r *recorder) end(e ending) (record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Ending = &e
	r.write(entry{Ending: &e})
	if r.file != nil {
		if err := r.file.Close(); err != nil && r.err == nil {
			r.err = err
		}
	}
	return r.rec, r.err
}

// longestEntry bounds a line of the file, in bytes.
const longestEntry = 1 << 20

// readRecord reads a file back.
func readRecord(path string) (r record, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, longestEntry)
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return r, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		switch {
		case e.Head != nil:
			r.Head = *e.Head
		case e.Sample != nil:
			r.Samples = append(r.Samples, *e.Sample)
		case e.Event != nil:
			r.Events = append(r.Events, *e.Event)
		case e.Ending != nil:
			r.Ending = e.Ending
		default:
			return r, fmt.Errorf("%s, line %d: neither head, sample, event nor ending", path, n)
		}
	}
	return r, lines.Err()
}
