package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Record is what was observed of one machine. Its times carry the monotonic clock.
type Record struct {
	Machine string
	Groups  []locksmith.Group

	Needed   time.Time // when it first said that it needs a reboot; zero: not yet
	Granted  time.Time // when it got the slots it rebooted with; zero: not yet
	Released time.Time // when it had given them back after the reboot; zero: not yet
	Outages  []Outage  // in order; one for each reboot
	Boots    int       // counting the one in which the fleet started
}

// Outage is one time that a machine was down: from the call that asked for the
// reboot until its new agent starts.
type Outage struct {
	From time.Time
	To   time.Time // zero: it is still down
}

// Waited is how long the machine waited for its slots, up to now where it does
// not have them yet.
func (r Record) Waited(now time.Time) time.Duration {
	switch {
	case r.Needed.IsZero():
		return 0
	case r.Granted.IsZero():
		return now.Sub(r.Needed)
	}
	return r.Granted.Sub(r.Needed)
}

// Down is how long the machine was down altogether, up to now where it still is.
func (r Record) Down(now time.Time) time.Duration {
	var sum time.Duration
	for _, o := range r.Outages {
		if o.To.IsZero() {
			o.To = now
		}
		sum += o.To.Sub(o.From)
	}
	return sum
}

// RebootedOnce says whether the machine went down exactly once, came back, and
// gave its slots back.
func (r Record) RebootedOnce() bool {
	return r.Boots == 2 && len(r.Outages) == 1 && !r.Outages[0].To.IsZero() && !r.Released.IsZero()
}

// Report is what was observed of a fleet.
type Report struct {
	Machines []Record // in the fleet's order
}

// Peak is the moment at which most machines of a group were down.
type Peak struct {
	Group    locksmith.Group
	Down     int       // how many
	At       time.Time // the first such moment; zero where none was ever down
	Machines []string  // which, in the order in which they went down
}

// Peaks finds, for each group that a machine is in, the most that were down at
// once, sorted by group. A machine that comes back at the very instant at which
// another goes down was not down together with it.
func (r Report) Peaks() []Peak {
	type edge struct {
		at      time.Time
		machine string
		up      bool
	}
	edges := make(map[locksmith.Group][]edge)
	for _, m := range r.Machines {
		for _, g := range m.Groups {
			list := edges[g]
			for _, o := range m.Outages {
				if o.To.Equal(o.From) {
					continue
				}
				list = append(list, edge{o.From, m.Machine, false})
				if !o.To.IsZero() {
					list = append(list, edge{o.To, m.Machine, true})
				}
			}
			edges[g] = list
		}
	}
	var peaks []Peak
	for _, g := range slices.Sorted(maps.Keys(edges)) {
		list := edges[g]
		slices.SortStableFunc(list, func(a, b edge) int {
			if c := a.at.Compare(b.at); c != 0 {
				return c
			}
			return upFirst(a.up, b.up)
		})
		peak, down := Peak{Group: g}, []string(nil)
		for _, e := range list {
			if e.up {
				i := slices.Index(down, e.machine)
				down = slices.Delete(down, i, i+1)
				continue
			}
			if down = append(down, e.machine); len(down) > peak.Down {
				peak = Peak{Group: g, Down: len(down), At: e.at, Machines: slices.Clone(down)}
			}
		}
		peaks = append(peaks, peak)
	}
	return peaks
}

func upFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// MaxDown is the most machines of a group that were down at once.
func (r Report) MaxDown(group locksmith.Group) int {
	for _, p := range r.Peaks() {
		if p.Group == group {
			return p.Down
		}
	}
	return 0
}

// Exceeded lists the groups of which more machines were down at once than allowed.
// A group that allowed does not name allows none.
func (r Report) Exceeded(allowed map[locksmith.Group]int) []Peak {
	return slices.DeleteFunc(r.Peaks(), func(p Peak) bool { return p.Down <= allowed[p.Group] })
}
