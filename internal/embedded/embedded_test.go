package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith/internal/embedded"
)

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Watchers do not hold up the end, and connections that say nothing not for long.
func TestCloseIsQuick(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir, Listen: "127.0.0.1:0", Socket: filepath.Join(dir, "etcd.sock"), NoSync: true})
	idle, err := net.Dial("tcp", s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	var watches []clientv3.WatchChan
	for _, endpoint := range []string{s.Endpoint(), embedded.SocketEndpoint(filepath.Join(dir, "etcd.sock"))} {
		c := client(t, endpoint)
		for range 10 {
			w := c.Watch(t.Context(), "key", clientv3.WithCreatedNotify())
			<-w
			watches = append(watches, w)
		}
		if _, err := c.Put(t.Context(), "key", "value"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := <-watches[0]; len(got.Events) != 1 {
		t.Errorf("a watch got %+v", got)
	}

	// What was written is there, at the same address.
	s = start(t, embedded.Config{Dir: dir, Listen: s.Address().String()})
	defer s.Close()
	if got, err := client(t, s.Endpoint()).Get(t.Context(), "key"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir, NoSync: true})
	defer s.Close()
	var inUse *embedded.InUseError
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: dir}); !errors.As(err, &inUse) || inUse.Dir != dir || inUse.PID == "" {
		t.Errorf("the same directory: %v", err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Listen: s.Address().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same address: %v", err)
	}
	long := filepath.Join(dir, strings.Repeat("x", 100))
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: long}); err == nil || !strings.Contains(err.Error(), "is too long: at most 107 bytes are allowed") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Socket: filepath.Join(dir, "s"), TLS: embedded.TLS{CertFile: "c"}}); err == nil {
		t.Error("TLS for nobody")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: file}); err == nil {
		t.Error("a file for a directory")
	}

	// What was refused has let go of everything.
	freed := t.TempDir()
	for range 2 {
		if _, err := embedded.Start(t.Context(), embedded.Config{Dir: freed, Listen: s.Address().String()}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v", err)
		}
	}
	start(t, embedded.Config{Dir: freed}).Close()
	canceled, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := embedded.Start(canceled, embedded.Config{Dir: freed}); !errors.Is(err, cause) {
		t.Errorf("a start that was given up: %v", err)
	}
	start(t, embedded.Config{Dir: freed}).Close()
}

// Nobody but its user reaches what has no password.
func TestSocketsArePrivate(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "etcd.sock")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s := start(t, embedded.Config{Dir: filepath.Join(dir, "data"), Socket: socket, NoSync: true})
	defer s.Close()
	if s.Address() != nil || s.Endpoint() != "unix://"+socket {
		t.Errorf("listens at %v, %s", s.Address(), s.Endpoint())
	}
	for _, path := range []string{socket, filepath.Join(dir, "data", "peer.sock"), filepath.Join(dir, "data")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// lines is a log that can be written by many.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func TestLog(t *testing.T) {
	var out lines
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, embedded.Config{Dir: t.TempDir(), NoSync: true, Log: log})
	s.Close()
	out.mu.Lock()
	defer out.mu.Unlock()
	if text := out.text.String(); strings.Contains(text, "level=ERROR") || !strings.Contains(text, `level=DEBUG msg="embedded etcd: `) {
		t.Errorf("a run without a fault says:\n%s", text)
	}
}

func snapshot(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	r, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file := filepath.Join(t.TempDir(), "snap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRestore(t *testing.T) {
	s := start(t, embedded.Config{Dir: t.TempDir(), NoSync: true})
	c := client(t, s.Endpoint())
	for _, v := range []string{"one", "two", "three"} {
		if _, err := c.Put(t.Context(), "key", v); err != nil {
			t.Fatal(err)
		}
	}
	file := snapshot(t, c)
	revision := s.Revision()
	if _, err := c.Put(t.Context(), "key", "late"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	info, err := embedded.CheckSnapshot(file)
	if err != nil || info.Keys != 1 || info.Revision != revision || len(info.Sum) != 64 {
		t.Errorf("%+v, %v", info, err)
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "etcd")
	if _, err := embedded.Restore(file, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Restore(file, dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("over another one: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(parent, "a")); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	for range 2 { // and it starts again
		s = start(t, embedded.Config{Dir: dir, NoSync: true})
		c = client(t, s.Endpoint())
		got, err := c.Get(t.Context(), "key")
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "three" || got.Kvs[0].Version != 3 || got.Kvs[0].ModRevision != revision {
			t.Errorf("%v, %v", got, err)
		}

		// Who remembers a revision of the lost store is told that it is old.
		w := <-c.Watch(t.Context(), "key", clientv3.WithRev(revision+5))
		if w.CompactRevision < revision+1_000_000_000 {
			t.Errorf("a watch from the future of the snapshot: %+v", w)
		}
		if _, err := c.Put(t.Context(), "other", "x"); err != nil || s.Revision() <= revision+1_000_000_000 {
			t.Errorf("revision %d, %v", s.Revision(), err)
		}
		s.Close()
	}
}
