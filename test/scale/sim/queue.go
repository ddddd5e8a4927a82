package sim

import "time"

// Queue is locksmith's way: who waits stands in a queue, and a slot that is given back
// wakes the first of it. Grants follow each other, because a grant is what makes the
// next machine the first.
type Queue struct {
	Title string

	// Handoff is the time from one machine's call to give back its slot, or from the
	// grant before where slots are free, to a grant.
	Handoff time.Duration

	// Requests are what one machine asks of the store in the whole of its cycle,
	// however long it waits: Before its slot comes, At its grant, and After the boot.
	Before, At, After int
}

// Name is the policy's title.
func (q Queue) Name() string { return q.Title }

func (q Queue) start(r *run) {
	line := &line{policy: q, run: r}
	for i, s := range r.result.Spans {
		r.at(s.Needed, i, line.join)
	}
}

// line is the queue of one run.
type line struct {
	policy  Queue
	run     *run
	waiting []int
	busy    bool // the first of it is about to be granted its slot
}

func (l *line) join(machine int) {
	l.ask(l.policy.Before)
	l.waiting = append(l.waiting, machine)
	l.next()
}

// next lets the first go for a slot if there is one.
func (l *line) next() {
	if l.busy || len(l.waiting) == 0 || l.run.free() == 0 {
		return
	}
	l.busy = true
	first := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.run.at(l.run.now+l.policy.Handoff, first, l.grant)
}

func (l *line) grant(machine int) {
	l.busy = false
	l.ask(l.policy.At)
	l.run.granted(machine)
	l.run.at(l.run.now+l.run.down[machine], machine, l.release)
	l.next()
}

func (l *line) release(machine int) {
	l.ask(l.policy.After)
	l.run.released(machine)
	l.next()
}

func (l *line) ask(n int) {
	for range n {
		l.run.request()
	}
}
