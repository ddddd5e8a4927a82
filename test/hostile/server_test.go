package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// program is the server, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "locksmith-hostile-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "locksmith-server")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/locksmith-server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return path, fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
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
	t       testing.TB
	pid     int
	address string      // HOST:PORT
	url     string      // without a slash at its end
	tls     *tls.Config // that clients need; nil: plain text
	client  *http.Client
}

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
	s := &server{t: t}
	if secure {
		ca := etcdtest.NewCA(t)
		cert, key := ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))
		args = append(args, "-tls-cert", cert, "-tls-key", key)
		s.tls = &tls.Config{RootCAs: ca.Pool}
	}
	// One connection that stays, so that what it costs is in every figure alike.
	s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: s.tls, MaxConnsPerHost: 1}}
	s.url = s.run(path, args)
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	s.address = u.Host
	return s
}

// dataDir is a directory in memory where there is one: how long a busy disk takes to
// write is not what is measured.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "locksmith-hostile-")
	if err != nil {
		return filepath.Join(t.TempDir(), "data")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var started = regexp.MustCompile(`msg=started listen=(\S+)`)

// run starts the process and returns where it listens.
func (s *server) run(path string, args []string) string {
	t := s.t
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
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
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
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
	case <-time.After(time.Minute):
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

// dial opens a connection to the port as it is, without TLS.
func (s *server) dial() (*net.TCPConn, error) {
	var d net.Dialer
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
