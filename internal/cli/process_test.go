package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

const base = "coreos.com/updateengine/rebootlock/"

// process is a running program. What it writes can be waited for.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Reader // standard output
	stderr *buffer
}

// buffer is written by a process while a test looks at it.
type buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns once the text holds want.
func (b *buffer) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !strings.Contains(b.String(), want) {
		select {
		case <-b.changed:
		case <-deadline:
			t.Fatalf("%q did not come, but:\n%s", want, b)
		}
	}
}

// prepare makes the command line of a program that talks to srv.
func prepare(t *testing.T, srv *etcdtest.Server, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"machine-id": "machine1\n", "boot-id": "boot1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("locksmithctl", args...)
	cmd.Env = append(os.Environ(), testDir+"="+dir, "LOCKSMITHCTL_ENDPOINT="+srv.Endpoint, "TERM=xterm", "NO_COLOR=")
	return cmd
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, lines: bufio.NewReader(out), stderr: newBuffer()}
	cmd.Stderr = p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// line is the next line of standard output.
func (p *process) line() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.t.Fatalf("no line: %v; standard error:\n%s", err, p.stderr)
	}
	return strings.TrimSuffix(line, "\n")
}

// linesAre checks the next lines of standard output.
func (p *process) linesAre(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.line(); got != w {
			p.t.Fatalf("line %q, want %q", got, w)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the program and checks how it ended.
func (p *process) ends(status int) {
	p.t.Helper()
	_, _ = io.Copy(io.Discard, p.lines)
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("status %d, want %d; standard error:\n%s", got, status, p.stderr)
	}
}

// ctl runs a program to its end, which must be a good one.
func ctl(t *testing.T, srv *etcdtest.Server, args ...string) string {
	t.Helper()
	out, err := prepare(t, srv, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func await(t *testing.T, srv *etcdtest.Server, key string) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{srv.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := awaitKey(c, base+key, true); err != nil {
		t.Fatal(err)
	}
}

const free = "Available: 1\nMax: 1\n"

// stoppable is a server for tests that stop it: a process, because it dies at once.
func stoppable(t *testing.T) *etcdtest.Server {
	t.Helper()
	needServer(t, etcdtest.Debian)
	return etcdtest.Start(t, etcdtest.Debian)
}

func TestLockWaitTerminated(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	ctl(t, srv, "lock", "m1")
	p := start(t, prepare(t, srv, "lock", "-wait", "m2"))
	await(t, srv, "queue/5/m2")
	p.signal(syscall.SIGTERM)
	p.ends(128 + int(syscall.SIGTERM))
	if got, want := p.stderr.String(), "Interrupted: left the queue, nothing is held.\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
	ctl(t, srv, "unlock", "m1")
	if got := ctl(t, srv, "status"); got != free {
		t.Error(got)
	}
}

func TestLockWaitSaysWhatItWaitsFor(t *testing.T) {
	srv := stoppable(t)
	ctl(t, srv, "lock", "m1")
	p := start(t, prepare(t, srv, "-timeout", "1s", "lock", "-wait", "m2"))
	await(t, srv, "queue/5/m2")
	srv.Stop()
	p.stderr.await(t, "Waiting: no answer from etcd: "+srv.Endpoint+" refused the connection\n")
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	ctl(t, srv, "unlock", "m1")
	p.ends(0)
	last := ""
	for line := range strings.Lines(p.stderr.String()) {
		if line == last || !strings.HasPrefix(line, "Waiting: ") {
			t.Errorf("standard error:\n%s", p.stderr)
		}
		last = line
	}
}

func TestWatchPipe(t *testing.T) {
	srv := stoppable(t)
	p := start(t, prepare(t, srv, "status", "-watch"))
	if head := p.line(); !strings.HasPrefix(head, "# 20") {
		t.Fatalf("heading %q", head)
	}
	p.linesAre("Available: 1", "Max: 1", "")
	ctl(t, srv, "lock", "m1")
	p.line()
	p.linesAre("Available: 0", "Max: 1", "", "MACHINE ID", "m1", "")

	// etcd goes away and comes back with the same data: nothing is missed.
	srv.Stop()
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	ctl(t, srv, "unlock", "m1")
	for p.line(); p.line() != "Available: 1"; p.line() { // the state in between may show once more
		p.linesAre("Max: 1", "", "MACHINE ID", "m1", "")
	}
	p.linesAre("Max: 1", "")
	p.signal(syscall.SIGINT)
	p.ends(0)
}

func TestWatchJSON(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	p := start(t, prepare(t, srv, "watch", "-o", "json"))
	p.linesAre(`{"group":"","available":1,"max":1,"holders":[],"queue":[]}`)
	ctl(t, srv, "set-max", "2")
	p.linesAre(`{"group":"","available":2,"max":2,"holders":[],"queue":[]}`)
	p.signal(syscall.SIGTERM)
	p.ends(0)
}

// A signal goes on to the command; the slot goes back when that has ended.
func TestWithLockForwardsSignals(t *testing.T) {
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGTERM, "TERM"}, {syscall.SIGINT, "INT"}, {syscall.SIGHUP, "HUP"}, {syscall.SIGUSR1, "USR1"}} {
		t.Run(s.name, func(t *testing.T) {
			srv := etcdtest.Start(t, etcdtest.Embedded)
			cmd := prepare(t, srv, "with-lock", "--", "sh", "-c",
				`trap 'echo got it; locksmithctl status; exit 5' `+s.name+`; echo ready; read line`)
			// A session of its own has no terminal, whatever the test runs on.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			p := start(t, cmd)
			p.linesAre("ready")
			p.signal(s.signal)
			p.linesAre("got it", "Available: 0", "Max: 1", "", "MACHINE ID", "machine1")
			p.ends(5)
			if got := ctl(t, srv, "status"); got != free {
				t.Error(got)
			}
		})
	}
}

// While etcd is away when the command ends, the slot is given back later.
func TestWithLockGivesBackLater(t *testing.T) {
	srv := stoppable(t)
	cmd := prepare(t, srv, "-timeout", "1s", "with-lock", "--", "sh", "-c", "echo ready; read line; exit 4")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cmd)
	p.linesAre("ready")
	srv.Stop()
	stdin.Close()
	p.stderr.await(t, "Waiting to give the slot back: no answer from etcd: ")
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	p.ends(4)
	if got := ctl(t, srv, "status"); got != free {
		t.Error(got)
	}
}

// ... and who does not want to wait for that is told what to do.
func TestWithLockGivenUp(t *testing.T) {
	srv := stoppable(t)
	cmd := prepare(t, srv, "-timeout", "1s", "with-lock", "--", "sh", "-c", "echo ready; read line")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cmd)
	p.linesAre("ready")
	srv.Stop()
	_, _ = io.WriteString(stdin, "\n")
	p.stderr.await(t, "Waiting to give the slot back: ")
	p.signal(syscall.SIGTERM)
	p.ends(1)
	if !strings.HasSuffix(p.stderr.String(), "; give the slot back with: locksmithctl unlock machine1\n") {
		t.Errorf("standard error:\n%s", p.stderr)
	}
}

// Fifty at once: where the ancestors grant five, fifty get a slot on a maximum of
// fifty, and two on a maximum of two.
func TestFiftyProcesses(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		for limit, max := range map[int]string{50: "50", 2: "2"} {
			t.Run(string(kind)+" max "+max, func(t *testing.T) {
				needServer(t, kind)
				srv := etcdtest.Start(t, kind)
				ctl(t, srv, "set-max", max)
				var mu sync.Mutex
				var got, refused int
				var wg sync.WaitGroup
				for i := range 50 {
					cmd := prepare(t, srv, "-timeout", "60s", "lock", fmt.Sprintf("m%d", i))
					wg.Go(func() {
						out, _ := cmd.CombinedOutput()
						mu.Lock()
						defer mu.Unlock()
						switch {
						case cmd.ProcessState.ExitCode() == 0:
							got++
						case string(out) == "Error locking: semaphore is at 0\n":
							refused++
						default:
							t.Errorf("status %d: %s", cmd.ProcessState.ExitCode(), out)
						}
					})
				}
				wg.Wait()
				if got != limit || refused != 50-limit {
					t.Errorf("%d got a slot and %d were refused, want %d and %d", got, refused, limit, 50-limit)
				}
			})
		}
	}
}
