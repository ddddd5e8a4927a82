package machines_test

import (
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// TestMethods reboots a machine by what it was told to, and by nothing else.
func TestMethods(t *testing.T) {
	t.Parallel()
	c := newClusterOf(t, machines.Trixie, "LOCKSMITHD_REBOOT_METHOD=soft-reboot", "")
	m := c.ms[0]
	c.gates(m)

	c.part("soft", func(t *testing.T) {
		before := c.hooks(m)
		first := c.fleet.Events()[0].Boot
		c.softlyNeeded(m)
		c.rebooted(2, m)
		events := c.fleet.Events()
		if last := events[len(events)-1]; last.Kind != machines.Up || last.Boot != locksmith.Boot(first, 1) {
			t.Errorf("it came up as %s, want %s:\n%s", last.Boot, locksmith.Boot(first, 1), machines.Format(events))
		}
		if got := kinds(events); got != "up down up" {
			t.Errorf("a soft reboot is seen as %q, want \"up down up\"", got)
		}
		c.ranHooks(m, before, 1, 1)
		if got := c.lastOutcome(); !strings.Contains(got, "rebooted") {
			t.Errorf("the history says %q", got)
		}
	})

	// No kernel is loaded, and none of the other methods stands in.
	c.part("kexec without a kernel", func(t *testing.T) {
		before := c.hooks(m)
		c.reconfigure(m, "LOCKSMITHD_REBOOT_METHOD=kexec")
		c.softlyNeeded(m)
		c.waitStore("the slot", func(s machines.Store) bool { return s.Phase("", m.ID) == string(locksmith.PhaseRebooting) })
		c.waits(m, locksmith.PhaseRebooting, "cannot reboot by kexec")
		c.whySays(m, "cannot reboot by kexec", "Next: asks for the reboot again")
		c.exec(m, "/usr/bin/locksmithctl", "send-need-reboot", "-cancel")
		c.waitReleased(m, 2)
		c.waitPhase(m, locksmith.PhaseIdle)
		c.ranHooks(m, before, 1, 1)
	})
}

// softlyNeeded asks m's locksmithd for a reboot: what the update engine's stand-in says
// in /run would still be there after a soft one.
func (c *cluster) softlyNeeded(m *machines.Machine) {
	c.t.Helper()
	c.exec(m, "/usr/bin/locksmithctl", "send-need-reboot", "-reason", "a new library")
}
