package machines_test

import (
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// TestByHand reboots one machine with locksmithctl reboot and asks the agent of
// the other one with send-need-reboot, while the first is down.
func TestByHand(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "", "")
	first, second := c.ms[0], c.ms[1]

	// In a unit of its own: nothing of ours may be in the way of the shutdown.
	_, err := first.Exec(within(t, limit), "systemd-run", "--quiet", "--collect",
		"/usr/bin/locksmithctl", "-endpoint", c.etcd.Endpoint, "reboot")
	must(t, err)
	must(t, c.audit.Wait(within(t, limit), "the first machine's slot", func(s machines.Store) bool {
		return s.Phase("", first.ID) == string(locksmith.PhaseRebooting)
	}))
	_, err = second.Exec(within(t, limit), "/usr/bin/locksmithctl", "send-need-reboot", "-reason", "new firmware")
	must(t, err)
	c.rebooted(2, first, second)
	c.neverMoreDown(1, first, second)
	history := c.ctl("history")
	for _, want := range []string{"locksmithctl (root@" + first.Name + ")", "new firmware", "rebooted"} {
		if !strings.Contains(history, want) {
			t.Errorf("the history lacks %q:\n%s", want, history)
		}
	}
}
