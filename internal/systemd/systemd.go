// Package systemd asks the service manager about units, about the system as a whole
// and about its reboots of userspace. Two of the agent's checks are among the
// questions. It changes nothing, and must not know what the units are for or what
// follows from the answers.
package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	service      = "org.freedesktop.systemd1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = "org.freedesktop.systemd1.Manager"
	unitIface    = "org.freedesktop.systemd1.Unit"

	// wordLimit bounds, in bytes, a word of systemd's that is shown.
	wordLimit = 80
)

// Manager is the service manager of this machine.
type Manager struct {
	bus   *bus.Bus
	limit time.Duration // how long one question may take, with all its calls; a field for tests
}

// New makes a Manager that reaches systemd on b, the system bus. It does no I/O.
func New(b *bus.Bus) *Manager { return &Manager{bus: b, limit: 30 * time.Second} }

// UnitActiveState returns the ActiveState of a unit: "active", "reloading",
// "inactive", "failed", "activating" or "deactivating", or a word of a newer
// systemd. A unit that does not exist is "inactive".
func (m *Manager) UnitActiveState(ctx context.Context, unit string) (string, error) {
	_, _, active, err := m.unit(ctx, unit)
	return active, err
}

// AnyUnitActive says whether one of units is in use on this machine: its state is
// anything but inactive. That includes a unit that failed, for it was meant to
// run, unless it was masked or removed since. Units that do not exist are not
// active. The first unit that cannot be asked about is the error, unless an
// earlier one is active.
func (m *Manager) AnyUnitActive(ctx context.Context, units ...string) (bool, error) {
	for _, unit := range units {
		_, load, active, err := m.unit(ctx, unit)
		if err != nil {
			return false, err
		}
		if inUse(load, active) {
			return true, nil
		}
	}
	return false, nil
}

func inUse(load, active string) bool {
	if active == "failed" {
		return load != "not-found" && load != "masked"
	}
	return active != "inactive"
}

// unit returns a unit's object, LoadState and ActiveState.
func (m *Manager) unit(ctx context.Context, unit string) (object dbus.ObjectPath, load, active string, err error) {
	defer func() { err = asking(unit, err) }()
	// LoadUnit, because GetUnit does not know units that nothing refers to.
	reply, err := m.bus.Call(ctx, bus.Method{Service: service, Path: managerPath, Name: managerIface + ".LoadUnit"}, unit)
	if err != nil {
		return "", "", "", err
	}
	if object, err = bus.Value[dbus.ObjectPath](reply, 0); err != nil {
		return "", "", "", err
	}
	if load, err = m.word(ctx, object, unitIface, "LoadState"); err != nil {
		return "", "", "", err
	}
	active, err = m.word(ctx, object, unitIface, "ActiveState")
	return object, load, active, err
}

// word returns a property that is a word.
func (m *Manager) word(ctx context.Context, path dbus.ObjectPath, iface, name string) (string, error) {
	value, err := m.property(ctx, path, iface, name)
	if err != nil {
		return "", err
	}
	word, ok := value.Value().(string)
	if !ok || word == "" {
		return "", malformed(name, value, "a word")
	}
	return bus.Clean(word, wordLimit), nil
}

func (m *Manager) property(ctx context.Context, path dbus.ObjectPath, iface, name string) (dbus.Variant, error) {
	reply, err := m.bus.Call(ctx, bus.Method{
		Service: service,
		Path:    path,
		Name:    "org.freedesktop.DBus.Properties.Get",
	}, iface, name)
	if err != nil {
		return dbus.Variant{}, err
	}
	return bus.Value[dbus.Variant](reply, 0)
}

func malformed(name string, value dbus.Variant, want string) error {
	return fmt.Errorf("malformed reply: property %s is %s, %s expected", name, bus.Clean(value.String(), wordLimit), want)
}

// asking says in an error what was asked about, and why nobody answers.
func asking(about string, err error) error {
	switch {
	case bus.NotRunning(err):
		return fmt.Errorf("asking systemd about %s: systemd is not on the bus: %w", about, err)
	case err != nil:
		return fmt.Errorf("asking systemd about %s: %w", about, err)
	}
	return nil
}

// limited bounds a question: none of its calls may hold up who asks for as long as
// the caller's own context lasts, which is minutes.
func (m *Manager) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.limit,
		fmt.Errorf("no answer within %v: %w", m.limit, context.DeadlineExceeded))
}
