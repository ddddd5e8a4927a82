package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// decide says what follows from where the machine is: another phase, an effect, or
// a time to look again (wakeAt), or nothing until an event comes.
func (r rules) decide(s state, now time.Time) (state, effect) {
	if s.op != none {
		return r.busy(s, now)
	}
	switch s.phase {
	case locksmith.PhaseIdle, locksmith.PhaseWindow, locksmith.PhaseVerifying, locksmith.PhaseFailed: // have more to do until then
	default:
		if now.Before(s.retryAt) && r.mustStop(s, now) == "" {
			s.wakeAt = r.earlier(s.retryAt, now)
			return s, effect{}
		}
	}
	switch s.phase {
	case locksmith.PhaseRecovering:
		return r.recovering(s, now)
	case locksmith.PhaseIdle:
		return r.idle(s, now)
	case locksmith.PhaseNeeded:
		return r.deciding(s, now)
	case locksmith.PhaseWindow:
		return r.waitWindow(s, now)
	case locksmith.PhaseQueued: // the wait was granted, or it would be an op
		return r.enter(s, locksmith.PhaseAcquired, now), effect{}
	case locksmith.PhaseAcquired:
		return r.acquired(s, now)
	case locksmith.PhasePreparing: // prepare is done, or it would be an op
		return r.enter(s, locksmith.PhaseNotifying, now), effect{}
	case locksmith.PhaseNotifying:
		return r.notifying(s, now)
	case locksmith.PhaseRebooting:
		return r.rebooting(s, now)
	case locksmith.PhaseVerifying, locksmith.PhaseFailed:
		return r.verifying(s, now)
	case locksmith.PhaseRestoring:
		if s.asked {
			return s, effect{kind: effectDown}
		}
		if s.prepared {
			return s, effect{kind: effectRestore}
		}
		return r.enter(s, locksmith.PhaseReleasing, now), effect{}
	case locksmith.PhaseReleasing:
		return r.releasing(s, now)
	}
	panic(fmt.Sprintf("agent: phase %q has no decision", s.phase))
}

// busy is for while an effect is carried out. Only the wait in the queue is cut
// short: everything else ends by itself.
func (r rules) busy(s state, now time.Time) (state, effect) {
	if s.op != effectAcquire || s.abandoning {
		return s, effect{}
	}
	pauses := s.paused(now)
	if s.needed && r.closed(now) == nil && !r.keepsOut(pauses) && !s.inVain() {
		s.wakeAt = r.earlier(resumes(pauses), now)
		return s, effect{}
	}
	s.abandoning = true
	return s, effect{kind: effectAbandon}
}

func (r rules) recovering(s state, now time.Time) (state, effect) {
	alone := func() (state, effect) {
		if s.mem.Cycle != nil {
			return r.unfinished(s, now), effect{}
		}
		return r.enter(s, locksmith.PhaseIdle, now), effect{}
	}
	switch {
	case r.dryRun: // what an earlier run left is left as it is
		s.recovered = true
		return r.enter(s, locksmith.PhaseIdle, now), effect{}
	case r.strategy == locksmith.StrategyReboot:
		s.recovered = true
		return alone()
	case r.strategy == locksmith.StrategyBestEffort && !s.decided:
		return s, effect{kind: effectDecide}
	case r.strategy == locksmith.StrategyBestEffort && !s.useLock:
		// Without etcd nothing is to be found; should it be started later, the
		// question comes up again.
		s.decided, s.queued, s.findAt = false, false, now.Add(recheckLock)
		return alone()
	}
	s.useLock = true
	if s.queued {
		return s, effect{kind: effectWithdraw}
	}
	return s, effect{kind: effectFind}
}

// withdraw takes what an earlier wait left out of the queues, or a grant that is under way
// would be for nobody, and looks whether one came. A machine that is about to queue does
// not: it goes on in that place.
func (r rules) withdraw(s state, now time.Time) (state, effect) {
	s.recovered = false
	return r.enter(s, locksmith.PhaseRecovering, now), effect{}
}

func (r rules) idle(s state, now time.Time) (state, effect) {
	if !s.needed && s.needKnown && (strings.HasPrefix(s.waiting, aborted) || s.waiting == dryWaits) { // there is no next try
		s.waiting, s.retryAt = "", time.Time{}
	}
	switch {
	case s.dirty && r.remembers:
		return s.remember()
	case s.queued && !s.needed && (s.needKnown || !now.Before(s.since.Add(needWait))):
		return r.withdraw(s, now)
	case s.needed && now.Before(s.retryAt):
		s.wakeAt = s.retryAt
	case s.needed && r.dryRun && subset(s.reasons, s.dryDone):
		s.waiting = dryWaits
	case s.needed:
		s.decided = false // an answer from the start may be old
		return r.enter(s, locksmith.PhaseNeeded, now), effect{}
	case !s.recovered && now.Before(s.findAt):
		s.wakeAt = s.findAt
	case !s.recovered:
		return r.enter(s, locksmith.PhaseRecovering, now), effect{}
	case s.queued: // the triggers have not answered yet
		s.wakeAt = s.since.Add(needWait)
	}
	return s, effect{}
}

// deciding settles, for best-effort, whether this reboot takes a slot.
func (r rules) deciding(s state, now time.Time) (state, effect) {
	switch {
	case !s.needed:
		return r.enter(s, locksmith.PhaseIdle, now), effect{}
	case r.strategy == locksmith.StrategyBestEffort && !s.decided:
		return s, effect{kind: effectDecide}
	case r.strategy == locksmith.StrategyReboot:
		s.useLock = false
	case r.strategy == locksmith.StrategyEtcdLock, r.strategy == locksmith.StrategyFleetLock:
		s.useLock = true
	}
	if s.useLock && !s.recovered {
		return r.enter(s, locksmith.PhaseRecovering, now), effect{}
	}
	return r.enter(s, locksmith.PhaseWindow, now), effect{}
}

func (r rules) waitWindow(s state, now time.Time) (state, effect) {
	switch {
	case !s.needed:
		s.decided, s.refusals = false, 0
		return r.enter(s, locksmith.PhaseIdle, now), effect{}
	case s.dirty && r.remembers:
		return s.remember()
	}
	s, back := r.keepBack(s, now)
	switch {
	case s.queued && (back || now.Before(s.retryAt)):
		return r.withdraw(s, now)
	case back:
		return s, effect{}
	case now.Before(s.retryAt):
		s.wakeAt = r.earlier(s.retryAt, now)
		return s, effect{}
	case !s.doubt.IsZero():
		return r.inDoubt(s, now), effect{}
	case !s.checked:
		return s, effect{kind: effectCheck}
	case s.useLock && !r.dryRun:
		s = r.enter(s, locksmith.PhaseQueued, now)
		s.wakeAt = r.earlier(resumes(s.paused(now)), now)
		return s, effect{kind: effectAcquire}
	}
	return r.enter(s, locksmith.PhaseAcquired, now), effect{}
}

// keepBack says whether the window, the breaker or a pause keeps the machine from
// even asking its blockers, and notes which.
func (r rules) keepBack(s state, now time.Time) (state, bool) {
	s.tripped = ""
	pauses := s.paused(now)
	why, until := r.breaker(s, now)
	switch {
	case r.closed(now) != nil:
		opens, _ := r.window.Next(now)
		if s.waiting, s.wakeAt = "window opens "+clock(opens), opens; opens.IsZero() {
			// None in sight: how far a window looks ahead is its own business.
			s.waiting, s.wakeAt = "no window ever opens again", now.Add(lookAgain)
		}
	case why != "":
		s.tripped, s.waiting, s.wakeAt = why, why, r.earlier(until, now)
	case s.useLock && (r.keepsOut(pauses) || r.dryRun && len(pauses) > 0): // a dry run has no queue to wait in
		s.waiting, s.wakeAt = (&locksmith.PausedError{Pauses: pauses}).Error(), r.earlier(resumes(pauses), now)
	default:
		if s.retryAt.IsZero() { // what is waiting was one of these
			s.waiting = ""
		}
		return s, false
	}
	s.checked, s.vetoes, s.failures, s.retryAt = false, nil, 0, time.Time{}
	return s, true
}

// inDoubt waits for the triggers to say whether the reboot is still needed.
func (r rules) inDoubt(s state, now time.Time) state {
	s.checked, s.confirmed = false, false
	s.waiting, s.wakeAt = "for the triggers to say whether the reboot is still needed", r.earlier(s.doubt.Add(needWait), now)
	return s
}

// mustStop says why a reboot that is under way must not go on, "" if it may.
func (r rules) mustStop(s state, now time.Time) string {
	switch s.phase {
	case locksmith.PhaseAcquired, locksmith.PhaseNotifying, locksmith.PhaseRebooting:
	default:
		return ""
	}
	switch {
	case !s.accepted.IsZero():
		return "" // the machine is going down
	case !s.needed && s.needKnown:
		return "no reboot is needed any more"
	case !s.needed && s.phase != locksmith.PhaseAcquired: // there the resumed wait a while
		return "whether a reboot is still needed is not known"
	case r.closed(now) != nil:
		return "the window closed"
	case s.useLock && !r.dryRun && r.misfit(s) != "":
		return r.misfit(s)
	}
	if pauses := s.paused(now); s.useLock && len(pauses) > 0 {
		return (&locksmith.PausedError{Pauses: pauses}).Error()
	}
	if s.needed && s.inVain() { // a trigger that answered late
		return "the last reboot did not cure this need"
	}
	return ""
}

func (r rules) acquired(s state, now time.Time) (state, effect) {
	if s.asked { // by an earlier run: the window and the need come too late then
		return s, effect{kind: effectDown}
	}
	if why := r.mustStop(s, now); why != "" {
		return r.abort(s, now, why), effect{}
	}
	if !s.needed { // resumed, and the triggers have not answered yet
		if until := s.resumed.Add(needWait); now.Before(until) {
			s.waiting, s.wakeAt = "for the triggers to say whether the reboot is still needed", r.earlier(until, now)
			return s, effect{}
		}
		return r.abort(s, now, "no trigger says that a reboot is needed"), effect{}
	}
	if !s.noted && !r.dryRun { // intent first: whatever part of it runs has to be undone
		c := s.cycle()
		if locksmith.KernelBoot(c.Boot) != locksmith.KernelBoot(r.bootID) {
			c = Cycle{} // one that ended, but that could not be written
		}
		c.Boot, c.Triggers, c.Reasons, c.Prepared = r.bootID, s.triggers, s.reasons, true
		s.noted = true
		if s.mem.Cycle = &c; r.remembers {
			return s.remember()
		}
	}
	s = r.enter(s, locksmith.PhasePreparing, now)
	s.prepared = true
	return s, effect{kind: effectPrepare}
}

func (r rules) notifying(s state, now time.Time) (state, effect) {
	if why := r.mustStop(s, now); why != "" {
		return r.abort(s, now, why), effect{}
	}
	rebootNow := func() (state, effect) { return r.enter(s, locksmith.PhaseRebooting, now), effect{} }
	switch {
	case r.loginDelay == 0:
		return rebootNow()
	case !s.listed:
		return s, effect{kind: effectSessions}
	case len(s.sessions) == 0:
		return rebootNow()
	}
	if s.delayUntil.IsZero() {
		from := s.notified // a restarted agent does not begin anew
		if from.IsZero() || from.After(now) {
			from = now
		}
		s.delayUntil = from.Add(r.loginDelay)
	}
	left := s.delayUntil.Sub(now)
	if left <= 0 {
		return rebootNow()
	}
	if fresh := s.untold(); len(fresh) > 0 {
		// Who has just been told that a minute is left need not hear it twice.
		s.warned = s.warned || left <= warnBefore && len(s.told) == 0
		s.told = slices.Clone(s.told) // shared with older states
		for _, f := range fresh {
			s.told = append(s.told, f.ID)
		}
		return s, effect{kind: effectTell, sessions: fresh, message: rebootMessage(left, s.reason)}
	}
	if s.held && !s.published && s.notified.IsZero() { // else the record says since when already
		s.published = true
		return s, effect{kind: effectPublish, phase: locksmith.PhaseNotifying, message: s.reason}
	}
	again := s.delayUntil.Add(-warnBefore)
	if !s.warned && !now.Before(again) {
		s.warned = true
		return s, effect{kind: effectTell, sessions: s.sessions, message: rebootMessage(left, s.reason)}
	}
	if s.waiting == "" {
		s.waiting = fmt.Sprintf("users are logged in, reboot at %s", s.delayUntil.Format(time.TimeOnly))
	}
	s.wakeAt = r.earlier(s.delayUntil, now)
	if !s.warned {
		s.wakeAt = r.earlier(again, now)
	}
	return s, effect{}
}

// untold is the sessions that have not had the message.
func (s state) untold() []Session {
	return slices.DeleteFunc(slices.Clone(s.sessions), func(x Session) bool { return slices.Contains(s.told, x.ID) })
}

func rebootMessage(left time.Duration, reason string) string {
	if reason != "" {
		reason = " (" + reason + ")"
	}
	return fmt.Sprintf("This machine will reboot in %v%s.", left.Round(time.Second), reason)
}

// rebooting makes the call, after everything was checked once more: the site's
// checks, the slots in the store, and with mustStop, at the same instant as the
// call, the window and the need.
func (r rules) rebooting(s state, now time.Time) (state, effect) {
	if why := r.mustStop(s, now); why != "" {
		return r.abort(s, now, why), effect{}
	}
	switch {
	case !s.accepted.IsZero():
		if until := s.accepted.Add(r.rebootGrace); now.Before(until) {
			s.waiting, s.wakeAt = "for the machine to go down", until
			return s, effect{}
		}
		s = r.notRebooted(s, now, fmt.Sprintf("the reboot was accepted but did not happen within %v", r.rebootGrace))
		s.wakeAt = r.earlier(s.retryAt, now)
		return s, effect{}
	case !s.doubt.IsZero():
		return r.inDoubt(s, now), effect{}
	case !s.checked:
		return s, effect{kind: effectCheck}
	case r.dryRun:
		return s, effect{kind: effectReboot, method: r.way(s)}
	case !s.noted || s.cycle().Method != r.way(s):
		if s = r.intend(s, now); r.remembers {
			return s.remember()
		}
	}
	if s.useLock && !s.confirmed {
		return s, effect{kind: effectConfirm, phase: locksmith.PhaseRebooting, message: s.reason}
	}
	s.asked = true
	return s, effect{kind: effectReboot, method: s.cycle().Method}
}

// intend remembers that a reboot is going to be asked for, why and by which method. A
// cycle counts as one reboot, however often it asks.
func (r rules) intend(s state, now time.Time) state {
	c := s.cycle()
	s.mem.Reboots = append(slices.DeleteFunc(lastDay(s.mem.Reboots, now), c.Asked.Equal), now)
	c.Boot, c.Method, c.Triggers, c.Reasons, c.Asked = r.bootID, r.way(s), s.triggers, s.reasons, now
	c.Prepared = c.Prepared || s.prepared
	s.mem.Cycle, s.noted = &c, true
	return s
}

// closes is when the window that contains now ends; zero without a window.
func (r rules) closes(now time.Time) time.Time {
	if r.window == nil {
		return time.Time{}
	}
	_, end := r.window.Next(now)
	return end
}

// earlier is t or the end of the present window, whichever comes first.
func (r rules) earlier(t, now time.Time) time.Time {
	if end := r.closes(now); !end.IsZero() && (t.IsZero() || end.Before(t)) {
		return end
	}
	return t
}
