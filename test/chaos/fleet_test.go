package chaos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// A machine whose plug is pulled between two processes of its agent comes up again as any
// other. The next process is not started on a machine that is down, for that would never end.
func TestCrashWithoutAnAgent(t *testing.T) {
	require(t)
	network := chaos.NewNetwork(1)
	defer network.Close()
	fleet, err := chaos.NewFleet(t.TempDir(), chaos.Boot{Endpoints: []string{"http://10.77.0.1:2379"}}) // where nobody is
	must(t, err)
	defer fleet.Close()
	m, err := fleet.Add(network, []locksmith.Group{"web"}, nil)
	must(t, err)
	fleet.Start()
	awaitLine(t, fleet, chaos.KindPhase, 1)
	fleet.Kill(m)
	awaitLine(t, fleet, chaos.KindEnded, 1)
	fleet.Crash(m)
	awaitLine(t, fleet, chaos.KindUp, 2)
}

// awaitLine waits until n lines of a kind are there.
func awaitLine(t *testing.T, fleet *chaos.Fleet, kind string, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); ; {
		lines, err := fleet.Lines()
		must(t, err)
		if len(slices.DeleteFunc(lines, func(l chaos.Line) bool { return l.Kind != kind })) >= n {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("there are no %d lines of kind %s after 30 s", n, kind)
		}
	}
}
