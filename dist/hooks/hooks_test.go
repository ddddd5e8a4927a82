package hooks_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/hook"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// machine is where hooks run: their settings and state, and stand-ins for the tools
// that they call, which note their calls.
type machine struct {
	t     *testing.T
	dir   string // also what stand-ins keep their state in
	conf  string
	state string
	env   []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, dir: dir, conf: filepath.Join(dir, "conf"), state: filepath.Join(dir, "state")}
	m.must(os.Chmod(dir, 0o755))
	m.must(os.Mkdir(m.conf, 0o755))
	m.must(os.Mkdir(m.state, 0o700))
	m.must(os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	m.env = []string{
		"PATH=" + dir + "/bin:/usr/bin:/bin", "LANG=C.UTF-8", "LOCKSMITH_HOOKS_CONF=" + m.conf, "LOCKSMITH_STATE_DIR=" + m.state,
		"LOCKSMITH_PHASE=preparing", "LOCKSMITH_MACHINE_ID=69d2", "LOCKSMITH_GROUPS=lb,rack7",
		"LOCKSMITH_REASON=new kernel", "LOCKSMITH_OUTCOME=",
	}
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// tool installs a stand-in: the shell text, after noting the call.
func (m *machine) tool(name, text string) {
	m.t.Helper()
	text = "#!/bin/sh\ndir=" + m.dir + "\necho \"" + name + " $*\" >>$dir/calls\n" + text
	m.must(os.WriteFile(filepath.Join(m.dir, "bin", name), []byte(text), 0o755))
}

// file writes a file of the machine with this mode, whatever the umask is.
func (m *machine) file(name, text string, mode fs.FileMode) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	m.must(os.WriteFile(path, []byte(text), 0o600))
	m.must(os.Chmod(path, mode))
	return path
}

// run runs a hook of this directory, and returns its output and exit status.
func (m *machine) run(name string, env ...string) (string, int) {
	m.t.Helper()
	path, err := filepath.Abs(name)
	m.must(err)
	cmd := exec.Command(path)
	cmd.Dir = "/"
	step, _, _ := strings.Cut(name, ".d/")
	cmd.Env = slices.Concat(m.env, []string{"LOCKSMITH_STEP=" + step}, env)
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		m.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// passes fails the test unless the hook does.
func (m *machine) passes(name string, env ...string) {
	m.t.Helper()
	if out, code := m.run(name, env...); code != 0 {
		m.t.Fatalf("%s: exit status %d: %s", name, code, out)
	}
}

// fails fails the test unless the hook does, with these words in its last line.
func (m *machine) fails(name, want string, env ...string) {
	m.t.Helper()
	out, code := m.run(name, env...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if last := lines[len(lines)-1]; code == 0 || !strings.Contains(last, want) {
		m.t.Errorf("%s: exit status %d, want a failure that ends in %q:\n%s", name, code, want, out)
	}
}

// called fails the test unless these calls were made since it was last asked.
func (m *machine) called(want ...string) {
	m.t.Helper()
	text, _ := os.ReadFile(filepath.Join(m.dir, "calls"))
	got := strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); diff != "" {
		m.t.Errorf("calls (-want +got):\n%s", diff)
	}
	m.must(os.RemoveAll(filepath.Join(m.dir, "calls")))
}

// forgotten fails the test if a hook has left anything in its state directory.
func (m *machine) forgotten() {
	m.t.Helper()
	left, err := os.ReadDir(m.state)
	m.must(err)
	if len(left) > 0 {
		m.t.Errorf("the hooks left %v", left)
	}
}

func scripts(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*.d/*")
	if err != nil || len(all) < 5 {
		t.Fatal(all, err)
	}
	return all
}

func TestScripts(t *testing.T) {
	for _, name := range scripts(t) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o111 != 0o111 {
			t.Errorf("%s is not executable", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "#!/bin/sh\n# ") || !strings.Contains(string(text), "\nset -euf\n") {
			t.Errorf("%s must be a documented shell script with set -euf", name)
		}
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		skip.Loudly(t, "shellcheck is not installed")
	}
	if out, err := exec.Command("shellcheck", append([]string{"--shell=dash"}, scripts(t)...)...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// The settings of all hooks are read only from files that nobody else can change.
func TestUnsafeSettings(t *testing.T) {
	for _, name := range scripts(t) {
		_, base, _ := strings.Cut(name, "-")
		if name == "restore.d/60-systemd-units" {
			continue // has none
		}
		m := newMachine(t)
		m.tool("kubectl", "")
		m.tool("systemctl", "")
		m.tool("curl", "")
		for _, mode := range []fs.FileMode{0o664, 0o646} {
			m.file("conf/"+base+".conf", "touch "+m.dir+"/sourced\n", mode)
			m.fails(name, base+".conf must belong to root")
		}
		if os.Getuid() == 0 {
			m.must(os.Chown(m.file("conf/"+base+".conf", "touch "+m.dir+"/sourced\n", 0o644), 4711, 0))
			m.fails(name, base+".conf must belong to root")
		}
		if _, err := os.Stat(filepath.Join(m.dir, "sourced")); err == nil {
			t.Errorf("%s read unsafe settings", name)
		}
		m.called()
	}
}

// As locksmithd runs them, copied to where it looks.
func TestInstalled(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(m.dir, "hooks")
	for _, step := range []string{"prepare.d", "restore.d"} {
		m.must(os.MkdirAll(filepath.Join(dir, step), 0o755))
		for _, name := range []string{"50-kubernetes-drain", "60-systemd-units"} {
			text, err := os.ReadFile(filepath.Join(step, name))
			m.must(err)
			m.must(os.WriteFile(filepath.Join(dir, step, name), text, 0o755))
		}
	}
	m.kubectl()
	m.systemctl("app.service active")
	m.file("conf/systemd-units.conf", "UNITS=app.service\n", 0o644)
	h, err := hook.New(hook.Config{
		Dir: dir, StateDir: filepath.Join(m.dir, "var"), Runner: within{command.New(command.Direct, nil), m.env[:3]},
		MachineID: "69d2", Groups: []locksmith.Group{""}, Owner: os.Getuid(), Timeout: time.Minute,
	})
	m.must(err)
	about := agent.About{Phase: locksmith.PhasePreparing, Reason: "new kernel"}
	m.must(h.Prepare(t.Context(), about))
	if m.schedulable() || m.active("app.service") {
		t.Error("the machine is not prepared")
	}
	m.must(h.Restore(t.Context(), about))
	if !m.schedulable() || !m.active("app.service") {
		t.Error("the machine is not restored")
	}
}

// within runs programs with the test's PATH and settings.
type within struct {
	*command.Runner
	env []string
}

func (w within) Run(ctx context.Context, spec command.Spec) (command.Result, error) {
	spec.Env = append(spec.Env, w.env...)
	return w.Runner.Run(ctx, spec)
}
