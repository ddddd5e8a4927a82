// Package systemd asks the service manager about units. It changes nothing, and
// must not know what the units are for.
package systemd

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	service      = "org.freedesktop.systemd1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = "org.freedesktop.systemd1.Manager"
	unitIface    = "org.freedesktop.systemd1.Unit"
)

// Manager is the service manager of this machine.
type Manager struct {
	bus *bus.Bus
}

// New makes a Manager that reaches systemd on b, the system bus. It does no I/O.
func New(b *bus.Bus) *Manager { return &Manager{bus: b} }

// UnitActiveState returns the ActiveState of a unit: "active", "reloading",
// "inactive", "failed", "activating" or "deactivating", or a word of a newer
// systemd. A unit that does not exist is "inactive".
func (m *Manager) UnitActiveState(ctx context.Context, unit string) (string, error) {
	_, active, err := m.unit(ctx, unit)
	return active, err
}

// AnyUnitActive says whether one of units is in use on this machine: its state is
// anything but inactive. That includes a unit that failed, for it was meant to
// run, unless it was masked or removed since. Units that do not exist are not
// active. The first unit that cannot be asked about is the error, unless an
// earlier one is active.
func (m *Manager) AnyUnitActive(ctx context.Context, units ...string) (bool, error) {
	for _, unit := range units {
		load, active, err := m.unit(ctx, unit)
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

// unit returns a unit's LoadState and ActiveState.
func (m *Manager) unit(ctx context.Context, unit string) (load, active string, err error) {
	defer func() {
		switch {
		case bus.NotRunning(err):
			err = fmt.Errorf("asking systemd about %s: systemd is not on the bus: %w", unit, err)
		case err != nil:
			err = fmt.Errorf("asking systemd about %s: %w", unit, err)
		}
	}()
	// LoadUnit, because GetUnit does not know units that nothing refers to.
	reply, err := m.bus.Call(ctx, bus.Method{Service: service, Path: managerPath, Name: managerIface + ".LoadUnit"}, unit)
	if err != nil {
		return "", "", err
	}
	path, err := bus.Value[dbus.ObjectPath](reply, 0)
	if err != nil {
		return "", "", err
	}
	if load, err = m.property(ctx, path, "LoadState"); err != nil {
		return "", "", err
	}
	active, err = m.property(ctx, path, "ActiveState")
	return load, active, err
}

// property returns a unit's property, a word.
func (m *Manager) property(ctx context.Context, path dbus.ObjectPath, name string) (string, error) {
	reply, err := m.bus.Call(ctx, bus.Method{
		Service: service,
		Path:    path,
		Name:    "org.freedesktop.DBus.Properties.Get",
	}, unitIface, name)
	if err != nil {
		return "", err
	}
	value, err := bus.Value[dbus.Variant](reply, 0)
	if err != nil {
		return "", err
	}
	word, ok := value.Value().(string)
	if !ok || word == "" {
		return "", fmt.Errorf("malformed reply: property %s is %s, a word expected", name, bus.Clean(value.String(), 80))
	}
	return bus.Clean(word, 80), nil
}
