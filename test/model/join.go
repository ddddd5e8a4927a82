package model

// needing is a machine that is not in the queue, as far as it knows.
func (v *visit) needing(m int) {
	if v.from.Machine[m].Cured {
		v.own(Stop, m, func(s *State, mm *Machine) {
			if mm.PC = Done; v.Mistake == IdleTooSoon {
				return
			}
			v.over(s, m)
			s.dropEntry(m) // also one that an earlier process left
			if v.holdsAgent(*s, m) && v.Mistake != DropsRest {
				mm.PC = Finding
			}
		})
		return
	}
	if _, inTheWay := v.paused(v.from, m); inTheWay {
		return // it would be in the way of others
	}
	if v.from.Machine[m].Join == NoJoin && v.Unheld&bit(m) == 0 {
		v.limited(func(l *Limits) *int8 { return &l.Replies }, Step{Act: HoldJoin, M: int8(m)}, func(s *State) string {
			s.sent(m)
			return ""
		})
	}
	if !v.from.Machine[m].Owns {
		v.limited(func(l *Limits) *int8 { return &l.Replies }, Step{Act: LoseJoin, M: int8(m)}, func(s *State) string {
			s.enter(m)
			return ""
		})
	}
	v.own(Join, m, func(s *State, mm *Machine) {
		s.enter(m)
		mm.PC = Queued
		if v.Mistake == Blind || !v.holdsAgent(*s, m) {
			return
		}
		// It holds already what it was about to wait for: it would wait for somebody
		// who waits for it.
		s.dropEntry(m)
		v.over(s, m)
		if mm.PC = Finding; v.granted(*s, m) {
			mm.PC = Held
		}
	})
}

// enter puts an entry of machine m into the queue, or takes over the one that stands.
func (s *State) enter(m int) {
	if s.Queue.place(m) < 0 {
		s.Queue = s.Queue.with(m)
	}
	mm := &s.Machine[m]
	mm.Owns, mm.Other = true, false
	if mm.Join == LeftBoth {
		mm.Join = Left
	}
}

// joins is what becomes of machine m's join under way.
func (v *visit) joins(m int) {
	mm := v.from.Machine[m]
	if mm.Join != NoJoin && v.from.Queue.place(m) < 0 {
		v.add(Fault, Step{Act: LateJoin, M: int8(m)}, func(s *State) string {
			s.lateJoin(m)
			return ""
		})
	}
	if mm.Join == Left {
		v.add(Own, Step{Act: Expire, M: int8(m), N: 1}, func(s *State) string {
			s.expire(m, true)
			return ""
		})
	}
}

// left is what the end of the process makes of a join under way.
func (mm Machine) left() Joining {
	switch {
	case mm.Join == Mine && mm.Owns:
		return LeftBoth
	case mm.Join == Mine:
		return Left
	}
	return mm.Join
}

// have is machine m's process that sees that it was granted its slots.
func (c Config) have(s *State, m int) {
	s.Machine[m].PC = Held
	c.over(s, m)
}

// sent is machine m's join without a reply: it is under way as long as its lease lives.
// It compares nothing but that no entry of the machine stands.
func (s *State) sent(m int) { s.Machine[m].Join = Mine }

// lateJoin is a join of machine m that was sent earlier, and is carried out now.
func (s *State) lateJoin(m int) {
	mm := &s.Machine[m]
	s.Queue = s.Queue.with(m)
	mm.Owns = mm.Join == Mine
	mm.Other = mm.PC == Queued || mm.PC == First
	mm.Join = NoJoin
}

// expire ends the lease of machine m's entry, or, if only is set, that of its join under
// way, where these are two.
func (s *State) expire(m int, only bool) {
	mm := &s.Machine[m]
	if only || mm.Join == LeftBoth {
		mm.Join = NoJoin
	}
	if !only {
		s.dropEntry(m)
	}
}

// loseLease ends the lease of machine m's process, and with it what hangs on it and
// what was to.
func (s *State) loseLease(m int) {
	if s.Machine[m].Owns {
		s.dropEntry(m)
	}
	if s.Machine[m].Join == Mine {
		s.Machine[m].Join = NoJoin
	}
}

// over is machine m's wait at its end, granted or not. Where a join of it may still come,
// its process gives up the lease, so that it is refused.
func (c Config) over(s *State, m int) {
	mm := s.Machine[m]
	if (mm.Join == Mine || mm.Other && mm.Owns) && c.Mistake != KeepsLease {
		s.loseLease(m)
	}
}
