package machines_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

// limit bounds one wait. A boot takes about a second; two loaded cores take longer.
const limit = 60 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, f *machines.Fleet, names ...string) []*machines.Machine {
	t.Helper()
	var all []*machines.Machine
	for _, name := range names {
		m, err := f.Add(name)
		must(t, err)
		all = append(all, m)
	}
	return all
}

// TestHarness is the harness's own test, without locksmith.
func TestHarness(t *testing.T) {
	t.Parallel()
	f := machines.ForTest(t, machines.Config{})
	two := add(t, f, "h1", "h2")
	h1, h2 := two[0], two[1]
	must(t, f.Start(within(t, 3*limit), two...))

	t.Run("identity", func(t *testing.T) {
		for _, m := range two {
			out, err := m.Exec(within(t, limit), "cat", "/etc/machine-id", "/etc/hostname")
			must(t, err)
			if want := m.ID + "\n" + m.Name + "\n"; string(out) != want {
				t.Errorf("%s says it is %q, want %q", m.Name, out, want)
			}
		}
	})

	t.Run("reboot through logind", func(t *testing.T) {
		_, err := h1.Exec(within(t, limit), "busctl", "call", "org.freedesktop.login1",
			"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Reboot", "b", "false")
		must(t, err)
		must(t, f.Wait(within(t, limit), "the reboot of h1", func(e []machines.Event) bool {
			return machines.Boots(e, "h1") == 2
		}))
		var kinds []string
		for _, e := range f.Events()[2:] {
			if e.Machine != "h1" {
				t.Errorf("somebody else: %v", e)
			}
			kinds = append(kinds, string(e.Kind)+e.Status)
		}
		if got := strings.Join(kinds, " "); got != "down off133 up" {
			t.Errorf("a reboot is seen as %q, want \"down off133 up\"", got)
		}
		if n := machines.Boots(f.Events(), "h2"); n != 1 {
			t.Errorf("h2 booted %d times, want 1", n)
		}
	})

	t.Run("power", func(t *testing.T) {
		_, err := h1.Exec(within(t, limit), "systemctl", "poweroff")
		must(t, err)
		must(t, h1.WaitOff(within(t, limit)))
		must(t, h2.PowerOff(within(t, limit)))
		must(t, f.Sync(t.Context()))
		if most, which := machines.MostDown(f.Events(), []string{"h1", "h2"}); most != 2 {
			t.Errorf("%d down at once (%v), want both", most, which)
		}
		must(t, h2.WriteFile("/etc/written-when-off", []byte("x")))
		must(t, f.Start(within(t, limit), two...))
		if _, err := h2.Exec(within(t, limit), "cat", "/etc/written-when-off"); err != nil {
			t.Error(err)
		}
		if err := h2.Start(t.Context()); err == nil {
			t.Error("a machine that is on was started again")
		}
	})

	t.Run("kill a unit", func(t *testing.T) {
		before := h1.Pids("dbus.service")
		must(t, h1.Kill("systemd-logind.service", syscall.SIGKILL))
		must(t, machines.Poll(within(t, limit), "logind to be back", func() (bool, error) {
			out, err := h1.Exec(t.Context(), "systemctl", "show", "-P", "NRestarts", "systemd-logind")
			return strings.TrimSpace(string(out)) == "1", err
		}))
		if after := h1.Pids("dbus.service"); len(after) != len(before) || after[0] != before[0] {
			t.Errorf("the bus was hit, too: processes %v, before %v", after, before)
		}
		if err := h1.Kill("no-such.service", syscall.SIGKILL); err == nil {
			t.Error("killing a unit that does not run is no error")
		}
	})

	t.Run("login", func(t *testing.T) {
		must(t, h1.Login(within(t, limit)))
		out, err := h1.Exec(within(t, limit), "sh", "-c",
			"loginctl show-user tester -P Sessions | tr ' ' '\\n' | while read s; do loginctl show-session $s -p Class -p State -p TTY; done")
		must(t, err)
		for _, want := range []string{"Class=user", "TTY=pts/"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("the session is %q, want %s in it", out, want)
			}
		}
		must(t, h1.Logout(within(t, limit)))
		must(t, machines.Poll(within(t, limit), "the session to end", func() (bool, error) {
			out, err := h1.Exec(within(t, limit), "loginctl", "list-sessions", "--no-legend")
			return !strings.Contains(string(out), "tester"), err
		}))
	})

	// A command of ours on the machine must not keep it from going down.
	t.Run("command under way at a reboot", func(t *testing.T) {
		boots := machines.Boots(f.Events(), "h1")
		ended := make(chan error, 1)
		go func() {
			_, err := h1.Exec(within(t, limit), "sleep", "1000")
			ended <- err
		}()
		must(t, machines.Poll(within(t, limit), "the command", func() (bool, error) {
			_, err := h1.Exec(within(t, limit), "pidof", "sleep")
			return err == nil, err
		}))
		_, err := h1.Exec(within(t, limit), "systemctl", "reboot", "--no-block")
		must(t, err)
		must(t, f.Wait(within(t, limit), "the reboot", func(e []machines.Event) bool {
			return machines.Boots(e, "h1") == boots+1 && machines.IsUp(e, "h1")
		}))
		if err := <-ended; err == nil {
			t.Error("the command survived the reboot")
		}
	})

	t.Run("shutdown held", func(t *testing.T) {
		boots := machines.Boots(f.Events(), "h1")
		must(t, h1.HoldShutdown(within(t, limit)))
		_, err := h1.Exec(within(t, limit), "busctl", "call", "org.freedesktop.login1",
			"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Reboot", "b", "false")
		must(t, err)
		out, err := h1.Exec(within(t, limit), "busctl", "get-property", "org.freedesktop.login1",
			"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PreparingForShutdown")
		must(t, err)
		if string(out) != "b true\n" {
			t.Errorf("logind is preparing for the shutdown: %q, want true", out)
		}
		must(t, f.Sync(t.Context()))
		if !machines.IsUp(f.Events(), "h1") {
			t.Error("the machine goes down although the shutdown is held")
		}
		must(t, h1.LetShutdown(within(t, limit)))
		must(t, f.Wait(within(t, limit), "the reboot", func(e []machines.Event) bool {
			return machines.Boots(e, "h1") == boots+1
		}))
	})
}

// TestLeftovers kills a test process with SIGKILL while its machine runs; the
// next fleet must find nothing of it.
func TestLeftovers(t *testing.T) {
	if os.Getenv("LOCKSMITH_MACHINES_ABANDON") != "" {
		abandon(t)
		return
	}
	machines.Require(t)
	state := t.TempDir()
	t.Setenv("LOCKSMITH_MACHINES_DIR", state)
	cmd := exec.CommandContext(within(t, 3*limit), os.Args[0], "-test.run=^TestLeftovers$", "-test.v")
	cmd.Env = append(os.Environ(), "LOCKSMITH_MACHINES_ABANDON=1")
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "machine is up") || err == nil {
		t.Fatalf("the abandoned run: %v\n%s", err, out)
	}
	left, _ := filepath.Glob(filepath.Join(state, "fleet-*"))
	if len(left) != 1 {
		t.Fatalf("the abandoned run left %v, want one fleet", left)
	}
	must(t, machines.RemoveLeftovers(within(t, limit)))
	if left, _ = filepath.Glob(filepath.Join(state, "fleet-*")); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	must(t, err)
	if strings.Contains(string(mounts), state) {
		t.Errorf("still mounted:\n%s", mounts)
	}
}

func abandon(t *testing.T) {
	f, err := machines.NewFleet(t.Context(), machines.Config{})
	must(t, err)
	m, err := f.Add("left")
	must(t, err)
	must(t, m.Start(within(t, limit)))
	t.Log("machine is up")
	must(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
}
