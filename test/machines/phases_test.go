package machines_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// stage is a phase in which a machine can be held, and what is true of it there.
type stage struct {
	phase  locksmith.Phase
	arrive func(c *cluster, m *machines.Machine) // makes it get there and stay
	leave  func(c *cluster, m *machines.Machine) // lets it go on

	holds    bool // a slot
	back     bool // from its reboot
	prepared int  // prepare hooks that end well, where locksmithd was killed in it
	undone   int  // restore hooks, where the power went away in it
	after    locksmith.Phase
}

// stages are the phases of a cycle, but for idle, and acquired, in which nothing
// takes time.
var stages = []stage{
	{phase: locksmith.PhaseWindow, prepared: 1,
		arrive: func(c *cluster, m *machines.Machine) {
			c.closeGate(m, "check")
			c.need(m)
			c.waits(m, locksmith.PhaseWindow, "blocked by 50-gate: somebody is at work")
			c.whySays(m, "blocked", "50-gate", "somebody is at work")
		},
		leave: func(c *cluster, m *machines.Machine) { c.openGate(m, "check") }},
	{phase: locksmith.PhaseQueued, prepared: 1,
		arrive: func(c *cluster, m *machines.Machine) {
			c.ctl("lock", somebody)
			c.need(m)
			c.waitStore("its place in the queue", func(s machines.Store) bool { return s.Queued("", m.ID) })
		},
		leave: func(c *cluster, m *machines.Machine) { c.ctl("unlock", somebody) }},
	{phase: locksmith.PhasePreparing, holds: true, prepared: 1, undone: 1,
		arrive: func(c *cluster, m *machines.Machine) {
			begun := c.hooks(m)["prepare begun"]
			c.closeGate(m, "prepare")
			c.need(m)
			c.waitHook(m, "prepare begun", begun+1)
		},
		leave: func(c *cluster, m *machines.Machine) { c.openGate(m, "prepare") }},
	{phase: locksmith.PhaseNotifying, holds: true, prepared: 2, undone: 1,
		arrive: func(c *cluster, m *machines.Machine) {
			must(c.t, m.Login(within(c.t, limit)))
			c.need(m)
			c.waitStore("its phase", func(s machines.Store) bool { return s.Phase("", m.ID) == string(locksmith.PhaseNotifying) })
		},
		leave: func(c *cluster, m *machines.Machine) { must(c.t, m.Logout(within(c.t, limit))) }},
	{phase: locksmith.PhaseRebooting, holds: true, prepared: 1, undone: 1,
		arrive: func(c *cluster, m *machines.Machine) {
			must(c.t, m.HoldShutdown(within(c.t, limit)))
			c.need(m)
			c.waitShutdownAccepted(m)
		},
		leave: func(c *cluster, m *machines.Machine) { must(c.t, m.LetShutdown(within(c.t, limit))) }},
	{phase: locksmith.PhaseVerifying, holds: true, back: true, prepared: 1, undone: 1,
		arrive: func(c *cluster, m *machines.Machine) { c.heldAfterBoot(m, "verify") },
		leave:  func(c *cluster, m *machines.Machine) { c.openGate(m, "verify") }},
	{phase: locksmith.PhaseRestoring, holds: true, back: true, prepared: 1, undone: 1,
		arrive: func(c *cluster, m *machines.Machine) { c.heldAfterBoot(m, "restore") },
		leave:  func(c *cluster, m *machines.Machine) { c.openGate(m, "restore") }},
	// An etcd that does not answer holds it there, and keeps the next locksmithd from
	// finding out where it is.
	{phase: locksmith.PhaseReleasing, holds: true, back: true, prepared: 1, undone: 1, after: locksmith.PhaseRecovering,
		arrive: func(c *cluster, m *machines.Machine) {
			c.heldAfterBoot(m, "restore")
			must(c.t, c.etcd.Pause())
			c.openGate(m, "restore")
		},
		leave: func(c *cluster, m *machines.Machine) { must(c.t, c.etcd.Resume()) }},
}

// heldAfterBoot has m reboot and stay in a step after that.
func (c *cluster) heldAfterBoot(m *machines.Machine, step string) {
	c.t.Helper()
	begun := c.hooks(m)[step+" begun"]
	c.closeGate(m, step)
	c.need(m)
	must(c.t, machines.Poll(within(c.t, limit), "the "+step+" hook after the reboot", func() (bool, error) {
		text, err := m.ReadFile(hookLog)
		if err != nil { // on its way
			return false, err
		}
		return countLines(text, step+" begun") > begun, nil
	}))
}

// held fails unless m has a slot exactly where s says so. An etcd that was stopped
// says nothing, but the audit has seen the last that it said.
func (c *cluster) held(m *machines.Machine, s stage) {
	c.t.Helper()
	holders := c.audit.Store().Holders("")
	if got := slices.Contains(holders, m.ID); got != s.holds {
		c.t.Errorf("in phase %s the holders are %v; it is %t that %s (%s) is one, want %t", s.phase, holders, got, m.Name, m.ID, s.holds)
	}
}

// TestKillInEachPhase kills locksmithd in each phase. The cycle goes on as if nothing
// had happened: the slot stays, what was prepared is undone once, one reboot.
func TestKillInEachPhase(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "LOCKSMITHD_MAX_REBOOTS_PER_DAY=0", "")
	m := c.ms[0]
	c.gates(m)
	c.quickRestart(m)
	boots := 1
	for _, s := range stages {
		c.part(string(s.phase), func(t *testing.T) {
			before := c.hooks(m)
			s.arrive(c, m)
			c.waitPhase(m, s.phase)
			if s.back {
				boots++
			}
			c.kill(m)
			if s.after == "" {
				s.after = s.phase
			}
			c.waitPhase(m, s.after)
			c.held(m, s)
			c.stillUp(m, boots)
			s.leave(c, m)
			if !s.back {
				boots++
			}
			c.rebooted(boots, m)
			c.ranHooks(m, before, s.prepared, 1)
		})
	}
}

// TestPowerLossInEachPhase pulls the plug in each phase and puts it back. A machine
// that holds a slot comes back as from a reboot: it is checked, what was prepared is
// undone once, the slot goes back. One that held none has nothing to do.
func TestPowerLossInEachPhase(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "LOCKSMITHD_MAX_REBOOTS_PER_DAY=0", "")
	m := c.ms[0]
	c.gates(m)
	boots := 1
	for _, s := range stages {
		c.part(string(s.phase), func(t *testing.T) {
			before, slots := c.hooks(m), c.audit.Slots(m)
			s.arrive(c, m)
			c.waitPhase(m, s.phase)
			if s.back {
				boots++
			}
			c.held(m, s)
			if s.phase == locksmith.PhasePreparing {
				c.waitStore("the presence of the machine", func(s machines.Store) bool { return s.Present(m.ID) })
			}
			must(t, m.PowerOff(within(t, limit)))
			c.held(m, s)
			if s.phase == locksmith.PhasePreparing {
				c.stale(m)
			}
			must(t, m.Start(within(t, limit)))
			boots++
			if s.back {
				if s.after == "" {
					s.after = s.phase
				}
				c.waitPhase(m, s.after)
				c.held(m, s)
				s.leave(c, m)
			} else {
				c.afterPowerLoss(m, s)
			}
			c.rebooted(boots, m)
			prepared := 0
			if s.holds && s.phase != locksmith.PhasePreparing {
				prepared = 1
			}
			c.ranHooks(m, before, prepared, s.undone)
			want := 0
			if s.holds {
				want = 1
			}
			if got := c.audit.Slots(m) - slots; got != want {
				t.Errorf("it was granted %d slots, want %d", got, want)
			}
		})
	}
}

// stale waits until m is seen to be gone, and fails unless the administrator is told how
// to give its slot back.
func (c *cluster) stale(m *machines.Machine) {
	c.t.Helper()
	c.waitStore("the presence of the machine to lapse", func(s machines.Store) bool { return !s.Present(m.ID) })
	long := c.ctl("status", "-l")
	c.t.Logf("status -l:\n%s", long)
	if !strings.Contains(lineWith(long, m.ID), "stale") || lineWith(long, "unlock "+m.ID) == "" {
		c.t.Errorf("status -l does not say that %s is stale, or not how to unlock it:\n%s", m.Name, long)
	}
}

// afterPowerLoss makes the machine's surroundings as they were before the stage. What
// was running on it is gone.
func (c *cluster) afterPowerLoss(m *machines.Machine, s stage) {
	c.t.Helper()
	switch s.phase {
	case locksmith.PhaseNotifying, locksmith.PhaseRebooting:
	default:
		s.leave(c, m)
	}
}

// ranHooks fails unless since before the prepare hook ended well, and the restore hook
// did, so often.
func (c *cluster) ranHooks(m *machines.Machine, before map[string]int, prepared, restored int) {
	c.t.Helper()
	now := c.hooks(m)
	for line, want := range map[string]int{"prepare done": prepared, "restore done": restored} {
		if got := now[line] - before[line]; got != want {
			c.t.Errorf("%q %d times, want %d (in all: %v, before: %v)", line, got, want, now, before)
		}
	}
}
