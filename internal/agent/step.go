package agent

import (
	"errors"
	"fmt"
	"slices"
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
	rebootAttempts = 3                // of the reboot call
	rebootPause    = 10 * time.Second // between them
)

// rules are what stays the same while the agent runs.
type rules struct {
	bootID      string
	groups      []locksmith.Group
	strategy    locksmith.Strategy
	window      Window // nil: always open
	loginDelay  time.Duration
	rebootGrace time.Duration
	jitter      func(time.Duration) time.Duration // spreads the fleet's retries
}

// state is where the machine is. It is a value: step returns a new one.
type state struct {
	phase   locksmith.Phase
	since   time.Time
	waiting string // what the phase waits for, or what went wrong last

	needed    bool      // a trigger says reboot needed
	needKnown bool      // the triggers have answered
	doubt     time.Time // since when the trigger that said so cannot tell any more; zero: it can
	reason    string    // of the need

	op         effectKind // what is being carried out; none: nothing
	abandoning bool       // the wait in the queue was asked to end
	recovered  bool       // the store was asked what an earlier run left
	findAt     time.Time  // best-effort without etcd: when to ask again
	useLock    bool       // a slot is required
	decided    bool       // best-effort: useLock is valid for this cycle

	held    bool            // slots are held
	slots   locksmith.Slots // valid if held
	resumed time.Time       // since when slots of an earlier run wait for the triggers' answer
	checked bool            // the check for the present step passed

	prepared bool   // prepare was begun: restore has to run
	outcome  string // for the history, once the cycle ends
	down     time.Duration

	sessions   []Session
	told       []string  // ids of sessions that know
	listed     bool      // sessions is up to date
	delayUntil time.Time // end of the logged-in users' delay
	published  bool      // the store knows that users are waited for

	asked     bool      // a reboot may have been accepted, now or by an earlier run
	confirmed bool      // the intent to reboot is written
	accepted  time.Time // when the reboot was accepted
	attempts  int       // reboot calls that came to nothing

	failure  string    // why the checks after the reboot fail
	failures int       // in a row, of the present step
	refusals int       // in a row, of the wait in the queue
	retryAt  time.Time // not before then
	wakeAt   time.Time // when to look again; zero: only at an event
}

// effectKind names what the loop has to carry out.
type effectKind string

const (
	none           effectKind = ""
	effectFind     effectKind = "find"     // Lock.Find → found
	effectDecide   effectKind = "decide"   // UseLock → decided
	effectCheck    effectKind = "check"    // Steps.Check → done
	effectAcquire  effectKind = "acquire"  // Lock.Acquire → granted or done
	effectAbandon  effectKind = "abandon"  // end effectAcquire; its own event comes
	effectPrepare  effectKind = "prepare"  // Steps.Prepare → done
	effectSessions effectKind = "sessions" // Machine.Sessions → listed
	effectTell     effectKind = "tell"     // Machine.Tell → done
	effectPublish  effectKind = "publish"  // Lock.Advance, for people → advanced
	effectConfirm  effectKind = "confirm"  // Lock.Advance to rebooting → advanced
	effectReboot   effectKind = "reboot"   // Machine.Reboot → done
	effectDown     effectKind = "down"     // Machine.GoingDown → going down
	effectVerify   effectKind = "verify"   // Steps.Verify → done
	effectRestore  effectKind = "restore"  // Steps.Restore → done
	effectRelease  effectKind = "release"  // Lock.Release → done
)

// effect is one thing to carry out.
type effect struct {
	kind     effectKind
	sessions []Session        // tell
	message  string           // tell; the reason to publish
	phase    locksmith.Phase  // publish, confirm
	result   locksmith.Result // release
}

// event is what the loop tells step. Exactly one for each effect but abandon.
type event interface{}

type (
	evTick struct{}
	evNeed struct {
		known, needed bool
		reason        string
	}
	evSessionsChanged struct{}
	evFound           struct {
		slots locksmith.Slots
		err   error
	}
	evDecided struct {
		useLock bool
		err     error
	}
	evGranted struct{ slots locksmith.Slots }
	evListed  struct {
		sessions []Session
		err      error
	}
	evAdvanced struct {
		slots locksmith.Slots
		err   error
	}
	evGoingDown struct {
		yes bool
		err error
	}
	evDone struct{ err error } // of any other effect
)

// rebooted is the outcome of a cycle that went well.
const rebooted = "rebooted"

// errAbandoned is how a wait ends that was asked to.
var errAbandoned = errors.New("the wait was abandoned")

// errWindowClosed is why an effect was not carried out.
var errWindowClosed = errors.New("the window is closed")

func start(now time.Time) state {
	return state{phase: locksmith.PhaseRecovering, since: now}
}

// step is the agent's every decision: what an event at an instant leads to. It has
// no side effects; effects carries at most one effect that starts, and abandon.
func (r rules) step(s state, ev event, now time.Time) (state, []effect) {
	s = r.absorb(s, ev, now)
	if !s.doubt.IsZero() && !now.Before(s.doubt.Add(needWait)) {
		s.needed, s.needKnown, s.doubt = false, false, time.Time{}
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
		if s.needed && !ev.needed && !ev.known {
			// An update engine or a bus that restarts costs nobody his place in
			// the queue; but no reboot is asked for in doubt.
			if s.doubt.IsZero() {
				s.doubt = now
			}
			return s
		}
		s.needKnown, s.needed, s.doubt = ev.known, ev.needed, time.Time{}
		if ev.needed {
			s.reason = ev.reason
		}
	case evSessionsChanged:
		s.listed = false
	case evFound:
		s.op = none
		s = r.found(s, ev, now)
	case evDecided:
		s.op = none
		if ev.err != nil {
			return r.retry(s, now, fmt.Sprintf("whether etcd is running is not known: %v", ev.err))
		}
		s.decided, s.useLock, s.failures, s.waiting = true, ev.useLock, 0, ""
	case evGranted:
		s.op = none
		s.held, s.slots, s.failures, s.refusals, s.abandoning = true, ev.slots, 0, 0, false
	case evListed:
		s.op = none
		s.listed, s.sessions = true, ev.sessions
		if ev.err != nil {
			s.waiting = fmt.Sprintf("who is logged in is not known, assuming somebody is: %v", ev.err)
			s.sessions = []Session{{ID: "unknown"}}
		}
	case evAdvanced:
		s = r.advanced(s, ev, now)
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
		s = r.done(s, ev.err, now)
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
	hold := func() state {
		s.held, s.slots = true, ev.slots
		return s
	}
	switch {
	case len(ev.slots.Groups) == 0:
		return r.enter(s, locksmith.PhaseIdle, now)
	case !rec.Own() || (rec.By == locksmith.ByReboot && rec.BootID == r.bootID):
		s = r.enter(s, locksmith.PhaseIdle, now)
		s.waiting = fmt.Sprintf("an administrator holds this machine's slot (by %s since %s)", rec.By, rec.Since().Format(time.DateTime))
		s.retryAt = now.Add(recheckLock)
		return s
	case rec.BootID == r.bootID:
		s = r.enter(hold(), locksmith.PhaseAcquired, now)
		s.asked = rec.Phase == locksmith.PhaseRebooting
		s.resumed, s.prepared = now, true // perhaps: restore does nothing where nothing was done
		return s
	default: // another boot, or a record of an old client, which does not say
		s = r.enter(hold(), locksmith.PhaseVerifying, now)
		s.prepared, s.outcome = true, rebooted
		if rec.Phase == locksmith.PhaseRebooting && rec.PhaseTime > 0 {
			s.down = max(0, now.Sub(time.Unix(rec.PhaseTime, 0)))
		}
		return s
	}
}

// advanced applies the answer of the store to a new phase.
func (r rules) advanced(s state, ev evAdvanced, now time.Time) state {
	op := s.op
	s.op = none
	switch {
	case ev.err == nil:
		s.slots = ev.slots
		if op == effectConfirm {
			s.confirmed, s.failures = true, 0
		}
		return s
	case errors.Is(ev.err, locksmith.ErrSlotLost):
		s.held = false
		return r.abort(s, now, "the slot was taken away")
	case op == effectPublish: // for people only
		return s
	}
	return r.retry(s, now, fmt.Sprintf("the slot cannot be confirmed: %v", ev.err))
}

// done applies the end of the effects that only succeed or fail.
func (r rules) done(s state, err error, now time.Time) state {
	op := s.op
	s.op = none
	if err == nil {
		s.failures, s.waiting = 0, ""
	}
	switch op {
	case effectCheck:
		s.checked = err == nil
		switch {
		case err == nil:
		case s.phase == locksmith.PhaseRebooting:
			return r.abort(s, now, fmt.Sprintf("blocked: %v", err))
		default:
			return r.retry(s, now, fmt.Sprintf("blocked: %v", err))
		}
	case effectAcquire:
		s.abandoning = false
		return r.refused(s, err, now)
	case effectPrepare:
		if err != nil {
			return r.abort(s, now, fmt.Sprintf("prepare failed: %v", err))
		}
		return r.enter(s, locksmith.PhaseNotifying, now)
	case effectTell: // a terminal that cannot be written to delays nobody
	case effectReboot:
		if err == nil {
			s.accepted = now
			return s
		}
		return r.notRebooted(s, now, fmt.Sprintf("the reboot call failed: %v", err))
	case effectVerify:
		if err != nil {
			if s.phase != locksmith.PhaseFailed {
				s = r.enter(s, locksmith.PhaseFailed, now)
			}
			s.published = s.published && s.failure == err.Error()
			s.failure = err.Error()
			return r.retry(s, now, fmt.Sprintf("checks after the reboot fail: %v", err))
		}
		return r.enter(s, locksmith.PhaseRestoring, now)
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
	switch {
	case errors.Is(err, errAbandoned):
		return r.enter(s, locksmith.PhaseWindow, now)
	case errors.Is(err, locksmith.ErrHolderExists):
		// Ours, of a grant that nobody heard of, or an administrator's: the
		// record tells.
		return r.enter(s, locksmith.PhaseRecovering, now)
	}
	s = r.enter(s, locksmith.PhaseWindow, now)
	s.failures, s.refusals = s.refusals, s.refusals+1
	return r.retry(s, now, fmt.Sprintf("no slot: %v", err))
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
	s.outcome = "aborted: " + why
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
	s.waiting, s.failures, s.retryAt, s.checked, s.published = "", 0, time.Time{}, false, false
	s.confirmed, s.accepted, s.attempts = false, time.Time{}, 0
	s.sessions, s.told, s.listed, s.delayUntil = nil, nil, false, time.Time{}
	return s
}

// retry notes a failure and when the step may be tried again.
func (r rules) retry(s state, now time.Time, why string) state {
	d := min(retryFirst<<min(s.failures, 10), retryLast)
	if r.jitter != nil {
		d = r.jitter(d)
	}
	s.failures++
	s.waiting, s.retryAt = why, now.Add(d)
	return s
}

// sameGroups says whether what is held is what the configuration asks for.
func (r rules) sameGroups(s state) bool {
	held := slices.Sorted(slices.Values(s.slots.Groups))
	want := slices.Sorted(slices.Values(r.groups))
	return slices.Equal(held, want)
}
