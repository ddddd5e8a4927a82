package hook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
)

func TestPrepareAndRestore(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b")
	s.add("prepare.d/30-alone", "")
	s.add("restore.d/15-always", "")
	s.must(s.restore()) // nothing was prepared
	s.didRun()
	s.must(s.prepare())
	s.didRun("prepare 10-a", "prepare 20-b", "prepare 30-alone")
	s.recorded(`{"present":["10-a","20-b","30-alone"],"begun":["10-a","20-b","30-alone"],"restored":[]}`)
	s.must(s.restore())
	s.didRun("restore 20-b", "restore 15-always", "restore 10-a")
	s.recorded("")
	s.must(s.restore()) // nothing is left to undo
	s.didRun()
}

// Only what was begun is undone, the hook that failed too: it may have done half.
func TestPrepareFails(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b", "30-c")
	s.add("prepare.d/20-b", "echo cannot drain; exit 1")
	s.add("restore.d/99-always", "")
	vetoed(t, s.prepare(), "20-b: cannot drain")
	s.didRun("prepare 10-a", "prepare 20-b")
	s.must(s.restore())
	s.didRun("restore 99-always", "restore 20-b", "restore 10-a")
	s.recorded("")
}

// A restore hook that failed is tried again, with those before it, and none after
// it twice.
func TestRestoreFails(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b", "30-c")
	s.must(s.prepare())
	s.didRun("prepare 10-a", "prepare 20-b", "prepare 30-c")
	s.add("restore.d/20-b", "echo not yet; exit 1")
	for range 2 {
		vetoed(t, s.restore(), "20-b: not yet")
	}
	s.didRun("restore 30-c", "restore 20-b", "restore 20-b")
	s.add("restore.d/20-b", "")
	s.must(s.restore())
	s.didRun("restore 20-b", "restore 10-a")
}

// crashing is a Runner whose daemon dies right before, or right after, the program
// runs.
type crashing struct {
	*command.Runner
	at    string
	after bool
}

func (c crashing) Run(ctx context.Context, spec command.Spec) (command.Result, error) {
	if spec.Name != c.at {
		return c.Runner.Run(ctx, spec)
	}
	if c.after {
		if _, err := c.Runner.Run(ctx, spec); err != nil {
			panic(err)
		}
	}
	panic(errCrash)
}

var errCrash = errors.New("crash")

// dies runs a step of a daemon that crashes at a hook.
func (s *site) dies(at string, after bool, step func() error) {
	s.t.Helper()
	intact := s.cfg.Runner
	s.cfg.Runner = crashing{intact.(*command.Runner), at, after}
	defer func() {
		s.cfg.Runner = intact
		if r := recover(); r != errCrash {
			s.t.Fatalf("did not crash at %s: %v", at, r)
		}
	}()
	err := step()
	s.t.Fatalf("did not crash at %s: %v", at, err)
}

func TestCrashInPrepare(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after the hook: ", after), func(t *testing.T) {
			s := newSite(t)
			s.pairs("10-a", "20-b", "30-c")
			s.dies("prepare-20-b", after, s.prepare)
			s.recorded(`{"present":["10-a","20-b","30-c"],"begun":["10-a","20-b"],"restored":[]}`)
			s.must(os.RemoveAll(s.ran))
			// The next daemon may give up: what may have run is undone.
			s.must(s.restore())
			s.didRun("restore 20-b", "restore 10-a")
			s.recorded("")
		})
	}
}

// The daemon that is started after the crash goes on with the same cycle, in which it
// fails earlier: what the first one began is not forgotten.
func TestPrepareAgain(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b", "30-c")
	s.dies("prepare-30-c", true, s.prepare)
	s.didRun("prepare 10-a", "prepare 20-b", "prepare 30-c")
	s.add("prepare.d/10-a", "exit 1")
	vetoed(t, s.prepare(), "10-a: exit status 1")
	s.didRun("prepare 10-a")
	s.must(s.restore())
	s.didRun("restore 30-c", "restore 20-b", "restore 10-a")
}

func TestCrashInRestore(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after the hook: ", after), func(t *testing.T) {
			s := newSite(t)
			s.pairs("10-a", "20-b", "30-c")
			s.must(s.prepare())
			s.dies("restore-20-b", after, s.restore)
			s.must(os.RemoveAll(s.ran))
			// Whether it did its work nobody knows, so it runs; what had succeeded does not.
			s.must(s.restore())
			s.didRun("restore 20-b", "restore 10-a")
			s.recorded("")
		})
	}
}

// A cycle that is prepared once more after it was undone in part is undone in full.
func TestPrepareAfterPartOfRestore(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b")
	s.must(s.prepare())
	s.dies("restore-10-a", false, s.restore)
	s.add("prepare.d/10-a", "exit 1")
	vetoed(t, s.prepare(), "10-a: exit status 1")
	s.must(os.RemoveAll(s.ran))
	s.must(s.restore())
	s.didRun("restore 10-a") // 20-b was undone, and not begun again

	s.add("prepare.d/10-a", "")
	s.must(s.prepare())
	s.dies("restore-10-a", false, s.restore)
	s.must(s.prepare())
	s.must(os.RemoveAll(s.ran))
	s.must(s.restore())
	s.didRun("restore 20-b", "restore 10-a")
}

func TestHooksComeAndGo(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b", "30-off")
	s.must(os.Chmod(filepath.Join(s.dir, "prepare.d/30-off"), 0o644))
	s.must(s.prepare())
	s.didRun("prepare 10-a", "prepare 20-b")
	s.pairs("40-new") // prepared nothing
	s.must(os.Remove(filepath.Join(s.dir, "prepare.d/20-b")))
	s.must(os.Remove(filepath.Join(s.dir, "restore.d/10-a")))
	s.must(s.restore())
	s.didRun("restore 20-b")
	s.recorded("")
}

func TestRecordThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "",
		"cut":         `{"present":["10-a"],"begun":["10`,
		"more":        `{"present":[],"begun":[],"restored":[]} x`,
		"unknown":     `{"present":[],"begun":[],"restored":[],"x":1}`,
		"missing":     `{"present":[],"restored":[]}`,
		"path":        `{"present":[],"begun":["../a"],"restored":[]}`,
		"no name":     `{"present":[],"begun":[""],"restored":[]}`,
		"other":       `["10-a"]`,
		"zeros":       "\x00\x00\x00\x00",
		"much larger": `{"present":["` + strings.Repeat("x", 2<<20) + `"],"begun":[],"restored":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.pairs("10-a")
			s.must(os.MkdirAll(s.state, 0o755))
			s.must(os.WriteFile(filepath.Join(s.state, "prepared.json"), []byte(text), 0o600))
			for _, err := range []error{s.restore(), s.prepare()} {
				if err == nil || !strings.Contains(err.Error(), "prepared.json is malformed") || !strings.Contains(err.Error(), "undo it by hand, then remove the file") {
					t.Errorf("got %v", err)
				}
			}
			s.didRun()
			s.recorded(text)
		})
	}
}

// What cannot be remembered is not begun.
func TestRecordThatCannotBeWritten(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b")
	s.must(os.WriteFile(s.state, nil, 0o644)) // a file, where the directory should be
	if err := s.prepare(); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Error(err)
	}
	s.didRun()

	// In the midst of it: no more than what is remembered.
	s.must(os.Remove(s.state))
	s.add("prepare.d/10-a", "mkdir "+s.state+"/prepared.json.new")
	if err := s.prepare(); err == nil || !strings.Contains(err.Error(), "remembering what was prepared: ") {
		t.Error(err)
	}
	s.didRun("prepare 10-a")
	s.must(os.Remove(filepath.Join(s.state, "prepared.json.new")))
	s.must(s.restore())
	s.didRun("restore 10-a")
}

func TestRehearse(t *testing.T) {
	s := newSite(t)
	s.pairs("10-a", "20-b")
	s.must(s.prepare())
	left := s.record()
	s.must(os.RemoveAll(s.ran))
	rehearse := func(phase locksmith.Phase) error { return s.daemon().Rehearse(t.Context(), agent.About{Phase: phase}) }
	s.must(rehearse(locksmith.PhasePreparing))
	s.must(rehearse(locksmith.PhaseRestoring))
	s.didRun()
	s.recorded(left) // what a daemon in earnest left is neither undone nor forgotten
	at := 0
	for _, hook := range []string{"prepare.d/10-a", "prepare.d/20-b", "restore.d/20-b", "restore.d/10-a"} {
		n := strings.Index(s.log.String()[at:], `msg="dry run: would run hook" hook=`+hook)
		if n < 0 {
			t.Errorf("the log lacks %s in its place:\n%s", hook, &s.log)
			continue
		}
		at += n
	}
	s.must(os.Chmod(filepath.Join(s.dir, "prepare.d/20-b"), 0o777))
	if err := rehearse(locksmith.PhasePreparing); err == nil || !strings.Contains(err.Error(), "20-b") {
		t.Errorf("an unsafe hook: %v", err)
	}
}
