package machines_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

// mostExposed is what systemd-analyze security may say of the unit, of 10.
const mostExposed = 3.0

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `)

func exposed(t *testing.T, where string, out []byte) {
	t.Helper()
	found := exposure.FindSubmatch(out)
	if found == nil {
		t.Fatalf("%s: systemd-analyze says no level:\n%s", where, out)
	}
	level, err := strconv.ParseFloat(string(found[1]), 64)
	must(t, err)
	t.Logf("%s: %.1f", where, level)
	if level >= mostExposed {
		t.Errorf("%s: the exposure level of the unit is %.1f, want less than %.1f:\n%s", where, level, mostExposed, out)
	}
}

// TestExposure asks systemd how exposed the unit is: as shipped, and as installed on
// machines of an older and a newer systemd.
func TestExposure(t *testing.T) {
	t.Parallel()
	machines.Require(t)
	out, err := exec.CommandContext(within(t, limit), "systemd-analyze", "security", "--no-pager", "--offline=yes",
		"../../dist/locksmithd.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	exposed(t, "as shipped", out)
	for _, suite := range []machines.Suite{machines.Bookworm, machines.Trixie} {
		f := machines.ForTest(t, machines.Config{Suite: suite, Layers: []string{releaseLayer(t)}})
		m := add(t, f, string(suite))[0]
		must(t, f.Start(within(t, 3*limit), m))
		out, err := m.Exec(within(t, limit), "systemd-analyze", "security", "--no-pager", daemon)
		must(t, err)
		exposed(t, string(suite), out)
	}
}
