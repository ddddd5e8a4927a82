package systemd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func TestParseUnits(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" ", nil},
		{"nginx", []string{"nginx.service"}},
		{"nginx.service", []string{"nginx.service"}},
		{"nginx, data.mount ,nginx.service", []string{"nginx.service", "data.mount"}},
		{"multi-user.target,a.socket,b.swap,c.timer,d.path,e.scope,f.slice,g.device,h.automount",
			[]string{"multi-user.target", "a.socket", "b.swap", "c.timer", "d.path", "e.scope", "f.slice", "g.device", "h.automount"}},
		{"php8.2-fpm", []string{"php8.2-fpm.service"}},
		{"openvpn@office", []string{"openvpn@office.service"}},
		{`dev-disk-by\x2dlabel-data.device`, []string{`dev-disk-by\x2dlabel-data.device`}},
		{"user@1000.service", []string{"user@1000.service"}},
		{strings.Repeat("a", 247), []string{strings.Repeat("a", 247) + ".service"}},
	} {
		if got, err := ParseUnits(test.text); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("ParseUnits(%q) = %q, %v, want %q", test.text, got, err, test.want)
		}
	}
	const allowed = ": only letters, digits and :-_.\\@ are allowed; give a unit's name, not a path or pattern"
	const empty = "invalid unit name: it is empty; give names separated by commas, such as nginx.service,data.mount"
	for text, want := range map[string]string{
		",":                      empty,
		"nginx,":                 empty,
		"nginx,,sshd":            empty,
		"nginx sshd":             `invalid unit name "nginx sshd"` + allowed,
		"/dev/sda1":              `invalid unit name "/dev/sda1"` + allowed,
		"ssh*":                   `invalid unit name "ssh*"` + allowed,
		"@x":                     `invalid unit name "@x"` + allowed,
		".service":               `invalid unit name ".service"` + allowed,
		"größe":                  `invalid unit name "größe"` + allowed,
		"a\nb":                   `invalid unit name "a\nb"` + allowed,
		"getty@":                 `invalid unit name "getty@.service": a template is never active; name an instance of it, such as getty@1.service`,
		"a,getty@.timer":         `invalid unit name "getty@.timer": a template is never active; name an instance of it, such as getty@1.timer`,
		strings.Repeat("a", 248): `invalid unit name "` + strings.Repeat("a", 40) + `"…: 256 bytes, at most 255 are allowed`,
	} {
		if got, err := ParseUnits(text); err == nil || err.Error() != want {
			t.Errorf("ParseUnits(%q) = %q, %v, want %s", text, got, err, want)
		}
	}
}

// FuzzParseUnits takes any text: what is accepted is accepted again, as itself.
func FuzzParseUnits(f *testing.F) {
	f.Add("nginx, data.mount")
	f.Add("getty@tty1,a@b@c.timer,.service")
	f.Fuzz(func(t *testing.T, text string) {
		units, err := ParseUnits(text)
		if err != nil {
			return
		}
		again, err := ParseUnits(strings.Join(units, ","))
		if err != nil || !slices.Equal(again, units) {
			t.Errorf("%q means %q, and that means %q, %v", text, units, again, err)
		}
		for _, unit := range units {
			if strings.ContainsAny(unit, " \n/*") || !strings.Contains(unit, ".") || len(unit) > 255 {
				t.Errorf("%q means %q", text, unit)
			}
		}
	})
}

// vetoes is what a check found, one "by: reason" per veto.
func vetoes(t *testing.T, err error) []string {
	t.Helper()
	var all []string
	switch err := err.(type) {
	case nil:
	case *agent.Veto:
		all = append(all, err.Error())
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			all = append(all, vetoes(t, e)...)
		}
	default:
		t.Errorf("%v is no veto", err)
	}
	return all
}

// serve answers for one unit with the properties given by name, on whatever
// interface they are asked for.
func serve(t *testing.T, unit string, properties map[string]any) func(dbustest.Call) ([]any, error) {
	return func(c dbustest.Call) ([]any, error) {
		switch {
		case c.Name == managerIface+".LoadUnit" && c.Args[0] == unit:
			return []any{unitPath(unit)}, nil
		case c.Name == "org.freedesktop.DBus.Properties.Get" && c.Path == unitPath(unit):
			value, ok := properties[c.Args[1].(string)]
			if _, result := properties["Result"]; result && c.Args[1] == "Result" && c.Args[0] != "org.freedesktop.systemd1.Service" {
				t.Errorf("Result was asked for on %v", c.Args[0])
			}
			if !ok {
				return nil, dbus.NewError(errorUnknownProperty, []any{"Unknown property"})
			}
			return []any{dbus.MakeVariant(value)}, nil
		}
		t.Errorf("called %s on %s with %v", c.Name, c.Path, c.Args)
		return nil, nil
	}
}

func TestUnitsActive(t *testing.T) {
	state := func(load, active, sub, result string) map[string]any {
		p := map[string]any{"LoadState": load, "ActiveState": active}
		if sub != "" {
			p["SubState"] = sub
		}
		if result != "" {
			p["Result"] = result
		}
		return p
	}
	const unit = "app.service"
	for _, test := range []struct {
		name       string
		unit       string
		properties map[string]any
		want       string // empty: it passes
	}{
		{"running", unit, state("loaded", "active", "running", "success"), ""},
		{"a oneshot that remains", unit, state("loaded", "active", "exited", "success"), ""},
		{"reloading", unit, state("loaded", "reloading", "reload", "success"), ""},
		{"refreshing", unit, state("loaded", "refreshing", "refresh-extensions", "success"), ""},
		{"running although it was removed", unit, state("not-found", "active", "running", ""), ""},
		{"stopped", unit, state("loaded", "inactive", "dead", "success"), "inactive (dead)"},
		{"failed", unit, state("loaded", "failed", "failed", "exit-code"), "failed (exit-code)"},
		{"failed and removed", unit, state("not-found", "failed", "failed", "timeout"), "failed (timeout)"},
		{"failed, nobody knows how", unit, state("loaded", "failed", "failed", ""), "failed"},
		{"starting", unit, state("loaded", "activating", "start-pre", "success"), "activating (start-pre)"},
		{"starting again and again", unit, state("loaded", "activating", "auto-restart", "exit-code"), "activating (auto-restart)"},
		{"stopping", unit, state("loaded", "deactivating", "", "success"), "deactivating"},
		{"no such unit", unit, state("not-found", "inactive", "dead", ""), "not-found: no such unit"},
		{"masked", unit, state("masked", "inactive", "dead", ""), "masked"},
		{"malformed", unit, state("bad-setting", "inactive", "dead", ""), "bad-setting"},
		{"in a state of a newer systemd", unit, state("loaded", "pondering", "deeply", ""), "pondering (deeply)"},
		{"a target that failed", "app.target", state("loaded", "failed", "failed", ""), "failed (failed)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, serve(t, test.unit, test.properties))
			check := newManager(t, d).UnitsActive([]string{test.unit})
			if check.Name() != "units" {
				t.Errorf("the check is named %q", check.Name())
			}
			var want []string
			if test.want != "" {
				want = []string{test.unit + ": " + test.want}
			}
			if got := vetoes(t, check.Run(t.Context(), agent.About{})); !slices.Equal(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

func TestSeveralUnits(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(service, func(c dbustest.Call) ([]any, error) {
		switch {
		case c.Name == managerIface+".LoadUnit" && c.Args[0] == "secret.service":
			return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"})
		case c.Name == managerIface+".LoadUnit":
			return []any{unitPath(c.Args[0].(string))}, nil
		}
		active := "active"
		if c.Path != unitPath("good.service") {
			active = "inactive"
		}
		return []any{dbus.MakeVariant(map[any]string{"LoadState": "loaded", "ActiveState": active, "SubState": "dead"}[c.Args[1]])}, nil
	})
	m := newManager(t, d)
	run := func(units ...string) error { return m.UnitsActive(units).Run(t.Context(), agent.About{}) }
	if err := run(); err != nil {
		t.Errorf("no units: %v", err)
	}
	if got, want := vetoes(t, run("a.service", "good.service", "b.service")),
		[]string{"a.service: inactive (dead)", "b.service: inactive (dead)"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	// What is known is said beside what cannot be found out, which ends the asking.
	err := run("a.service", "secret.service", "b.service")
	var veto *agent.Veto
	if !errors.As(err, &veto) || veto.By != "a.service" || !strings.Contains(err.Error(), "asking systemd about secret.service: no") ||
		strings.Contains(err.Error(), "b.service") {
		t.Errorf("with one that may not be asked about: %v", err)
	}
}
