// Package sim runs a fleet of which every machine needs a reboot at once, on virtual
// time, under the ways in which reboot managers wait for a slot: locksmith's queue, and
// the polling of its peers. A run is a queue of events: it takes no real time, and the
// same Config gives the same Result.
//
// It must not know locksmith's code, nor any store: what a policy costs is handed in,
// as measured on the real thing.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Config is one fleet.
type Config struct {
	Machines int           // required, 1 or more
	Max      int           // required, 1 or more: how many may be down at once
	Down     time.Duration // required: from a grant until the machine is up again, on average
	Spread   float64       // of Down: 0.25 draws it evenly from 75 % to 125 %; 0 or more, less than 1

	// Arrive is the time within which the machines learn that they need a reboot, evenly
	// spread. 0: all at the same instant.
	Arrive time.Duration

	Seed uint64 // of everything that is drawn; the times down depend on nothing else
}

// Policy is a way to wait for a slot.
type Policy interface {
	// Name is what the policy is called in tables and plots.
	Name() string

	// start puts the fleet's first events into r.
	start(r *run)
}

// Span is one machine's way through a run, as times since its start.
type Span struct {
	Needed   time.Duration // it learned that it needs a reboot
	Granted  time.Duration // it got its slot
	Released time.Duration // its slot was free again
}

// Result is what came of a run.
type Result struct {
	Makespan time.Duration // from the start until the last slot was free again
	Most     int           // held a slot at once
	Requests int           // to the store
	Peak     int           // requests in the second that had most of them
	Spans    []Span        // by machine
}

// Waits are the times from Needed to Granted, the shortest first.
func (r Result) Waits() []time.Duration {
	waits := make([]time.Duration, len(r.Spans))
	for i, s := range r.Spans {
		waits[i] = s.Granted - s.Needed
	}
	slices.Sort(waits)
	return waits
}

// Quantile is the value in a sorted list below which the part q of all values lies.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// PerMachine is the number of requests for each machine.
func (r Result) PerMachine() float64 { return float64(r.Requests) / float64(len(r.Spans)) }

// Run lets a fleet go through its reboots under a policy.
func Run(cfg Config, policy Policy) (Result, error) {
	switch {
	case cfg.Machines < 1 || cfg.Max < 1:
		return Result{}, fmt.Errorf("sim: %d machines, max %d: both must be 1 or more", cfg.Machines, cfg.Max)
	case cfg.Down <= 0 || cfg.Spread < 0 || cfg.Spread >= 1 || cfg.Arrive < 0:
		return Result{}, fmt.Errorf("sim: down %v, spread %g, arriving in %v: Down must be more than 0, Spread from 0 to below 1, Arrive 0 or more",
			cfg.Down, cfg.Spread, cfg.Arrive)
	}
	r := newRun(cfg)
	policy.start(r)
	r.loop()
	if r.left > 0 {
		return Result{}, fmt.Errorf("sim: %s: %d of %d machines never came to their reboot", policy.Name(), r.left, cfg.Machines)
	}
	return r.result, nil
}

// Ideal is the time that a fleet needs if nothing happens between two reboots: as many
// at a time as may be, in the order in which they need it.
func Ideal(cfg Config) (time.Duration, error) {
	r, err := Run(cfg, Queue{Title: "ideal"})
	return r.Makespan, err
}

// run is one run under way.
type run struct {
	cfg    Config
	rand   *rand.Rand // of the policy
	now    time.Duration
	events heap
	last   uint64 // number of the last event put in

	held   int
	left   int // machines whose slot has not been given back for good
	second time.Duration
	inThis int // requests in second
	down   []time.Duration
	result Result
}

// The streams of random numbers are apart, so that the same fleet is down for the same
// times under each policy.
const (
	streamFleet  = 1
	streamPolicy = 2
)

func newRun(cfg Config) *run {
	fleet := rand.New(rand.NewPCG(cfg.Seed, streamFleet))
	r := &run{cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, streamPolicy)), left: cfg.Machines,
		down: make([]time.Duration, cfg.Machines), result: Result{Spans: make([]Span, cfg.Machines)}}
	for i := range cfg.Machines {
		u, v := fleet.Float64(), fleet.Float64()
		off := float64(cfg.Spread * (2*u - 1)) // rounded by itself, so that all processors reckon the same
		r.down[i] = time.Duration(float64(cfg.Down) * (1 + off))
		r.result.Spans[i].Needed = time.Duration(float64(cfg.Arrive) * v)
	}
	return r
}

// loop lets happen what is in the queue, until nothing is.
func (r *run) loop() {
	for len(r.events) > 0 {
		e := r.events.pop()
		r.now = e.at
		e.do(int(e.machine))
	}
}

// at lets do happen to a machine at a time. Of what happens at the same time, what was
// asked for first happens first.
func (r *run) at(when time.Duration, machine int, do func(machine int)) {
	r.last++
	r.events.push(event{when, r.last, int32(machine), do})
}

// request counts one request to the store, now.
func (r *run) request() {
	r.result.Requests++
	if s := r.now.Truncate(time.Second); s != r.second {
		r.second, r.inThis = s, 0
	}
	r.inThis++
	r.result.Peak = max(r.result.Peak, r.inThis)
}

// granted notes that a machine has its slot from now on.
func (r *run) granted(machine int) {
	r.held++
	r.result.Most = max(r.result.Most, r.held)
	r.result.Spans[machine].Granted = r.now
}

// released notes that a machine's slot is free from now on.
func (r *run) released(machine int) {
	r.held--
	r.left--
	r.result.Spans[machine].Released = r.now
	r.result.Makespan = max(r.result.Makespan, r.now)
}

// free is how many slots are.
func (r *run) free() int { return r.cfg.Max - r.held }

// event is what happens to one machine.
type event struct {
	at      time.Duration
	number  uint64
	machine int32
	do      func(machine int)
}

func (e event) before(f event) bool {
	return e.at < f.at || e.at == f.at && e.number < f.number
}

// heap keeps events with the next one in front.
type heap []event

func (h *heap) push(e event) {
	*h = append(*h, e)
	list := *h
	for i := len(list) - 1; i > 0; {
		parent := (i - 1) / 2
		if !list[i].before(list[parent]) {
			return
		}
		list[i], list[parent] = list[parent], list[i]
		i = parent
	}
}

func (h *heap) pop() event {
	list := *h
	first, last := list[0], len(list)-1
	list[0] = list[last]
	list[last] = event{}
	list = list[:last]
	*h = list
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return first
		}
		if child+1 < last && list[child+1].before(list[child]) {
			child++
		}
		if !list[child].before(list[i]) {
			return first
		}
		list[i], list[child] = list[child], list[i]
		i = child
	}
}
