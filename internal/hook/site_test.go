package hook_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/hook"
)

// site is the hooks of a machine, real scripts that note that they ran.
type site struct {
	t     *testing.T
	dir   string // of the hook directories
	state string
	ran   string // a line per hook that ran: "prepare 10-a"
	log   bytes.Buffer
	cfg   hook.Config
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: filepath.Join(dir, "hooks"), state: filepath.Join(dir, "state"), ran: filepath.Join(dir, "ran")}
	for _, d := range []string{dir, s.dir} {
		s.must(os.MkdirAll(d, 0o755))
		s.must(os.Chmod(d, 0o755)) // whatever the umask is
	}
	s.cfg = hook.Config{
		Dir: s.dir, StateDir: s.state, Runner: command.New(command.Direct, nil), MachineID: "69d2",
		Groups: []locksmith.Group{"lb", "rack7"}, Timeout: time.Minute, Owner: os.Getuid(),
		Log: slog.New(slog.NewTextHandler(&s.log, nil)),
	}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// add adds the hook name ("prepare.d/10-a"): a script that notes that it ran and then
// does what text says.
func (s *site) add(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.Chmod(filepath.Dir(path), 0o755))
	note := "echo $LOCKSMITH_STEP " + filepath.Base(name) + " >>" + s.ran + "\n"
	s.must(os.WriteFile(path, []byte("#!/bin/sh\n"+note+text), 0o755))
	s.must(os.Chmod(path, 0o755))
	return path
}

// pairs adds a prepare hook and a restore hook of each name.
func (s *site) pairs(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.add("prepare.d/"+name, "")
		s.add("restore.d/"+name, "")
	}
}

// daemon is the hooks as a daemon has them that has just started.
func (s *site) daemon() *hook.Hooks {
	s.t.Helper()
	h, err := hook.New(s.cfg)
	s.must(err)
	return h
}

func (s *site) prepare() error { s.t.Helper(); return s.daemon().Prepare(s.t.Context(), about) }
func (s *site) restore() error { s.t.Helper(); return s.daemon().Restore(s.t.Context(), about) }
func (s *site) checks() error  { s.t.Helper(); return s.daemon().Checks().Run(s.t.Context(), about) }

var about = agent.About{Phase: locksmith.PhasePreparing, Reason: "new kernel", Outcome: "rebooted"}

// didRun fails the test unless exactly these hooks ran since it was last asked.
func (s *site) didRun(want ...string) {
	s.t.Helper()
	text, err := os.ReadFile(s.ran)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	got := strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); diff != "" {
		s.t.Errorf("hooks that ran (-want +got):\n%s", diff)
	}
	s.must(os.RemoveAll(s.ran))
}

// record is the content of prepared.json, empty if it does not exist.
func (s *site) record() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.state, "prepared.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *site) recorded(want string) {
	s.t.Helper()
	if got := s.record(); got != want {
		s.t.Errorf("prepared.json is\n%s, want\n%s", got, want)
	}
}

// vetoes are the vetoes among joined errors, "by: reason".
func vetoes(t *testing.T, err error) []string {
	t.Helper()
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	got := []string{}
	for _, err := range all {
		veto, ok := err.(*agent.Veto)
		if !ok {
			t.Fatalf("%T is no veto: %v", err, err)
		}
		got = append(got, veto.Error())
	}
	return got
}

func vetoed(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if diff := cmp.Diff(want, vetoes(t, err)); diff != "" {
		t.Errorf("vetoes (-want +got):\n%s", diff)
	}
}
