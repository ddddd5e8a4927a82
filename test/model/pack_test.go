package model

import "testing"

// TestPacked: a state is the same after it was packed, in all that are reached by faults
// of each kind and by a mistake that needs more fields.
func TestPacked(t *testing.T) {
	for _, mistake := range []Mistake{None, NoComparison} {
		c := fleets["two slots in each"]
		c.Limits, c.Mistake = upTo(1), mistake
		var known set
		var all pool[packed]
		seen := map[State]bool{}
		open := []State{c.Start()}
		for len(open) > 0 && len(seen) < 20000 {
			s := open[0]
			open = open[1:]
			p := pack(s)
			i, slot, old := known.find(p, &all)
			if old != seen[s] {
				t.Fatalf("known %v, want %v: %+v", old, seen[s], s)
			}
			if back := p.state(); back != s || old && *all.at(i) != p {
				t.Fatalf("%+v came back as %+v", s, back)
			}
			if old {
				continue
			}
			known.put(slot, all.n)
			all.add(p)
			seen[s] = true
			for _, next := range c.Next(s) {
				open = append(open, next.To)
			}
		}
	}
}
