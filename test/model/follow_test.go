package model

import (
	"errors"

	"github.com/locksmith-reboot/locksmith"
)

// What a process does by itself until it needs the test, held against the model.

// follow goes on with machine m's process until it is where the model says: its request
// stands at the gate, or its call has ended, or it waits.
func (r *replay) follow(m int) {
	r.t.Helper()
	p := r.procs[m]
	for {
		f := r.state.Machine[m].Flight
		must := f.Request != NoRequest || r.ends(m)
		s := p.look(r.t, must)
		switch {
		case r.t.Failed():
			r.fail("machine %s: the model has %+v", name(m), r.state.Machine[m])
		case s == nil:
			r.collect(m, must)
			return
		case r.meant(m, s, f):
			return
		}
	}
}

// ends says whether machine m's call must end, as its model does not wait any more.
func (r *replay) ends(m int) bool {
	p, pc := r.procs[m], r.state.Machine[m].PC
	if p.job == nil || p.called || p.leaving {
		return p.job != nil
	}
	switch p.kind {
	case Grant:
		return pc != Needing && pc != Queued && pc != First
	case Confirm:
		return pc != Held || p.answered
	}
	return pc != Aborting && pc != Returning
}

// meant says whether the change at the gate may stand there. What the model has no
// request for goes on if it changes nothing, because its sender had not seen the
// present yet.
func (r *replay) meant(m int, s *sent, f Flight) bool {
	r.t.Helper()
	p, kind := r.procs[m], kindOf(s)
	switch kind {
	case leave:
		if r.state.Queue.place(m) >= 0 {
			r.fail("machine %s leaves the queue, and in the model it does not", name(m))
		}
		p.let(carried)
		return false
	case join:
		if p.called { // it has given up
			p.let(held)
		}
		return !p.called && f.Request == NoRequest
	}
	if p.called {
		p.let(held)
		return false
	}
	if p.repeats && kind == p.kind && f.Request == NoRequest { // it will be asked for
		return true
	}
	would := r.would(s)
	switch {
	case kind == f.Request && would == r.model.holds(r.state, m, f):
		return true
	case !would:
		if p.let(carried) {
			r.fail("machine %s: what could not succeed has", name(m))
		}
		return false
	}
	r.fail("machine %s sends a request %d that would succeed, the model has %+v", name(m), kind, r.state.Machine[m])
	return false
}

// collect takes in what the call of machine m's process has returned, once it has.
func (r *replay) collect(m int, must bool) {
	r.t.Helper()
	p, mm := r.procs[m], r.state.Machine[m]
	if p.job == nil || !p.ended() {
		return
	}
	if mm.Flight.Request != NoRequest || !must && p.kind != Grant {
		r.fail("machine %s: the call has ended with %v, the model has %+v", name(m), p.job.err, mm)
	}
	w := p.job
	p.job = nil
	ok := true
	switch p.kind {
	case Grant:
		ok = (w.err == nil) == (mm.PC == Held) || w.err == nil && mm.PC == Finding
		if r.slots[m] = w.slots; w.err != nil {
			r.slots[m] = locksmith.Slots{Record: locksmith.Holder{MachineID: name(m)}}
		}
	case Confirm:
		r.slots[m] = w.slots
		p.lost = errors.Is(w.err, locksmith.ErrSlotLost)
		p.told = w.err == nil && mm.PC == Held && mm.Newer != Nobody
		ok = p.called || p.told || (w.err == nil) == (mm.PC == Confirmed)
	case Release:
		ok = p.called || w.err == nil
	}
	if !ok {
		r.fail("machine %s: the call %d returned %v, the model has %+v", name(m), p.kind, w.err, mm)
	}
}
