package systemd

import (
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

// units answers as systemd does, for units given as "LoadState ActiveState".
func units(t *testing.T, states map[string]string) func(dbustest.Call) ([]any, error) {
	paths := map[dbus.ObjectPath]string{}
	for unit := range states {
		paths[unitPath(unit)] = unit
	}
	return func(c dbustest.Call) ([]any, error) {
		switch c.Name {
		case managerIface + ".LoadUnit":
			unit, _ := c.Args[0].(string)
			if _, ok := states[unit]; !ok {
				return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"Unit name is not valid."})
			}
			return []any{unitPath(unit)}, nil
		case "org.freedesktop.DBus.Properties.Get":
			load, active, _ := strings.Cut(states[paths[c.Path]], " ")
			if c.Args[0] != unitIface {
				t.Errorf("a property of %v was asked for", c.Args[0])
			}
			return []any{dbus.MakeVariant(map[any]string{"LoadState": load, "ActiveState": active}[c.Args[1]])}, nil
		}
		t.Errorf("called %s", c.Name)
		return nil, nil
	}
}

func unitPath(unit string) dbus.ObjectPath {
	return "/org/freedesktop/systemd1/unit/" + dbus.ObjectPath(strings.NewReplacer(".", "_2e", "-", "_2d").Replace(unit))
}

func newManager(t *testing.T, d *dbustest.Daemon) *Manager {
	b := bus.New(d.Address(), nil)
	t.Cleanup(func() { b.Close() })
	return New(b)
}

func TestAnyUnitActive(t *testing.T) {
	const none = "not-found inactive"
	for _, test := range []struct {
		name                string
		etcd, etcd2, member string
		want                bool
	}{
		{"none exists", none, none, none, false},
		{"one is active", none, none, "loaded active", true},
		{"the first is active", "loaded active", none, none, true},
		{"all are inactive", "loaded inactive", "loaded inactive", "loaded inactive", false},
		{"one is starting", none, "loaded activating", none, true},
		{"one is stopping", none, "loaded deactivating", none, true},
		{"one is reloading", none, "loaded reloading", none, true},
		{"one failed: etcd is meant to run", none, "loaded failed", none, true},
		{"one failed and cannot be read any more", none, "bad-setting failed", none, true},
		{"one failed and was removed", none, "not-found failed", none, false},
		{"one failed and was masked", none, "masked failed", none, false},
		{"one runs although it was removed", none, "not-found active", none, true},
		{"one is masked", none, "masked inactive", none, false},
		{"one is in a state of a newer systemd", none, "loaded pondering", none, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, units(t, map[string]string{
				"etcd.service": test.etcd, "etcd2.service": test.etcd2, "etcd-member.service": test.member,
			}))
			got, err := newManager(t, d).AnyUnitActive(t.Context(), "etcd.service", "etcd2.service", "etcd-member.service")
			if err != nil || got != test.want {
				t.Errorf("AnyUnitActive = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestUnitActiveState(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(service, units(t, map[string]string{"etcd.service": "loaded failed"}))
	m := newManager(t, d)
	if got, err := m.UnitActiveState(t.Context(), "etcd.service"); err != nil || got != "failed" {
		t.Errorf("UnitActiveState = %q, %v", got, err)
	}
	_, err := m.UnitActiveState(t.Context(), "etcd")
	if err == nil || err.Error() != "asking systemd about etcd: Unit name is not valid." {
		t.Errorf("an invalid name: %v", err)
	}
}

func TestUnknownIsAnError(t *testing.T) {
	path := dbus.ObjectPath("/org/freedesktop/systemd1/unit/x")
	for name, answer := range map[string]func(dbustest.Call) ([]any, error){
		"no path":              func(dbustest.Call) ([]any, error) { return nil, nil },
		"a string for a path":  func(dbustest.Call) ([]any, error) { return []any{"x"}, nil },
		"no variant":           func(dbustest.Call) ([]any, error) { return []any{path}, nil },
		"a variant of another": property(path, int32(7)),
		"an empty word":        property(path, ""),
		"an error reply": func(dbustest.Call) ([]any, error) {
			return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, answer)
			got, err := newManager(t, d).AnyUnitActive(t.Context(), "etcd.service")
			if got || err == nil || !strings.HasPrefix(err.Error(), "asking systemd about etcd.service: ") {
				t.Errorf("AnyUnitActive = %v, %v", got, err)
			}
		})
	}
	d := dbustest.New(t)
	m := newManager(t, d)
	if _, err := m.AnyUnitActive(t.Context(), "etcd.service"); err == nil || !strings.Contains(err.Error(), "systemd is not on the bus") {
		t.Errorf("without systemd: %v", err)
	}
	d.Stop()
	if _, err := m.AnyUnitActive(t.Context(), "etcd.service"); !errors.Is(err, bus.ErrAway) {
		t.Errorf("without a bus: %v", err)
	}
}

func property(path dbus.ObjectPath, value any) func(dbustest.Call) ([]any, error) {
	return func(c dbustest.Call) ([]any, error) {
		if c.Name == managerIface+".LoadUnit" {
			return []any{path}, nil
		}
		return []any{dbus.MakeVariant(value)}, nil
	}
}
