package main

import (
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
)

func newTestLedger() (*ledger, <-chan struct{}) {
	b := newLedger()
	ended := b.begin("p", 1, []member{
		{"w1", []locksmith.Group{"web"}}, {"w2", []locksmith.Group{"web"}}, {"b1", []locksmith.Group{"", "rack"}}, {"r1", []locksmith.Group{"rack"}},
	})
	return b, ended
}

func TestLedger(t *testing.T) {
	allow := func(g locksmith.Group, n int) line { return line{Kind: lineAllow, Group: g, Max: n} }
	down := func(m string) line { return line{Kind: lineDown, Machine: m} }
	up := func(m string) line { return line{Kind: lineUp, Machine: m} }
	for name, tt := range map[string]struct {
		lines  []line
		broken string // empty: nothing
	}{
		"one at a time":              {[]line{allow("web", 1), down("w1"), up("w1"), down("w2")}, ""},
		"two at once":                {[]line{allow("web", 1), down("w1"), down("w2")}, `2 of group "web" are down, and 1 may be: ["w1" "w2"]`},
		"none may be":                {[]line{down("w1")}, `1 of group "web"`},
		"raised in time":             {[]line{allow("web", 1), down("w1"), allow("web", 2), down("w2")}, ""},
		"raised too late":            {[]line{allow("web", 1), down("w1"), down("w2"), allow("web", 2)}, `2 of group "web"`},
		"lowered evicts nobody":      {[]line{allow("web", 2), down("w1"), down("w2"), allow("web", 1), up("w1")}, ""},
		"lowered, and another goes":  {[]line{allow("web", 2), down("w1"), allow("web", 1), down("w2")}, `2 of group "web"`},
		"the second of its groups":   {[]line{allow("", 1), allow("rack", 1), down("r1"), down("b1")}, `2 of group "rack"`},
		"killed while it was down":   {[]line{allow("web", 1), down("w1"), down("w2"), up("w1")}, `2 of group "web"`},
		"other groups do not matter": {[]line{allow("web", 1), allow("rack", 1), down("w1"), down("r1")}, ""},
	} {
		b, _ := newTestLedger()
		for _, l := range tt.lines {
			b.take(l)
		}
		broken := strings.Join(b.account().broken, "; ")
		if (tt.broken == "") != (broken == "") || !strings.HasPrefix(broken, tt.broken) {
			t.Errorf("%s: %q, want %q", name, broken, tt.broken)
		}
	}
}

func TestRollouts(t *testing.T) {
	b, ended := newTestLedger()
	released := func(m string, wave int) { b.take(line{Kind: lineReleased, Process: "p", Machine: m, Wave: wave}) }
	isOver := func(ended <-chan struct{}) bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	for _, m := range []string{"w1", "w2", "b1", "b1"} {
		released(m, 1)
	}
	b.take(line{Kind: lineReleased, Process: "other", Machine: "r1", Wave: 1})
	released("r1", 2) // of a rollout that has not begun
	if isOver(ended) || strings.Join(b.unfinished("p"), " ") != "r1" {
		t.Fatalf("ended with %q left", b.unfinished("p"))
	}
	next := b.begin("p", 2, []member{{"w1", []locksmith.Group{"web"}}})
	released("w1", 1) // late
	if isOver(next) {
		t.Error("a line of the rollout before ends this one")
	}
	released("w1", 2)
	released("w1", 2)
	if !isOver(next) || isOver(ended) {
		t.Error("the second rollout has not ended, or the first has")
	}
}

func TestStats(t *testing.T) {
	b, _ := newTestLedger()
	b.take(line{Kind: lineStats, Process: "p", Goroutines: 7})
	b.take(line{Kind: lineStats, Process: "p", Goroutines: 8, Heap: 9})
	if got := b.account().stats["p"]; got.Goroutines != 8 || got.Heap != 9 {
		t.Errorf("%+v", got)
	}
	b.forgetStats("p")
	if got, ok := b.account().stats["p"]; ok {
		t.Errorf("a process that has ended says %+v", got)
	}
}
