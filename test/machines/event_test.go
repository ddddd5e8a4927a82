package machines_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

// events reads "up a, down b": the boots of a machine are numbered.
func events(t *testing.T, script string) []machines.Event {
	t.Helper()
	boots := map[string]string{}
	var all []machines.Event
	for part := range strings.SplitSeq(script, ",") {
		kind, machine, ok := strings.Cut(strings.TrimSpace(part), " ")
		if !ok {
			t.Fatalf("bad script %q", script)
		}
		if kind == "up" {
			boots[machine] += "I"
		}
		all = append(all, machines.Event{Machine: machine, Kind: machines.Kind(kind), Boot: boots[machine]})
	}
	return all
}

func TestMostDown(t *testing.T) {
	for _, test := range []struct {
		script string
		want   int
		which  string
	}{
		{"up a, up b", 0, ""},
		{"up a, up b, down a, off a, up a, down b, off b, up b", 1, "a"},
		{"up a, up b, down a, off a, down b, up a", 2, "a b"},
		{"up a, up b, off a, down b", 2, "a b"},        // no Down before Off: a crash
		{"up a, up b, down a, off a, off b", 2, "a b"}, // off is down, too
		{"up a, up c, down a, down c, up a, up c", 1, "a"},
	} {
		most, which := machines.MostDown(events(t, test.script), []string{"a", "b"})
		if most != test.want || !slices.Equal(which, strings.Fields(test.which)) {
			t.Errorf("%s: %d down at once (%v), want %d (%s)", test.script, most, which, test.want, test.which)
		}
	}
}

func TestBoots(t *testing.T) {
	all := events(t, "up a, down a, off a, up a, up b")
	// The same boot said twice is one boot.
	all = append(all, all[len(all)-1])
	if n := machines.Boots(all, "a"); n != 2 {
		t.Errorf("a came up %d times, want 2", n)
	}
	if n := machines.Boots(all, "b"); n != 1 {
		t.Errorf("b came up %d times, want 1", n)
	}
	if !machines.IsUp(all, "a") || machines.IsUp(all[:3], "a") || machines.IsUp(all, "c") {
		t.Error("IsUp is wrong")
	}
}
