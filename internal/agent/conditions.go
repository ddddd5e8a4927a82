package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// conditions is what the machine's next step depends on, in the order in which it is
// met. report is what the wait in the queue says of itself.
func (r rules) conditions(s state, report string, now time.Time) []locksmith.Condition {
	if s.outcome == rebooted {
		return append([]locksmith.Condition{r.needCondition(s)}, r.verifyConditions(s)...)
	}
	out := []locksmith.Condition{r.needCondition(s), r.windowCondition(now)}
	if r.strategy != locksmith.StrategyReboot && r.strategy != locksmith.StrategyFleetLock { // nobody tells of pauses there
		out = append(out, pauseCondition(s, now))
	}
	out = append(out, r.breakerCondition(s, now))
	out = append(out, checkConditions(s)...)
	out = append(out, r.slotCondition(s, report))
	return append(out, r.usersCondition(s))
}

func (r rules) needCondition(s state) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondNeed, State: locksmith.CondWaiting, Text: "no reboot is needed"}
	switch {
	case !s.doubt.IsZero():
		c.State, c.Text, c.Since = locksmith.CondUnknown, "the trigger that said so cannot tell any more: "+s.reason, s.doubt.Unix()
	case s.needed:
		c.State, c.Text, c.Since = locksmith.CondMet, s.reason, seconds(s.mem.NeededSince)
	case !s.needKnown:
		c.State, c.Text = locksmith.CondUnknown, "not every trigger can tell whether a reboot is needed"
	}
	return c
}

func (r rules) windowCondition(now time.Time) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondWindow, State: locksmith.CondMet, Text: "always open"}
	if r.window == nil {
		return c
	}
	start, end := r.window.Next(now)
	switch {
	case start.IsZero():
		c.State, c.Text = locksmith.CondBlocked, "no window ever opens again"
	case start.After(now):
		c.State, c.Text, c.Until = locksmith.CondWaiting, "window opens "+clock(start), start.Unix()
	default:
		c.Text, c.Since = "window is open", start.Unix()
		if !end.IsZero() {
			c.Text, c.Until = "window closes "+clock(end), end.Unix()
		}
	}
	return c
}

// clock is an instant as people in its zone read it.
func clock(t time.Time) string { return t.Format("Mon 2006-01-02 15:04 MST") }

func pauseCondition(s state, now time.Time) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondPause, State: locksmith.CondPending}
	pauses := s.paused(now)
	switch {
	case len(pauses) > 0:
		c.State, c.Text = locksmith.CondBlocked, (&locksmith.PausedError{Pauses: pauses}).Error()
		c.Since = pauses[0].At
		if slices.IndexFunc(pauses, func(p locksmith.Pause) bool { return p.Until == 0 }) < 0 {
			c.Until = slices.MaxFunc(pauses, func(a, b locksmith.Pause) int { return int(a.Until - b.Until) }).Until
		}
	case s.heard:
		c.State, c.Text = locksmith.CondMet, "nobody paused it"
	}
	return c
}

func (r rules) breakerCondition(s state, now time.Time) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondBreaker, State: locksmith.CondMet}
	if why, until := r.breaker(s, now); why != "" && s.needed {
		c.State, c.Text = locksmith.CondBlocked, why
		if !until.IsZero() {
			c.State, c.Until = locksmith.CondWaiting, until.Unix()
		}
	}
	return c
}

func checkConditions(s state) []locksmith.Condition {
	if len(s.vetoes) > 0 {
		return blockedBy(s.vetoes)
	}
	c := locksmith.Condition{Name: locksmith.CondChecks, State: locksmith.CondPending}
	if s.checked || slices.Contains(underWay, s.phase) {
		c.State, c.Text = locksmith.CondMet, "nothing blocks"
	}
	return []locksmith.Condition{c}
}

func blockedBy(vetoes []Veto) []locksmith.Condition {
	out := make([]locksmith.Condition, len(vetoes))
	for i, v := range vetoes {
		out[i] = locksmith.Condition{Name: v.By, State: locksmith.CondBlocked, Text: v.Reason}
	}
	return out
}

// underWay are the phases from the queue to the reboot.
var underWay = []locksmith.Phase{locksmith.PhaseQueued, locksmith.PhaseAcquired, locksmith.PhasePreparing,
	locksmith.PhaseNotifying, locksmith.PhaseRebooting}

func (r rules) slotCondition(s state, report string) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondSlot, State: locksmith.CondPending}
	switch {
	case s.held:
		c.State, c.Text, c.Since = locksmith.CondMet, "held"+r.by(", kept by "), s.slots.Record.StartTime
	case r.strategy == locksmith.StrategyReboot || s.decided && !s.useLock:
		c.State, c.Text = locksmith.CondMet, fmt.Sprintf("strategy %s takes none here", r.strategy)
	case r.dryRun:
		c.Text = "a dry run takes none"
	case s.phase == locksmith.PhaseQueued:
		c.State, c.Text, c.Since = locksmith.CondWaiting, "queues"+r.by(" at "), s.since.Unix()
		switch {
		case report == "":
		case strings.HasPrefix(report, locksmith.NoSlot):
			c.Text = report
		case strings.HasPrefix(report, locksmith.ServerPaused):
			c.State, c.Text = locksmith.CondBlocked, report
		default:
			c.State, c.Text = locksmith.CondUnknown, report
		}
	case !s.recovered && s.waiting != "", s.refusals > 0 && strings.HasPrefix(s.waiting, "no slot: "):
		c.State, c.Text = locksmith.CondUnknown, s.waiting
	case r.keeper != "":
		c.Text = "asked for at " + r.keeper
	}
	return c
}

// by is who keeps the slots, after words; nothing where that is etcd.
func (r rules) by(words string) string {
	if r.keeper == "" {
		return ""
	}
	return words + r.keeper
}

func (r rules) usersCondition(s state) locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondUsers, State: locksmith.CondPending}
	switch {
	case r.loginDelay == 0:
		c.State, c.Text = locksmith.CondMet, "nobody is given a delay"
	case s.phase == locksmith.PhaseRebooting:
		c.State = locksmith.CondMet
	case s.phase == locksmith.PhaseNotifying && !s.delayUntil.IsZero():
		c.State, c.Text, c.Until = locksmith.CondWaiting, "logged-in users were told", s.delayUntil.Unix()
	}
	return c
}

func (r rules) verifyConditions(s state) []locksmith.Condition {
	c := locksmith.Condition{Name: locksmith.CondVerify, State: locksmith.CondMet, Text: "checks after the reboot pass"}
	switch s.phase {
	case locksmith.PhaseFailed:
		if len(s.vetoes) > 0 {
			return blockedBy(s.vetoes)
		}
		c.State, c.Text, c.Since = locksmith.CondBlocked, cmp.Or(s.failure, s.waiting), s.since.Unix()
	case locksmith.PhaseVerifying:
		c.State, c.Text, c.Since = locksmith.CondWaiting, s.waiting, s.since.Unix()
		if until := s.soakUntil; !until.IsZero() {
			c.Until = until.Unix()
		}
	}
	return []locksmith.Condition{c}
}
