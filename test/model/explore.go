package model

import (
	"fmt"
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
	index  map[State]int32
	states []State
	parent []int32 // the state from which each was first reached
	via    []Step

	// The steps back, but for faults: those into a state are a list that begins at its
	// edge in last. Flat, because there are many millions.
	edges []edge
	last  []int32 // -1: none
}

// edge is a step back.
type edge struct {
	from, next int32 // next is another one into the same state, -1: none
	kind       Kind
}

func newSpace(start State) *space {
	return &space{index: map[State]int32{start: 0}, states: []State{start}, parent: []int32{-1}, via: []Step{{}}, last: []int32{-1}}
}

// Explore visits every state that can be reached. It ends at the first broken promise,
// or, if safety is false, looks only whether the goal can be reached from everywhere.
func (c Config) Explore(safety bool) Result {
	sp := newSpace(c.Start())
	var r Result
	for at := int32(0); int(at) < len(sp.states); at++ {
		for _, t := range c.Next(sp.states[at]) {
			r.Steps++
			if t.Wrong != "" && safety {
				r.States = len(sp.states)
				r.Violation = &Violation{What: t.Wrong, Trace: append(sp.trace(at), t.Step), Last: t.To}
				return r
			}
			sp.add(at, t)
		}
	}
	r.States = len(sp.states)
	if i := sp.stuck(); i >= 0 {
		what := Stuck
		if sp.states[i].Calm() {
			what = StuckFreely
		}
		r.Violation = &Violation{What: what, Trace: sp.trace(i), Last: sp.states[i]}
	}
	return r
}

// add takes in where a step from state at leads.
func (sp *space) add(at int32, t Transition) {
	i, known := sp.index[t.To]
	if !known {
		i = int32(len(sp.states))
		sp.index[t.To] = i
		sp.states = append(sp.states, t.To)
		sp.parent = append(sp.parent, at)
		sp.via = append(sp.via, t.Step)
		sp.last = append(sp.last, -1)
	}
	if t.Kind != Fault {
		sp.edges = append(sp.edges, edge{from: at, next: sp.last[i], kind: t.Kind})
		sp.last[i] = int32(len(sp.edges) - 1)
	}
}

// trace is the shortest way to a state.
func (sp *space) trace(i int32) []Step {
	var back []Step
	for ; sp.parent[i] >= 0; i = sp.parent[i] {
		back = append(back, sp.via[i])
	}
	for a, b := 0, len(back)-1; a < b; a, b = a+1, b-1 {
		back[a], back[b] = back[b], back[a]
	}
	return back
}

// stuck is the first state from which the goal cannot be reached without faults: where no
// administrator is in the way by the agents' own steps, else with the administrator's
// help. It is -1 if there is none.
func (sp *space) stuck() int32 {
	freely := sp.reaching(false)
	helped := sp.reaching(true)
	for i, s := range sp.states {
		if s.Calm() && !freely[i] || !helped[i] {
			return int32(i)
		}
	}
	return -1
}

// reaching says of each state whether the goal can be reached from it without faults.
func (sp *space) reaching(helped bool) []bool {
	reached := make([]bool, len(sp.states))
	var open []int32
	visit := func(i int32) {
		if !reached[i] {
			reached[i] = true
			open = append(open, i)
		}
	}
	for i, s := range sp.states {
		if s.Goal() {
			visit(int32(i))
		}
	}
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for e := sp.last[i]; e >= 0; e = sp.edges[e].next {
			if sp.edges[e].kind == Own || helped {
				visit(sp.edges[e].from)
			}
		}
	}
	return reached
}
