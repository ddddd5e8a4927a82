package model

import "math/bits"

// What is stored changes only here, because whoever compared it must lose.

// stale is for requests of machine m that compare what has just changed.
func (s *State) stale(m int, compares func(Flight) bool) {
	mm := &s.Machine[m]
	if mm.Flight.Request != NoRequest && compares(mm.Flight) {
		mm.Flight.Fresh = false
	}
	if mm.Ghost.Request != NoRequest && compares(mm.Ghost) {
		mm.Ghost = Flight{} // it can only fail, and nobody waits for that
	}
}

// wroteSemaphore is after a change of group g's semaphore.
func (c Config) wroteSemaphore(s *State, g int) {
	for m := range Machines {
		s.stale(m, func(f Flight) bool {
			switch f.Request {
			case Grant:
				return c.in(m, g) && c.Mistake != NoComparison
			case Release:
				return f.Groups&bit(g) != 0
			}
			return false
		})
	}
}

// wroteRecord is after a change of machine m's records in groups, a bit per group.
func (c Config) wroteRecord(s *State, m int, groups uint8) {
	s.stale(m, func(f Flight) bool {
		return f.Request == Confirm || f.Request == Release && f.Groups&groups != 0 && c.Mistake != ReleaseAnyway
	})
}

// holds says whether the comparisons of machine m's request hold at this moment.
func (c Config) holds(s State, m int, f Flight) bool {
	return f.Fresh && !c.compared(s, m, f)
}

// dropEntry takes machine m's entry out of the queue.
func (s *State) dropEntry(m int) {
	s.Queue = s.Queue.without(m)
	mm := &s.Machine[m]
	mm.Owns, mm.Other = false, false
	if mm.Join == LeftBoth {
		mm.Join = Left
	}
	s.stale(m, func(f Flight) bool { return f.Request == Grant })
}

// take gives machine m a slot in group g; seen is the semaphore that the change is
// made of, which is the present one wherever it was compared.
func (c Config) take(s *State, m, g int, seen Semaphore, r Record) (wrong string) {
	if seen.holds(m) || s.Sem[g].holds(m) {
		wrong = "a machine gets a second slot in one group"
	}
	seen.Holders |= bit(m)
	seen.Value--
	s.Sem[g], s.Record[g][m] = seen, r
	if n := bits.OnesCount8(seen.Holders); n > int(seen.Max) {
		wrong = "more slots are granted than there are"
	}
	c.wroteSemaphore(s, g)
	c.wroteRecord(s, m, bit(g))
	return wrong
}

// remove takes machine m's slot in group g away.
func (c Config) remove(s *State, m, g int) {
	s.Sem[g].Holders &^= bit(m)
	s.Sem[g].Value++
	s.Record[g][m] = 0
	c.wroteSemaphore(s, g)
	c.wroteRecord(s, m, bit(g))
}

// carryGrant is etcd's part of a grant whose comparisons hold.
func (c Config) carryGrant(s *State, m int, known bool) (wrong string) {
	if c.ahead(*s, m) {
		wrong = "a machine overtakes another one in the queue"
	}
	if paused, _ := c.paused(*s, m); paused {
		wrong = "a machine gets slots during a pause"
	}
	r := ByAgent
	if known {
		r |= Known
	}
	if s.Machine[m].Booted {
		r |= OldBoot
	}
	if s.Queue.place(m) < 0 && c.Mistake != OneByOne {
		wrong = "a machine that does not wait gets a slot"
	}
	for _, g := range c.wants(*s, m) {
		seen := s.Sem[g]
		if c.Mistake == NoComparison {
			seen = s.Seen[m][g]
		}
		if w := c.take(s, m, g, seen, r); w != "" {
			wrong = w
		}
	}
	s.dropEntry(m)
	s.Seen[m] = [Groups]Semaphore{}
	for g := range Groups {
		if wrong == "" && c.in(m, g) && !s.Sem[g].holds(m) {
			wrong = "a machine gets some of its slots and not the others"
		}
	}
	return wrong
}

// wants are the groups in which a grant takes slots: all, but for the mistake.
func (c Config) wants(s State, m int) []int {
	var groups []int
	for g := range Groups {
		if c.in(m, g) {
			groups = append(groups, g)
		}
	}
	if c.Mistake != OneByOne || len(groups) < 2 {
		return groups
	}
	if m%2 == 1 { // their configurations name them in another order
		groups[0], groups[1] = groups[1], groups[0]
	}
	for i, g := range groups {
		if !s.Sem[g].holds(m) {
			return groups[i : i+1]
		}
	}
	return nil
}

// carryConfirm is etcd's part of the step to rebooting whose comparisons hold.
func (c Config) carryConfirm(s *State, m int) (wrong string) {
	if paused, _ := c.paused(*s, m); paused {
		wrong = "a machine starts its reboot during a pause"
	}
	for g := range Groups {
		if !c.in(m, g) {
			continue
		}
		s.Record[g][m] |= Rebooting
	}
	c.wroteRecord(s, m, c.Member[m])
	return wrong
}

// carryRelease is etcd's part of a release whose comparisons hold.
func (c Config) carryRelease(s *State, m int, f Flight) (wrong string) {
	if s.Machine[m].Power != Up {
		wrong = "a slot comes back whose machine is on its way down"
	}
	for g := range Groups {
		if f.Groups&bit(g) == 0 {
			continue
		}
		if s.Record[g][m]&ByAdmin != 0 {
			wrong = "an administrator's hold is given back by the machine"
		}
		c.remove(s, m, g)
	}
	return wrong
}

// Check says which promise the state breaks, "" for none.
func (c Config) Check(s State) string {
	for g := range Groups {
		sem := s.Sem[g]
		if sem.Value != sem.Max-int8(bits.OnesCount8(sem.Holders)) {
			return "the semaphore is not max less holders"
		}
		for m := range Machines {
			r, mm := s.Record[g][m], s.Machine[m]
			switch {
			case sem.holds(m) != (r != 0):
				return "slots and holder records disagree"
			case c.in(m, g) && mm.Power != Up && !sem.holds(m) && !s.Excused[g][m]:
				return "a machine is down without a slot"
			case r&ByAgent != 0 && mm.PC == Done:
				return "a slot is held by a machine that knows nothing of it"
			}
		}
	}
	for m := range Machines {
		switch mm := s.Machine[m]; {
		case mm.PC == Done && mm.Owns:
			return "a machine waits in the queue that needs nothing"
		case mm.PC >= Held && mm.Owns:
			return "a machine waits in the queue that has its slots"
		}
	}
	return ""
}
