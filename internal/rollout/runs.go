package rollout

import (
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// run is one rollout while it is put together.
type run struct {
	start, end time.Time // of what is known of it; end is that of its last hold
	last       time.Time // until then it went on, be it only waiting or paused
	holds      []hold
	open       bool // somebody holds a slot or waits for one
}

// stretch is a time in which a rollout went on, for one of three reasons.
type stretch struct {
	span
	hold  *hold // a slot was held
	waits bool  // somebody waits for one, now
	// Neither: it was paused, which prolongs a rollout and begins none.
}

type span struct{ from, to time.Time }

// runsOf finds the rollouts, oldest first, and when the group was paused.
func runsOf(f Fleet, now time.Time) ([]run, []span) {
	holds := holdsOf(f, now)
	var all []stretch
	for i := range holds {
		to := holds[i].To
		if to.IsZero() {
			to = now
		}
		all = append(all, stretch{span: span{holds[i].From, to}, hold: &holds[i]})
	}
	if since, waits := waitingSince(f.Status.Queue, now); waits {
		all = append(all, stretch{span: span{since, now}, waits: true})
	}
	pauses := pausesOf(f, holds, now)
	for _, p := range pauses {
		if p.to.Sub(p.from) <= maxPause {
			all = append(all, stretch{span: p})
		}
	}
	slices.SortStableFunc(all, func(a, b stretch) int { return a.from.Compare(b.from) })
	var runs []run
	for _, s := range all {
		runs = s.add(runs)
	}
	return runs, pauses
}

// add puts the stretch into the last of runs, or begins another with it.
func (s stretch) add(runs []run) []run {
	fresh := len(runs) == 0 || s.from.Sub(runs[len(runs)-1].last) > gap
	if fresh && s.hold == nil && !s.waits {
		return runs
	}
	if fresh {
		runs = append(runs, run{start: s.from, end: s.from, last: s.from})
	}
	r := &runs[len(runs)-1]
	r.last = later(r.last, s.to)
	if s.hold != nil {
		r.holds = append(r.holds, *s.hold)
		r.end = later(r.end, s.to)
	}
	r.open = r.open || s.waits || s.hold != nil && s.hold.To.IsZero()
	return runs
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// waitingSince is since when somebody waits in order to reboot, of those that do now.
func waitingSince(queue []locksmith.Waiter, now time.Time) (since time.Time, waits bool) {
	since = now
	for _, w := range queue {
		if !reboots(w) {
			continue
		}
		waits = true
		if at := locksmith.When(w.Since); !at.IsZero() && at.Before(since) {
			since = within(now.Add(-horizon), at, now)
		}
	}
	return since, waits
}

func reboots(w locksmith.Waiter) bool { return locksmith.Request{By: w.By}.Reboots() }

// pausesOf is when the group was paused, in the order of time and without overlap. A
// pause whose end is not in the history was over, by its own time, when the next slot
// was granted for a reboot.
func pausesOf(f Fleet, holds []hold, now time.Time) []span {
	grants := make(map[int64]bool, len(holds)) // by time: holds of reboots, which no pause lets through
	for _, h := range holds {
		if h.locked != nil {
			grants[h.locked.Time.UnixNano()] = true
		}
	}
	var list []span
	var since time.Time
	end := func(at time.Time) {
		from := since
		if len(list) > 0 {
			from = later(from, list[len(list)-1].to)
		}
		if at = within(from, at, now); at.After(from) {
			list = append(list, span{from, at})
		}
		since = time.Time{}
	}
	for _, e := range slices.Backward(f.History) {
		switch {
		case e.Action == locksmith.ActionPause && e.Machine == "" && since.IsZero():
			since = e.Time
		case since.IsZero():
		case e.Action == locksmith.ActionResume && e.Machine == "",
			e.Action == locksmith.ActionLock && grants[e.Time.UnixNano()]:
			end(e.Time)
		}
	}
	if !since.IsZero() {
		end(now)
	}
	return list
}

// paused is for how long of the time from one instant to another the group was paused.
func paused(pauses []span, from, to time.Time) time.Duration {
	var sum time.Duration
	for _, p := range pauses {
		sum += max(0, within(from, p.to, to).Sub(within(from, p.from, to)))
	}
	return sum
}
