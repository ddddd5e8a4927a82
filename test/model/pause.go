package model

// Scopes are what a pause can be of: each group, all groups, each machine.
const Scopes = Groups + 1 + Machines

// ofAll is the scope of all groups.
const ofAll = Groups

// ofMachine is the scope of machine m.
func ofMachine(m int) int { return Groups + 1 + m }

// paused says whether a pause keeps machine m from its reboot, and whether it would stand
// in the way of others if it waited for the end of that in the queue: they could go.
func (c Config) paused(s State, m int) (paused, inTheWay bool) {
	groups, among := 0, 0
	for g := range Groups {
		if c.in(m, g) {
			groups++
			if s.Paused[g] {
				among++
			}
		}
	}
	paused = s.Paused[ofAll] || s.Paused[ofMachine(m)] || among > 0
	return paused, paused && !s.Paused[ofAll] && among < groups
}

// compared says whether a pause voids machine m's request, as etcd compares the policies
// with what its sender has seen: those of the scopes that hold for it. A policy that was
// paused and resumed is gone again, as it was before.
func (c Config) compared(s State, m int, f Flight) bool {
	switch {
	case f.Request == Release, f.Request == Confirm && c.Mistake == NoPolicy, f.Request == Grant && c.Mistake == NoPolicyGrant:
		return false
	case c.Mistake == NoPolicyAll:
		s.Paused[ofAll] = false
	case c.Mistake == NoPolicyMachine:
		s.Paused[ofMachine(m)] = false
	}
	paused, _ := c.paused(s, m)
	return paused
}

// pauses are those that administrators make and end.
func (v *visit) pauses() {
	for scope, paused := range v.from.Paused {
		at := Step{Act: Resume, G: int8(scope)}
		if paused {
			v.add(Heal, at, func(s *State) string { return v.pause(s, scope, false) })
			continue
		}
		at.Act = Pause
		v.limited(func(l *Limits) *int8 { return &l.Pauses }, at, func(s *State) string { return v.pause(s, scope, true) })
	}
}

// pause begins or ends a pause. The history's entries are written with it, in the groups
// that it is of: of a machine whose groups nobody knows, none.
func (c Config) pause(s *State, scope int, on bool) string {
	s.Paused[scope] = on
	for g := range Groups {
		if scope == g || scope == ofAll {
			c.wroteSemaphore(s, g)
		}
	}
	return ""
}
