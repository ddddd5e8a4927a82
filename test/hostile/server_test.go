package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
	"github.com/locksmith-reboot/locksmith/test/hostile/inspect"
)

// program is the server, built once, with one file more that has it show its inside.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "locksmith-hostile-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "locksmith-server")
	overlay, err := withInspection(dir)
	if err != nil {
		return path, err
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", path, "../../cmd/locksmith-server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return path, fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return path, nil
})

// withInspection writes, for go build, what has the server link the inspection.
func withInspection(dir string) (overlay string, err error) {
	added, err := filepath.Abs("../../cmd/locksmith-server/zz_inspect.go")
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "inspect.go")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{added: source}})
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(err, os.WriteFile(overlay, text, 0o600),
		os.WriteFile(source, []byte("package main\n\nimport _ \"github.com/locksmith-reboot/locksmith/test/hostile/inspect\"\n"), 0o600))
}

func TestMain(m *testing.M) {
	sweep()
	code := m.Run()
	if path, _ := program(); path != "" {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// Tokens of the server's access file.
const (
	adminToken   = "the-administrator-has-Token-0123456789"
	machineToken = "every-machine-shares-a-Token-9876543210"
)

const accessFile = `{"principals": [
  {"name": "alice", "role": "admin", "token": "` + adminToken + `"},
  {"name": "machines", "role": "machine", "token": "` + machineToken + `"}
]}`

// server is a locksmith-server process with an etcd of its own, and an access file.
type server struct {
	pid     int
	bare    bool        // clients speak no TLS, whatever the server does
	address string      // HOST:PORT
	url     string      // without a slash at its end
	tls     *tls.Config // that clients need; nil: plain text
	client  *http.Client
	inside  string // the socket of its inspection
}

var servers atomic.Int64 // that were started

// start runs a server until the test ends. One with TLS has a certificate of its own.
func start(t testing.TB, secure bool) *server {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	access := filepath.Join(dir, "access.json")
	if err := os.WriteFile(access, []byte(accessFile), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-listen", "127.0.0.1:0", "-etcd-listen", "off", "-data-dir", dataDir(t), "-access-file", access,
		"-create-groups", "-log-format", "text"}
	s := &server{inside: fmt.Sprintf("@locksmith-hostile-%d-%d", os.Getpid(), servers.Add(1))}
	if secure {
		ca := etcdtest.NewCA(t)
		cert, key := ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))
		args = append(args, "-tls-cert", cert, "-tls-key", key)
		s.tls = &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
	}
	s.client = newClient(s.tls)
	s.url = s.run(t, path, args)
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	s.address = u.Host
	return s
}

// inMemory is where a server's data is, on machines that have it: how long a busy disk
// takes to write is not what is measured.
const inMemory = "/dev/shm"

// dataDir is a directory in memory where there is one, whose name says who made it.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(inMemory, fmt.Sprintf("locksmith-hostile-%d-", os.Getpid()))
	if err != nil {
		return filepath.Join(t.TempDir(), "data")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// sweep removes what runs left in memory that were killed.
func sweep() {
	left, _ := filepath.Glob(inMemory + "/locksmith-hostile-*") // the pattern is right
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "locksmith-hostile-%d-", &pid); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.RemoveAll(dir)
		}
	}
}

var started = regexp.MustCompile(`msg=started listen=(\S+)`)

// run starts the process and returns where it listens.
func (s *server) run(t testing.TB, path string, args []string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), inspect.Variable + "=" + s.inside, "GODEBUG=memprofilerate=" + strconv.Itoa(sampled)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	log, listens, ended := &logged{}, make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			log.add(lines.Bytes())
			if m := started.FindSubmatch(lines.Bytes()); m != nil {
				listens <- string(m[1])
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(limit, func() { cmd.Process.Kill() })
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server did not end well: %v", err)
		}
		kill.Stop()
		if text := log.String(); t.Failed() || bytes.Contains([]byte(text), []byte("panic")) {
			t.Errorf("the server said:\n%s", text)
		}
	})
	select {
	case at := <-listens:
		return at
	case <-ended:
		t.Fatalf("the server ended:\n%s", log)
	case <-time.After(limit):
		t.Fatalf("the server does not start:\n%s", log)
	}
	return ""
}

// logged is the beginning and the end of a log.
type logged struct {
	mu         sync.Mutex
	head, tail []byte
}

const kept = 3 << 10 // bytes of each end

func (l *logged) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line = append(bytes.Clone(line), '\n')
	if len(l.head) < kept {
		l.head = append(l.head, line...)
		return
	}
	if l.tail = append(l.tail, line...); len(l.tail) > 2*kept {
		l.tail = append([]byte("…\n"), l.tail[len(l.tail)-kept:]...)
	}
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.head) + string(l.tail)
}

// stream is a connection, one half of which can be closed.
type stream interface {
	net.Conn
	CloseWrite() error
}

// plainly is the server for clients that speak no TLS, whatever it does.
func (s *server) plainly() *server {
	of := *s
	of.bare = true
	return &of
}

// open opens a connection to the server.
func (s *server) open() (stream, error) {
	dialer := net.Dialer{Timeout: limit}
	c, err := dialer.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	if s.tls == nil || s.bare {
		return c.(*net.TCPConn), nil
	}
	secure := tls.Client(c, s.tls)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// tcp is the connection below c.
func tcp(c stream) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn().(*net.TCPConn)
	}
	return c.(*net.TCPConn)
}
