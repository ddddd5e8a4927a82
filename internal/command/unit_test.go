package command

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The stand-ins do of systemd what Run relies on. How the real one behaves is tested
// on real machines; here is how it is asked, and what is made of its answers.
const fakeRun = `#!/bin/sh
dir=@dir@
[ "$1" != --version ] || { cat $dir/version; exit; }
printf '%s\n' "$@" >>$dir/args
env | sort >$dir/env
for arg; do
	case $arg in
	--property=ExecStopPost=*) nonce=${arg#*=*=* }; nonce=${nonce%% *} ;;
	esac
done
. $dir/behaviour
`

const fakeCtl = `#!/bin/sh
dir=@dir@
echo "$@" >>$dir/calls
[ -e $dir/pid ] || exit 5
kill "$(cat $dir/pid)"
rm $dir/pid
`

// runs makes systemd-run run the program, and say how it ended. (The shell's $? of a
// program that SIGTERM ended is 143.)
const runs = `while [ "$1" != -- ]; do shift; done
shift
"$@" &
echo $! >$dir/pid.new; mv $dir/pid.new $dir/pid
wait $!
status=$?
rm -f $dir/pid
case $status in
143) echo $nonce success killed TERM; exit 0 ;;
0) echo $nonce success exited 0 ;;
*) echo $nonce exit-code exited $status ;;
esac
exit $status
`

// fakeSystemd puts the stand-ins first in PATH. systemd-run behaves as the shell
// text says.
func fakeSystemd(t *testing.T, version, behaviour string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"systemd-run": fakeRun, "systemctl": fakeCtl, "behaviour": behaviour,
		"version": "systemd " + version + " (" + version + ".39-1)\n+PAM\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "@dir@", dir)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func TestUnitCommand(t *testing.T) {
	tests := []struct {
		version string
		setenv  []string
		typ     []string
	}{
		{"257", []string{"--setenv=PATH", "--setenv=HOME", "--setenv=LANG", "--setenv=A"}, []string{"--service-type=exec"}},
		{"252", []string{"--setenv=PATH", "--setenv=HOME", "--setenv=LANG", "--setenv=A"}, []string{"--service-type=exec"}},
		{"245", []string{"--setenv=PATH=" + path, "--setenv=HOME=/root", "--setenv=LANG=C.UTF-8", "--setenv=A=1 $B"}, []string{"--service-type=exec"}},
		{"239", []string{"--setenv=PATH=" + path, "--setenv=HOME=/root", "--setenv=LANG=C.UTF-8", "--setenv=A=1 $B"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			dir := fakeSystemd(t, tt.version, runs)
			r := New(Unit, nil)
			r.manager.bind = "locksmithd.service"
			s := Spec{Name: "prepare-10-drain:x", Path: "/bin/echo", Args: []string{"$HOME", "b c"}, Env: []string{"A=1 $B"}, Timeout: 90 * time.Second}
			got, err := r.Run(t.Context(), s)
			if err != nil || got.ExitCode != 0 || got.Output != "$$HOME b c\n" { // systemd makes one dollar of it
				t.Errorf("got %+v, %v", got, err)
			}
			args := lines(t, filepath.Join(dir, "args"))
			stop := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--property=ExecStopPost=") })
			if words := strings.Fields(args[stop]); len(words) != 5 || !strings.HasSuffix(words[0], "/echo") || len(words[1]) < 20 ||
				words[2] != "${SERVICE_RESULT}" || words[3] != "${EXIT_CODE}" || words[4] != "${EXIT_STATUS}" {
				t.Errorf("the unit reports by %q", args[stop])
			}
			args = slices.Delete(args, stop, stop+1)
			want := slices.Concat([]string{"--no-ask-password", "--quiet", "--collect", "--pipe", "--wait",
				"--unit=locksmith-run-prepare-10-drain_x.service", "--description=locksmith: prepare-10-drain:x"}, tt.typ,
				[]string{"--property=RuntimeMaxSec=101", "--property=TimeoutStopSec=5", "--property=KillMode=control-group",
					"--property=IgnoreSIGPIPE=no", "--property=WorkingDirectory=/", "--property=BindsTo=locksmithd.service"},
				tt.setenv, []string{"--", "/bin/echo", "$$HOME", "b c"})
			if !slices.Equal(args, want) {
				t.Errorf("got  %q\nwant %q", args, want)
			}
			for _, v := range []string{"A=1 $B", "HOME=/root"} {
				if env := lines(t, filepath.Join(dir, "env")); !slices.Contains(env, v) {
					t.Errorf("systemd-run's environment lacks %s: %q", v, env)
				}
			}
		})
	}
}

func TestUnitEnds(t *testing.T) {
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	signal := func(err error) bool { var s *SignalError; return errors.As(err, &s) }
	tests := []struct {
		behaviour string
		code      int
		kind      func(error) bool // nil: no error
		want      string
	}{
		{"echo x; printf y; echo $nonce success exited 0", 0, nil, "x\ny"},
		{"echo x; echo $nonce exit-code exited 3; exit 3", 3, nil, "x\n"},
		{"echo $nonce exit-code exited 1; exit 1", 1, nil, ""},
		{"echo $nonce exit-code exited 255; exit 255", 255, nil, ""},
		{"echo Failed to start transient service unit: no; exit 1", 0, is(ErrNotStarted), "could not be started: systemd-run: Failed to start transient service unit: no"},
		{"exit 1", 0, is(ErrNotStarted), "could not be started: systemd-run: exit status 1"},
		{"kill -KILL $$", 0, is(ErrNotStarted), "could not be started: systemd-run: ended by signal KILL"},
		{"exit 0", 0, is(ErrNotStarted), "could not be started: systemd-run: exit status 0"},
		{"echo locksmith-x success exited 0; exit 1", 0, is(ErrNotStarted), "could not be started: systemd-run: locksmith-x success exited 0"},
		{"echo $nonce exit-code exited 203; exit 203", 0, is(ErrNotStarted), "could not be started: systemd could not execute it, does its interpreter exist?"},
		{"echo $nonce timeout killed TERM; exit 1", 0, is(ErrTimeout), "timed out after 1m"},
		{"echo $nonce signal killed SEGV; exit 255", 0, signal, "ended by signal SEGV"},
		{"echo $nonce core-dump dumped ABRT; exit 255", 0, signal, "ended by signal ABRT"},
		{"echo $nonce success killed TERM", 0, signal, "ended by signal TERM"}, // systemd takes it for a success
		{"echo $nonce oom-kill killed KILL; exit 1", 0, func(error) bool { return true }, "ended by systemd: oom-kill"},
		{"echo $nonce success", 0, func(error) bool { return true }, `systemd says {"success" "" ""} of its end, which is not understood`},
	}
	for _, tt := range tests {
		fakeSystemd(t, "252", tt.behaviour)
		got, err := New(Unit, nil).Run(t.Context(), spec("/bin/true"))
		said := got.Output
		if err != nil {
			said = err.Error()
		}
		if got.ExitCode != tt.code || said != tt.want || (err == nil) != (tt.kind == nil) || err != nil && !tt.kind(err) {
			t.Errorf("%s: %+v, %v", tt.behaviour, got, err)
		}
	}
}

func TestUnitTimeout(t *testing.T) {
	dir := fakeSystemd(t, "252", runs)
	s := spec("/bin/sleep", "99")
	s.Timeout = 300 * time.Millisecond
	r := New(Unit, nil)
	if _, err := r.Run(t.Context(), s); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	if _, err := r.Run(t.Context(), spec("/bin/true")); err != nil {
		t.Error(err)
	}
	stop := "--no-ask-password stop locksmith-run-test.service"
	if got := lines(t, filepath.Join(dir, "calls")); !slices.Equal(got, []string{stop, stop}) {
		t.Errorf("systemctl was called with %q, want once before the first run and once at the limit", got)
	}
}

// systemd-run has been asked to stop a unit that it is only about to start.
func TestUnitStoppedWhileItStarts(t *testing.T) {
	dir := fakeSystemd(t, "252", `while [ "$(wc -l <$dir/calls)" -lt 2 ]; do :; done`+"\n"+runs)
	s := spec("/bin/sleep", "99")
	s.Timeout = 50 * time.Millisecond
	if _, err := New(Unit, nil).Run(t.Context(), s); !errors.Is(err, ErrTimeout) || strings.Contains(err.Error(), "could not be stopped") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the program still runs")
	}
}

// The unit is stopped with the daemon's own, and its end seen before the daemon's.
func TestUnitStoppedWithDaemon(t *testing.T) {
	dir := fakeSystemd(t, "252", "echo $nonce success killed TERM; touch $dir/said")
	cause := errors.New("the daemon stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(dir, "said")); err == nil {
				cancel(cause)
				return
			}
		}
	}()
	if _, err := New(Unit, nil).Run(ctx, spec("/bin/true")); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

// What an earlier process left running is ended first; if that fails, nothing starts.
func TestUnitLeftovers(t *testing.T) {
	dir := fakeSystemd(t, "252", "echo $nonce success exited 0")
	broken := "#!/bin/sh\necho no answer >&2; exit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	r := New(Unit, nil)
	_, err := r.Run(t.Context(), spec("/bin/true"))
	if want := "could not be started: systemctl stop locksmith-run-test.service: exit status 1: no answer"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "args")); err == nil {
		t.Error("it was started")
	}
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), spec("/bin/true")); err != nil {
		t.Error(err)
	}
}

func TestServiceOf(t *testing.T) {
	tests := map[string]string{
		"0::/system.slice/locksmithd.service\n":                                      "locksmithd.service",
		"9:name=systemd:/system.slice/locksmithd.service\n8:pids:/x.service\n0::/\n": "locksmithd.service",
		"0::/system.slice/a.slice/locksmithd.service/sub\n":                          "locksmithd.service",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n":           "",
		"0::/user.slice/user-0.slice/session-3.scope\n":                              "",
		"8:pids:/x.service\n": "",
		"0::/\n":              "",
		"":                    "",
	}
	for text, want := range tests {
		if got := serviceOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestOwnService(t *testing.T) {
	t.Setenv("INVOCATION_ID", "")
	t.Setenv("SYSTEMD_EXEC_PID", "")
	if ownService().is {
		t.Error("a process without an invocation is taken for a service")
	}
	t.Setenv("INVOCATION_ID", "69d2")
	if !ownService().is {
		t.Error("a service is not seen")
	}
	t.Setenv("SYSTEMD_EXEC_PID", "1")
	if ownService().is {
		t.Error("a service's child is taken for a service")
	}
	if r := New(Auto, nil); r.Describe() != "child processes" {
		t.Error(r.Describe())
	}
}
