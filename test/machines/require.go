package machines

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// tools are the programs the harness runs, each with the Debian package it is in.
var tools = [][2]string{
	{"systemd-nspawn", "systemd-container"},
	{"journalctl", "systemd"},
	{"debootstrap", "debootstrap"},
	{"etcd", "etcd-server"},
	{"nsenter", "util-linux"},
	{"unshare", "util-linux"},
	{"mount", "mount"},
}

// Missing says in one line what keeps real machines from running here: not
// root, or programs that are not installed. It is empty where they can run.
func Missing() string {
	if os.Geteuid() != 0 {
		return "real machines need root: run the tests as root or through sudo"
	}
	var programs, packages []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool[0]); err != nil {
			programs = append(programs, tool[0])
			packages = append(packages, tool[1])
		}
	}
	if len(programs) > 0 {
		return fmt.Sprintf("real machines need %s: apt-get install %s",
			strings.Join(programs, ", "), strings.Join(packages, " "))
	}
	if _, err := findHierarchies(); err != nil {
		return "real machines need " + err.Error()
	}
	return ""
}

// Require ends the test where real machines cannot run: it skips, and appends a
// line to the file named by LOCKSMITH_SKIP_REPORT, so that whoever runs the
// tests can say so loudly at the end. In CI (CI=true) it fails instead.
func Require(t testing.TB) {
	t.Helper()
	if missing := Missing(); missing != "" {
		skip.Loudly(t, missing)
	}
}
