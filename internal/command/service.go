package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// service is what this process is to systemd.
type service struct {
	is   bool   // it is a service's main process
	unit string // the service; empty where its name cannot be told
}

// ownService finds out which service this process is. INVOCATION_ID alone does not
// say that it is one: a shell that a service started has it too. SYSTEMD_EXEC_PID,
// which systemd sets since version 248, names the main process.
func ownService() service {
	main := os.Getenv("SYSTEMD_EXEC_PID")
	if os.Getenv("INVOCATION_ID") == "" || main != "" && main != strconv.Itoa(os.Getpid()) {
		return service{}
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return service{is: true}
	}
	return service{is: true, unit: serviceOf(string(text))}
}

// serviceOf is the system service that a process is in, by its /proc/PID/cgroup;
// empty if it is in none, or in one of a user's.
func serviceOf(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if controllers != "name=systemd" && id != "0" || strings.Contains(path, "/user@") {
			continue
		}
		for ; len(path) > 1; path = filepath.Dir(path) { // a service may have groups below its own
			if unit := filepath.Base(path); strings.HasSuffix(unit, ".service") {
				return unit
			}
		}
	}
	return ""
}

// systemdRuns says whether systemd manages this machine and its tools are here.
func systemdRuns() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	for _, tool := range []string{"systemd-run", "systemctl", "echo"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	return true
}
