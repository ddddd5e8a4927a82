package machines_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// What an idle locksmithd with everything on may take.
const (
	mostResident = 22 << 10    // KiB
	mostPerHour  = time.Second // of CPU time
)

// everything switches on what has a cost. The lease has its usual time.
const everything = `LOCKSMITHD_TRIGGER=auto;file:/run/reboot-needed;uptime:3650d;command:yes=1,no=0:/bin/true
LOCKSMITHD_REBOOT_WINDOW=Mon..Fri 22:00 4h;2nd Tue 03:00 2h
LOCKSMITHD_NO_REBOOT_WINDOW=2026-12-20..2027-01-03
LOCKSMITHD_VERIFY_UNITS=dbus.service
LOCKSMITHD_VERIFY_SYSTEM=running,degraded
LOCKSMITHD_MIN_UPTIME=1h
LOCKSMITHD_METRICS_ADDRESS=127.0.0.1:0
LOCKSMITHD_LEASE_TTL=30s
`

// TestIdle measures locksmithd in its own unit while nothing happens: the memory of its
// process, the CPU time of its control group.
func TestIdle(t *testing.T) {
	long(t)
	c := newCluster(t, everything, "")
	m := c.ms[0]
	c.gates(m)
	for range 20 {
		c.why(m)
		c.exec(m, "/usr/bin/locksmithctl", "window")
	}
	idle := func(d time.Duration) {
		if err := c.fleet.Wait(within(t, d), "nothing", func(e []machines.Event) bool { return !machines.IsUp(e, m.Name) }); err == nil {
			t.Fatal("the machine went down")
		}
	}
	idle(time.Minute)
	status := c.exec(m, "sh", "-c", "cat /proc/$(systemctl show -P MainPID "+daemon+")/status")
	_, rss, _ := strings.Cut(lineWith(status, "VmRSS:"), ":")
	kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rss), " kB"))
	must(t, err)

	used := func() time.Duration {
		took, err := m.CPU(daemon)
		must(t, err)
		return took
	}
	const measured = 3 * time.Minute
	before := used()
	idle(measured)
	perHour := time.Duration(float64(used()-before) / measured.Hours())
	t.Logf("resident: %.1f MiB; in an idle hour: %v of CPU time", float64(kb)/1024, perHour.Round(time.Millisecond))
	if kb > mostResident {
		t.Errorf("%d KiB are resident, want at most %d", kb, mostResident)
	}
	if perHour > mostPerHour {
		t.Errorf("an idle hour takes %v of CPU time, want at most %v", perHour, mostPerHour)
	}
	if s, err := c.status(t.Context(), m); err != nil || s.Phase != locksmith.PhaseIdle {
		t.Error(fmt.Sprint(s.Phase), err)
	}
}
