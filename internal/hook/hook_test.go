package hook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/hook"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

func TestNew(t *testing.T) {
	ok := newSite(t).cfg
	with := func(change func(*hook.Config)) hook.Config { c := ok; change(&c); return c }
	for want, cfg := range map[string]hook.Config{
		"Runner is required":      with(func(c *hook.Config) { c.Runner = nil }),
		"MachineID and Groups":    with(func(c *hook.Config) { c.MachineID = "" }),
		"must not be negative":    with(func(c *hook.Config) { c.Timeout = -1 }),
		"must be absolute paths":  with(func(c *hook.Config) { c.Dir = "hooks" }),
		"hook: MachineID and Gro": with(func(c *hook.Config) { c.Groups = nil }),
	} {
		if _, err := hook.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	h, err := hook.New(hook.Config{Runner: ok.Runner, MachineID: "69d2", Groups: []locksmith.Group{""}})
	if err != nil || h.Checks().Name() != "check.d" || h.Verifier().Name() != "verify.d" {
		t.Error(err)
	}
}

func TestNoHooks(t *testing.T) {
	s := newSite(t)
	s.must(os.Remove(s.dir))
	h := s.daemon()
	s.must(h.Checks().Run(t.Context(), about))
	s.must(h.Verifier().Run(t.Context(), about))
	s.must(h.Prepare(t.Context(), about))
	s.must(h.Restore(t.Context(), about))
	if _, err := os.Stat(s.state); err == nil {
		t.Error("a machine without hooks needs no state")
	}
}

func TestChecks(t *testing.T) {
	s := newSite(t)
	s.add("check.d/30-last", "exit 0")
	s.add("check.d/20-backup", "echo looking; echo 'running\tuntil  04:00' >&2; echo; exit 1")
	s.add("check.d/10-silent", "exit 3")
	s.add("check.d/15-killed", "kill -KILL $$")
	s.add("check.d/25-long", "yes é | head -c 1000 | tr -d '\\n'; exit 1")
	s.add("verify.d/10-well", "")
	err := s.checks()
	vetoed(t, err, "10-silent: exit status 3", "15-killed: ended by signal KILL", "20-backup: running until 04:00",
		"25-long: "+strings.Repeat("é", 98)+"…")
	s.didRun("check 10-silent", "check 15-killed", "check 20-backup", "check 25-long", "check 30-last")
	s.must(s.daemon().Verifier().Run(t.Context(), about))
	s.didRun("verify 10-well")
}

func TestEnvironment(t *testing.T) {
	s := newSite(t)
	out := filepath.Join(s.dir, "out")
	s.add("verify.d/10-a", `{ echo $#; env | grep LOCKSMITH | sort; stat -c %a "$LOCKSMITH_STATE_DIR"; } >`+out)
	a := about
	a.Reason = "a\x00b\x1b[1m\n" + strings.Repeat("x", 5000)
	s.must(s.daemon().Verifier().Run(t.Context(), a))
	text, err := os.ReadFile(out)
	s.must(err)
	want := fmt.Sprintf("0\nLOCKSMITH_GROUPS=lb,rack7\nLOCKSMITH_MACHINE_ID=69d2\nLOCKSMITH_OUTCOME=rebooted\nLOCKSMITH_PHASE=preparing\n"+
		"LOCKSMITH_REASON=a b [1m %s…\nLOCKSMITH_STATE_DIR=%s/hooks\nLOCKSMITH_STEP=verify\n700\n", strings.Repeat("x", 989), s.state)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func TestTimeouts(t *testing.T) {
	s := newSite(t)
	s.cfg.Timeout = 200 * time.Millisecond
	pid := filepath.Join(s.dir, "pid")
	s.add("check.d/10-hangs", "sleep 99 & echo $! >"+pid+"; wait")
	s.add("check.d/20-passes", "")
	vetoed(t, s.checks(), "10-hangs: timed out after 200ms")
	s.didRun("check 10-hangs", "check 20-passes")
	text, err := os.ReadFile(pid)
	s.must(err)
	ended := func() bool { // or a zombie, until process 1 reaps it
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	for deadline := time.Now().Add(10 * time.Second); !ended(); {
		if time.Now().After(deadline) {
			t.Fatal("what the hook started still runs")
		}
	}

	s.cfg.TotalTimeout = time.Millisecond
	got := vetoes(t, s.checks())
	if len(got) != 2 || got[1] != "20-passes: not run: the time limit of 1ms for all check hooks is over" {
		t.Errorf("got %q", got)
	}
}

func TestContextEnds(t *testing.T) {
	s := newSite(t)
	s.add("prepare.d/10-a", "sleep 99")
	s.add("prepare.d/20-b", "")
	s.add("restore.d/10-a", "")
	cause := errors.New("the daemon stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for {
			if text, _ := os.ReadFile(s.ran); len(text) > 0 {
				cancel(cause)
				return
			}
		}
	}()
	if err := s.daemon().Prepare(ctx, about); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	s.didRun("prepare 10-a")
	if err := s.daemon().Restore(ctx, about); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	s.must(s.restore())
	s.didRun("restore 10-a")
}

func TestFilesThatAreNoHooks(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{".hidden", "a~", "#a#", "a.bak", "a.dpkg-old", "a.dpkg-dist", "a.rpmsave", "a.swp", "a.ucf-old", "a.disabled"} {
		s.add("check.d/"+name, "exit 1")
	}
	s.must(os.Chmod(s.add("check.d/README", "exit 1"), 0o644))
	s.must(os.Mkdir(filepath.Join(s.dir, "check.d/sub"), 0o755))
	s.must(syscall.Mkfifo(filepath.Join(s.dir, "check.d/fifo"), 0o755))
	s.add("check.d/10-a.sh", "")
	h := s.daemon()
	for range 3 {
		s.must(h.Checks().Run(t.Context(), about))
		s.didRun("check 10-a.sh")
	}
	if n := strings.Count(s.log.String(), "is not executable"); n != 1 {
		t.Errorf("%d lines about the file that is not executable, want 1:\n%s", n, &s.log)
	}
}

func TestUnsafe(t *testing.T) {
	root := os.Getuid() == 0
	tests := []struct {
		name  string
		spoil func(s *site, hook string)
		want  string // DIR is the directory of check.d, OUT one outside
		root  bool
	}{
		{"writable by all", func(s *site, hook string) { s.must(os.Chmod(hook, 0o757)) },
			"10-a: refused: DIR/10-a has mode 0757, so others than its owner may change it: look at what it is, then chmod go-w DIR/10-a", false},
		{"writable by its group", func(s *site, hook string) { s.must(os.Chmod(hook, 0o775)) },
			"10-a: refused: DIR/10-a has mode 0775, so others than its owner may change it: look at what it is, then chmod go-w DIR/10-a", false},
		{"of another user", func(s *site, hook string) { s.must(os.Chown(hook, 4711, 0)) },
			"10-a: refused: DIR/10-a is not owned by root: look at what it is, then chown root DIR/10-a", true},
		{"in a directory of another user", func(s *site, hook string) { s.must(os.Chown(filepath.Dir(hook), 4711, 0)) },
			"check.d: refused: DIR is not owned by root: look at what it is, then chown root DIR", true},
		{"in a directory that others can write to", func(s *site, hook string) { s.must(os.Chmod(filepath.Dir(hook), 0o777|os.ModeSticky)) },
			"check.d: refused: DIR has mode 0777, so others than its owner may change it: look at what it is, then chmod go-w DIR", false},
		{"below a directory that others can write to", func(s *site, hook string) { s.must(os.Chmod(s.dir, 0o775)) },
			"check.d: refused: HOOKS has mode 0775, so others than its owner may change it: look at what it is, then chmod go-w HOOKS", false},
		{"a link to an unsafe file", func(s *site, hook string) {
			s.link(hook, 0o755, 0o757)
		}, "10-a: refused: OUT/a has mode 0757, so others than its owner may change it: look at what it is, then chmod go-w OUT/a", false},
		{"a link into an unsafe directory", func(s *site, hook string) {
			s.link(hook, 0o777, 0o755)
		}, "10-a: refused: OUT has mode 0777, so others than its owner may change it: look at what it is, then chmod go-w OUT", false},
		{"a link to nowhere", func(s *site, hook string) {
			s.must(os.Remove(hook))
			s.must(os.Symlink("nowhere", hook))
		}, "10-a: refused: lstat DIR/nowhere: no such file or directory", false},
		{"a name that nothing can have", func(s *site, hook string) {
			s.must(os.Rename(hook, filepath.Join(filepath.Dir(hook), "10 a\n")))
		}, `10 a: refused: "DIR/10 a\n" may have only letters, digits and _ . + : @ = , - in its name: rename it`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && !root {
				skip.Loudly(t, "needs root, to give a file to another user")
			}
			s := newSite(t)
			for _, step := range []string{"check", "prepare", "restore"} {
				tt.spoil(s, s.add(step+".d/10-a", ""))
				if step == "check" { // where the directory as a whole is refused, that is said alone
					want := strings.NewReplacer("DIR", filepath.Join(s.dir, "check.d"), "OUT", filepath.Join(s.dir, "../out"), "HOOKS", s.dir).Replace(tt.want)
					vetoed(t, s.checks(), want)
				}
			}
			if err := s.prepare(); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("prepare: %v", err)
			}
			s.didRun()
			s.must(os.MkdirAll(s.state, 0o755))
			s.must(os.WriteFile(filepath.Join(s.state, "prepared.json"), []byte(`{"present":[],"begun":["10-a"],"restored":[]}`), 0o600))
			// A hook whose name has never run is not asked to undo anything.
			if err := s.restore(); err == nil && !strings.Contains(tt.name, "name") || err != nil && !strings.Contains(err.Error(), "refused") {
				t.Errorf("restore: %v", err)
			}
			s.didRun()
		})
	}
}

// link replaces the hook by a link to a file in a directory of these modes.
func (s *site) link(hook string, dirMode, fileMode os.FileMode) {
	s.t.Helper()
	out := filepath.Join(filepath.Dir(s.dir), "out")
	s.must(os.MkdirAll(out, 0o755))
	s.must(os.Rename(hook, filepath.Join(out, "a")))
	s.must(os.Chmod(out, dirMode))
	s.must(os.Chmod(filepath.Join(out, "a"), fileMode))
	s.must(os.Symlink("../../out/a", hook))
}

// Other hooks run although one is refused, and links are followed.
func TestLinks(t *testing.T) {
	s := newSite(t)
	s.link(s.add("check.d/10-a", ""), 0o755, 0o755)
	s.must(os.Chmod(s.add("check.d/20-b", ""), 0o777))
	s.add("check.d/30-c", "")
	if got := vetoes(t, s.checks()); len(got) != 1 || !strings.HasPrefix(got[0], "20-b: refused: ") {
		t.Errorf("got %q", got)
	}
	s.didRun("check 10-a", "check 30-c")
	s.must(os.Rename(filepath.Join(s.dir, "check.d"), filepath.Join(s.dir, "elsewhere")))
	s.must(os.Symlink("elsewhere", filepath.Join(s.dir, "check.d")))
	s.must(os.Remove(filepath.Join(s.dir, "check.d/20-b")))
	s.must(s.checks())
	s.didRun("check 10-a", "check 30-c")
	s.must(os.Rename(filepath.Join(s.dir, "elsewhere"), filepath.Join(s.dir, "gone")))
	vetoed(t, s.checks(), "check.d: refused: lstat "+s.dir+"/elsewhere: no such file or directory")
}

func TestTooMany(t *testing.T) {
	s := newSite(t)
	for i := range 101 {
		s.add(fmt.Sprintf("check.d/%03d", i), "")
	}
	vetoed(t, s.checks(), "check.d: refused: "+s.dir+"/check.d holds 101 hooks, at most 100 are allowed")
	s.didRun()
	s.must(os.Remove(filepath.Join(s.dir, "check.d/100")))
	s.must(s.checks())
}

// What a Runner cannot start is a veto as well.
func TestNotStarted(t *testing.T) {
	s := newSite(t)
	path := s.add("check.d/10-a", "")
	s.must(os.WriteFile(path, []byte("#!/nowhere/sh\n"), 0o755))
	vetoed(t, s.checks(), "10-a: could not be started: fork/exec "+path+": no such file or directory")
}
