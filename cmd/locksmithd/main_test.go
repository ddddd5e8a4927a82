package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// inRoot is the host whose files lie below the directory $TEST_ROOT, with the
// test's environment.
func inRoot() host {
	h := thisHost()
	root := os.Getenv("TEST_ROOT")
	for i, path := range h.updateConf {
		h.updateConf[i] = filepath.Join(root, path)
	}
	h.machineIDFile = filepath.Join(root, h.machineIDFile)
	h.bootIDFile = filepath.Join(root, h.bootIDFile)
	h.osRelease = filepath.Join(root, h.osRelease)
	h.root = root
	return h
}

func TestMain(m *testing.M) {
	program := func(name string) func() {
		return func() {
			os.Exit(run(context.Background(), append([]string{"/usr/bin/" + name}, os.Args[1:]...), os.Stdout, os.Stderr, inRoot()))
		}
	}
	testscript.Main(m, map[string]func(){"locksmithd": program("locksmithd"), "rebootlockd": program("rebootlockd")})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TEST_ROOT", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"refused": func(ts *testscript.TestScript, _ bool, args []string) { expect(ts, 1, args[0], "locksmithd") },
			"wrong":   func(ts *testscript.TestScript, _ bool, args []string) { expect(ts, 2, args[0], args[1:]...) },
		},
		RequireUniqueNames: true,
	})
}

// expect runs a program that must fail with status and say line, all of it on
// standard error, and must not have made the directory run.
func expect(ts *testscript.TestScript, status int, line string, argv ...string) {
	err := ts.Exec(argv[0], argv[1:]...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != status {
		ts.Fatalf("%v ended with %v, want exit status %d", argv, err, status)
	}
	if got := ts.ReadFile("stderr"); got != line+"\n" {
		ts.Fatalf("%v said %q\nwant %q", argv, got, line+"\n")
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("%v wrote %q to standard output", argv, out)
	}
	if _, err := os.Lstat(ts.MkAbs("run")); err == nil {
		ts.Fatalf("%v made its files although it was refused", argv)
	}
}

func isUsage(err error) bool {
	_, ok := errors.AsType[*options.UsageError](err)
	return ok
}
