package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	stopUnits  = "prepare.d/60-systemd-units"
	startUnits = "restore.d/60-systemd-units"
)

// systemctl installs a stand-in that knows these units ("app.service active"), each
// in a file with its state. The file "broken" names a unit that cannot be stopped
// or started.
func (m *machine) systemctl(units ...string) {
	m.t.Helper()
	m.must(os.MkdirAll(filepath.Join(m.dir, "units"), 0o755))
	for _, unit := range units {
		name, state, _ := strings.Cut(unit, " ")
		m.file("units/"+name, state+"\n", 0o644)
	}
	m.tool("systemctl", `
for unit; do :; done
[ -e $dir/units ] || { echo "Failed to connect to bus" >&2; exit 1; }
if [ "$1" != show ] && [ -e $dir/broken ] && [ "$(cat $dir/broken)" = "$unit" ]; then exit 1; fi
case "$1 $2" in
"show --property=LoadState") if [ -e $dir/units/$unit ]; then echo loaded; else echo not-found; fi ;;
"show --property=ActiveState") if [ -e $dir/units/$unit ]; then cat $dir/units/$unit; else echo inactive; fi ;;
"stop --") echo inactive >$dir/units/$unit ;;
"start --") echo active >$dir/units/$unit ;;
*) exit 9 ;;
esac
`)
}

func (m *machine) active(unit string) bool {
	text, err := os.ReadFile(filepath.Join(m.dir, "units", unit))
	m.must(err)
	return string(text) == "active\n"
}

func TestUnits(t *testing.T) {
	m := newMachine(t)
	m.systemctl("a.service active", "b@1.service inactive", "c.timer activating", "d.service failed", "e.service active")
	m.file("conf/systemd-units.conf", "UNITS='a.service b@1.service\n c.timer d.service'\n", 0o644)
	m.passes(stopUnits)
	for _, unit := range []string{"a.service", "b@1.service", "c.timer", "d.service"} {
		if m.active(unit) {
			t.Errorf("%s still runs", unit)
		}
	}
	m.passes(stopUnits) // again: what it has stopped itself is not forgotten
	m.must(os.Remove(filepath.Join(m.dir, "calls")))
	m.passes(startUnits)
	m.called("systemctl start -- c.timer", "systemctl start -- a.service")
	m.forgotten()
	m.passes(startUnits)
	m.called()
}

func TestUnitsFail(t *testing.T) {
	m := newMachine(t)
	m.systemctl("a.service active", "b.service active")
	m.file("conf/systemd-units.conf", "UNITS='a.service b.service'\n", 0o644)
	m.file("broken", "b.service", 0o644)
	m.fails(stopUnits, "unit b.service could not be stopped")
	m.fails(startUnits, "unit b.service could not be started")
	m.must(os.Remove(filepath.Join(m.dir, "broken")))
	m.passes(startUnits)
	if !m.active("a.service") || !m.active("b.service") {
		t.Error("not all units run again")
	}
	m.forgotten()
}

func TestUnitsUnknown(t *testing.T) {
	m := newMachine(t)
	m.systemctl("a.service active")
	m.fails(stopUnits, "systemd-units.conf does not exist: it must set UNITS")
	m.file("conf/systemd-units.conf", "UNITS=\n", 0o644)
	m.fails(stopUnits, "must set UNITS")
	m.file("conf/systemd-units.conf", "UNITS='a.service typo.service'\n", 0o644)
	m.fails(stopUnits, `unit typo.service cannot be stopped, systemd says that it is "not-found"`)
	m.must(os.Rename(filepath.Join(m.dir, "units"), filepath.Join(m.dir, "away")))
	m.fails(stopUnits, "Failed to connect to bus")
	m.must(os.Rename(filepath.Join(m.dir, "away"), filepath.Join(m.dir, "units")))
	if !m.active("a.service") {
		t.Error("a unit was stopped before it was known that all can be")
	}
	m.passes(startUnits)
	m.forgotten()
}
