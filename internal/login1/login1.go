// Package login1 is the machine as logind shows it: it asks for the reboot, lists
// who is logged in, and writes to their terminals. It implements agent.Machine, and
// two of the agent's checks: block inhibitors, and logged-in users.
//
// It must not know why or when a machine reboots, and holds no state: every answer
// is asked for.
package login1

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	service      = "org.freedesktop.login1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/login1")
	managerIface = "org.freedesktop.login1.Manager"
	sessionIface = "org.freedesktop.login1.Session"
)

var _ agent.Machine = (*Machine)(nil)

// Machine is the machine this process runs on.
type Machine struct {
	bus *bus.Bus

	// For tests.
	now         func() time.Time
	dev         string        // where the terminals are
	writeLimit  time.Duration // how long one terminal may take
	checkLimit  time.Duration // how long one check may take
	kexecLoaded string        // the kernel's file that says whether another kernel is loaded
}

// New makes a Machine that reaches logind on b, the system bus. It does no I/O.
func New(b *bus.Bus) *Machine {
	return &Machine{
		bus:         b,
		now:         time.Now,
		dev:         "/dev",
		writeLimit:  5 * time.Second,
		checkLimit:  30 * time.Second,
		kexecLoaded: "/sys/kernel/kexec_loaded",
	}
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

// property returns a property of logind's Manager.
func (m *Machine) property(ctx context.Context, name string) (any, error) {
	reply, err := m.bus.Call(ctx, bus.Method{
		Service: service,
		Path:    managerPath,
		Name:    "org.freedesktop.DBus.Properties.Get",
	}, managerIface, name)
	if err != nil {
		return nil, err
	}
	value, err := bus.Value[dbus.Variant](reply, 0)
	return value.Value(), err
}

// limited bounds a check, which is several calls, each of which may be held up.
func (m *Machine) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.checkLimit,
		fmt.Errorf("no answer within %v: %w", m.checkLimit, context.DeadlineExceeded))
}
