package systemd

import (
	"slices"
	"strings"
	"testing"
)

// A list of states names them once each and running among them, or none at all.
func FuzzParseStates(f *testing.F) {
	for _, text := range []string{"running,degraded", " degraded", "running, running", "", "a\nb", ","} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		states, err := ParseStates(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: %q", text, err)
			}
			return
		}
		again, err := ParseStates(strings.Join(states, ","))
		if err != nil || !slices.Equal(again, states) {
			t.Fatalf("%q is read as %q, and that as %q, %v", text, states, again, err)
		}
		if len(states) > 2 || len(states) > 0 != slices.Contains(states, stateRunning) || len(slices.Compact(slices.Sorted(slices.Values(states)))) != len(states) {
			t.Fatalf("%q is read as %q", text, states)
		}
	})
}
