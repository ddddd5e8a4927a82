package machines_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

func TestFiveMachinesOneAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "", "", "", "", "")
	c.need(c.ms...)
	c.rebooted(2, c.ms...)
	c.neverMoreDown(1, c.ms...)
	if got, want := c.ctl("status"), "Available: 1\nMax: 1\n"; got != want {
		t.Errorf("status afterwards is %q, want %q", got, want)
	}
}

func TestFiveMachinesTwoAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "", "", "", "", "")
	if got, want := c.ctl("set-max", "2"), "Old: 1\nNew: 2\n"; got != want {
		t.Errorf("set-max says %q, want %q", got, want)
	}
	c.need(c.ms...)
	c.rebooted(2, c.ms...)
	if most := c.neverMoreDown(2, c.ms...); most != 2 {
		t.Errorf("at most %d machines were down at once, although 2 were allowed", most)
	}
}

// TestTwoGroups has five machines in two groups of different max, one of them in
// both.
func TestTwoGroups(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "a", "a", "a,rack 7", "rack 7", "rack 7")
	c.ctl("-group", "rack 7", "set-max", "2")
	c.need(c.ms...)
	c.rebooted(2, c.ms...)
	c.neverMoreDown(1, c.ms[:3]...)
	c.neverMoreDown(2, c.ms[2:]...)
}

// TestPoweredOffHolder has the machine that holds the slot lose power for good.
func TestPoweredOffHolder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "", "", "")
	// Holding keeps whoever wins in front of its reboot.
	for _, m := range c.ms {
		must(t, m.HoldShutdown(within(t, limit)))
	}
	c.need(c.ms...)
	var dead *machines.Machine
	must(t, c.audit.Wait(within(t, limit), "one about to reboot and two in the queue", func(s machines.Store) bool {
		queued := 0
		for _, m := range c.ms {
			switch {
			case s.Phase("", m.ID) == string(locksmith.PhaseRebooting):
				dead = m
			case s.Queued("", m.ID):
				queued++
			}
		}
		return dead != nil && queued == 2
	}))
	rest := slices.DeleteFunc(slices.Clone(c.ms), func(m *machines.Machine) bool { return m == dead })
	c.waitStore("the presence of the machine", func(s machines.Store) bool { return s.Present(dead.ID) })
	must(t, dead.PowerOff(within(t, limit)))
	for _, m := range rest {
		must(t, m.LetShutdown(within(t, limit)))
	}

	// Its presence lapses with its lease. Its slot does not.
	must(t, c.audit.Wait(within(t, limit), "the presence of the dead machine to lapse", func(s machines.Store) bool {
		return !s.Present(dead.ID)
	}))
	if got, want := c.ctl("status"), "Available: 0\nMax: 1\n\nMACHINE ID\n"+dead.ID+"\n"; got != want {
		t.Errorf("status is %q, want %q", got, want)
	}
	long := c.ctl("status", "-l")
	t.Logf("status -l:\n%s", long)
	line := lineWith(long, dead.ID)
	// Its phase, and its agent's: it was asked to reboot too short a time ago to be
	// called stale.
	if !strings.Contains(line, dead.Name) || strings.Count(line, " rebooting ") != 2 {
		t.Errorf("status -l says %q of the dead machine, want %s, and twice that it is rebooting", line, dead.Name)
	}
	if !slices.ContainsFunc(strings.Fields(line), isAge) {
		t.Errorf("status -l says %q of the dead machine, want since when", line)
	}
	must(t, c.fleet.Sync(t.Context()))
	if most, which := machines.MostDown(c.fleet.Events(), names(rest)); most != 0 {
		t.Errorf("%v went down although the slot was not theirs", which)
	}

	c.audit.Allow(dead)
	c.ctl("unlock", dead.ID)
	c.rebooted(2, rest...)
	c.neverMoreDown(1, rest...)

	// With power again it starts anew: no slot of its own, no need, no reboot.
	must(t, dead.Start(within(t, limit)))
	c.rebooted(2, dead)
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// isAge says whether word is a duration such as 7s or 1m5s.
func isAge(word string) bool {
	d, err := time.ParseDuration(word)
	return err == nil && d > 0
}

// TestOutsideWindow has a machine whose window is closed need a reboot, and
// another one, without a window, need the slot meanwhile.
func TestOutsideWindow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "", "", "")
	closed, other := c.ms[0], c.ms[1]
	c.reconfigure(closed, window(time.Now().Add(6*time.Hour)))

	c.need(closed)
	c.waitPhase(closed, locksmith.PhaseWindow)
	c.need(other)
	c.rebooted(2, other)
	c.waitPhase(closed, locksmith.PhaseWindow)
	if c.audit.Ever(closed) {
		t.Error("outside its window the machine stood in the queue or held a slot")
	}
	must(t, c.fleet.Sync(t.Context()))
	if n := machines.Boots(c.fleet.Events(), closed.Name); n != 1 {
		t.Errorf("outside its window the machine came up %d times, want 1", n)
	}

	// The same need, the window now open.
	c.reconfigure(closed, window(time.Now().Add(-time.Hour)))
	c.rebooted(2, closed)
	c.neverMoreDown(1, c.ms...)
}

// window is the environment for a window of four hours from start on, every day.
func window(start time.Time) string {
	return fmt.Sprintf("LOCKSMITHD_REBOOT_WINDOW_START=%s\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=4h\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC",
		start.UTC().Format("15:04"))
}

// reconfigure restarts m's locksmithd with more in its environment.
func (c *cluster) reconfigure(m *machines.Machine, env string) {
	c.t.Helper()
	must(c.t, m.WriteFile("/etc/locksmith/locksmithd.env", []byte(c.env(m, env))))
	_, err := m.Exec(within(c.t, limit), "systemctl", "restart", daemon)
	must(c.t, err)
}
