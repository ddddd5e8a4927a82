package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// How often and after how long things are tried again.
const (
	retryFirst     = 5 * time.Second  // after the first failure of a step
	retryLast      = 5 * time.Minute  // the longest pause between tries
	afterAbort     = 5 * time.Minute  // after an aborted reboot, before the next try
	needWait       = time.Minute      // for a trigger to say whether the reboot is still needed
	recheckLock    = time.Minute      // best-effort: whether etcd is running now
	recheckBlocked = time.Minute      // the longest pause between checks that block, or that fail after the reboot
	lookAgain      = 24 * time.Hour   // for a window where none is in sight
	soakEvery      = 10 * time.Second // between checks that have to keep passing
	answerWait     = 10 * time.Second // after a reboot, for its trigger to say whether it helped
	inVainWithin   = 10 * time.Minute // after a reboot a need for the same reason means that it did not
	warnBefore     = time.Minute      // the users' second message, before the reboot
	rebootAttempts = 3                // of the reboot call
	rebootPause    = 10 * time.Second // between them
)

// rules are what stays the same while the agent runs.
type rules struct {
	bootID      string
	booted      time.Time
	groups      []locksmith.Group
	strategy    locksmith.Strategy
	keeper      string // of the slots, at this moment; empty: etcd
	window      Window // nil: always open
	method      locksmith.Method
	loginDelay  time.Duration
	rebootGrace time.Duration
	proceed     bool // reboot although prepare failed
	verifyTime  time.Duration
	verifySoak  time.Duration
	maxPerDay   int
	minUptime   time.Duration
	remembers   bool // there is somewhere to remember
	dryRun      bool
	jitter      func(time.Duration) time.Duration // spreads the fleet's retries
}

// step is the agent's every decision: what an event at an instant leads to. It has
// no side effects; effects carries at most one effect that starts, and abandon.
func (r rules) step(s state, ev event, now time.Time) (state, []effect) {
	s = r.absorb(s, ev, now)
	if !s.doubt.IsZero() && !now.Before(s.doubt.Add(needWait)) {
		s.needed, s.needKnown, s.doubt = false, false, time.Time{}
	}
	if !s.followsPauses() {
		s.pauses, s.heard = nil, false
	}
	var effects []effect
	for {
		before := s.phase
		var e effect
		s.wakeAt = time.Time{}
		s, e = r.decide(s, now)
		if e.kind != none {
			effects = append(effects, e)
			if e.kind != effectAbandon {
				s.op = e.kind
			}
		}
		if s.phase == before || s.op != none {
			if until := s.doubt.Add(needWait); !s.doubt.IsZero() && (s.wakeAt.IsZero() || until.Before(s.wakeAt)) {
				s.wakeAt = until
			}
			return s, effects
		}
	}
}

// absorb takes in what happened, without deciding what follows.
func (r rules) absorb(s state, ev event, now time.Time) state {
	switch ev := ev.(type) {
	case evTick:
	case evNeed:
		return r.answered(s, ev, now)
	case evPauses:
		s.pauses, s.heard = ev.pauses, !ev.unknown
		if s.heard && s.phase == locksmith.PhaseWindow && s.refusals > 0 { // perhaps because of one that is over
			s.refusals, s.retryAt = 0, time.Time{}
		}
	case evSessionsChanged:
		s.listed = false
	case evFound:
		if ev.err == nil {
			s.queued = ev.slots.Queued && s.op != effectWithdraw
		}
		s.op = none
		return r.found(s, ev, now)
	case evDecided:
		s.op = none
		if ev.err != nil {
			return r.retry(s, now, fmt.Sprintf("whether etcd is running is not known: %v", ev.err))
		}
		s.decided, s.useLock, s.failures, s.waiting = true, ev.useLock, 0, ""
	case evGranted:
		s.op = none
		s.held, s.slots, s.failures, s.refusals, s.abandoning, s.queued = true, ev.slots, 0, 0, false, false
	case evListed:
		s.op = none
		s.listed, s.sessions = true, ev.sessions
		if ev.err != nil {
			s.waiting = fmt.Sprintf("who is logged in is not known, assuming somebody is: %v", ev.err)
			s.sessions = []Session{{ID: "unknown"}}
		}
	case evAdvanced:
		return r.advanced(s, ev, now)
	case evGoingDown:
		s.op = none
		switch {
		case ev.err != nil:
			return r.retry(s, now, fmt.Sprintf("whether the machine is going down is not known: %v", ev.err))
		case ev.yes: // too late to give up: the slots stay held
			s = r.enter(s, locksmith.PhaseRebooting, now)
			s.accepted = now
			return s
		}
		s.asked, s.failures, s.waiting = false, 0, ""
	case evDone:
		return r.done(s, ev.err, now)
	}
	return s
}

// found applies what an earlier run left in the store: the table of the design.
func (r rules) found(s state, ev evFound, now time.Time) state {
	if ev.err != nil {
		return r.retry(s, now, fmt.Sprintf("what this machine holds is not known: %v", ev.err))
	}
	s.recovered, s.failures, s.waiting = true, 0, ""
	rec := ev.slots.Record
	c, method := s.cycle(), r.method // without a memory, what is configured is the best guess
	if s.mem.Cycle != nil {
		method = c.Method
	}
	if locksmith.KernelBoot(c.Boot) == locksmith.KernelBoot(rec.BootID) {
		rec.BootID = c.Boot // written later, so it knows of soft reboots since the grant
	}
	switch {
	case s.mem.Cycle != nil && (len(ev.slots.Groups) == 0 || !rec.Own()):
		return r.unfinished(s, now)
	case len(ev.slots.Groups) == 0:
		return r.enter(s, locksmith.PhaseIdle, now)
	case !rec.Own() || (rec.By == locksmith.ByReboot && rec.BootID == r.bootID):
		s = r.enter(s, locksmith.PhaseIdle, now)
		s.waiting = fmt.Sprintf("an administrator holds this machine's slot (by %s since %s)", rec.By, rec.Since().Format(time.DateTime))
		s.retryAt = now.Add(recheckLock)
		return s
	}
	s.held, s.slots = true, ev.slots
	if !r.another(rec.BootID, method) {
		s = r.enter(s, locksmith.PhaseAcquired, now)
		s.asked = rec.Phase == locksmith.PhaseRebooting
		s.resumed, s.prepared = now, true // perhaps: restore does nothing where nothing was done
		if rec.Phase == locksmith.PhaseNotifying {
			s.notified = time.Unix(rec.PhaseTime, 0)
		}
		return s
	}
	// Another boot, or a record of an old client, which does not say.
	s = r.returned(s, now)
	if rec.Phase == locksmith.PhaseRebooting && rec.PhaseTime > 0 {
		s.down = max(0, now.Sub(time.Unix(rec.PhaseTime, 0)))
	}
	if rec.Phase == locksmith.PhaseFailed {
		s.verifyUntil = now // it is known to fail
	}
	return s
}

// unfinished goes on with a cycle that this machine remembers and has no slots for:
// it needs none, or they were taken away.
func (r rules) unfinished(s state, now time.Time) state {
	c := s.cycle()
	switch {
	case r.another(c.Boot, c.Method):
		s = r.returned(s, now)
		if !c.Asked.IsZero() {
			s.down = max(0, now.Sub(c.Asked))
		}
		return s
	case s.useLock:
		s.asked, s.prepared = !c.Asked.IsZero(), c.Prepared
		return r.abort(s, now, "the slot was taken away")
	}
	s = r.enter(s, locksmith.PhaseAcquired, now)
	s.asked, s.resumed, s.prepared = !c.Asked.IsZero(), now, c.Prepared
	return s
}

// returned is the machine back from a reboot, its own or any other.
func (r rules) returned(s state, now time.Time) state {
	s = r.enter(s, locksmith.PhaseVerifying, now)
	s.prepared, s.outcome = true, rebooted
	s.verifyUntil = now.Add(r.verifyTime)
	return s
}

// another says whether boot is an earlier one, and a reboot by method lies between
// it and the present: a soft reboot that came in the way is not what was asked for.
func (r rules) another(boot string, method locksmith.Method) bool {
	if locksmith.KernelBoot(boot) != locksmith.KernelBoot(r.bootID) {
		return true
	}
	return boot != r.bootID && method.KeepsBoot()
}

// advanced applies the answer of the store to a new phase.
func (r rules) advanced(s state, ev evAdvanced, now time.Time) state {
	op := s.op
	s.op = none
	paused, isPaused := errors.AsType[*locksmith.PausedError](ev.err)
	switch {
	case ev.err == nil:
		s.slots = ev.slots
		if op == effectConfirm {
			s.confirmed, s.failures = true, 0
		}
		return s
	case errors.Is(ev.err, locksmith.ErrSlotLost) && !s.resumed.IsZero() && s.held && len(ev.slots.Groups) == len(s.slots.Groups):
		// What the process before sent was carried out after we had looked.
		return r.enter(s, locksmith.PhaseRecovering, now)
	case errors.Is(ev.err, locksmith.ErrSlotLost):
		s.slots, s.held = ev.slots, len(ev.slots.Groups) > 0
		if s.phase == locksmith.PhaseVerifying || s.phase == locksmith.PhaseFailed {
			return s // the fleet goes on where it was taken; this machine is not well for that
		}
		return r.abort(s, now, r.takenAway(s)) // which gives back what is left
	case op == effectPublish: // for people only
		return s
	case isPaused:
		s = r.abort(s, now, paused.Error())
		s.rest = recheckBlocked // the machine itself has not heard of that pause
		return s
	}
	s.checked = false // that was before the wait
	return r.retry(s, now, fmt.Sprintf("the slot cannot be confirmed: %v", ev.err))
}

// done applies the end of the effects that only succeed or fail.
func (r rules) done(s state, err error, now time.Time) state {
	op := s.op
	s.op = none
	if err == nil && op != effectRemember {
		s.failures, s.waiting = 0, ""
	}
	switch op {
	case effectCheck:
		s.checked, s.vetoes = err == nil, vetoesOf(err)
		switch {
		case err == nil:
		case s.phase == locksmith.PhaseRebooting:
			return r.abort(s, now, fmt.Sprintf("blocked by %v", err))
		default:
			return r.retryWithin(s, now, recheckBlocked, fmt.Sprintf("blocked by %v", err))
		}
	case effectAcquire:
		s.abandoning = false
		return r.refused(s, err, now)
	case effectRemember:
		return r.remembered(s, err, now)
	case effectPrepare:
		switch {
		case err == nil:
		case r.proceed:
			s.waiting = fmt.Sprintf("prepare failed, and the reboot goes on as configured: %v", err)
		default:
			return r.abort(s, now, fmt.Sprintf("prepare failed: %v", err))
		}
		return r.enter(s, locksmith.PhaseNotifying, now)
	case effectTell: // a terminal that cannot be written to delays nobody
	case effectReboot:
		switch {
		case err == nil && r.dryRun:
			return r.abort(s, now, dryRun)
		case err == nil:
			s.accepted = now
			return s
		}
		return r.notRebooted(s, now, fmt.Sprintf("%s%v", locksmith.RebootFailed, err))
	case effectVerify:
		return r.verified(s, err, now)
	case effectRestore:
		if err != nil {
			return r.retry(s, now, fmt.Sprintf("restore failed: %v", err))
		}
		s.prepared = false
		return r.enter(s, locksmith.PhaseReleasing, now)
	case effectRelease:
		if err != nil {
			return r.retry(s, now, fmt.Sprintf("the slot cannot be given back: %v", err))
		}
		s.held = false
	}
	return s
}

// refused applies a wait in the queue that ended without slots.
func (r rules) refused(s state, err error, now time.Time) state {
	paused, isPaused := errors.AsType[*locksmith.PausedError](err)
	s.queued = s.queued || errors.Is(err, locksmith.ErrMayHold)
	switch {
	case errors.Is(err, errAbandoned):
		return r.enter(s, locksmith.PhaseWindow, now)
	case errors.Is(err, locksmith.ErrHolderExists):
		// Ours, of a grant that nobody heard of, or an administrator's: the
		// record tells.
		return r.enter(s, locksmith.PhaseRecovering, now)
	}
	why := fmt.Sprintf("no slot: %v", err)
	if isPaused {
		// The machine follows the pauses itself; this is for the moment until it
		// has heard of this one.
		why = paused.Error()
	}
	s = r.enter(s, locksmith.PhaseWindow, now)
	s.failures, s.refusals = s.refusals, s.refusals+1
	return r.retry(s, now, why)
}

// notRebooted counts a reboot call that came to nothing: it is made again, with
// everything checked anew, and after some tries the machine gives up.
func (r rules) notRebooted(s state, now time.Time, why string) state {
	s.attempts++
	s.accepted, s.confirmed, s.checked = time.Time{}, false, false
	if s.attempts >= rebootAttempts || errors.Is(r.closed(now), errWindowClosed) {
		return r.abort(s, now, why)
	}
	s.waiting, s.retryAt = why, now.Add(rebootPause)
	return s
}

// abort gives up on a reboot that is under way: restore, release, later again.
func (r rules) abort(s state, now time.Time, why string) state {
	s = r.enter(s, locksmith.PhaseRestoring, now)
	s.outcome = aborted + why
	s.rest = afterAbort
	if r.closed(now) != nil || s.useLock && len(s.paused(now)) > 0 {
		s.rest = 0 // the window or the pause says when to go on
	}
	return s
}

// closed is errWindowClosed outside the window.
func (r rules) closed(now time.Time) error {
	if r.window != nil && !r.window.Contains(now) {
		return errWindowClosed
	}
	return nil
}

// enter moves to a phase and forgets what belonged to the one before.
func (r rules) enter(s state, phase locksmith.Phase, now time.Time) state {
	if s.phase != phase {
		s.phase, s.since = phase, now
	}
	s.waiting, s.failures, s.retryAt, s.checked, s.published, s.noted = "", 0, time.Time{}, false, false, false
	s.confirmed, s.accepted, s.attempts = false, time.Time{}, 0
	s.sessions, s.told, s.warned, s.listed, s.delayUntil = nil, nil, false, false, time.Time{}
	s.vetoes, s.tripped, s.verified = nil, "", false
	return s
}

// retry notes a failure and when the step may be tried again.
func (r rules) retry(s state, now time.Time, why string) state {
	return r.retryWithin(s, now, retryLast, why)
}

// retryWithin is retry with a longest pause of its own.
func (r rules) retryWithin(s state, now time.Time, longest time.Duration, why string) state {
	d := min(retryFirst<<min(s.failures, 10), longest)
	s.failures++
	s.waiting, s.retryAt = why, now.Add(r.spread(d))
	return s
}

// spread keeps the machines of a fleet from doing the same at the same time.
func (r rules) spread(d time.Duration) time.Duration {
	if r.jitter == nil {
		return d
	}
	return r.jitter(d)
}

// misfit says why the slots that are held are not those that a reboot needs, "" if
// they are.
func (r rules) misfit(s state) string {
	held := slices.Sorted(slices.Values(s.slots.Groups))
	want := slices.Sorted(slices.Values(r.groups))
	was := slices.Sorted(slices.Values(s.slots.Record.Groups))
	switch {
	case s.held && slices.Equal(held, want):
		return ""
	case s.held && !slices.Equal(was, want):
		return "the groups have changed"
	}
	return r.takenAway(s)
}

// takenAway is how people are told that slots were, of which s has what is left.
func (r rules) takenAway(s state) string {
	gone := slices.DeleteFunc(slices.Clone(r.groups), func(g locksmith.Group) bool { return slices.Contains(s.slots.Groups, g) })
	if !s.held || len(gone) == 0 {
		return "the slot was taken away"
	}
	names := make([]string, len(gone))
	for i, g := range gone {
		names[i] = g.String()
	}
	return "the slot of " + strings.Join(names, " and of ") + " was taken away"
}
