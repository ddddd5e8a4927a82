package control_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/control"
)

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	abandon(t, stale)
	for _, path := range []string{filepath.Join(dir, "none.sock"), stale} {
		_, err := control.Client{Path: path}.Status(t.Context())
		want := "locksmithd is not running: nobody listens on " + path + "; start it with: systemctl start locksmithd"
		if !errors.Is(err, control.ErrNotRunning) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestClientEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if c, err := l.Accept(); err == nil { // the client waits for an answer now
			defer c.Close()
		}
		cancel()
		<-t.Context().Done()
	}()
	if _, err := (control.Client{Path: path}).Status(ctx); err == nil || errors.Is(err, control.ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestClientOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhaha"))
			c.Close()
		}
	}()
	if _, err := (control.Client{Path: path}).Status(t.Context()); err == nil {
		t.Error("an answer that is no status was accepted")
	}
}

// abandon leaves a socket file as a crashed daemon does.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplacedAndLiveOneRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s.sock")
	first, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v, %v", info, err)
	}
	_, err = control.Listen(path)
	want := "control socket " + path + ": another locksmithd is running; stop it first"
	if err == nil || err.Error() != want {
		t.Errorf("second listener: got %v, want %s", err, want)
	}
	first.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket is left after Close: %v", err)
	}
	abandon(t, path)
	again, err := control.Listen(path)
	if err != nil {
		t.Fatalf("stale socket was not replaced: %v", err)
	}
	again.Close()
}

func TestFileThatIsNoSocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := control.Listen(path)
	want := "control socket " + path + ": the file exists and is no socket; remove it"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if b, _ := os.ReadFile(path); string(b) != "data" {
		t.Error("the file was touched")
	}
}

func TestServeRefusesALiveSocket(t *testing.T) {
	d := start(t)
	if err := new(control.Server).Serve(t.Context(), d.path); err == nil {
		t.Error("a second server took the socket over")
	}
	d.stop()
	if _, err := os.Lstat(d.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket is left after the server ended: %v", err)
	}
}
