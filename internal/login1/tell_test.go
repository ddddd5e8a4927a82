package login1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// terminal is a pseudo terminal: what is written to tty comes out of master.
type terminal struct {
	master *os.File
	tty    string // "pts/7"
}

// openTerminal opens a pseudo terminal without output processing, so that what was
// written can be compared byte by byte.
func openTerminal(t *testing.T) terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("opening a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	control := func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			return
		}
		var settings *unix.Termios
		if settings, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err != nil {
			return
		}
		settings.Oflag &^= unix.OPOST
		err = unix.IoctlSetTermios(int(fd), unix.TCSETS, settings)
	}
	if cerr := raw.Control(control); cerr != nil || err != nil {
		t.Fatalf("setting up a pseudo terminal: %v, %v", cerr, err)
	}
	return terminal{master, fmt.Sprintf("pts/%d", number)}
}

func (p terminal) session(user string) agent.Session {
	return agent.Session{ID: "1", User: user, TTY: p.tty}
}

// read returns what came out, which must begin with want's length of bytes.
func (p terminal) read(t *testing.T, want string) string {
	t.Helper()
	p.master.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.master, got)
	if err != nil {
		t.Errorf("reading %s: %v", p.tty, err)
	}
	return string(got[:n])
}

// halt stops the terminal's output, as if somebody had pressed Ctrl-S.
func (p terminal) halt(t *testing.T) {
	t.Helper()
	fd, err := unix.Open("/dev/"+p.tty, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	const off = 0 // TCOOFF of tcflow(3)
	if err := unix.IoctlSetInt(fd, unix.TCXONC, off); err != nil {
		t.Fatal(err)
	}
}

func testMachine() *Machine {
	m := New(nil) // Tell needs no bus
	at := time.Date(2014, 4, 14, 17, 39, 56, 0, time.FixedZone("CEST", 2*60*60))
	m.now = func() time.Time { return at }
	return m
}

func TestTell(t *testing.T) {
	a, b := openTerminal(t), openTerminal(t)
	m := testMachine()
	sessions := []agent.Session{a.session("ada"), b.session("bob"), {ID: "3", User: "eve"}, a.session("ada")}
	if err := m.Tell(t.Context(), sessions, "Rebooting in 5m0s.\nupdate \x1b[2J\tengine\r"); err != nil {
		t.Fatal(err)
	}
	want := "\r\nBroadcast message from locksmithd at 2014-04-14 17:39:56 +0200 CEST:\r\n\r\n" +
		"Rebooting in 5m0s.\r\nupdate [2Jengine\r\n"
	for _, p := range []terminal{a, b} {
		if got := p.read(t, want); got != want {
			t.Errorf("%s shows %q, want %q", p.tty, got, want)
		}
	}
	// Once each, although ada has two sessions there.
	if err := m.Tell(t.Context(), sessions[:1], "again"); err != nil {
		t.Fatal(err)
	}
	again := strings.Split(want, "Rebooting")[0] + "again\r\n"
	if got := a.read(t, again); got != again {
		t.Errorf("then %s shows %q, want %q", a.tty, got, again)
	}
}

func TestTellPassesOverBadTerminals(t *testing.T) {
	stuck, good := openTerminal(t), openTerminal(t)
	stuck.halt(t)
	m := testMachine()
	m.writeLimit = 200 * time.Millisecond
	began := time.Now()
	err := m.Tell(t.Context(), []agent.Session{
		stuck.session("ada"),
		{ID: "2", User: "bob", TTY: "pts/999999"},
		{ID: "3", User: "eve", TTY: "../etc/passwd"},
		good.session("dan"),
	}, "Rebooting.")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a stuck terminal held up Tell for %v", took)
	}
	want := `session 3: "../etc/passwd" is not the name of a terminal; ` +
		"telling ada on " + stuck.tty + ": it takes no output; " +
		"telling bob on pts/999999: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("Tell = %v, want %s", err, want)
	}
	text := broadcast(m.now(), "Rebooting.")
	if got := good.read(t, text); got != text {
		t.Errorf("%s shows %q", good.tty, got)
	}
}

func TestTellEndsWithItsContext(t *testing.T) {
	stuck := openTerminal(t)
	stuck.halt(t)
	m := testMachine()
	m.writeLimit = time.Hour
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	err := m.Tell(ctx, []agent.Session{stuck.session("ada")}, "Rebooting.")
	if err == nil || err.Error() != "telling ada on "+stuck.tty+": changed my mind" {
		t.Errorf("Tell = %v", err)
	}
}

// The goroutine that writes ends too: it must not stay behind for as long as the
// terminal is stopped.
func TestWritingEndsWithItsContext(t *testing.T) {
	stuck := openTerminal(t)
	stuck.halt(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- writeTerminal(ctx, "/dev/"+stuck.tty, "Rebooting.") }()
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("writeTerminal = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still writing")
	}
}

func TestTerminalNames(t *testing.T) {
	for name, want := range map[string]bool{
		"tty1": true, "tty": true, "ttyS0": true, "ttyAMA0": true, "pts/0": true, "pts/123": true,
		"console": true, "hvc0": true, "3270/tty1": true,
		"": false, ".": false, "..": false, "/dev/pts/0": false, "pts": false, "pts/": false, "pts/ptmx": false,
		"pts/../sda": false, "../tty1": false, "tty/../sda": false, "watchdog": false, "sda": false,
		"tty1\n": false, "tty 1": false, ":0": false, "pts/0/../1": false,
	} {
		if got := terminalName.MatchString(name); got != want {
			t.Errorf("%q is taken for a terminal: %v, want %v", name, got, want)
		}
	}
}

func TestTellOnlyTerminals(t *testing.T) {
	dev := t.TempDir()
	file, link, pipe := filepath.Join(dev, "tty1"), filepath.Join(dev, "tty2"), filepath.Join(dev, "tty3")
	p := openTerminal(t)
	for _, err := range []error{
		os.WriteFile(file, []byte("precious"), 0o600),
		os.Symlink("/dev/"+p.tty, link),
		unix.Mkfifo(pipe, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m := testMachine()
	m.dev = dev
	for _, tty := range []string{"tty1", "tty2", "tty3"} {
		err := m.Tell(t.Context(), []agent.Session{{ID: "1", User: "ada", TTY: tty}}, "Rebooting.")
		if err == nil || err.Error() != "telling ada on "+tty+": it is not a character device" {
			t.Errorf("%s: %v", tty, err)
		}
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" {
		t.Errorf("the file now holds %q", data)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := writeTerminal(ctx, "/dev/null", "x"); err == nil || err.Error() != "it is not a terminal" {
		t.Errorf("/dev/null: %v", err)
	}
}
