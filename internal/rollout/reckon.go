package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// sample is how many of the last machines the pace is reckoned from.
const sample = 20

// few is for how many machines the pace is only roughly known.
const few = 3

// Reckon says how far the present rollout of a group is. Of an end it says nothing
// rather than something made up.
func Reckon(f Fleet, now time.Time) Progress {
	runs, pauses := runsOf(f, now)
	left := remaining(f, now)
	r := reckoning{fleet: f, now: now, left: left, pauses: pauses}
	if n := len(runs); n > 0 {
		r.run = runs[n-1]
		r.running = r.run.open || len(left.all) > 0 && now.Sub(r.run.last) <= gap
	}
	p := Progress{Remaining: len(left.all), Total: len(left.all), Failed: len(left.failed)}
	if !r.running {
		p.Reckoning, p.Why = r.idle(), r.notAsking()
		return p
	}
	p.Running, p.Start = true, r.run.start
	r.count()
	p.Done, p.Total = r.done, r.done+p.Remaining
	p.Pace = r.pace()
	p.Why = r.why(p)
	if p.Why == "" && p.Remaining > 0 {
		p.Ends = now.Add(r.takes(p.Pace))
	}
	p.Reckoning = r.text(p)
	return p
}

// rest is who has not rebooted yet.
type rest struct {
	all     map[string]bool // by machine, each once
	failed  []string        // names of those that failed their checks and keep their slot
	stale   []string        // of those that hold a slot and are silent
	asking  int             // how many hold a slot for their reboot or wait for one
	silent  int             // need a reboot, are not connected and hold nothing; not in all
	windows int             // of those in all that do not ask, how many wait for a window
}

// remaining finds who has not rebooted yet: holders first, then waiters, then who
// needs a reboot and does not ask for a slot yet.
func remaining(f Fleet, now time.Time) rest {
	r := rest{all: make(map[string]bool)}
	for _, h := range holdsOf(f, now) {
		if h.holder == nil {
			continue
		}
		r.all[h.Machine] = true
		switch h.State {
		case Failed:
			r.failed = append(r.failed, h.Name())
		case Stale:
			r.stale = append(r.stale, h.Name())
		}
	}
	for _, w := range f.Status.Queue {
		if reboots(w) {
			r.all[w.MachineID] = true
		}
	}
	r.asking = len(r.all)
	done := finished(f)
	for _, m := range f.Machines {
		switch {
		case r.all[m.MachineID] || f.Status.Sem.Holds(m.MachineID) || !needs(m, done[m.MachineID]):
		case !m.Present:
			r.silent++
		default:
			r.all[m.MachineID] = true
			if m.Phase == locksmith.PhaseWindow {
				r.windows++
			}
		}
	}
	return r
}

// finished is when each machine last gave its slot back after a reboot.
func finished(f Fleet) map[string]time.Time {
	at := make(map[string]time.Time)
	for _, e := range f.History {
		if e.Action == locksmith.ActionUnlock && e.Outcome == locksmith.OutcomeRebooted && e.Time.After(at[e.Machine]) {
			at[e.Machine] = e.Time
		}
	}
	return at
}

// needs says whether a machine is going to ask for a slot. What it says of itself may
// be some seconds older than its last reboot.
func needs(m locksmith.MachineStatus, done time.Time) bool {
	switch {
	case m.NeededSince == 0 || m.DryRun:
		return false
	case m.Strategy == locksmith.StrategyOff || m.Strategy == locksmith.StrategyReboot:
		return false
	}
	return done.Before(locksmith.When(m.NeededSince)) || m.Seen > done.Unix()
}

// reckoning is the arithmetic of one rollout.
type reckoning struct {
	fleet   Fleet
	now     time.Time
	run     run
	running bool
	left    rest
	pauses  []span

	done int // machines
	// The last completions, at most sample of them, took so long, pauses left out; all
	// says whether there were no others.
	last    int
	took    time.Duration
	all     bool
	since   time.Duration // since the last completion
	overdue bool          // that is longer than one takes, so it counts
	each    time.Duration // how long one machine of them holds its slot, on average
}

// count looks at what the rollout has done.
func (r *reckoning) count() {
	machines := make(map[string]bool)
	var ends []time.Time
	var held []time.Duration
	for _, h := range r.run.holds {
		if h.State != Rebooted {
			continue
		}
		if !r.left.all[h.Machine] {
			machines[h.Machine] = true
		}
		ends = append(ends, h.To)
		held = append(held, h.To.Sub(h.From))
	}
	r.done = len(machines)
	if len(ends) == 0 {
		return
	}
	slices.SortFunc(ends, time.Time.Compare)
	newest, begin := ends[len(ends)-1], r.run.start
	r.last, r.all = len(ends), true
	if r.last > sample {
		begin, r.last, r.all = ends[len(ends)-1-sample], sample, false
	}
	worked := func(from, to time.Time) time.Duration { return max(0, to.Sub(from)-paused(r.pauses, from, to)) }
	r.took, r.since = worked(begin, newest), worked(newest, r.now)
	r.overdue = r.since > r.took/time.Duration(r.last)
	var sum time.Duration
	held = held[len(held)-r.last:]
	for _, d := range held {
		sum += d / time.Duration(len(held))
	}
	r.each = sum
}

// pace is the time per machine: of the last ones, together with the time since then once
// it is longer than that.
func (r *reckoning) pace() time.Duration {
	switch {
	case r.last == 0:
		return 0
	case r.overdue:
		return (r.took + r.since) / time.Duration(r.last+1)
	}
	return r.took / time.Duration(r.last)
}

// takes is how long the rest takes: at this pace, but no less than one machine does from
// beginning to end, or the youngest holder still has to.
func (r *reckoning) takes(pace time.Duration) time.Duration {
	return max(times(r.moving(), pace), r.least())
}

// times is n times d, at most as long as looks back go.
func times(n int, d time.Duration) time.Duration {
	if n > 0 && d > horizon/time.Duration(n) {
		return horizon
	}
	return time.Duration(n) * d
}

// moving is how many remain that are not stuck.
func (r *reckoning) moving() int {
	return max(0, len(r.left.all)-len(r.left.failed)-len(r.left.stale))
}

func (r *reckoning) least() time.Duration {
	holding, age := 0, time.Duration(1<<62)
	for _, h := range r.run.holds {
		if h.State == Held {
			holding++
			age = min(age, r.now.Sub(h.From))
		}
	}
	if r.moving() > holding {
		return r.each
	}
	return max(0, r.each-age)
}

// why is what keeps the end from being known.
func (r *reckoning) why(p Progress) string {
	switch pauses := active(r.fleet.Status.Pauses, r.now); {
	case p.Remaining == 0:
		return ""
	case len(pauses) > 0:
		return sentence((&locksmith.PausedError{Pauses: pauses}).Error())
	case r.fleet.Status.Sem.Max <= 0:
		return "Max is 0: no slot is granted until it is raised."
	}
	if text := r.stuck(); text != "" {
		return text
	}
	switch {
	case r.left.asking == 0:
		return r.notAsking()
	case r.last == 0:
		return "No machine has rebooted yet, so there is no pace."
	case p.Pace <= 0:
		return "The machines' clocks differ by too much to tell the pace."
	}
	return ""
}

func active(pauses []locksmith.Pause, now time.Time) []locksmith.Pause {
	return slices.DeleteFunc(slices.Clone(pauses), func(p locksmith.Pause) bool { return !p.Active(now) })
}

// stuck says who keeps the rollout from going on, if all that is left or all slots are
// stuck.
func (r *reckoning) stuck() string {
	var byHand []string
	for _, h := range r.fleet.Status.Holders {
		if h.Recorded && !(locksmith.Request{By: h.By}).Reboots() {
			byHand = append(byHand, h.Name())
		}
	}
	kept := len(r.left.failed) + len(r.left.stale) + len(byHand)
	free := r.fleet.Status.Sem.Max - kept
	if r.moving() > 0 && free > 0 {
		return ""
	}
	var parts []string
	for _, who := range []struct {
		names []string
		what  string
	}{
		{r.left.failed, "failed checks after the reboot"}, {r.left.stale, "silent"}, {byHand, "held by hand or by a command"},
	} {
		if len(who.names) > 0 {
			parts = append(parts, fmt.Sprintf("%s (%s)", some(who.names), who.what))
		}
	}
	if r.moving() > 0 {
		return fmt.Sprintf("No slot comes free before somebody has looked: %s.", strings.Join(parts, "; "))
	}
	return fmt.Sprintf("What is left is stuck: %s.", strings.Join(parts, "; "))
}

// notAsking is why nothing goes on although machines need a reboot.
func (r *reckoning) notAsking() string {
	if len(r.left.all) == 0 || r.left.asking > 0 {
		return ""
	}
	text := fmt.Sprintf("%s and %s for no slot yet", plural(len(r.left.all), "machine needs a reboot", "machines need a reboot"),
		verb(len(r.left.all), "asks", "ask"))
	if r.left.windows > 0 {
		return fmt.Sprintf("%s; %s for a reboot window.", text, plural(r.left.windows, "waits", "wait"))
	}
	return text + "."
}
