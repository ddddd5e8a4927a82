package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// verifying runs the checks after the reboot until they pass, have kept passing, and
// the need that led to the reboot is gone.
func (r rules) verifying(s state, now time.Time) (state, effect) {
	if s.held && !s.published && (s.phase == locksmith.PhaseFailed || !s.retryAt.IsZero()) {
		s.published = true
		message := s.failure
		if message == "" {
			message = s.waiting
		}
		return s, effect{kind: effectPublish, phase: s.phase, message: message}
	}
	if now.Before(s.retryAt) {
		if s.dirty && r.remembers { // not while somebody waits for the slot
			return s.remember()
		}
		s.wakeAt = s.retryAt
		return s, effect{}
	}
	if !s.verified {
		return s, effect{kind: effectVerify}
	}
	if !s.cycle().Asked.IsZero() && s.outcome == rebooted {
		if s = r.helped(s, now); now.Before(s.retryAt) {
			return r.verifying(s, now) // to say it, and to wait
		}
		return s, effect{}
	}
	return r.enter(s, locksmith.PhaseRestoring, now), effect{}
}

// helped waits for the triggers to say whether the reboot did, and keeps the slots
// where it did not.
func (r rules) helped(s state, now time.Time) state {
	c := s.cycle()
	sure := len(c.Triggers) == 0 || subset(c.Triggers, s.sure)
	inVain := subset(s.mem.InVain, c.Reasons) // as was seen before, perhaps by an earlier run of the agent
	switch {
	case !sure && now.Before(s.answerUntil) && !(inVain && s.phase == locksmith.PhaseFailed):
		s.waiting, s.wakeAt = "for the triggers to say whether the reboot helped", s.answerUntil
		return s
	case s.needed && subset(s.reasons, c.Reasons):
		if !slices.Equal(s.mem.InVain, s.reasons) {
			s.mem.InVain, s.dirty = s.reasons, true
		}
		s = r.fail(s, now, "still needed for the same reason after the reboot: "+s.reason)
	case !sure && inVain: // stands until they can tell
		s = r.fail(s, now, "still needed for the same reason after the reboot, when the triggers last could tell: "+
			strings.Join(s.mem.InVain, "; "))
	default:
		return r.enter(s, locksmith.PhaseRestoring, now)
	}
	// The checks pass: what is waited for is an answer, which comes by itself.
	s.retryAt = now.Add(r.spread(recheckBlocked))
	return s
}

// verified applies the checks' result.
func (r rules) verified(s state, err error, now time.Time) state {
	s.vetoes, s.retryAt = vetoesOf(err), time.Time{}
	switch {
	case err != nil && s.phase == locksmith.PhaseVerifying && now.Before(s.verifyUntil):
		s.soakUntil = time.Time{}
		return r.retryWithin(s, now, soakEvery, fmt.Sprintf("checks after the reboot do not pass yet: %v", err))
	case err != nil:
		s.soakUntil = time.Time{}
		return r.fail(s, now, err.Error())
	}
	if r.verifySoak > 0 {
		if s.soakUntil.IsZero() {
			s.soakUntil = now.Add(r.verifySoak)
		}
		if now.Before(s.soakUntil) {
			if s.phase == locksmith.PhaseFailed {
				soak := s.soakUntil
				s = r.enter(s, locksmith.PhaseVerifying, now)
				s.soakUntil, s.verifyUntil = soak, now // one more failure, and it is failed again
			}
			s.waiting = "checks after the reboot pass, watched until " + s.soakUntil.Format(time.TimeOnly)
			s.retryAt = now.Add(soakEvery)
			if s.soakUntil.Before(s.retryAt) {
				s.retryAt = s.soakUntil
			}
			s.failure = ""
			return s
		}
	}
	s.verified, s.failure, s.answerUntil = true, "", now.Add(answerWait)
	return s
}

// fail keeps the slots and says why, until the checks pass.
func (r rules) fail(s state, now time.Time, why string) state {
	if s.phase != locksmith.PhaseFailed {
		s = r.enter(s, locksmith.PhaseFailed, now)
	}
	s.failure, s.verified = why, false
	// What could not be written the last time is written after the next check. An
	// old client's record has no place for it.
	rec := s.slots.Record
	s.published = s.published && rec.Nonce == "" || rec.Phase == s.phase && rec.Reason == why
	return r.retryWithin(s, now, recheckBlocked, fmt.Sprintf("checks after the reboot fail: %s", why))
}

// releasing gives the slots back, and closes the cycle.
func (r rules) releasing(s state, now time.Time) (state, effect) {
	if s.held {
		return s, effect{kind: effectRelease, result: locksmith.Result{Outcome: s.outcome, Down: s.down}}
	}
	if !s.noted && !r.dryRun {
		s = r.settle(s, now)
		s.noted = true
		if r.remembers {
			return s.remember()
		}
	}
	outcome, rest := s.outcome, s.rest
	if outcome == ranDry {
		s.dryDone = s.reasons
	}
	s.outcome, s.rest, s.down, s.decided, s.resumed, s.notified = "", 0, 0, false, time.Time{}, time.Time{}
	s.verifyUntil, s.soakUntil, s.answerUntil, s.failure = time.Time{}, time.Time{}, time.Time{}, ""
	s = r.enter(s, locksmith.PhaseIdle, now)
	if (s.needed || !s.needKnown) && outcome != rebooted && outcome != ranDry && rest > 0 {
		// A rest, or a machine that cannot reboot would take slot after slot.
		s.retryAt = now.Add(rest)
		s.waiting = fmt.Sprintf("%s; next try at %s", outcome, s.retryAt.Format(time.TimeOnly))
	}
	return s, effect{}
}

// settle writes the end of the cycle into what is remembered.
func (r rules) settle(s state, now time.Time) state {
	c := s.cycle()
	if s.mem.Cycle == nil && s.outcome != rebooted {
		return s // nothing was begun
	}
	past := Past{Time: now, Reasons: c.Reasons, Outcome: s.outcome, Down: s.down, Cured: s.cured}
	s.mem.Last, s.mem.Cycle = &past, nil
	if s.outcome == rebooted {
		s.mem.NeededSince = time.Time{}
		if s.needed {
			s.mem.NeededSince = now
		}
		s.mem.Outcomes = s.counted(rebooted)
		return s
	}
	s.mem.Outcomes = s.counted("aborted")
	if !c.Asked.IsZero() { // what did not happen does not count
		s.mem.Reboots = slices.DeleteFunc(slices.Clone(s.mem.Reboots), c.Asked.Equal)
	}
	return s
}

// remembered applies that memory was made durable, or was not. Before something is
// done it has to be; otherwise the machine goes on, and what is remembered is
// written with the next intent.
func (r rules) remembered(s state, err error, now time.Time) state {
	if err == nil {
		return s
	}
	switch s.phase {
	case locksmith.PhaseAcquired, locksmith.PhaseRebooting:
		return r.abort(s, now, fmt.Sprintf("what is about to be done cannot be remembered: %v", err))
	}
	return s
}
