// Package login1 is the machine as logind shows it: it asks for the reboot, lists
// who is logged in, and writes to their terminals. It implements agent.Machine.
//
// It must not know why or when a machine reboots, and holds no state: every answer
// is asked for.
package login1

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	service      = "org.freedesktop.login1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/login1")
	managerIface = "org.freedesktop.login1.Manager"
	sessionIface = "org.freedesktop.login1.Session"

	errorInProgress = "org.freedesktop.login1.OperationInProgress"
)

var _ agent.Machine = (*Machine)(nil)

// Machine is the machine this process runs on.
type Machine struct {
	bus *bus.Bus

	// For tests.
	now        func() time.Time
	dev        string        // where the terminals are
	writeLimit time.Duration // how long one terminal may take
}

// New makes a Machine that reaches logind on b, the system bus. It does no I/O.
func New(b *bus.Bus) *Machine {
	return &Machine{bus: b, now: time.Now, dev: "/dev", writeLimit: 5 * time.Second}
}

// Reboot asks logind for a reboot and waits for its answer. A nil error means that
// logind accepted, not that the machine is going down. Where the bus goes away
// before the answer, the reboot may be under way, and the error says so.
//
// A machine that logind is shutting down already needs no second request, and
// logind refuses one: that counts as accepted. It is how a daemon that was
// restarted after its request finds the machine, where an inhibitor delays the
// shutdown; giving the slot back then would be giving it back while the machine
// goes down.
func (m *Machine) Reboot(ctx context.Context, method locksmith.Method) error {
	const interactive = false // nobody is there to type a password
	_, err := m.bus.Call(ctx, manager("Reboot"), interactive)
	if err == nil {
		return nil
	}
	if bus.ErrorName(err) == errorInProgress {
		if down, downErr := m.GoingDown(ctx); down && downErr == nil {
			return nil
		}
	}
	return rebootError(ctx, err)
}

// GoingDown says whether logind has accepted a shutdown that is under way, be it
// held up by an inhibitor. Where logind does not run, none is.
func (m *Machine) GoingDown(ctx context.Context) (bool, error) {
	reply, err := m.bus.Call(ctx, bus.Method{
		Service: service,
		Path:    managerPath,
		Name:    "org.freedesktop.DBus.Properties.Get",
	}, managerIface, "PreparingForShutdown")
	if bus.NotRunning(err) {
		return false, nil
	}
	var value dbus.Variant
	if err == nil {
		value, err = bus.Value[dbus.Variant](reply, 0)
	}
	down, ok := value.Value().(bool)
	if err == nil && !ok {
		err = errors.New("its answer is not of the expected form")
	}
	if err != nil {
		return false, fmt.Errorf("asking logind whether the machine is going down: %w", err)
	}
	return down, nil
}

func rebootError(ctx context.Context, err error) error {
	name := bus.ErrorName(err)
	switch {
	case bus.NotRunning(err):
		return fmt.Errorf("cannot reboot: logind is not running: %w", err)
	case name == bus.ErrorAccessDenied, name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return fmt.Errorf("cannot reboot: logind does not permit it, run as root: %w", err)
	case strings.HasSuffix(name, ".BlockedByInhibitorLock"):
		return fmt.Errorf("cannot reboot: blocked by an inhibitor, see systemd-inhibit --list: %w", err)
	case name == errorInProgress:
		return fmt.Errorf("cannot reboot: logind is busy with another operation, such as suspending: %w", err)
	case name != "" && name != bus.ErrorNoReply:
		return fmt.Errorf("cannot reboot: logind refused: %w", err)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("logind did not answer the request to reboot: %w", err)
	case name == bus.ErrorNoReply, errors.Is(err, bus.ErrAway):
		return fmt.Errorf("no answer to the request to reboot, which may be under way: %w", err)
	}
	return fmt.Errorf("cannot reboot: %w", err)
}

// SessionChanges calls changed after somebody logged in or out, and whenever that
// may have been missed: at the beginning, and after logind or the bus were away.
// It returns nil when ctx has ended, and an error only when the bus was closed.
func (m *Machine) SessionChanges(ctx context.Context, changed func()) error {
	return m.bus.Watch(ctx, bus.Signals{
		Service:   service,
		Path:      managerPath,
		Interface: managerIface,
		Members:   []string{"SessionNew", "SessionRemoved"},
	}, changed)
}

func manager(method string) bus.Method {
	return bus.Method{Service: service, Path: managerPath, Name: managerIface + "." + method}
}
