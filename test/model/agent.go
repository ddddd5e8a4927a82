package model

// visit collects the steps from one state.
type visit struct {
	Config
	from State
	out  []Transition
}

// Next is every step that can follow a state.
func (c Config) Next(s State) []Transition {
	v := &visit{Config: c, from: s}
	for m := range Machines {
		v.machine(m)
		v.agent(m)
		v.faults(m)
	}
	v.administrators()
	return v.out
}

// add is a step that apply carries out on a copy of the state.
func (v *visit) add(kind Kind, p Step, apply func(s *State) (wrong string)) {
	t := Transition{Step: p, Kind: kind, To: v.from}
	t.Wrong = apply(&t.To)
	if t.Wrong == "" {
		t.Wrong = v.Check(t.To)
	}
	v.out = append(v.out, t)
}

// own is a step of machine m that breaks no promise by itself.
func (v *visit) own(act Act, m int, apply func(s *State, mm *Machine)) {
	v.add(Own, Step{Act: act, M: int8(m)}, func(s *State) string {
		apply(s, &s.Machine[m])
		return ""
	})
}

// machine is what happens below the agent, and in etcd.
func (v *visit) machine(m int) {
	mm := v.from.Machine[m]
	switch mm.Power {
	case Going:
		v.own(GoDown, m, func(s *State, mm *Machine) {
			s.endProcess(m, false)
			mm.Power = Down
		})
	case Down:
		v.own(Boot, m, func(s *State, mm *Machine) {
			mm.Power, mm.Booted, mm.Cured = Up, true, false // which cured it, if nothing else did
			for g := range Groups {
				s.Excused[g][m] = false
				if s.Record[g][m] != 0 {
					s.Record[g][m] |= OldBoot
				}
			}
		})
	}
	if mm.PC == Off && mm.Power != Down {
		v.own(Begin, m, func(_ *State, mm *Machine) { mm.PC = Finding })
	}
	if v.from.Queue.place(m) >= 0 && !mm.Owns {
		v.own(Expire, m, func(s *State, _ *Machine) { s.expire(m, false) })
	}
	v.joins(m)
	if mm.Flight.Request != NoRequest {
		v.add(Own, Step{Act: Carry, M: int8(m)}, func(s *State) string { return v.carry(s, m) })
	}
	if mm.Ghost.Request != NoRequest && v.holds(v.from, m, mm.Ghost) {
		v.add(Fault, Step{Act: Late, M: int8(m)}, func(s *State) string { return v.late(s, m) })
	}
	if v.Mistake == SlotLease && mm.PC == Off {
		for g := range Groups {
			if v.from.Record[g][m]&ByAgent != 0 {
				v.add(Own, Step{Act: Lapse, M: int8(m), G: int8(g)}, func(s *State) string {
					v.remove(s, m, g)
					return ""
				})
			}
		}
	}
}

// endProcess is the end of machine m's process. A request under way may still be carried
// out; of two, newer says which.
func (s *State) endProcess(m int, newer bool) {
	mm := &s.Machine[m]
	ghost := mm.Ghost
	if mm.Flight.Request != NoRequest && mm.Flight.Fresh && (newer || ghost.Request == NoRequest) {
		ghost = mm.Flight
	}
	ghost.Known = false
	*mm = Machine{PC: Off, Power: mm.Power, Booted: mm.Booted, Cured: mm.Cured, Ghost: ghost, Join: mm.left()}
	for g := range Groups {
		s.Record[g][m] &^= Known
	}
}

// carry is the request that machine m waits for: etcd compares, and answers.
func (c Config) carry(s *State, m int) (wrong string) {
	mm := &s.Machine[m]
	f := mm.Flight
	holds := c.holds(*s, m, f)
	mm.Flight = Flight{}
	switch {
	case f.Request == Grant && holds:
		wrong = c.carryGrant(s, m, true)
		mm.PC = Held
		if c.Mistake == OneByOne && len(c.wants(*s, m)) > 0 && !c.granted(*s, m) {
			mm.PC = First
		} else {
			c.over(s, m)
		}
	case f.Request == Grant:
		s.Seen[m] = [Groups]Semaphore{}
	case f.Request == Confirm && holds:
		wrong = c.carryConfirm(s, m)
		mm.PC = Confirmed
	case f.Request == Release && holds:
		wrong = c.carryRelease(s, m, f)
		c.ended(s, m)
	}
	return wrong
}

// late is the request of machine m that nobody waits for.
func (c Config) late(s *State, m int) (wrong string) {
	mm := &s.Machine[m]
	f := mm.Ghost
	mm.Ghost = Flight{}
	switch f.Request {
	case Grant:
		return c.carryGrant(s, m, f.Known)
	case Confirm:
		if mm.PC == Held {
			if mm.Newer = Earlier; f.Known {
				mm.Newer = Itself
			}
		}
		return c.carryConfirm(s, m)
	}
	return c.carryRelease(s, m, f)
}

// ended is machine m with its slots given back.
func (c Config) ended(s *State, m int) {
	mm := &s.Machine[m]
	mm.Newer = Nobody
	if mm.PC == Returning || mm.Cured || mm.Booted {
		mm.PC = Done
		return
	}
	mm.PC = Needing
}

// agent is what the agent of machine m does next.
func (v *visit) agent(m int) {
	mm := v.from.Machine[m]
	if mm.Flight.Request != NoRequest {
		return // it waits for the reply
	}
	switch mm.PC {
	case Finding:
		v.finding(m)
	case Needing:
		v.needing(m)
	case Queued, First:
		v.waiting(m)
	case Held:
		v.held(m)
	case Confirmed:
		if paused, _ := v.paused(v.from, m); paused || mm.Cured {
			v.own(Stop, m, func(_ *State, mm *Machine) { mm.PC = Aborting })
		}
		if !mm.Cured {
			v.own(Call, m, func(_ *State, mm *Machine) { mm.PC, mm.Power = Asked, Going })
		}
	case Returning, Aborting:
		v.own(Return, m, func(s *State, mm *Machine) { v.giveBack(s, m) })
	}
}

// finding is the table of what an agent finds when it starts.
func (v *visit) finding(m int) {
	s := v.from
	var mine, old, hold bool
	all := true
	for g := range Groups {
		r := s.Record[g][m]
		mine = mine || r&ByAgent != 0
		old = old || r&ByAgent != 0 && r&OldBoot != 0
		hold = hold || r&ByAdmin != 0
		all = all && (!v.in(m, g) || r&ByAgent != 0)
	}
	if hold && !mine {
		return // a deliberate hold: leave it
	}
	if mine && !old && v.Mistake == NoNonce {
		return
	}
	v.own(Find, m, func(s *State, mm *Machine) {
		for g := range Groups {
			if s.Record[g][m] != 0 {
				s.Record[g][m] |= Known
			}
		}
		mm.Newer = Nobody
		switch {
		case mine && v.Mistake == NoProof:
			mm.PC = Returning
		case mm.Power == Going && v.Mistake != NotAsked:
			mm.PC = Asked
		case mine && old:
			mm.PC = Returning
		case mine && all:
			mm.PC = Held
		case mine: // some were taken away, and perhaps taken again by an administrator
			mm.PC = Aborting
		case mm.Booted || mm.Cured:
			if mm.PC = Done; v.Mistake != IdleTooSoon {
				s.dropEntry(m)
			}
		default:
			mm.PC = Needing
		}
	})
}

func (c Config) holdsAgent(s State, m int) bool {
	for g := range Groups {
		if s.Record[g][m]&ByAgent != 0 {
			return true
		}
	}
	return false
}

// waiting is in the queue.
func (v *visit) waiting(m int) {
	s, mm := v.from, v.from.Machine[m]
	paused, inTheWay := v.paused(s, m)
	if inTheWay || mm.Cured {
		v.own(Leave, m, func(s *State, mm *Machine) { v.leave(s, m) })
	}
	if (s.Queue.place(m) < 0 || mm.Other) && !(v.Mistake == OneByOne && v.holdsAgent(s, m)) {
		if mm.PC == First && v.granted(s, m) {
			v.own(Ask, m, func(s *State, mm *Machine) { v.have(s, m) })
			return
		}
		v.own(Miss, m, func(_ *State, mm *Machine) { mm.PC = Needing })
		return
	}
	if mm.PC == Queued {
		if !v.ahead(s, m) || v.Mistake == Impatient {
			v.own(Front, m, func(_ *State, mm *Machine) { mm.PC = First })
		}
		return
	}
	switch {
	case v.granted(s, m):
		v.own(Ask, m, func(s *State, mm *Machine) { v.have(s, m) })
	case s.holdsAny(m) && v.Mistake != OneByOne:
		v.own(Ask, m, func(s *State, mm *Machine) {
			s.dropEntry(m)
			v.over(s, m)
			mm.PC = Finding
		})
	case !paused && v.room(s, m):
		v.own(Ask, m, func(s *State, mm *Machine) {
			mm.Flight = Flight{Request: Grant, Fresh: true}
			if v.Mistake == NoComparison {
				s.Seen[m] = s.Sem
			}
		})
	}
}

// leave is machine m giving up its wait: a grant that is still under way cannot succeed
// without the entry, so what it holds after that is final.
func (c Config) leave(s *State, m int) {
	mm := &s.Machine[m]
	if c.Mistake != LeavesEntry {
		s.dropEntry(m)
	}
	c.over(s, m)
	switch {
	case c.granted(*s, m):
		mm.PC = Held
	case mm.Cured && c.holdsAgent(*s, m): // of an earlier process
		mm.PC = Finding
	case mm.Cured:
		mm.PC = Done
	default:
		mm.PC = Needing
	}
}

// held is a machine with its slots, before it has written that it reboots.
func (v *visit) held(m int) {
	s, mm := v.from, v.from.Machine[m]
	paused, _ := v.paused(s, m)
	switch {
	case mm.Cured, paused && v.Mistake != NoPolicy:
		v.own(Stop, m, func(_ *State, mm *Machine) { mm.PC = Aborting })
	case !v.granted(s, m) || mm.Newer == Earlier: // as the answer to Write says
		v.own(Stop, m, func(s *State, mm *Machine) {
			if mm.PC = Aborting; v.Mistake == DropsRest {
				mm.PC = Needing
				v.forget(s, m)
			}
		})
	default:
		v.own(Write, m, func(_ *State, mm *Machine) {
			mm.Flight, mm.Newer = Flight{Request: Confirm, Fresh: true}, Nobody
		})
		if mm.Newer == Itself { // the call that had no reply looks what became of it
			v.own(Recall, m, func(_ *State, mm *Machine) { mm.PC, mm.Newer = Confirmed, Nobody })
		}
	}
}

// forget is a process that takes what it holds for lost.
func (c Config) forget(s *State, m int) {
	s.Machine[m].Newer, s.Machine[m].Ghost.Known = Nobody, false
	for g := range Groups {
		s.Record[g][m] &^= Known
	}
}

// giveBack sends the release of those slots that are still machine m's.
func (c Config) giveBack(s *State, m int) {
	var groups uint8
	for g := range Groups {
		if s.Record[g][m]&(ByAgent|Known) == ByAgent|Known {
			groups |= bit(g)
		}
	}
	if groups == 0 {
		c.ended(s, m)
		return
	}
	s.Machine[m].Flight = Flight{Request: Release, Fresh: true, Groups: groups}
}
