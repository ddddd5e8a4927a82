package machines_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/login1"
	"github.com/locksmith-reboot/locksmith/internal/systemd"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// onBus is what locksmithd knows of a machine's systemd and logind, asked over that
// machine's own message bus.
type onBus struct {
	t       *testing.T
	fleet   *machines.Fleet
	machine *machines.Machine
}

// bus connects to the message bus of the present boot.
func (o onBus) bus() *bus.Bus {
	o.t.Helper()
	socket, err := o.machine.Path("/run/dbus/system_bus_socket")
	must(o.t, err)
	b := bus.New("unix:path="+socket, nil)
	o.t.Cleanup(func() { b.Close() })
	return b
}

func (o onBus) logind() *login1.Machine   { return login1.New(o.bus()) }
func (o onBus) systemd() *systemd.Manager { return systemd.New(o.bus()) }

func (o onBus) exec(command ...string) {
	o.t.Helper()
	_, err := o.machine.Exec(within(o.t, limit), command...)
	must(o.t, err)
}

// says waits until check passes (want is empty) or finds exactly want, and fails
// with what it finds instead.
func (o onBus) says(check agent.Check, want string) {
	o.t.Helper()
	must(o.t, machines.Poll(within(o.t, limit), check.Name()+" to say "+want, func() (bool, error) {
		err := check.Run(o.t.Context(), agent.About{})
		if err == nil && want == "" || err != nil && err.Error() == want {
			return true, nil
		}
		return false, err
	}))
}

// softReboots is systemd's count; -1 where there is none.
func (o onBus) softReboots() int {
	o.t.Helper()
	count, supported, err := o.systemd().SoftReboots(within(o.t, limit))
	must(o.t, err)
	if !supported {
		return -1
	}
	return int(count)
}

// reboot asks logind for a reboot by method and returns what was observed of it,
// once the machine is up again.
func (o onBus) reboot(method locksmith.Method) []machines.Event {
	o.t.Helper()
	return o.rebooted(func() error { return o.logind().Reboot(within(o.t, limit), method) })
}

// rebooted is the same for a reboot that begin begins.
func (o onBus) rebooted(begin func() error) []machines.Event {
	o.t.Helper()
	before := len(o.fleet.Events())
	must(o.t, begin())
	var seen []machines.Event
	must(o.t, o.fleet.Wait(within(o.t, limit), "the reboot", func(events []machines.Event) bool {
		seen = slices.Clone(events[before:])
		return len(seen) > 1 && seen[len(seen)-1].Kind == machines.Up
	}))
	return seen
}

func kinds(events []machines.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, string(e.Kind)+e.Status)
	}
	return strings.Join(all, " ")
}

func startOne(t *testing.T, suite machines.Suite) onBus {
	t.Helper()
	f := machines.ForTest(t, machines.Config{Suite: suite})
	m := add(t, f, string(suite))[0]
	must(t, f.Start(within(t, 3*limit), m))
	return onBus{t, f, m}
}

// TestChecks asks real systemds, an older and a newer one, what locksmithd's checks
// ask them.
func TestChecks(t *testing.T) {
	t.Parallel()
	for _, suite := range []machines.Suite{machines.Bookworm, machines.Trixie} {
		t.Run(string(suite), func(t *testing.T) {
			o := startOne(t, suite)

			system := o.systemd().SystemState([]string{"running"})
			o.says(system, "")
			units, err := systemd.ParseUnits("systemd-logind,basic.target,observe-up,no-such,rescue,broken")
			must(t, err)
			o.says(o.systemd().UnitsActive(units[:3]), "")
			o.exec("sh", "-c", "systemd-run --unit=broken --quiet --wait sh -c 'exit 3' || true")
			o.says(system, "system: degraded: failed: broken.service")
			o.says(o.systemd().SystemState([]string{"running", "degraded"}), "")
			o.says(o.systemd().UnitsActive(units), "no-such.service: not-found: no such unit\n"+
				"rescue.service: inactive (dead)\nbroken.service: failed (exit-code)")

			users, inhibitors := o.logind().Users(), o.logind().Inhibitors()
			o.says(users, "")
			must(t, o.machine.Login(within(t, limit)))
			o.says(users, "users: tester on pts/0 is logged in")
			must(t, o.machine.Logout(within(t, limit)))
			o.says(users, "")

			must(t, o.machine.HoldShutdown(within(t, limit))) // a delay
			o.says(inhibitors, "")
			o.exec("systemd-run", "--quiet", "--unit=blocker", "systemd-inhibit", "--what=sleep:shutdown", "--who=backup",
				"--why=running until 04:00", "--mode=block", "sleep", "infinity")
			o.says(inhibitors, "backup: running until 04:00")
			o.exec("systemctl", "stop", "blocker")
			o.says(inhibitors, "")
		})
	}
}

// TestTooOldForSoftReboots has a logind refuse what it does not know, and nothing
// else happen instead.
func TestTooOldForSoftReboots(t *testing.T) {
	t.Parallel()
	o := startOne(t, machines.Bookworm)
	if n := o.softReboots(); n != -1 {
		t.Errorf("%d soft reboots are counted, want no count", n)
	}
	err := o.logind().Reboot(within(t, limit), locksmith.MethodSoftReboot)
	if err == nil || !strings.Contains(err.Error(), "systemd 254 or newer is needed") {
		t.Errorf("Reboot = %v", err)
	}
	down, err := o.logind().GoingDown(within(t, limit))
	must(t, err)
	must(t, o.fleet.Sync(t.Context()))
	if down || !machines.IsUp(o.fleet.Events(), o.machine.Name) {
		t.Error("the machine goes down")
	}
}

// TestSoftReboot makes soft reboots and a real one, which are told apart by what
// systemd counts, by the boot id, and by whether the machine's process 1 ended.
func TestSoftReboot(t *testing.T) {
	t.Parallel()
	o := startOne(t, machines.Trixie)
	boot := o.fleet.Events()[0].Boot
	began, err := o.systemd().UserspaceStart(within(t, limit))
	must(t, err)
	if n := o.softReboots(); n != 0 || strings.Contains(boot, "+") {
		t.Fatalf("a machine that was just started has made %d soft reboots, its boot is %s", n, boot)
	}

	for n := 1; n <= 2; n++ {
		before := o.machine.Pids("systemd-logind.service")
		seen := o.reboot(locksmith.MethodSoftReboot)
		if got := kinds(seen); got != "down up" {
			t.Fatalf("a soft reboot is seen as %q, want \"down up\"", got)
		}
		if got, want := seen[1].Boot, locksmith.Boot(boot, uint32(n)); got != want {
			t.Errorf("it came up as %s, want %s", got, want)
		}
		if got := o.softReboots(); got != n {
			t.Errorf("systemd has counted %d soft reboots, want %d", got, n)
		}
		if after := o.machine.Pids("systemd-logind.service"); len(after) != 1 || slices.Equal(after, before) {
			t.Errorf("logind's process was %v and is %v, want another one", before, after)
		}
		again, err := o.systemd().UserspaceStart(within(t, limit))
		must(t, err)
		if !again.After(began) || time.Until(again) > 0 {
			t.Errorf("userspace began at %v, before that at %v", again, began)
		}
		began = again
	}

	t.Run("a real one stays a real one", func(t *testing.T) {
		o := onBus{t, o.fleet, o.machine}
		// What makes systemctl reboot a soft one.
		o.exec("sh", "-c", "mkdir /run/nextroot && mount --bind / /run/nextroot")
		seen := o.reboot(locksmith.MethodReboot)
		if got := kinds(seen); got != "down off133 up" {
			t.Errorf("a reboot is seen as %q, want \"down off133 up\"", got)
		}
		if got := o.softReboots(); got != 0 {
			t.Errorf("systemd has counted %d soft reboots, want 0", got)
		}
		if after := seen[len(seen)-1].Boot; locksmith.KernelBoot(after) == boot {
			t.Errorf("the boot is %s, as before", after)
		}
	})

	t.Run("not while a soft one is under way", func(t *testing.T) {
		o := onBus{t, o.fleet, o.machine}
		must(t, o.machine.HoldShutdown(within(t, limit)))
		must(t, o.logind().Reboot(within(t, limit), locksmith.MethodSoftReboot))
		must(t, o.logind().Reboot(within(t, limit), locksmith.MethodSoftReboot)) // the same once more
		err := o.logind().Reboot(within(t, limit), locksmith.MethodReboot)
		if err == nil || !strings.Contains(err.Error(), "a soft reboot is under way already") {
			t.Errorf("Reboot = %v", err)
		}
		down, err := o.logind().GoingDown(within(t, limit))
		must(t, err)
		if !down {
			t.Error("the machine does not go down")
		}
		seen := o.rebooted(func() error { return o.machine.LetShutdown(within(t, limit)) })
		if got := kinds(seen); got != "down up" || !strings.HasSuffix(seen[1].Boot, "+1") {
			t.Errorf("the soft reboot is seen as %q, it came up as %s", got, seen[len(seen)-1].Boot)
		}
	})
}
