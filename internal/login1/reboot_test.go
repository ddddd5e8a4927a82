package login1

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

// kexec has m believe that the kernel says text about a kernel to be started; the
// empty text is no such file.
func kexec(t *testing.T, m *Machine, text string) *Machine {
	m.kexecLoaded = filepath.Join(t.TempDir(), "kexec_loaded")
	if text != "" {
		if err := os.WriteFile(m.kexecLoaded, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestReboot(t *testing.T) {
	for _, test := range []struct {
		method locksmith.Method
		want   string
		arg    any
	}{
		{locksmith.MethodReboot, "org.freedesktop.login1.Manager.Reboot", false},
		{"", "org.freedesktop.login1.Manager.Reboot", false},
		{locksmith.MethodKexec, "org.freedesktop.login1.Manager.RebootWithFlags", uint64(2)},
		{locksmith.MethodSoftReboot, "org.freedesktop.login1.Manager.RebootWithFlags", uint64(4)},
	} {
		t.Run(string(test.method), func(t *testing.T) {
			d := dbustest.New(t)
			calls := make(chan dbustest.Call, 10)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				calls <- c
				return nil, nil
			})
			if err := kexec(t, newMachine(t, d), "1\n").Reboot(t.Context(), test.method); err != nil {
				t.Fatal(err)
			}
			c := <-calls
			if c.Path != managerPath || c.Name != test.want || !slices.Equal(c.Args, []any{test.arg}) {
				t.Errorf("called %s on %s with %v", c.Name, c.Path, c.Args)
			}
			if len(calls) > 0 {
				t.Error("asked more than once")
			}
		})
	}
}

// Whatever the answer, logind is asked once: a method that it does not know, or for
// which nothing is prepared, never becomes another one.
func TestNoOtherMethod(t *testing.T) {
	const unknownMethod, invalidArgs = "org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.InvalidArgs"
	for _, test := range []struct {
		name    string
		method  locksmith.Method
		refusal string
		kexec   string
		want    string
		asked   int
	}{
		{"soft-reboot before 248", locksmith.MethodSoftReboot, unknownMethod, "",
			"cannot reboot by soft-reboot: logind is too old, systemd 254 or newer is needed: as logind says", 1},
		{"soft-reboot before 254", locksmith.MethodSoftReboot, invalidArgs, "",
			"cannot reboot by soft-reboot: logind is too old, systemd 254 or newer is needed: as logind says", 1},
		{"kexec before 248", locksmith.MethodKexec, unknownMethod, "1",
			"cannot reboot by kexec: logind is too old, systemd 249 or newer is needed: as logind says", 1},
		{"kexec before 249", locksmith.MethodKexec, invalidArgs, "1",
			"cannot reboot by kexec: logind is too old, systemd 249 or newer is needed: as logind says", 1},
		{"soft-reboot for another reason", locksmith.MethodSoftReboot, "org.freedesktop.DBus.Error.Failed", "",
			"cannot reboot: logind refused: as logind says", 1},
		{"reboot without a method Reboot", locksmith.MethodReboot, unknownMethod, "",
			"cannot reboot: logind refused: as logind says", 1},
		{"kexec without a kernel", locksmith.MethodKexec, "", "0\n",
			"cannot reboot by kexec: no kernel is loaded: load one with kexec -l, or with the service of kexec-tools", 0},
		{"kexec without support", locksmith.MethodKexec, "", "",
			"cannot reboot by kexec: the running kernel was built without kexec: there is no DIR/kexec_loaded", 0},
		{"kexec with an odd answer", locksmith.MethodKexec, "", "yes\x1b",
			`cannot reboot by kexec: DIR/kexec_loaded says "yes", neither 0 nor 1`, 0},
		{"a command", locksmith.MethodCommand, "", "1",
			`cannot reboot: logind has no method "command", only reboot, soft-reboot and kexec`, 0},
		{"another word", "halt", "", "1",
			`cannot reboot: logind has no method "halt", only reboot, soft-reboot and kexec`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			calls := make(chan dbustest.Call, 10)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				calls <- c
				return nil, dbus.NewError(test.refusal, []any{"as logind says"})
			})
			m := kexec(t, newMachine(t, d), test.kexec)
			err := m.Reboot(t.Context(), test.method)
			want := strings.ReplaceAll(test.want, "DIR", filepath.Dir(m.kexecLoaded))
			if err == nil || err.Error() != want || bus.ErrorName(err) != test.refusal {
				t.Errorf("Reboot = %v, want %s", err, want)
			}
			if len(calls) != test.asked {
				t.Errorf("logind was asked %d times, want %d", len(calls), test.asked)
			}
		})
	}
}

func TestRebootRefused(t *testing.T) {
	d := dbustest.New(t)
	var mu sync.Mutex
	var refusal error
	d.Serve(service, func(dbustest.Call) ([]any, error) {
		mu.Lock()
		defer mu.Unlock()
		return nil, refusal
	})
	m := newMachine(t, d)
	for _, test := range []struct {
		name, message, want string
	}{
		{"org.freedesktop.DBus.Error.AccessDenied", "Permission denied",
			"cannot reboot: logind does not permit it, run as root: Permission denied"},
		{"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "Interactive authentication required.",
			"cannot reboot: logind does not permit it, run as root: Interactive authentication required."},
		{"org.freedesktop.login1.BlockedByInhibitorLock", "Operation denied due to active block inhibitor",
			"cannot reboot: blocked by an inhibitor, see systemd-inhibit --list: Operation denied due to active block inhibitor"},
		{"org.freedesktop.login1.OperationInProgress", "There's already a shutdown or sleep operation in progress",
			"cannot reboot: logind is busy with another operation, such as suspending: There's already a shutdown or sleep operation in progress"},
		{"org.freedesktop.DBus.Error.Failed", "two\nlines", "cannot reboot: logind refused: two lines"},
		{"org.example.NoMessage", "", "cannot reboot: logind refused: org.example.NoMessage"},
		{"org.freedesktop.DBus.Error.Spawn.ChildExited", "exited with status 1",
			"cannot reboot: logind is not running: exited with status 1"},
	} {
		mu.Lock()
		refusal = dbus.NewError(test.name, []any{test.message})
		mu.Unlock()
		if err := m.Reboot(t.Context(), locksmith.MethodReboot); err == nil || err.Error() != test.want || bus.ErrorName(err) != test.name {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

// A second request is refused while the machine goes down, and only a shutdown
// counts as the reboot that was asked for.
func TestRebootUnderWay(t *testing.T) {
	for name, test := range map[string]struct {
		property any
		want     bool
	}{
		"shutting down": {true, true},
		"suspending":    {false, false},
		"malformed":     {"true", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				switch {
				case c.Name == managerIface+".Reboot":
					return nil, dbus.NewError(errorInProgress, []any{"There's already a shutdown or sleep operation in progress"})
				case slices.Equal(c.Args, []any{managerIface, "PreparingForShutdown"}):
					return []any{dbus.MakeVariant(test.property)}, nil
				}
				return nil, dbus.NewError(errorUnknownProperty, []any{"Unknown property"})
			})
			m := newMachine(t, d)
			if err := m.Reboot(t.Context(), locksmith.MethodReboot); (err == nil) != test.want {
				t.Errorf("Reboot = %v, want accepted: %t", err, test.want)
			}
			down, err := m.GoingDown(t.Context())
			if down != test.want || (err != nil) != (name == "malformed") {
				t.Errorf("GoingDown = %t, %v", down, err)
			}
		})
	}
}

// A soft reboot under way is not the reboot that was asked for, unless it was.
func TestSoftRebootUnderWay(t *testing.T) {
	metadata := func(kind any) []any {
		return []any{dbus.MakeVariant(map[string]dbus.Variant{
			"preparing": dbus.MakeVariant(true), "type": dbus.MakeVariant(kind)})}
	}
	const soft = "cannot reboot: a soft reboot is under way already, after which the kernel is still the same: in progress"
	for _, test := range []struct {
		name   string
		method locksmith.Method
		reply  []any
		want   string // the beginning of the error; empty: accepted
	}{
		{"a reboot", locksmith.MethodReboot, metadata("reboot"), ""},
		{"a reboot, when kexec was asked for", locksmith.MethodKexec, metadata("reboot"), ""},
		{"a reboot, when soft was asked for", locksmith.MethodSoftReboot, metadata("reboot"), ""},
		{"a soft reboot, when soft was asked for", locksmith.MethodSoftReboot, metadata("soft-reboot"), ""},
		{"a soft reboot", locksmith.MethodReboot, metadata("soft-reboot"), soft},
		{"a soft reboot, when kexec was asked for", locksmith.MethodKexec, metadata("soft-reboot"), soft},
		{"a word of a newer systemd", locksmith.MethodReboot, metadata("factory-reset"), ""},
		{"a type that is no text", locksmith.MethodReboot, metadata(int32(3)), "cannot reboot: a shutdown is under way already, and logind does not say which: malformed reply: "},
		{"no type", locksmith.MethodReboot, []any{dbus.MakeVariant(map[string]dbus.Variant{})}, "cannot reboot: a shutdown is under way already, "},
		{"a number", locksmith.MethodReboot, []any{dbus.MakeVariant(int32(3))}, "cannot reboot: a shutdown is under way already, "},
		{"no variant", locksmith.MethodReboot, []any{"soft-reboot"}, "cannot reboot: a shutdown is under way already, "},
		{"nothing", locksmith.MethodReboot, nil, "cannot reboot: a shutdown is under way already, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				switch {
				case strings.HasPrefix(c.Name, managerIface+".Reboot"):
					return nil, dbus.NewError(errorInProgress, []any{"in progress"})
				case c.Args[1] == "PreparingForShutdown":
					return []any{dbus.MakeVariant(true)}, nil
				}
				return test.reply, nil
			})
			err := kexec(t, newMachine(t, d), "1").Reboot(t.Context(), test.method)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Reboot = %v, want it to count as accepted", err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("Reboot = %v, want %s", err, test.want)
			}
		})
	}
}

func TestRebootWithoutLogind(t *testing.T) {
	d := dbustest.New(t)
	m := newMachine(t, d)
	if err := m.Reboot(t.Context(), locksmith.MethodReboot); err == nil || !strings.HasPrefix(err.Error(), "cannot reboot: logind is not running: ") {
		t.Errorf("without logind: %v", err)
	}
	// Then nothing of logind's is under way.
	if down, err := m.GoingDown(t.Context()); down || err != nil {
		t.Errorf("whether the machine goes down, without logind: %t, %v", down, err)
	}
	d.Stop()
	if err := m.Reboot(t.Context(), locksmith.MethodReboot); !errors.Is(err, bus.ErrAway) {
		t.Errorf("without a bus: %v", err)
	}
	if _, err := m.GoingDown(t.Context()); !errors.Is(err, bus.ErrAway) {
		t.Errorf("whether the machine goes down, without a bus: %v", err)
	}
}

// silent puts a logind on the bus that answers nothing; asked gets its calls.
func silent(t *testing.T, d *dbustest.Daemon) (logind *dbus.Conn, asked chan struct{}) {
	asked = make(chan struct{}, 10)
	return d.Serve(service, func(dbustest.Call) ([]any, error) {
		asked <- struct{}{}
		<-t.Context().Done()
		return nil, nil
	}), asked
}

func TestRebootNeverAnswered(t *testing.T) {
	d := dbustest.New(t)
	_, asked := silent(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := newMachine(t, d).Reboot(ctx, locksmith.MethodReboot)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "logind did not answer the request to reboot: ") {
		t.Errorf("Reboot = %v", err)
	}
	<-asked
}

// Where the answer is lost, the reboot may be under way, which the error must not
// deny.
func TestRebootAnswerLost(t *testing.T) {
	for name, leave := range map[string]func(*dbustest.Daemon, *dbus.Conn){
		"logind leaves":   func(_ *dbustest.Daemon, logind *dbus.Conn) { logind.Close() },
		"the bus is gone": func(d *dbustest.Daemon, _ *dbus.Conn) { d.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			logind, asked := silent(t, d)
			m := newMachine(t, d)
			done := make(chan error)
			go func() { done <- m.Reboot(t.Context(), locksmith.MethodReboot) }()
			<-asked
			leave(d, logind)
			err := <-done
			if err == nil || !strings.HasPrefix(err.Error(), "no answer to the request to reboot, which may be under way: ") {
				t.Errorf("Reboot = %v", err)
			}
		})
	}
}
