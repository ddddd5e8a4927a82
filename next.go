package locksmith

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Next says what the machine is going to do, and what that waits for: one or two
// sentences for people at now and in now's zone, which go after "Next: ".
func (w Why) Next(now time.Time) string {
	text := w.next(now)
	if w.Machine.DryRun {
		text += " It is a dry run: no slot is taken and nothing reboots."
	}
	return text
}

// RanDry is what a machine waits for, in its presence, once a dry run has gone through
// every step.
const RanDry = "dry run: would have rebooted; nothing more until something else is needed"

// RebootFailed is how what a machine waits for begins, in its presence, while it is about
// to ask for its reboot again.
const RebootFailed = "the reboot call failed: "

// NoSlot is how what a machine waits for begins, while a FleetLock server says that every
// slot is taken.
const NoSlot = "no slot "

// ServerPaused is how what a machine waits for begins, while a FleetLock server says that
// reboots are paused.
const ServerPaused = "the FleetLock server says that reboots are paused"

// Pauses are those that keep the machine from starting a reboot at now, each once.
func (w Why) Pauses(now time.Time) []Pause {
	all := slices.Clone(w.Machine.Pauses)
	for _, p := range w.Places {
		all = append(all, p.Pauses...)
	}
	var active []Pause
	for _, p := range all {
		same := func(q Pause) bool { return q.Scope == p.Scope }
		if p.Active(now) && !slices.ContainsFunc(active, same) {
			active = append(active, p)
		}
	}
	return active
}

func (w Why) next(now time.Time) string {
	m := w.Machine
	phase, since := m.Where()
	switch {
	case !m.Present:
		return w.absent(now)
	case m.Strategy == StrategyOff:
		return "nothing: its strategy is off."
	case phase == PhaseIdle && m.NeededSince == 0:
		return "nothing, until a reboot is needed."
	case m.DryRun && phase == PhaseIdle && m.Waiting == RanDry:
		return "nothing, until something else is needed: the log says what would have been done."
	case m.Holds != nil && m.Holds.By == ByFleetLock:
		return overFleetLock
	case m.Holds != nil && !m.Holds.Own():
		return byHand
	case phase == PhaseRebooting && strings.HasPrefix(m.Waiting, RebootFailed):
		return "asks for the reboot again, and after some tries gives up for now" + w.gives(" and gives its slot back") + "."
	case phase == PhaseRebooting && now.Sub(When(since)) >= BootTime:
		return "locksmithd asks for the reboot again and then gives up: the machine was asked to reboot " +
			Span(now.Sub(When(since))) + " ago and is still up."
	}
	switch phase {
	case PhaseIdle, PhaseNeeded, PhaseWindow, PhaseQueued, PhaseAcquired, PhasePreparing, PhaseNotifying:
		return w.reboots(phase, now)
	case PhaseRebooting:
		return "goes down; once it is back its checks run" + w.gives(", and then its slot goes back") + "."
	case PhaseVerifying:
		verify, _ := w.condition(CondVerify)
		text := "once its checks after the reboot pass" + until(verify.Until, now)
		if !w.holds() {
			return text + ", it is done."
		}
		return text + ", its slot goes back."
	case PhaseFailed:
		return w.failed(now)
	case PhaseRestoring:
		return "undoes what was prepared for the reboot" + w.gives(", then gives its slot back") + "."
	case PhaseReleasing:
		return "gives its slot back, and the next machine can have it."
	case PhaseRecovering:
		return "finds out what an earlier run left, and goes on from there."
	}
	return "not known: its locksmithd does not say in which phase it is."
}

// byHand is for a machine whose slot is no reboot's.
const byHand = "nothing, while its slot is held by hand or by a command: only unlock, or the end of the command, gives it back."

// overFleetLock is for a machine whose slot was taken over FleetLock.
const overFleetLock = "not known from here: it reboots on a slot that it took over FleetLock, and gives that back over FleetLock once it is up."

// absent is for a machine whose agent is not connected to etcd.
func (w Why) absent(now time.Time) string {
	h := w.Machine.Holds
	switch {
	case h == nil:
		return "nothing, until locksmithd runs on it and reaches etcd."
	case h.By == ByFleetLock:
		return overFleetLock
	case !h.Own():
		return byHand
	case h.Booting(now):
		return "comes back from its reboot; then its checks run, and its slot goes back."
	}
	return "nothing, until it is back: it keeps its slot, because nobody can know from here whether it is down."
}

// failed is for a machine that failed its checks after the reboot, or that the
// breaker stopped.
func (w Why) failed(now time.Time) string {
	breaker, stopped := w.condition(CondBreaker)
	switch {
	case w.holds():
	case !stopped || breaker.State == CondMet: // only before a reboot is there a breaker
		return "runs its checks again and again until they pass."
	default:
		return w.reboots(PhaseFailed, now)
	}
	text := "keeps its slot until its checks pass, which are tried again and again."
	for _, p := range w.Places {
		if p.Holds && p.Free == 0 && p.Waiting > 0 {
			text += fmt.Sprintf(" In %s %s.", groupWords(p.Group), waitFor(p.Waiting))
		}
	}
	return text
}

func waitFor(n int) string {
	if n == 1 {
		return "one machine waits for it"
	}
	return fmt.Sprintf("%d machines wait for it", n)
}

// reboots lists what still has to happen before the reboot.
func (w Why) reboots(phase Phase, now time.Time) string {
	var once []string
	slot := false
	for _, c := range w.Machine.Conditions {
		switch {
		case c.Name == CondSlot:
			slot = c.State != CondMet
		case c.State != CondMet && c.State != CondPending && c.Name != CondPause && c.Name != CondVerify:
			once = append(once, clause(c, now))
		}
	}
	once = append(once, w.pauseClauses(now)...)
	if (slot || phase == PhaseQueued) && !w.holds() {
		once = append(once, w.slotClauses()...)
	}
	switch users, _ := w.condition(CondUsers); phase {
	case PhaseAcquired, PhasePreparing:
		once = append(once, "it is prepared")
	case PhaseNotifying:
		if users.State != CondWaiting && users.State != CondBlocked {
			once = append(once, "the logged-in users had their time")
		}
	}
	switch {
	case len(once) > 0 && phase == PhaseIdle:
		return "tries again, and then reboots once " + andList(once) + "."
	case len(once) > 0:
		return "reboots once " + andList(once) + "."
	case w.Machine.Waiting != "":
		return "reboots after this: " + w.Machine.Waiting + "."
	}
	return "reboots any moment."
}

// clause is what ends c's keeping the machine from its reboot.
func clause(c Condition, now time.Time) string {
	text := ""
	switch {
	case c.Name == CondNeed && c.State == CondUnknown:
		text = "it is known whether a reboot is needed"
	case c.Name == CondNeed:
		text = "a reboot is needed"
	case c.Name == CondWindow && c.State == CondUnknown:
		text = "it is known whether its window is open"
	case c.Name == CondWindow && c.State == CondBlocked:
		text = "it gets a window that opens"
	case c.Name == CondWindow:
		text = "its window opens"
	case c.Name == CondBreaker && c.State == CondBlocked && c.Until == 0:
		text = "a reboot is needed for another reason"
	case c.Name == CondBreaker:
		text = "the breaker lets it"
	case c.Name == CondUsers && c.State == CondWaiting:
		text = "the logged-in users had their time"
	case c.Name == CondUsers && c.State == CondBlocked:
		text = "nobody is logged in"
	case c.Name == CondChecks:
		text = "its checks pass"
	case c.State == CondUnknown:
		text = "it is known whether " + c.Name + " blocks"
	case c.State == CondWaiting:
		text = c.Name + " is over"
	default:
		text = c.Name + " no longer blocks"
	}
	return text + until(c.Until, now)
}

func (w Why) pauseClauses(now time.Time) []string {
	var list []string
	for _, p := range w.Pauses(now) {
		scope := p.Scope.String()
		if p.Scope.Machine != "" {
			scope = "the machine itself"
		}
		switch {
		case p.Until != 0:
			list = append(list, "the pause of "+scope+" is over"+until(p.Until, now))
		case p.Scope.All:
			list = append(list, scope+" are resumed")
		default:
			list = append(list, scope+" is resumed")
		}
	}
	if c, ok := w.condition(CondPause); len(list) == 0 && ok && (c.State == CondBlocked || c.State == CondUnknown) {
		list = append(list, "it is not paused"+until(c.Until, now))
	}
	return list
}

// slotClauses are the groups that have no slot for it: it takes all or none.
func (w Why) slotClauses() []string {
	if w.Machine.Strategy == StrategyFleetLock {
		return []string{"the FleetLock server gives it a slot"}
	}
	var list []string
	for _, p := range w.Places {
		group := groupWords(p.Group)
		switch {
		case p.Holds, p.Max > 0 && p.Free > 0 && p.Position <= 1:
		case p.Max == 0:
			list = append(list, group+" gets slots again (its maximum is 0)")
		case p.Position > 1:
			list = append(list, fmt.Sprintf("a slot of %s is free (%d before it)", group, p.Position-1))
		default:
			list = append(list, "a slot of "+group+" is free")
		}
	}
	if len(list) == 0 {
		list = append(list, "it has taken its slot")
	}
	return list
}

// holds says whether the machine has a slot in any group.
func (w Why) holds() bool {
	return w.Machine.Holds != nil || slices.ContainsFunc(w.Places, func(p Place) bool { return p.Holds })
}

// gives is text for a machine that has a slot to give back.
func (w Why) gives(text string) string {
	if w.holds() {
		return text
	}
	return ""
}

func (w Why) condition(name string) (c Condition, ok bool) {
	i := slices.IndexFunc(w.Machine.Conditions, func(c Condition) bool { return c.Name == name })
	if i < 0 {
		return c, false
	}
	return w.Machine.Conditions[i], true
}

// until is " (18:00, in 3 h 46 min)", or nothing for a time that is not known or over.
func until(seconds int64, now time.Time) string {
	t := When(seconds)
	if !now.Before(t) {
		return ""
	}
	return fmt.Sprintf(" (%s, in %s)", Clock(t, now), Span(t.Sub(now)))
}

func groupWords(g Group) string { return PauseScope{Group: g}.String() }

// andList is "a", "a and b", "a, b and c".
func andList(list []string) string {
	last := len(list) - 1
	if last == 0 {
		return list[0]
	}
	return strings.Join(list[:last], ", ") + " and " + list[last]
}
