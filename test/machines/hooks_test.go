package machines_test

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// hangingHook starts what outlives a careless end of its process: a child that ignores
// signals, one in a session of its own, one that went into the background.
const hangingHook = `#!/bin/sh
echo "prepare begun" >>` + hookLog + `
sh -c 'trap "" TERM HUP; while :; do sleep 1001; done' &
setsid sh -c 'sleep 1002' &
( sleep 1003 & )
sleep 1004
`

// TestHooks is what hooks may do on a machine, and what is done to those that do not
// end.
func TestHooks(t *testing.T) {
	t.Parallel()
	const settings = "LOCKSMITHD_MAX_REBOOTS_PER_DAY=0\nLOCKSMITHD_HOOK_TIMEOUT=2s\n"
	c := newCluster(t, settings, "")
	m := c.ms[0]
	c.hook(m, "restore.d/50-gate", waitingHook)
	boots := 1

	c.part("hanging prepare is given up", func(t *testing.T) {
		c.hook(m, "prepare.d/50-gate", hangingHook)
		c.need(m)
		c.waitHook(m, "prepare begun", 1)
		c.waitHook(m, "restore done", 1)
		c.waitReleased(m, boots)
		c.waits(m, locksmith.PhaseIdle, "aborted: prepare failed: 50-gate: timed out after 2s")
		c.whySays(m, "aborted: prepare failed: 50-gate: timed out after 2s")
		c.nothingRuns(m)
		if got := c.lastOutcome(); !strings.Contains(got, "aborted: prepare failed: 50-gate: timed out after 2s") {
			t.Errorf("the history says %q", got)
		}
		c.ranHooks(m, nil, 0, 1)
		c.noNeed(m)
		c.waits(m, locksmith.PhaseIdle, "")
	})

	c.part("hanging prepare, and the reboot goes on", func(t *testing.T) {
		before := c.hooks(m)
		c.reconfigure(m, settings+"LOCKSMITHD_PREPARE_FAILURE=proceed")
		c.need(m)
		boots++
		c.rebooted(boots, m)
		c.ranHooks(m, before, 0, 1)
		c.reconfigure(m, settings)
	})

	// The unit of locksmithd can write nowhere there.
	c.part("outside the sandbox", func(t *testing.T) {
		c.hook(m, "prepare.d/50-gate", "#!/bin/sh\nset -e\necho x >/etc/by-a-hook\necho x >/usr/local/by-a-hook\necho x >/root/by-a-hook\n")
		c.need(m)
		boots++
		c.rebooted(boots, m)
		for _, name := range []string{"/etc/by-a-hook", "/usr/local/by-a-hook", "/root/by-a-hook"} {
			if _, err := m.ReadFile(name); err != nil {
				t.Errorf("the hook has written nothing: %v", err)
			}
		}
	})

	c.part("ends with locksmithd", func(t *testing.T) {
		before := c.hooks(m)
		c.reconfigure(m, "LOCKSMITHD_MAX_REBOOTS_PER_DAY=0")
		c.hook(m, "prepare.d/50-gate", hangingHook)
		c.need(m)
		c.waitHook(m, "prepare begun", before["prepare begun"]+1)
		must(t, machines.Poll(within(t, limit), "the hook's four processes", func() (bool, error) { return c.sleepers(m) == 4, nil }))
		began := time.Now()
		c.exec(m, "systemctl", "stop", daemon)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("locksmithd took %v to stop", took)
		}
		// Its unit is stopped at the same time, and has five seconds for that.
		must(t, machines.Poll(within(t, 10*time.Second), "the hook's processes to be gone", func() (bool, error) { return c.sleepers(m) == 0, nil }))
		c.holds(m)
		c.stillUp(m, boots)
		// What was begun is undone when locksmithd is back and nothing is needed.
		c.noNeed(m)
		c.exec(m, "systemctl", "start", daemon)
		c.waitReleased(m, boots)
		c.waitPhase(m, locksmith.PhaseIdle)
		c.ranHooks(m, before, 0, 1)
	})

	c.part("unsafe", func(t *testing.T) {
		c.hook(m, "prepare.d/50-gate", "#!/bin/sh\n")
		c.exec(m, "chmod", "0777", "/etc/locksmith/hooks/prepare.d/50-gate")
		c.need(m)
		c.waits(m, locksmith.PhaseIdle, "has mode 0777, so others than its owner may change it")
		c.waitReleased(m, boots)
		c.noNeed(m)
	})
}

// nothingRuns fails unless no process of the hooks is left on m.
func (c *cluster) nothingRuns(m *machines.Machine) {
	c.t.Helper()
	if n := c.sleepers(m); n != 0 {
		c.t.Errorf("%d processes of the hook are left", n)
	}
}

// sleepers is how many processes of hangingHook run on m.
func (c *cluster) sleepers(m *machines.Machine) int {
	c.t.Helper()
	// Of a process that has ended meanwhile nothing can be read.
	return strings.Count(c.exec(m, "sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null`), "\nsleep 100")
}
