package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// asProgram is set in the environment of those processes of this test's binary that
// are to be the program.
const asProgram = "TEST_AS_LOCKSMITH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram)
		args := append([]string{"locksmith-server"}, os.Args[1:]...)
		os.Exit(run(context.Background(), args, os.Stdout, os.Stderr, surroundings{os.Environ(), connect}))
	}
	os.Exit(m.Run())
}

// process is the program as a process of its own.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *buffer
	ended          chan struct{} // closed once it has ended

	url  string // of a server
	etcd string // endpoint of its etcd; empty: nowhere
}

// launch starts the program. What still runs of it at the end of the test is killed.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), stdout: newBuffer(), stderr: newBuffer(), ended: make(chan struct{})}
	p.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.ended); p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s %s\n%s%s", filepath.Base(args[0]), strings.Join(args, " "), p.stdout, p.stderr)
		}
	})
	return p
}

var startedLine = regexp.MustCompile(`msg=started listen=(\S+) store=\S.*? etcd_listen=(\S+) `)

// startServer runs a server at free ports, with its data in dir.
func startServer(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	return launchServer(t, append([]string{"-data-dir", dir, "-listen", "127.0.0.1:0", "-etcd-listen", "127.0.0.1:0"}, args...)...)
}

func launchServer(t testing.TB, args ...string) *process {
	t.Helper()
	p := launch(t, nil, args...)
	m := p.stderr.awaitOrEnd(t, startedLine, p.ended)
	p.url = m[1]
	if strings.HasPrefix(m[2], "http") {
		p.etcd = m[2]
	}
	return p
}

// awaitOrEnd is await, unless the process ends before.
func (b *buffer) awaitOrEnd(t testing.TB, re *regexp.Regexp, ended <-chan struct{}) []string {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		b.mu.Lock()
		text, grown := b.text.String(), b.grown
		b.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-grown:
		case <-ended:
			t.Fatalf("it ended before %q was in:\n%s", re, text)
		case <-limit:
			t.Fatalf("waited for %q in:\n%s", re, text)
		}
	}
}

// stop ends the process as systemd would, and returns its exit status and how long it took.
func (p *process) stop(t testing.TB) (status int, took time.Duration) {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.wait(t), time.Since(began)
}

func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// command runs a command of the program to its end.
func command(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := launch(t, nil, args...)
	status = p.wait(t)
	return status, p.stdout.String(), p.stderr.String()
}

// works is command for one that must succeed.
func works(t testing.TB, args ...string) string {
	t.Helper()
	status, stdout, stderr := command(t, args...)
	if status != 0 || stderr != "" {
		t.Fatalf("%q: exit status %d: %s", args, status, stderr)
	}
	return stdout
}

// fails is command for one that must fail with one line.
func fails(t testing.TB, want string, args ...string) {
	t.Helper()
	if status, _, stderr := command(t, args...); status != 1 || !regexp.MustCompile(`^Error: `+want+`\n$`).MatchString(stderr) {
		t.Errorf("%q: exit status %d: %s\nwant 1: %s", args, status, stderr, want)
	}
}

// fleetClient has as many connections as a fleet would have.
var fleetClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 400, MaxConnsPerHost: 0}, Timeout: 90 * time.Second}

// answer is what a FleetLock client gets.
type answer struct {
	status int
	kind   fleetlock.Kind
	value  string
}

// call makes a FleetLock request as Zincati does.
func call(ctx context.Context, url, path, id, group string) (answer, error) {
	body, err := json.Marshal(map[string]any{"client_params": map[string]string{"id": id, "group": group}})
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("fleet-lock-protocol", "true")
	resp, err := fleetClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusOK {
		return answer{status: resp.StatusCode}, err
	}
	var doc struct {
		Kind  fleetlock.Kind
		Value string
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Kind == "" || doc.Value == "" {
		return answer{}, fmt.Errorf("status %d with %q, which is no error of the protocol", resp.StatusCode, text)
	}
	return answer{resp.StatusCode, doc.Kind, doc.Value}, nil
}

// get makes a GET request.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	resp, err := fleetClient.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// dial is a store at an endpoint.
func dial(t testing.TB, endpoints ...string) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(etcd.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// reserve is an address at which something listens.
func reserve(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
