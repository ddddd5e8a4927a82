package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// answered applies what the triggers say.
func (r rules) answered(s state, ev evNeed, now time.Time) state {
	s.sure, s.saidNo = ev.sure, addNo(s.saidNo, ev)
	if s.needed && !ev.needed && !ev.known {
		// An update engine or a bus that restarts costs nobody his place in
		// the queue; but no reboot is asked for in doubt.
		if s.doubt.IsZero() {
			s.doubt = now
		}
		return s
	}
	s.needKnown, s.needed, s.doubt = ev.known, ev.needed, time.Time{}
	switch {
	case ev.needed:
		s.reason, s.triggers, s.reasons, s.method, s.atLeast = ev.reason, ev.triggers, ev.reasons, ev.method, ev.atLeast
		if s.mem.NeededSince.IsZero() {
			s.mem.NeededSince, s.dirty = now, true
		}
		if !subset(s.reasons, s.dryDone) {
			s.dryDone = nil
		}
	case ev.known:
		if !s.mem.NeededSince.IsZero() {
			s.mem.NeededSince, s.dirty = time.Time{}, true
		}
		s.cured, s.dryDone = true, nil
		// An agent that is restarted must not take the next need for this one.
		if last := s.mem.Last; last != nil && last.Outcome == rebooted && !last.Cured {
			past := *last
			past.Cured = true
			s.mem.Last, s.dirty = &past, true
		}
	}
	return r.judge(s, now)
}

// addNo is the triggers that said no, with those that do so now.
func addNo(saidNo []string, ev evNeed) []string {
	return slices.Concat(saidNo, slices.DeleteFunc(slices.Clone(ev.sure), func(t string) bool {
		return slices.Contains(saidNo, t) || slices.Contains(ev.triggers, t)
	}))
}

// judge remembers a reboot that was in vain, which is a need for the same reason from
// triggers that have not said no since; and it forgets that once the need is gone.
func (r rules) judge(s state, now time.Time) state {
	last := s.mem.Last
	isNew := slices.ContainsFunc(s.triggers, func(t string) bool { return slices.Contains(s.saidNo, t) })
	switch {
	case s.needed && s.inVain():
	case s.needed && !isNew && last != nil && !last.Cured && last.Outcome == rebooted && now.Sub(last.Time).Abs() < inVainWithin && subset(s.reasons, last.Reasons):
		s.mem.InVain, s.dirty = s.reasons, true
	case s.needKnown && s.mem.InVain != nil:
		// Beside a new reason an old one still stands, and counts again once the new
		// one is gone.
		left := slices.DeleteFunc(slices.Clone(s.mem.InVain), func(x string) bool { return !s.needed || !slices.Contains(s.reasons, x) })
		if len(left) < len(s.mem.InVain) {
			s.mem.InVain, s.dirty = slices.Clip(left), true
		}
		if len(left) == 0 {
			s.mem.InVain = nil
		}
		if s.phase == locksmith.PhaseFailed {
			s.retryAt = time.Time{} // perhaps that was all
		}
	}
	return s
}

// inVain says whether a reboot is known not to cure what is needed now.
func (s state) inVain() bool { return subset(s.reasons, s.mem.InVain) }

// subset says whether there are some, and all of them are among others.
func subset(some, others []string) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(x string) bool { return !slices.Contains(others, x) })
}

// way is the method of the next reboot. Without one that was configured, it is what
// the triggers say is enough; and it is never less than one of them says is needed.
func (r rules) way(s state) locksmith.Method {
	m := r.method
	switch {
	case m == "" && s.method != "":
		m = s.method
	case m == "":
		m = locksmith.MethodReboot
	}
	if s.atLeast != "" && !m.Covers(s.atLeast) {
		m = s.atLeast
	}
	return m
}

// breaker says why the machine must not reboot at this moment although everything
// else allows it, and until when; zero: until something else is needed.
func (r rules) breaker(s state, now time.Time) (why string, until time.Time) {
	if s.inVain() {
		return "the last reboot did not cure this need; a reboot for another reason is not kept back " +
			"(locksmithctl send-need-reboot -reason …)", time.Time{}
	}
	if until = r.booted.Add(r.minUptime); r.minUptime > 0 && now.Before(until) {
		return fmt.Sprintf("the machine has been up for less than %v", r.minUptime), until
	}
	recent := lastDay(s.mem.Reboots, now)
	if r.maxPerDay > 0 && len(recent) >= r.maxPerDay {
		return fmt.Sprintf("%d reboots in 24 h, at most %d are allowed", len(recent), r.maxPerDay),
			recent[len(recent)-r.maxPerDay].Add(24 * time.Hour)
	}
	return "", time.Time{}
}

// lastDay is those of times that are less than a day ago, oldest first. A time in the
// future, of a clock that was put back since, counts where it is near: a clock that
// was years ahead must not keep the machine from rebooting for years.
func lastDay(times []time.Time, now time.Time) []time.Time {
	const day = 24 * time.Hour
	recent := slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return now.Sub(t).Abs() >= day })
	slices.SortFunc(recent, time.Time.Compare)
	return recent
}

// paused is the pauses that hold now.
func (s state) paused(now time.Time) []locksmith.Pause {
	return slices.DeleteFunc(slices.Clone(s.pauses), func(p locksmith.Pause) bool { return !p.Active(now) })
}

// keepsOut says whether the machine must not even queue because of pauses: it would
// hold up others in groups that are not paused.
func (r rules) keepsOut(pauses []locksmith.Pause) bool {
	groups := map[locksmith.Group]bool{}
	all := false
	for _, p := range pauses {
		switch {
		case p.Scope.Machine != "":
			return true
		case p.Scope.All:
			all = true
		default:
			groups[p.Scope.Group] = true
		}
	}
	return !all && len(groups) > 0 && len(groups) < len(r.groups)
}

// resumes is when the first of pauses ends by itself; zero: none does.
func resumes(pauses []locksmith.Pause) (first time.Time) {
	for _, p := range pauses {
		if at := locksmith.When(p.Until); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
