package model

// Endless is a limit that is never reached.
const Endless = 7

// kinds are the limits of each kind.
func (l *Limits) kinds() [8]*int8 {
	return [8]*int8{&l.Crashes, &l.Replies, &l.Leases, &l.SetMax, &l.Unlocks, &l.Locks, &l.Pauses, &l.Cured}
}

// spend takes one of a kind from what is left; false: none is.
func (l *Limits) spend(kind func(*Limits) *int8) bool {
	n := kind(l)
	if *n <= 0 || l.Total <= 0 {
		return false
	}
	if *n != Endless {
		*n--
	}
	if l.Total == Endless {
		return true
	}
	l.Total--
	for _, n := range l.kinds() {
		*n = min(*n, l.Total)
	}
	return true
}

// limited is a step that may happen so often only.
func (v *visit) limited(kind func(*Limits) *int8, p Step, apply func(s *State) string) {
	left := v.from.Left
	if !left.spend(kind) {
		return
	}
	v.add(Fault, p, func(s *State) string {
		s.Left = left
		return apply(s)
	})
}

// faults are what can befall machine m.
func (v *visit) faults(m int) {
	s, mm := v.from, v.from.Machine[m]
	under := mm.Flight.Request != NoRequest && mm.Flight.Fresh
	for newer := int8(0); newer <= 1; newer++ {
		if newer == 1 && !(under && mm.Ghost.Request != NoRequest) {
			break // there is only one
		}
		if mm.PC != Off && mm.PC != Done {
			v.limited(func(l *Limits) *int8 { return &l.Crashes }, Step{Act: Crash, M: int8(m), N: newer}, func(s *State) string {
				s.endProcess(m, newer == 1)
				return ""
			})
		}
		if under {
			v.limited(func(l *Limits) *int8 { return &l.Replies }, Step{Act: LoseReply, M: int8(m), N: newer}, func(s *State) string {
				v.loseReply(s, m, newer == 1)
				return ""
			})
		}
	}
	if s.Queue.place(m) >= 0 && mm.Owns {
		v.limited(func(l *Limits) *int8 { return &l.Leases }, Step{Act: LoseLease, M: int8(m)}, func(s *State) string {
			s.loseLease(m)
			return ""
		})
	}
	if !mm.Cured && !mm.Booted && mm.Power == Up && mm.PC != Done {
		v.limited(func(l *Limits) *int8 { return &l.Cured }, Step{Act: Cure, M: int8(m)}, func(s *State) string {
			s.Machine[m].Cured = true
			return ""
		})
	}
}

// loseReply is machine m's patience at its end: its request may yet be carried out.
func (c Config) loseReply(s *State, m int, newer bool) {
	mm := &s.Machine[m]
	if newer || mm.Ghost.Request == NoRequest {
		mm.Ghost = mm.Flight
		mm.Ghost.Known = true
	}
	mm.Flight = Flight{}
	if mm.PC == First { // it begins anew with its entry
		mm.PC = Needing
	}
}

// administrators act on groups, and on machines in them.
func (v *visit) administrators() {
	v.pauses()
	s := v.from
	for g := range Groups {
		at := Step{G: int8(g)}
		at.Act = SetMax
		if s.Sem[g].Max == 0 {
			at.N = v.Max[g]
			v.add(Heal, at, func(s *State) string { return v.setMax(s, g, v.Max[g]) })
		}
		for n := int8(0); n <= 2; n++ {
			if at.N = n; n != s.Sem[g].Max {
				v.limited(func(l *Limits) *int8 { return &l.SetMax }, at, func(s *State) string { return v.setMax(s, g, n) })
			}
		}
		for m := range Machines {
			if v.in(m, g) {
				v.hands(m, g)
			}
		}
	}
}

// hands are an administrator's on machine m's slot in group g.
func (v *visit) hands(m, g int) {
	at := Step{M: int8(m), G: int8(g), Act: Unlock}
	unlock := func(s *State) string {
		mm := s.Machine[m]
		s.Excused[g][m] = mm.Power != Up || mm.PC == Confirmed
		v.remove(s, m, g)
		return ""
	}
	switch r := v.from.Record[g][m]; {
	case r&ByAdmin != 0:
		v.add(Heal, at, unlock)
	case r != 0:
		v.limited(func(l *Limits) *int8 { return &l.Unlocks }, at, unlock)
	case v.from.Sem[g].Value > 0:
		at.Act = Lock
		v.limited(func(l *Limits) *int8 { return &l.Locks }, at, func(s *State) string {
			return v.take(s, m, g, s.Sem[g], ByAdmin)
		})
	}
}

func (c Config) setMax(s *State, g int, n int8) string {
	sem := &s.Sem[g]
	sem.Value += n - sem.Max
	sem.Max = n
	c.wroteSemaphore(s, g)
	if c.Mistake == Evicts {
		for m := range Machines {
			if s.Sem[g].Value < 0 && s.Sem[g].holds(m) {
				c.remove(s, m, g)
			}
		}
	}
	return ""
}
