package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func TestParseStates(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          nil,
		"running":                   {"running"},
		"running,degraded":          {"running", "degraded"},
		" degraded , running":       {"degraded", "running"},
		"running,running, degraded": {"running", "degraded"},
	} {
		if got, err := ParseStates(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseStates(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"starting":          `invalid system state "starting": give running, or running,degraded`,
		"Running":           `invalid system state "Running": give running, or running,degraded`,
		"running,":          `invalid system state "": give running, or running,degraded`,
		"running degraded":  `invalid system state "running degraded": give running, or running,degraded`,
		"degraded,degraded": `invalid system states "degraded,degraded": give running, or running,degraded`,
	} {
		if got, err := ParseStates(text); err == nil || err.Error() != want {
			t.Errorf("ParseStates(%q) = %q, %v, want %s", text, got, err, want)
		}
	}
}

// failed is an entry of ListUnitsFiltered as it goes over the bus.
type failed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func TestSystemState(t *testing.T) {
	units := func(n int) []any {
		list := []failed{}
		for i := range n {
			list = append(list, failed{Name: fmt.Sprintf("u%d.service", n-i), Path: "/x", JobPath: "/"})
		}
		return []any{list}
	}
	running, either := []string{"running"}, []string{"running", "degraded"}
	for _, test := range []struct {
		name    string
		state   any
		allowed []string
		units   []any // what ListUnitsFiltered answers; nil: an error
		want    string
	}{
		{"running", "running", running, nil, ""},
		{"running, degraded allowed", "running", either, nil, ""},
		{"degraded, allowed", "degraded", either, nil, ""},
		{"degraded", "degraded", running, units(2), "system: degraded: failed: u1.service, u2.service"},
		{"degraded by many", "degraded", running, units(9),
			"system: degraded: failed: u1.service, u2.service, u3.service, u4.service, u5.service and 4 more"},
		{"degraded a moment ago", "degraded", running, units(0), "system: degraded"},
		{"degraded, nobody says why", "degraded", running, nil, "system: degraded; the units that failed cannot be listed: no"},
		{"degraded, a malformed list", "degraded", running, []any{[]string{"u1"}},
			"system: degraded; the units that failed cannot be listed: malformed reply: value 0 is []string, [][]interface {} expected"},
		{"starting", "starting", either, nil, "system: starting"},
		{"maintenance", "maintenance", either, nil, "system: maintenance"},
		{"a word of a newer systemd", "pondering", either, nil, "system: pondering"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				switch {
				case c.Path == managerPath && c.Name == "org.freedesktop.DBus.Properties.Get" &&
					slices.Equal(c.Args, []any{managerIface, "SystemState"}):
					return []any{dbus.MakeVariant(test.state)}, nil
				case c.Name == managerIface+".ListUnitsFiltered" && slices.Equal(c.Args[0].([]string), []string{"failed"}) && test.units != nil:
					return test.units, nil
				}
				return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"})
			})
			check := newManager(t, d).SystemState(test.allowed)
			if check.Name() != "system" {
				t.Errorf("the check is named %q", check.Name())
			}
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if got := vetoes(t, check.Run(t.Context(), agent.About{})); !slices.Equal(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

func TestSoftReboots(t *testing.T) {
	for _, test := range []struct {
		name      string
		value     any
		count     uint32
		supported bool
		want      string // of the error
	}{
		{"none yet", uint32(0), 0, true, ""},
		{"three", uint32(3), 3, true, ""},
		{"not counted", dbus.NewError(errorUnknownProperty, []any{"Unknown property"}), 0, false, ""},
		{"refused", dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"}), 0, false, "asking systemd about soft reboots: no"},
		{"a text", "3", 0, false, `asking systemd about soft reboots: malformed reply: property SoftRebootsCount is "3", a number expected`},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, one(t, "SoftRebootsCount", test.value))
			count, supported, err := newManager(t, d).SoftReboots(t.Context())
			if count != test.count || supported != test.supported || text(err) != test.want {
				t.Errorf("SoftReboots = %d, %t, %v, want %d, %t, %q", count, supported, err, test.count, test.supported, test.want)
			}
		})
	}
}

func TestUserspaceStart(t *testing.T) {
	for _, test := range []struct {
		name  string
		value any
		want  time.Time
		err   string
	}{
		{"a time", uint64(1700000000_000123), time.Unix(1700000000, 123000), ""},
		{"none", uint64(0), time.Time{}, "asking systemd about the start of userspace: it does not know"},
		{"out of range", ^uint64(0), time.Time{}, "asking systemd about the start of userspace: malformed reply: property UserspaceTimestamp is @t 18446744073709551615, a time expected"},
		{"a text", "now", time.Time{}, `asking systemd about the start of userspace: malformed reply: property UserspaceTimestamp is "now", a number expected`},
		{"refused", dbus.NewError(errorUnknownProperty, []any{"no"}), time.Time{}, "asking systemd about the start of userspace: no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, one(t, "UserspaceTimestamp", test.value))
			got, err := newManager(t, d).UserspaceStart(t.Context())
			if !got.Equal(test.want) || text(err) != test.err {
				t.Errorf("UserspaceStart = %v, %v, want %v, %q", got, err, test.want, test.err)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// one answers for one property of the manager, with a value or an error.
func one(t *testing.T, name string, value any) func(dbustest.Call) ([]any, error) {
	return func(c dbustest.Call) ([]any, error) {
		if c.Path != managerPath || !slices.Equal(c.Args, []any{managerIface, name}) {
			t.Errorf("called %s on %s with %v", c.Name, c.Path, c.Args)
		}
		if err, ok := value.(error); ok {
			return nil, err
		}
		return []any{dbus.MakeVariant(value)}, nil
	}
}

// Whatever is asked, no answer is an error, and comes in time.
func TestNoAnswer(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *Manager) error{
		"units": func(ctx context.Context, m *Manager) error {
			return m.UnitsActive([]string{"a.service", "b.service"}).Run(ctx, agent.About{})
		},
		"the system": func(ctx context.Context, m *Manager) error {
			return m.SystemState([]string{"running", "degraded"}).Run(ctx, agent.About{})
		},
		"soft reboots": func(ctx context.Context, m *Manager) error { _, _, err := m.SoftReboots(ctx); return err },
		"userspace":    func(ctx context.Context, m *Manager) error { _, err := m.UserspaceStart(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			m := newManager(t, d)
			if err := ask(t.Context(), m); err == nil || !strings.Contains(err.Error(), "systemd is not on the bus") {
				t.Errorf("without systemd: %v", err)
			}
			conn := d.Serve(service, func(dbustest.Call) ([]any, error) { return nil, nil })
			if err := ask(t.Context(), m); err == nil || !strings.Contains(err.Error(), "malformed reply") {
				t.Errorf("an empty answer: %v", err)
			}
			conn.Close()
			d.Serve(service, func(dbustest.Call) ([]any, error) {
				<-t.Context().Done()
				return nil, nil
			})
			m.limit = 50 * time.Millisecond
			if err := ask(t.Context(), m); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 50ms") {
				t.Errorf("not answered: %v", err)
			}
			m.limit = time.Minute
			d.Stop()
			if err := ask(t.Context(), m); !errors.Is(err, bus.ErrAway) {
				t.Errorf("without a bus: %v", err)
			}
		})
	}
}
