package machines_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/skip"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// brokenHook is a check that fails on a machine that the update broke.
const brokenHook = `#!/bin/sh
[ ! -e /etc/broken ] && exit 0
echo "the database does not answer"
exit 1
`

// TestBadUpdate has ten machines reboot one at a time, and the third one come back
// broken. It is the only one that is lost: it keeps its slot and says why, the others
// run on and wait, and when it is repaired the rollout ends.
func TestBadUpdate(t *testing.T) {
	t.Parallel()
	badUpdate(t, 10, 1)
}

// TestBadUpdateTwoAtATime goes on with the slot that is left.
func TestBadUpdateTwoAtATime(t *testing.T) {
	long(t)
	t.Parallel()
	badUpdate(t, 10, 2)
}

// long skips what is only in the long form.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("LOCKSMITH_MACHINES_LONG") == "" {
		skip.LongForm(t, "make test-machines-long")
	}
}

func badUpdate(t *testing.T, count, max int) {
	c := newCluster(t, "LOCKSMITHD_VERIFY_TIMEOUT=1s", make([]string, count)...)
	c.ctl("set-max", fmt.Sprint(max))
	for _, m := range c.ms {
		c.hook(m, "verify.d/10-database", brokenHook)
	}
	broken := c.ms[2]
	must(t, broken.WriteFile("/etc/broken", nil))

	// One after the other, so that the broken one is the third.
	for _, m := range c.ms[:3] {
		c.need(m)
		c.waitStore("its place in the line", func(s machines.Store) bool {
			return s.Queued("", m.ID) || slices.Contains(s.Holders(""), m.ID) || c.audit.Slots(m) > 0
		})
	}
	c.need(c.ms[3:]...)
	c.waitStore("the broken machine's failure", func(s machines.Store) bool {
		return s.Phase("", broken.ID) == string(locksmith.PhaseFailed)
	})
	if max == 1 {
		c.onlyLost(broken, c.ms[3:])
	} else {
		c.rebooted(2, slices.DeleteFunc(slices.Clone(c.ms), func(m *machines.Machine) bool { return m == broken })...)
	}
	c.tellsOfFailure(broken, "10-database: the database does not answer")

	must(t, broken.Remove("/etc/broken"))
	c.rebooted(2, c.ms...)
	c.neverMoreDown(max, c.ms...)
	for _, m := range c.ms {
		if n := c.audit.Slots(m); n != 1 {
			t.Errorf("%s was granted %d slots, want 1", m.Name, n)
		}
	}
	if got, want := c.ctl("status"), fmt.Sprintf("Available: %d\nMax: %d\n", max, max); got != want {
		t.Errorf("status afterwards is %q, want %q", got, want)
	}
}

// onlyLost fails unless broken keeps the only slot and the others wait for it, and go
// on waiting for a while.
func (c *cluster) onlyLost(broken *machines.Machine, rest []*machines.Machine) {
	c.t.Helper()
	c.waitStore("the others to queue", func(s machines.Store) bool {
		return !slices.ContainsFunc(rest, func(m *machines.Machine) bool { return !s.Queued("", m.ID) })
	})
	must(c.t, c.fleet.Sync(c.t.Context()))
	before := len(c.fleet.Events())
	quiet, cancel := context.WithTimeout(c.t.Context(), 4*time.Second)
	defer cancel()
	err := c.fleet.Wait(quiet, "nothing", func(e []machines.Event) bool { return len(e) > before })
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("while the broken machine holds the slot, something happened: %v\n%s", err, machines.Format(c.fleet.Events()))
	}
	s := c.audit.Store()
	if holders := s.Holders(""); !slices.Equal(holders, []string{broken.ID}) {
		c.t.Errorf("the holders are %v, want only %s", holders, broken.ID)
	}
	for _, m := range rest {
		if n := machines.Boots(c.fleet.Events(), m.Name); n != 1 || !machines.IsUp(c.fleet.Events(), m.Name) || !s.Queued("", m.ID) {
			c.t.Errorf("%s came up %d times, want 1; it should be up and queue", m.Name, n)
		}
	}
	if n := machines.Boots(c.fleet.Events(), broken.Name); n != 2 {
		c.t.Errorf("the broken machine came up %d times, want 2", n)
	}
	// Whoever waits sees for whom.
	why := c.why(rest[0])
	c.t.Logf("why, on a machine that waits:\n%s", why)
	if line := lineWith(why, broken.Name); !strings.Contains(line, "failed") {
		c.t.Errorf("why does not say that %s holds the slot and has failed:\n%s", broken.Name, why)
	}
}

// tellsOfFailure fails unless m's failure is told wherever an operator looks.
func (c *cluster) tellsOfFailure(m *machines.Machine, reason string) {
	c.t.Helper()
	if got := c.audit.Store().Reason("", m.ID); got != reason {
		c.t.Errorf("the reason in the holder record is %q, want %q", got, reason)
	}
	long := c.ctl("status", "-l")
	c.t.Logf("status -l:\n%s", long)
	if line := lineWith(long, m.ID); !strings.Contains(line, "failed") || !strings.Contains(line, reason) {
		c.t.Errorf("status -l says %q of the failed machine", line)
	}
	c.t.Logf("why, on the failed machine:\n%s", c.why(m))
	c.whySays(m, "10-database", "the database does not answer")
	records := c.journal(m, "failed")
	if len(records) == 0 || !strings.Contains(records[0]["MESSAGE"], reason) {
		c.t.Errorf("the journal has %v of the failure, want the reason in it", records)
	}
	c.t.Logf("machines:\n%s", c.ctl("machines"))
}
