package sim

import "time"

// Polling is the peers' way: who finds no slot free, or loses a race for one, comes back
// after a while. Whether one is free is read, and taking it is a second request, which
// is carried out only if nobody changed the record since it was read.
type Polling struct {
	Title string

	// First is the pause after the first failure; each is twice the one before, up to
	// Longest. Equal: the pauses do not grow.
	First, Longest time.Duration

	// Jitter lengthens each pause at random by up to this part of it.
	Jitter float64

	// Phase, if set, lets a machine ask at fixed times, each Longest after the last,
	// of which the first comes at random from a half to one and a half Longest after
	// the need. First and Jitter are not used for asking then.
	Phase bool

	// Race is the time from reading the record to changing it. 0: nobody else comes in
	// between, or whoever loses a race tries again at once.
	Race time.Duration
}

// Name is the policy's title.
func (p Polling) Name() string { return p.Title }

func (p Polling) start(r *run) {
	c := &crowd{policy: p, run: r, members: make([]member, r.cfg.Machines)}
	for i, s := range r.result.Spans {
		first := s.Needed
		if p.Phase {
			first += time.Duration(float64(p.Longest) * (0.5 + r.rand.Float64()))
		}
		r.at(first, i, c.ask)
	}
}

// crowd is the machines of one run.
type crowd struct {
	policy  Polling
	run     *run
	members []member
	version int // of the record: how often it was changed
}

type member struct {
	read  int           // the version that it read
	pause time.Duration // its last one without jitter; 0: none yet
}

// ask looks whether a slot is free.
func (c *crowd) ask(machine int) {
	c.run.request()
	if c.run.free() == 0 {
		c.again(machine, c.ask)
		return
	}
	c.change(machine, c.take)
}

func (c *crowd) take(machine int) {
	if !c.won(machine) {
		c.again(machine, c.ask)
		return
	}
	c.run.granted(machine)
	c.members[machine].pause = 0
	c.run.at(c.run.now+c.run.down[machine], machine, c.back)
}

// back reads the record in order to give the slot back.
func (c *crowd) back(machine int) {
	c.run.request()
	c.change(machine, c.give)
}

func (c *crowd) give(machine int) {
	if !c.won(machine) {
		c.again(machine, c.back)
		return
	}
	c.run.released(machine)
}

// change sends what follows from the record that was read just now.
func (c *crowd) change(machine int, do func(machine int)) {
	c.members[machine].read = c.version
	if c.policy.Race == 0 {
		do(machine)
		return
	}
	c.run.at(c.run.now+c.policy.Race, machine, do)
}

// won says whether nobody changed the record since the machine read it, and counts the
// change if so.
func (c *crowd) won(machine int) bool {
	c.run.request()
	if c.members[machine].read != c.version {
		return false
	}
	c.version++
	return true
}

// again lets the machine do the same after its pause.
func (c *crowd) again(machine int, do func(machine int)) {
	p, m := c.policy, &c.members[machine]
	if p.Phase {
		c.run.at(c.run.now+p.Longest, machine, do)
		return
	}
	if m.pause = 2 * m.pause; m.pause == 0 {
		m.pause = p.First
	}
	m.pause = min(m.pause, p.Longest)
	pause := m.pause
	if p.Jitter > 0 {
		pause += time.Duration(float64(pause) * p.Jitter * c.run.rand.Float64())
	}
	c.run.at(c.run.now+pause, machine, do)
}
