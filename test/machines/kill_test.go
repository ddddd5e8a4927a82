package machines_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// somebody holds a slot and is no machine of ours.
const somebody = "0000000000000000000000000000abcd"

// TestKill kills locksmithd with SIGKILL in each phase of its cycle. What comes
// after must be as if nothing had happened: no slot lost, no reboot without one,
// one reboot per need. Each part begins and ends with an idle machine.
func TestKill(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "LOCKSMITHD_LOGIN_DELAY=10m\nLOCKSMITHD_MAX_REBOOTS_PER_DAY=0", "")
	m := c.ms[0]
	boots := 1
	part := func(name string, test func(t *testing.T)) {
		if t.Failed() {
			return // the machine is anywhere: what follows would say nothing
		}
		t.Run(name, func(t *testing.T) {
			c.t = t
			defer func() { c.t = t }()
			test(t)
			c.rebooted(boots, m)
		})
	}

	part("idle", func(t *testing.T) {
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseIdle)
		if c.audit.Ever(m) {
			t.Error("without a need it queued or held a slot")
		}
	})

	part("queued", func(t *testing.T) {
		c.ctl("lock", somebody)
		c.need(m)
		c.waitPhase(m, locksmith.PhaseQueued)
		c.waitStore("its place in the queue", func(s machines.Store) bool { return s.Queued("", m.ID) })
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseQueued)
		c.stillUp(m, boots)
		c.ctl("unlock", somebody)
		boots++
	})

	part("notifying", func(t *testing.T) {
		must(t, m.Login(within(t, limit)))
		c.need(m)
		c.waitPhase(m, locksmith.PhaseNotifying)
		must(t, machines.Poll(within(t, limit), "the message to the user", func() (bool, error) {
			text, err := m.Terminal()
			return strings.Contains(text, "Broadcast message from locksmithd at "), err
		}))
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseNotifying)
		c.holds(m)
		c.stillUp(m, boots)
		must(t, m.Logout(within(t, limit)))
		boots++
	})

	part("rebooting", func(t *testing.T) {
		must(t, m.HoldShutdown(within(t, limit)))
		c.need(m)
		c.waitPhase(m, locksmith.PhaseRebooting)
		c.waitShutdownAccepted(m)
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseRebooting)
		c.holds(m)
		c.stillUp(m, boots)
		c.kill(m)
		c.holds(m)
		// The machine is on its way down, and logind refuses a second call. That
		// is no reason to give up, however long it takes.
		c.keeps(m, 40*time.Second)
		must(t, m.LetShutdown(within(t, limit)))
		boots++
	})

	// The phases that pass in a moment. The kill may come late: then the machine
	// is on its way down, which is as good a moment.
	atOnce := func(what string, cond func(machines.Store) bool) {
		part("as soon as "+what+" is stored", func(t *testing.T) {
			c.need(m)
			c.waitStore(what, cond)
			if err := m.Kill(daemon, syscall.SIGKILL); err != nil {
				t.Log(err)
			}
			boots++
		})
	}
	atOnce("the slot", func(s machines.Store) bool { return slices.Contains(s.Holders(""), m.ID) })
	atOnce("the intent", func(s machines.Store) bool {
		return s.Phase("", m.ID) == string(locksmith.PhaseRebooting)
	})

	part("after the boot", func(t *testing.T) {
		c.need(m)
		before := len(c.fleet.Events())
		must(t, c.fleet.Wait(within(t, limit), "the machine to be off", func(e []machines.Event) bool {
			return e[len(e)-1].Kind == machines.Off && len(e) > before
		}))
		// An etcd that does not answer keeps locksmithd before what it has to do.
		must(t, c.etcd.Pause())
		defer c.etcd.Resume()
		boots++
		must(t, c.fleet.Wait(within(t, limit), "the boot", func(e []machines.Event) bool {
			return machines.Boots(e, m.Name) == boots
		}))
		c.waitPhase(m, locksmith.PhaseRecovering)
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseRecovering)
		must(t, c.etcd.Resume())
	})

	part("again and again after the boot", func(t *testing.T) {
		c.need(m)
		boots++
		must(t, c.fleet.Wait(within(t, limit), "the boot", func(e []machines.Event) bool {
			return machines.Boots(e, m.Name) == boots
		}))
		must(t, machines.Poll(within(t, limit), "locksmithd to run", func() (bool, error) {
			return len(m.Pids(daemon)) == 1, nil
		}))
		for range 3 {
			c.killAtOnce(m)
		}
	})
}

func (c *cluster) waitStore(what string, cond func(machines.Store) bool) {
	c.t.Helper()
	must(c.t, c.audit.Wait(within(c.t, limit), what, cond))
}

// holds fails unless m holds a slot in each of its groups.
func (c *cluster) holds(m *machines.Machine) {
	c.t.Helper()
	for _, group := range m.Groups {
		if got := lineWith(c.ctl("-group", group, "status"), m.ID); got == "" {
			c.t.Errorf("%s lost its slot in group %q", m.Name, group)
		}
	}
}

// keeps fails if m loses a slot within d.
func (c *cluster) keeps(m *machines.Machine, d time.Duration) {
	c.t.Helper()
	err := c.audit.Wait(within(c.t, d), "nothing", func(s machines.Store) bool {
		return slices.ContainsFunc(m.Groups, func(group string) bool { return !slices.Contains(s.Holders(group), m.ID) })
	})
	if err == nil {
		s, err := c.status(within(c.t, limit), m)
		c.t.Errorf("%s lost its slot; it is %s (%s, %v)", m.Name, s.Phase, s.Waiting, err)
	}
}

// stillUp fails if m went down since its boot number boots.
func (c *cluster) stillUp(m *machines.Machine, boots int) {
	c.t.Helper()
	must(c.t, c.fleet.Sync(c.t.Context()))
	e := c.fleet.Events()
	if !machines.IsUp(e, m.Name) || machines.Boots(e, m.Name) != boots {
		c.t.Errorf("%s went down, and must not have:\n%s", m.Name, machines.Format(e))
	}
}

// waitShutdownAccepted waits until logind prepares m's shutdown.
func (c *cluster) waitShutdownAccepted(m *machines.Machine) {
	c.t.Helper()
	ctx := within(c.t, limit)
	must(c.t, machines.Poll(ctx, "logind to accept the reboot", func() (bool, error) {
		out, err := m.Exec(ctx, "busctl", "get-property", "org.freedesktop.login1",
			"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PreparingForShutdown")
		return string(out) == "b true\n", err
	}))
}
