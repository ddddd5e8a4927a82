package model

import (
	"fmt"
	"slices"
	"strings"
)

// Result is what an exploration found.
type Result struct {
	States, Steps int
	Violation     *Violation // nil: none
}

// Violation is a promise that is broken, and the shortest way there.
type Violation struct {
	What  string
	Trace []Step
	Last  State
}

// String is the whole story, one step a line.
func (v *Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, after %d steps:\n", v.What, len(v.Trace))
	for i, p := range v.Trace {
		fmt.Fprintf(&b, "%4d. %s\n", i+1, p)
	}
	fmt.Fprintf(&b, "in the end: %+v", v.Last)
	return b.String()
}

// Stuck is what is wrong with a state from which nothing leads to the goal.
const (
	Stuck       = "nothing leads from here to everybody having rebooted"
	StuckFreely = "nothing leads from here to everybody having rebooted, although no administrator is in the way"
)

// space is the states that were visited, in the order of their distance from the start.
type space struct {
	known  set
	states pool[packed]
	parent pool[int32] // the state from which each was first reached
	via    pool[Step]

	// The steps back, but for faults: those into a state are a list that begins at its
	// edge in last.
	edges pool[edge]
	last  pool[int32] // -1: none
}

// edge is a step back.
type edge struct {
	from, next int32 // next is another one into the same state, -1: none
}

// of says whether a step back is an agent's own; those of administrators have the
// complement of their state.
func (e edge) of() (from int32, own bool) {
	if e.from < 0 {
		return ^e.from, false
	}
	return e.from, true
}

// Explore visits every state that can be reached. It ends at the first broken promise,
// or, if safety is false, looks only whether the goal can be reached from everywhere.
func (c Config) Explore(safety bool) Result {
	var sp space
	sp.add(-1, Transition{To: c.Start(), Kind: Fault})
	var r Result
	for at := int32(0); at < sp.states.n; at++ {
		for _, t := range c.Next(sp.states.at(at).state()) {
			r.Steps++
			if t.Wrong != "" && safety {
				r.States = int(sp.states.n)
				r.Violation = &Violation{What: t.Wrong, Trace: append(sp.trace(at), t.Step), Last: t.To}
				return r
			}
			sp.add(at, t)
		}
	}
	r.States = int(sp.states.n)
	if i := sp.stuck(); i >= 0 {
		what, last := Stuck, sp.states.at(i).state()
		if last.Calm() {
			what = StuckFreely
		}
		r.Violation = &Violation{What: what, Trace: sp.trace(i), Last: last}
	}
	return r
}

// add takes in where a step from state at leads.
func (sp *space) add(at int32, t Transition) {
	p := pack(t.To)
	i, slot, known := sp.known.find(p, &sp.states)
	if !known {
		i = sp.states.n
		sp.states.add(p)
		sp.known.put(slot, i)
		sp.parent.add(at)
		sp.via.add(t.Step)
		sp.last.add(-1)
	}
	if t.Kind == Fault {
		return
	}
	if t.Kind != Own {
		at = ^at
	}
	last := sp.last.at(i)
	sp.edges.add(edge{from: at, next: *last})
	*last = sp.edges.n - 1
}

// trace is the shortest way to a state.
func (sp *space) trace(i int32) []Step {
	var steps []Step
	for ; *sp.parent.at(i) >= 0; i = *sp.parent.at(i) {
		steps = append(steps, *sp.via.at(i))
	}
	slices.Reverse(steps)
	return steps
}

// stuck is the first state from which the goal cannot be reached without faults: where no
// administrator is in the way by the agents' own steps, else with the administrator's
// help. It is -1 if there is none.
func (sp *space) stuck() int32 {
	freely := sp.reaching(false)
	helped := sp.reaching(true)
	for i := range sp.states.n {
		if !helped[i] || !freely[i] && sp.states.at(i).state().Calm() {
			return i
		}
	}
	return -1
}

// reaching says of each state whether the goal can be reached from it without faults.
func (sp *space) reaching(helped bool) []bool {
	reached := make([]bool, sp.states.n)
	var open []int32
	visit := func(i int32) {
		if !reached[i] {
			reached[i] = true
			open = append(open, i)
		}
	}
	for i := range sp.states.n {
		if sp.states.at(i).state().Goal() {
			visit(i)
		}
	}
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for e := *sp.last.at(i); e >= 0; e = sp.edges.at(e).next {
			if from, own := sp.edges.at(e).of(); own || helped {
				visit(from)
			}
		}
	}
	return reached
}
