package systemd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// unitTypes are the suffixes of unit names, with the D-Bus interface on which a unit
// of that type says how it ended; "" for those that do not end.
var unitTypes = map[string]string{
	".service":   "Service",
	".socket":    "Socket",
	".mount":     "Mount",
	".automount": "Automount",
	".swap":      "Swap",
	".timer":     "Timer",
	".path":      "Path",
	".scope":     "Scope",
	".target":    "",
	".device":    "",
	".slice":     "",
}

// unitName is what systemd allows before the suffix: a name, and for an instance of
// a template "@" and which one.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]+)?$`)

// unitNameMax is systemd's limit, in bytes.
const unitNameMax = 255

// ParseUnits reads names of units separated by commas, with spaces around them
// allowed: "nginx, data.mount". A name without the suffix of a type of unit means a
// service, as it does for systemctl. The empty text names none. Names are returned
// once each, in the order given.
func ParseUnits(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var units []string
	for name := range strings.SplitSeq(text, ",") {
		unit, err := parseUnit(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units, nil
}

func parseUnit(name string) (string, error) {
	unit := name
	if _, known := unitTypes[path.Ext(name)]; !known {
		unit += ".service"
	}
	before := strings.TrimSuffix(unit, path.Ext(unit))
	switch {
	case name == "":
		return "", errors.New("invalid unit name: it is empty; give names separated by commas, such as nginx.service,data.mount")
	case len(unit) > unitNameMax:
		return "", fmt.Errorf("invalid unit name %.40q…: %d bytes, at most %d are allowed", unit, len(unit), unitNameMax)
	case strings.HasSuffix(before, "@"):
		return "", fmt.Errorf("invalid unit name %q: a template is never active; name an instance of it, such as %s1%s",
			unit, before, path.Ext(unit))
	case !unitName.MatchString(before):
		return "", fmt.Errorf("invalid unit name %q: only letters, digits and :-_.\\@ are allowed; give a unit's name, not a path or pattern", name)
	}
	return unit, nil
}

// UnitsActive is a check that passes while each of units, as ParseUnits returns
// them, is active. A unit that reloads is active, and so is a oneshot service that
// ran and has RemainAfterExit. For each other one there is a *agent.Veto, which says
// as systemctl status does what became of it; several are joined. A unit that cannot
// be asked about is an error, and those after it are not asked about.
func (m *Manager) UnitsActive(units []string) agent.Check {
	return unitsActive{m, slices.Clone(units)}
}

type unitsActive struct {
	m     *Manager
	units []string
}

func (unitsActive) Name() string { return "units" }

func (c unitsActive) Run(ctx context.Context, _ agent.About) error {
	ctx, cancel := c.m.limited(ctx)
	defer cancel()
	var found []error
	for _, unit := range c.units {
		reason, err := c.m.notActive(ctx, unit)
		if err != nil {
			found = append(found, err)
			break
		}
		if reason != "" {
			found = append(found, &agent.Veto{By: unit, Reason: reason})
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return errors.Join(found...)
}

// notActive says what a unit is instead of active: "failed (exit-code)". It is empty
// where the unit is active.
func (m *Manager) notActive(ctx context.Context, unit string) (string, error) {
	object, load, active, err := m.unit(ctx, unit)
	switch {
	case err != nil:
		return "", err
	case active == "active", active == "reloading", active == "refreshing": // the last since systemd 257
		return "", nil
	case active == "failed":
		// First what happened, whatever became of the file since.
	case load == "not-found":
		return "not-found: no such unit", nil
	case load != "loaded":
		return load, nil // "masked", "bad-setting", "error"
	}
	if detail := m.detail(ctx, unit, object, active); detail != "" {
		return fmt.Sprintf("%s (%s)", active, detail), nil
	}
	return active, nil
}

// detail is more about the state of a unit: how it failed, or its sub-state. It is
// empty where it cannot be had, since what matters is known.
func (m *Manager) detail(ctx context.Context, unit string, object dbus.ObjectPath, active string) string {
	iface, name := unitIface, "SubState"
	if kind := unitTypes[path.Ext(unit)]; active == "failed" && kind != "" {
		iface, name = "org.freedesktop.systemd1."+kind, "Result"
	}
	word, err := m.word(ctx, object, iface, name)
	if err != nil {
		return ""
	}
	return word
}

// shownUnits bounds the failed units that are named.
const shownUnits = 5

// failedUnits names the units that failed, in order, the first of them only; "" for
// none.
func (m *Manager) failedUnits(ctx context.Context) (string, error) {
	reply, err := m.bus.Call(ctx, bus.Method{Service: service, Path: managerPath, Name: managerIface + ".ListUnitsFiltered"},
		[]string{"failed"})
	if err != nil {
		return "", err
	}
	// a(ssssssouso), of which the name is the first.
	entries, err := bus.Value[[][]any](reply, 0)
	if err != nil {
		return "", err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		name, err := bus.Value[string](entry, 0)
		if err != nil {
			return "", err
		}
		names[i] = bus.Clean(name, wordLimit)
	}
	slices.Sort(names)
	more := ""
	if len(names) > shownUnits {
		more = fmt.Sprintf(" and %d more", len(names)-shownUnits)
		names = names[:shownUnits]
	}
	return strings.Join(names, ", ") + more, nil
}
