package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// noteAnswer keeps a trigger's answer.
func (l *loop) noteAnswer(n Need) {
	before, known := l.needs[n.Trigger]
	l.needs[n.Trigger] = n
	if n.Err == nil {
		return
	}
	l.errs[n.Trigger]++
	if !known || before.Err == nil || before.Err.Error() != n.Err.Error() {
		l.log.Warn("a trigger cannot tell whether a reboot is needed", EventKey, EventTriggerError, "trigger", n.Trigger, "error", n.Err)
	}
}

// combine is the answer of all triggers together: needed if one says so, known if
// one does or none fails.
func (l *loop) combine() evNeed {
	ev := evNeed{known: len(l.needs) == len(l.cfg.Triggers)}
	silent := false // one of those that say so does not say what is enough
	for _, name := range slices.Sorted(maps.Keys(l.needs)) {
		n := l.needs[name]
		if n.Err != nil {
			ev.known = false
			continue
		}
		ev.sure = append(ev.sure, name)
		if !n.Needed {
			continue
		}
		ev.needed = true
		ev.triggers, ev.reasons = append(ev.triggers, name), append(ev.reasons, n.Reason)
		if silent = silent || n.Method == ""; n.Method != "" && (ev.atLeast == "" || !ev.atLeast.Covers(n.Method)) {
			ev.atLeast = n.Method
		}
	}
	if !silent {
		ev.method = ev.atLeast
	}
	ev.known = ev.known || ev.needed
	ev.reason = strings.Join(ev.reasons, "; ")
	return ev
}

// publish makes the state visible: in Status, to OnChange, and in the log.
func (l *loop) publish(before state) {
	status := l.describe()
	l.mu.Lock()
	last := l.status
	l.status = status
	l.mu.Unlock()
	l.report(before, last, status)
	if l.cfg.OnChange != nil {
		l.cfg.OnChange(status)
	}
}

// report writes what changed into the log, as events.
func (l *loop) report(before state, last, now Status) {
	s := l.state
	switch {
	case s.needed && !before.needed:
		l.log.Info("reboot needed", EventKey, EventNeeded, "reason", s.reason)
	case !s.needed && before.needed && s.needKnown:
		l.log.Info("no reboot is needed any more", EventKey, EventNotNeeded)
	}
	if was, is := len(last.Pauses), len(now.Pauses); is > 0 && was == 0 {
		l.log.Info("paused", EventKey, EventPaused, "pause", (&locksmith.PausedError{Pauses: now.Pauses}).Error())
	} else if is == 0 && was > 0 && s.heard {
		l.log.Info("no pause holds any more", EventKey, EventResumed)
	}
	events := happened(before, s)
	for _, event := range events {
		l.reportCycle(event, before, now)
	}
	if now.Waiting == "" || now.Waiting == last.Waiting || slices.Contains(events, EventFailed) {
		return
	}
	event := EventWaiting
	switch {
	case s.phase == locksmith.PhaseFailed:
		event = EventFailed
	case s.tripped != "":
		event = EventBreaker
	case len(s.vetoes) > 0 && s.outcome != rebooted:
		event = EventBlocked
	}
	l.log.Info("waiting", EventKey, event, "phase", now.Phase, "status", now.Waiting)
}

// happened is the events of a machine's cycle that lie between two states. One step
// may go through several phases.
func happened(before, s state) []string {
	var events []string
	for _, e := range []struct {
		event string
		is    bool
	}{
		{EventGranted, s.held && !before.held && before.phase == locksmith.PhaseQueued},
		{EventReturned, s.outcome == rebooted && before.outcome != rebooted},
		{EventAborted, s.outcome != "" && s.outcome != rebooted && s.outcome != before.outcome},
		{EventFailed, s.phase == locksmith.PhaseFailed && before.phase != locksmith.PhaseFailed},
		{EventReleased, !s.held && before.held && before.phase == locksmith.PhaseReleasing},
	} {
		if e.is {
			events = append(events, e.event)
		}
	}
	if len(events) == 0 && s.phase != before.phase {
		events = append(events, EventPhase)
	}
	return events
}

// cycleTexts say events for people; any other is the new phase.
var cycleTexts = map[string]string{
	EventGranted:  "slot granted",
	EventReturned: "back from the reboot",
	EventAborted:  "no reboot",
	EventFailed:   "the reboot has failed",
	EventReleased: "slot given back",
}

func (l *loop) reportCycle(event string, before state, now Status) {
	s, level := l.state, slog.LevelInfo
	attrs := []any{EventKey, event, "phase", s.phase}
	if s.phase != before.phase {
		attrs = append(attrs, "from", before.phase)
	}
	if now.Needed {
		attrs = append(attrs, "reason", now.Reason)
	}
	if outcome := cmp.Or(s.outcome, before.outcome); outcome != "" {
		attrs = append(attrs, "outcome", outcome)
	}
	switch {
	case event == EventFailed:
		attrs = append(attrs, "status", now.Waiting)
	case event == EventPhase && s.phase == locksmith.PhaseRecovering, event == EventPhase && before.phase == locksmith.PhaseRecovering && s.phase == locksmith.PhaseIdle:
		level = slog.LevelDebug // every minute, where best-effort finds no etcd
	}
	l.log.Log(l.ctx, level, cmp.Or(cycleTexts[event], "phase"), attrs...)
}

// describe is the state as the agent shows it.
func (l *loop) describe() Status {
	s, cfg, now := l.state, l.cfg, time.Now()
	r := l.rules
	if cfg.Keeper != nil {
		r.keeper = cfg.Keeper()
	}
	st := Status{
		MachineID: cfg.MachineID, Hostname: cfg.Hostname, BootID: cfg.BootID,
		Groups: cfg.Groups, Strategy: cfg.Strategy,
		Phase: s.phase, Since: s.since, Needed: s.needed, Waiting: s.waiting, Held: s.held,
		Conditions: r.conditions(s, l.reportedWait, now), Pauses: s.paused(now),
		DelayUntil: s.delayUntil, DryRun: cfg.DryRun, LastReboot: s.mem.Last, Outcomes: s.mem.Outcomes,
		Windows: cfg.Windows, DenyWindows: cfg.DenyWindows, TriggerErrs: maps.Clone(l.errs),
	}
	if s.needed {
		st.Reason, st.NeededSince, st.Method = s.reason, s.mem.NeededSince, l.rules.way(s)
	}
	if s.held {
		st.HeldSince, st.HeldGroups = s.slots.Record.Since(), s.slots.Groups
	}
	if c := &st.Conditions[0]; !s.needed && s.doubt.IsZero() && len(l.needs) > 0 {
		c.Text = answers(l.needs)
	}
	st.setWindow(cfg.Window, now)
	if l.reportedWait != "" {
		st.Waiting = l.reportedWait
	}
	for name, n := range l.needs {
		if st.Triggers == nil {
			st.Triggers = make(map[string]string)
		}
		switch {
		case n.Err != nil:
			st.Triggers[name] = "error: " + n.Err.Error()
		case n.Needed:
			st.Triggers[name] = "needed: " + n.Reason
		default:
			st.Triggers[name] = "not needed"
		}
	}
	return st
}

// answers is what triggers say where none of them says that a reboot is needed: "no
// reboot is needed (control, kernel)", or who cannot tell and why.
func answers(needs map[string]Need) string {
	var unsure, no []string
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		if err := needs[name].Err; err != nil {
			unsure = append(unsure, fmt.Sprintf("%s: %v", name, err))
		} else {
			no = append(no, name)
		}
	}
	text := "no reboot is needed"
	if len(unsure) > 0 {
		text = "whether a reboot is needed is not known"
	}
	if len(no) > 0 && len(unsure) > 0 {
		text += "; no: " + strings.Join(no, ", ")
	} else if len(no) > 0 {
		text += " (" + strings.Join(no, ", ") + ")"
	}
	return strings.Join(append([]string{text}, unsure...), "; ")
}

func (s *Status) setWindow(w Window, now time.Time) {
	if w != nil {
		s.WindowStart, s.WindowEnd = w.Next(now)
	}
}

// Presence is the part of a machine's presence that the agent knows. As long as it has
// slots of groups that are not configured any more it is in those, too: by that the next
// run finds them.
func (s Status) Presence() locksmith.Presence {
	p := locksmith.Presence{
		MachineID: s.MachineID, Hostname: s.Hostname, Groups: union(s.Groups, s.HeldGroups), Strategy: s.Strategy, BootID: s.BootID,
		Phase: s.Phase, PhaseTime: seconds(s.Since), NeededSince: seconds(s.NeededSince), Reason: s.Reason, Waiting: s.Waiting,
		Conditions: s.Conditions, DryRun: s.DryRun,
	}
	if s.LastReboot != nil {
		p.LastReboot, p.LastOutcome = seconds(s.LastReboot.Time), s.LastReboot.Outcome
	}
	return p
}

// seconds is t since the epoch, 0 for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
