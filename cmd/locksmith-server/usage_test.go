package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// inert runs a command line that is to end before it does anything.
func inert(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"/usr/bin/locksmith-server"}, args...), &out, &errs, surroundings{
		connect: func(etcd.Config) (fleet.Lock, error) {
			t.Fatal("a machine was started")
			return nil, nil
		},
	})
	return status, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"dmeo", `unknown command "dmeo", did you mean demo? (see locksmith-server help)`},
		{"frobnicate -x", `unknown command "frobnicate" (see locksmith-server help)`},
		{"help dmeo", `unknown command "dmeo", did you mean demo? (see locksmith-server help)`},
		{"help demo x", `unexpected argument "x" after help (see locksmith-server help help)`},
		{"-debug demo", `-debug before demo is an option of the server: options of demo stand after it (see locksmith-server help demo)`},
		{"-listen 127.0.0.1:0 snapshot f", `-listen before snapshot is an option of the server: options of snapshot stand after it (see locksmith-server help snapshot)`},
		{"snapshot", `a file is missing: locksmith-server snapshot FILE (see locksmith-server help snapshot)`},
		{"snapshot a b", `unexpected argument "b" after snapshot (see locksmith-server help snapshot)`},
		{"snapshot f -data-dir x -endpoint http://127.0.0.1:1", `give -endpoint or -data-dir, not both (see locksmith-server help snapshot)`},
		{"snapshot f -timeout 0s", `invalid -timeout 0s: must be more than 0, such as 10s (see locksmith-server help snapshot)`},
		{"snapshot f -listen x", `unknown option -listen (see locksmith-server help snapshot)`},
		{"restore", `a file is missing: locksmith-server restore FILE (see locksmith-server help restore)`},
		{"restore f -endpoint ftp://x", `invalid -endpoint "ftp://x": it is neither http nor https; must be like http://127.0.0.1:2379 (see locksmith-server help restore)`},
		{"import-airlock x", `unexpected argument "x" after import-airlock (see locksmith-server help import-airlock)`},
		{"import-airlock -default-group-name a/b", `invalid -default-group-name "a/b": must be letters, digits, dots and dashes, as FleetLock wants its groups (see locksmith-server help import-airlock)`},
		{"token", `a name is missing: locksmith-server token NAME... (see locksmith-server help token)`},
		{"token al/ice", `invalid name "al/ice": must be 1 to 64 letters, digits and ._@+-, and begin with a letter or a digit (see locksmith-server help token)`},
		{"token alice -role root", `invalid -role "root": must be viewer, operator, admin or machine (see locksmith-server help token)`},
		{"-x demo", `unknown option -x (see locksmith-server help)`},
		{"demo extra", `unexpected argument "extra" after demo (see locksmith-server help demo)`},
		{"demo -machine 3", `unknown option -machine, did you mean -machines? (see locksmith-server help demo)`},
		{"demo -machines", `option -machines needs a value (see locksmith-server help demo)`},
		{"demo -machines many", `invalid -machines "many": must be a whole number (see locksmith-server help demo)`},
		{"demo -machines 0", `invalid -machines 0: must be 1 to 1000 (see locksmith-server help demo)`},
		{"demo -machines 1001", `invalid -machines 1001: must be 1 to 1000 (see locksmith-server help demo)`},
		{"demo -max 0", `invalid -max 0: must be 1 or more, or no machine could ever reboot (see locksmith-server help demo)`},
		{"demo -max=-1", `invalid -max -1: must be 1 or more, or no machine could ever reboot (see locksmith-server help demo)`},
		{"demo -down 3", `invalid -down "3": must be a duration such as 10s or 1m30s (see locksmith-server help demo)`},
		{"demo -down 0s", `invalid -down 0s: must be more than 0 and at most 10m0s (see locksmith-server help demo)`},
		{"demo -down 11m", `invalid -down 11m0s: must be more than 0 and at most 10m0s (see locksmith-server help demo)`},
		{"demo -group ..", `invalid group "..": choose a name other than . and .. (see locksmith-server help demo)`},
		{"demo -listen 0.0.0.0:80", `invalid -listen "0.0.0.0:80": must be an address of this machine and a port, such as 127.0.0.1:8080: anybody may do anything there (see locksmith-server help demo)`},
		{"demo -etcd-listen localhost", `invalid -etcd-listen "localhost": must be an IP address and a port, such as 127.0.0.1:2379 (see locksmith-server help demo)`},
	} {
		status, stdout, stderr := inert(t, strings.Fields(tt.args)...)
		if want := "locksmith-server: " + tt.want + "\n"; status != 2 || stderr != want || stdout != "" {
			t.Errorf("%s: exit status %d, %q, want 2, %q; standard output %q", tt.args, status, stderr, want, stdout)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"help", "\n  demo            watch simulated machines reboot a few at a time\n"},
		{"-help", "\n  demo            watch simulated machines reboot a few at a time\n"},
		{"help demo", "\nUsage: locksmith-server demo [OPTIONS]\n"},
		{"demo -h", "\nUsage: locksmith-server demo [OPTIONS]\n"},
		{"help help", "\nUsage: locksmith-server help [COMMAND]\n"},
		{"-version", "locksmith-server version "},
		{"demo --version", "locksmith-server version "},
	} {
		status, stdout, stderr := inert(t, strings.Fields(tt.args)...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, tt.want) {
			t.Errorf("%s: exit status %d\n%s\n%s", tt.args, status, stdout, stderr)
		}
	}
}

// Help lines fit a terminal, except for an option's text, which is one line.
func TestHelpFits(t *testing.T) {
	a := &app{program: "locksmith-server"}
	for _, c := range append([]*cli.Command{a.root()}, a.root().Commands...) {
		for _, line := range strings.Split(options.DescriptionText(c), "\n") {
			if len(line) > 80 {
				t.Errorf("%s: %d columns: %s", c.Name, len(line), line)
			}
		}
	}
}
