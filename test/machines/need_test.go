package machines_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

const (
	sentinel = "/run/reboot-required"
	wanted   = "/etc/reboot-wanted" // stays over a reboot, as no good sentinel does
	dpkgLock = "/var/lib/dpkg/lock-frontend"
)

// TestSentinel is what Debian's packages say of a reboot, and what happens when they
// take it back.
func TestSentinel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "LOCKSMITHD_MAX_REBOOTS_PER_DAY=0", "")
	m := c.ms[0]
	c.gates(m)
	boots := 1
	const reason = sentinel + ": libc6, linux-image-6.1.0-31-amd64"
	appears := func() {
		// As a package's script does it: the file first.
		must(c.t, m.WriteFile(sentinel, []byte("*** System restart required ***\n")))
		must(c.t, m.WriteFile(sentinel+".pkgs", []byte("linux-image-6.1.0-31-amd64\nlibc6\nlibc6\n")))
	}
	disappears := func() {
		must(c.t, m.Remove(sentinel))
		must(c.t, m.Remove(sentinel+".pkgs"))
	}

	c.part("taken back while it queues", func(t *testing.T) {
		c.ctl("lock", somebody)
		appears()
		c.waitStore("its place in the queue", func(s machines.Store) bool { return s.Queued("", m.ID) })
		c.whySays(m, reason)
		c.t.Logf("why, in the queue:\n%s", c.why(m))
		disappears()
		c.waitStore("it to leave the queue", func(s machines.Store) bool { return !s.Queued("", m.ID) })
		c.ctl("unlock", somebody)
		c.waitPhase(m, locksmith.PhaseIdle)
		c.stillUp(m, boots)
		if c.audit.Slots(m) != 0 {
			t.Error("it was granted a slot")
		}
	})

	c.part("taken back while it prepares", func(t *testing.T) {
		before := c.hooks(m)
		c.closeGate(m, "prepare")
		appears()
		c.waitHook(m, "prepare begun", before["prepare begun"]+1)
		c.t.Logf("why, while it prepares:\n%s", c.why(m))
		disappears()
		must(t, machines.Poll(within(t, limit), "the agent to know", func() (bool, error) {
			s, err := c.status(t.Context(), m)
			return err == nil && !s.Needed, err
		}))
		c.openGate(m, "prepare")
		c.waitReleased(m, boots)
		c.waitPhase(m, locksmith.PhaseIdle)
		c.ranHooks(m, before, 1, 1)
		if got := c.lastOutcome(); !strings.Contains(got, "aborted: no reboot is needed any more") {
			t.Errorf("the history says %q", got)
		}
	})

	c.part("taken back while locksmithd was dead", func(t *testing.T) {
		before := c.hooks(m)
		c.closeGate(m, "prepare")
		appears()
		c.waitHook(m, "prepare begun", before["prepare begun"]+1)
		disappears()
		c.kill(m)
		c.openGate(m, "prepare")
		c.waitReleased(m, boots)
		c.waitPhase(m, locksmith.PhaseIdle)
		if n := c.hooks(m)["restore done"] - before["restore done"]; n != 1 {
			t.Errorf("restored %d times, want once", n)
		}
	})

	c.part("stays", func(t *testing.T) {
		appears()
		boots++
		c.rebooted(boots, m) // the file went with /run
		records := c.journal(m, "rebooting")
		if len(records) != 1 {
			t.Fatalf("the journal finds the reboot %d times, want once: %v", len(records), records)
		}
		for field, want := range map[string]string{"LOCKSMITH_EVENT": "rebooting", "LOCKSMITH_METHOD": "reboot", "LOCKSMITH_MACHINE": m.ID,
			"_SYSTEMD_UNIT": daemon, "PRIORITY": "6"} {
			if got := records[0][field]; got != want {
				t.Errorf("the reboot's record has %s=%q, want %q: %v", field, got, want, records[0])
			}
		}
		if records[0]["LOCKSMITH_BOOT_ID"] == "" {
			t.Errorf("the reboot's record has no boot id: %v", records[0])
		}
	})

	c.part("a package manager at work", func(t *testing.T) {
		c.exec(m, "systemd-run", "--quiet", "--unit=installing", "--service-type=notify", "/usr/bin/holdlock", dpkgLock)
		appears()
		c.waits(m, locksmith.PhaseWindow, "blocked by package-manager: holdlock")
		c.whySays(m, "blocked", "package-manager", "holdlock (pid ", "holds "+dpkgLock)
		c.t.Logf("why, with a package manager at work:\n%s", c.why(m))
		c.stillUp(m, boots)
		c.exec(m, "systemctl", "stop", "installing")
		boots++
		c.rebooted(boots, m)
	})
}

// TestBreaker has what asks for a reboot not be cured by it.
func TestBreaker(t *testing.T) {
	t.Parallel()
	const settings = "LOCKSMITHD_TRIGGER=file:" + wanted
	c := newCluster(t, settings, "")
	m := c.ms[0]

	c.part("still needed", func(t *testing.T) {
		must(t, m.WriteFile(wanted, nil))
		c.waitStore("the failure", func(s machines.Store) bool { return s.Phase("", m.ID) == string(locksmith.PhaseFailed) })
		const why = "still needed for the same reason after the reboot: " + wanted
		if got := c.audit.Store().Reason("", m.ID); got != why {
			t.Errorf("the reason in the holder record is %q, want %q", got, why)
		}
		c.whySays(m, why)
		c.t.Logf("why, still needed:\n%s", c.why(m))
		c.kill(m)
		c.waitPhase(m, locksmith.PhaseFailed)
		c.holds(m)
		must(t, m.Remove(wanted))
		c.rebooted(2, m)
	})

	c.part("too often", func(t *testing.T) {
		c.reconfigure(m, settings+"\nLOCKSMITHD_MAX_REBOOTS_PER_DAY=1")
		slots := c.audit.Slots(m)
		c.exec(m, "/usr/bin/locksmithctl", "send-need-reboot", "-reason", "once more")
		c.waits(m, locksmith.PhaseWindow, "1 reboots in 24 h, at most 1 are allowed")
		c.whySays(m, "breaker", "1 reboots in 24 h, at most 1 are allowed")
		c.t.Logf("why, too often:\n%s", c.why(m))
		if len(c.journal(m, "breaker")) == 0 {
			t.Error("the journal does not find it")
		}
		c.stillUp(m, 2)
		if c.audit.Slots(m) != slots {
			t.Error("it was granted a slot")
		}
		c.exec(m, "/usr/bin/locksmithctl", "send-need-reboot", "-cancel")
		c.waitPhase(m, locksmith.PhaseIdle)
	})
}

// TestDryRun goes through a cycle without any of its effects.
func TestDryRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "LOCKSMITHD_DRY_RUN=true", "")
	m := c.ms[0]
	c.gates(m)
	c.need(m)
	c.waits(m, locksmith.PhaseIdle, "dry run: would have rebooted")
	c.whySays(m, "Next: nothing, until something else is needed")
	c.stillUp(m, 1)
	if c.audit.Ever(m) {
		t.Error("it queued or held a slot")
	}
	if history := c.ctl("history"); strings.Contains(history, m.ID) || strings.Contains(history, m.Name) {
		t.Errorf("it is in the history:\n%s", history)
	}
	c.ranHooks(m, nil, 0, 0)
	var said []string
	for _, record := range c.journal(m, "dry-run") {
		said = append(said, record["MESSAGE"])
	}
	if out := c.exec(m, "journalctl", "--quiet", "-u", daemon); !strings.Contains(out, "dry run: would run hook (hook prepare.d/50-gate)") {
		t.Errorf("the log does not name the hooks:\n%s", out)
	}
	for _, want := range []string{"dry run: would run a step (step prepare)", "dry run: would reboot now (method reboot)"} {
		if !slices.Contains(said, want) {
			t.Errorf("the journal finds %q, want %q among them", said, want)
		}
	}
}
