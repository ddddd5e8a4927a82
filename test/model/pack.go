package model

// packed is a state in few bits, because there are many millions of them.
type packed [4]uint64

// coder writes the fields of a state into a packed one, one after the other, or reads them.
type coder struct {
	p    packed
	at   uint // the next bit
	read bool
}

// number is for n bits of a field, n at most 8; a field never spans two words.
func number[T ~uint8 | ~int8](c *coder, field *T, n uint) {
	if c.at%64+n > 64 {
		c.at += 64 - c.at%64
	}
	word, shift, mask := &c.p[c.at/64], c.at%64, uint64(1)<<n-1
	if c.read {
		*field = T(*word >> shift & mask)
	} else {
		*word |= uint64(*field) & mask << shift
	}
	c.at += n
}

// value is for a semaphore's value, the only field that can be negative.
func (c *coder) value(field *int8) {
	v := *field + 8
	number(c, &v, 4)
	*field = v - 8
}

func (c *coder) flag(field *bool) {
	var b uint8
	if *field {
		b = 1
	}
	number(c, &b, 1)
	*field = b == 1
}

func (c *coder) semaphore(s *Semaphore) {
	c.value(&s.Value)
	number(c, &s.Max, 2)
	number(c, &s.Holders, Machines)
}

func (c *coder) flight(f *Flight) {
	number(c, &f.Request, 2)
	c.flag(&f.Fresh)
	c.flag(&f.Known)
	number(c, &f.Groups, Groups)
}

func (c *coder) machine(m *Machine) {
	number(c, &m.PC, 4)
	number(c, &m.Power, 2)
	c.flag(&m.Booted)
	c.flag(&m.Cured)
	c.flag(&m.Owns)
	c.flag(&m.Other)
	number(c, &m.Join, 2)
	number(c, &m.Newer, 2)
	c.flight(&m.Flight)
	c.flight(&m.Ghost)
}

// state is for all fields of a state.
func (c *coder) state(s *State) {
	for g := range Groups {
		c.semaphore(&s.Sem[g])
		for m := range Machines {
			number(c, &s.Record[g][m], 5)
			c.flag(&s.Excused[g][m])
			c.semaphore(&s.Seen[m][g])
		}
	}
	for scope := range Scopes {
		c.flag(&s.Paused[scope])
	}
	for m := range Machines {
		number(c, &s.Queue[m], 2)
		c.machine(&s.Machine[m])
	}
	number(c, &s.Left.Total, 3)
	for _, n := range s.Left.kinds() {
		number(c, n, 3)
	}
}

func pack(s State) packed {
	var c coder
	c.state(&s)
	return c.p
}

func (p packed) state() State {
	var s State
	c := coder{p: p, read: true}
	c.state(&s)
	return s
}

// hash spreads packed states over all numbers.
func (p packed) hash() uint64 {
	h := uint64(0x9E3779B97F4A7C15)
	for _, w := range p {
		h = (h ^ w) * 0xFF51AFD7ED558CCD
		h ^= h >> 32
	}
	return h
}
