package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

const machineID = "69d27b356a94476da859461d3a3bc6fd"

// limit is how long a test waits for what must happen before it gives up.
const limit = 30 * time.Second

// machine is a machine for daemons to run on: files, a message bus, a service
// manager that listens, and a logind that counts reboots.
type machine struct {
	t       *testing.T
	root    string
	bus     *dbustest.Daemon
	reboots chan struct{}

	manager *net.UnixConn
	notes   chan string // what daemons tell the service manager, a variable each
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "machine") // short: sockets' paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, root: dir, bus: dbustest.New(t), reboots: make(chan struct{}, 16), notes: make(chan string, 1024)}
	m.write("etc/machine-id", machineID+"\n")
	m.boot("boot-1")
	m.bus.Serve("org.freedesktop.login1", func(c dbustest.Call) ([]any, error) {
		switch c.Name {
		case "org.freedesktop.login1.Manager.Reboot":
			m.reboots <- struct{}{}
			return nil, nil
		case "org.freedesktop.login1.Manager.ListSessions":
			return []any{[]struct {
				ID         string
				UID        uint32
				User, Seat string
				Path       string
			}{}}, nil
		case "org.freedesktop.login1.Manager.ListInhibitors":
			return []any{[]struct {
				What, Who, Why, Mode string
				UID, PID             uint32
			}{}}, nil
		}
		return nil, errors.New("not here")
	})
	m.listen()
	return m
}

// listen plays the service manager's part of the notify protocol.
func (m *machine) listen() {
	m.t.Helper()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path("notify"), Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.manager = manager
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := manager.Read(buffer)
			if err != nil {
				return
			}
			for note := range strings.Lines(string(buffer[:n])) {
				m.notes <- strings.TrimSpace(note)
			}
		}
	}()
	m.t.Cleanup(func() { manager.Close(); <-done })
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// boot gives the machine another boot id.
func (m *machine) boot(id string) { m.write("proc/sys/kernel/random/boot_id", id+"\n") }

// awaitNote waits until a daemon tells the service manager something that starts
// with prefix.
func (m *machine) awaitNote(prefix string) {
	m.t.Helper()
	giveUp := time.After(limit)
	for {
		select {
		case note := <-m.notes:
			if strings.HasPrefix(note, prefix) {
				return
			}
		case <-giveUp:
			m.t.Fatalf("no daemon said %s", prefix)
		}
	}
}

// process is one run of the daemon, as a process of its own.
type process struct {
	m    *machine
	cmd  *exec.Cmd
	wait func() error
	mu   sync.Mutex
	text bytes.Buffer
}

// Write collects what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// start runs the daemon with environment variables besides those it needs here.
func (m *machine) start(env ...string) *process {
	m.t.Helper()
	p := &process{m: m}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args[0] = "locksmithd"
	p.cmd.Env = append([]string{
		"TEST_ROOT=" + m.root, "NOTIFY_SOCKET=" + m.path("notify"), "DBUS_SYSTEM_BUS_ADDRESS=" + m.bus.Address(),
		"LOCKSMITHD_CONTROL_SOCKET=" + m.path("run/l.sock"), "LOCKSMITHD_COORDINATOR_FILE=" + m.path("run/c.conf"),
		"LOCKSMITHD_STATE_DIR=" + m.path("state"), "LOCKSMITHD_HOOK_DIR=" + m.path("hooks"), "LOCKSMITHD_LOGIN_DELAY=0s",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	p.wait = sync.OnceValue(p.cmd.Wait)
	m.t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wait()
		if m.t.Failed() {
			m.t.Logf("the daemon said:\n%s", p.said())
		}
	})
	return p
}

// ready waits until the daemon says so.
func (p *process) ready() *process {
	p.m.t.Helper()
	p.m.awaitNote("READY=1")
	return p
}

// stop asks the daemon to stop, which it must do cleanly.
func (p *process) stop(signal os.Signal) {
	p.m.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.m.t.Fatal(err)
	}
	p.m.awaitNote("STOPPING=1")
	if err := p.wait(); err != nil {
		p.m.t.Fatalf("after %s: %v", signal, err)
	}
}

func (m *machine) client() control.Client { return control.Client{Path: m.path("run/l.sock")} }

// request asks the daemon for a reboot; root's privilege.
func (m *machine) request() {
	m.t.Helper()
	if err := m.client().NeedReboot(m.t.Context(), "a test"); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) awaitReboot() {
	m.t.Helper()
	select {
	case <-m.reboots:
	case <-time.After(limit):
		m.t.Fatal("no reboot was asked for")
	}
}

func (m *machine) coordinatorSays(want string) {
	m.t.Helper()
	got, err := os.ReadFile(m.path("run/c.conf"))
	if err != nil || string(got) != want {
		m.t.Errorf("coordinator.conf holds %q (%v), want %q", got, err, want)
	}
}

// needRoot ends tests that only root can run: loudly, and in CI as a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Loudly(t, "needs root, to ask the daemon for a reboot")
	}
}

func TestStartAndStop(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		m := newMachine(t)
		p := m.start("REBOOT_STRATEGY=reboot", "LOCKSMITHD_GROUP=web,db").ready()
		m.awaitNote("STATUS=idle")
		m.coordinatorSays("NAME=locksmithd\nSTRATEGY=reboot\nSTATE=running\n")
		s, err := m.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.MachineID != machineID || s.BootID != "boot-1" || s.Phase != locksmith.PhaseIdle || locksmith.JoinGroups(s.Groups) != "db,web" {
			t.Errorf("status is %+v", s)
		}
		p.stop(signal)
		for _, name := range []string{"run/c.conf", "run/l.sock"} {
			if _, err := os.Lstat(m.path(name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left after a clean stop: %v", name, err)
			}
		}
		if out := p.said(); !strings.Contains(out, "msg=stopped") || !strings.Contains(out, signal.String()) {
			t.Errorf("the log does not say why it stopped:\n%s", out)
		}
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	m := newMachine(t)
	m.start("REBOOT_STRATEGY=reboot").ready()
	second := m.start("REBOOT_STRATEGY=reboot")
	err := second.wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	want := "locksmithd: coordinator file " + m.path("run/c.conf") + ` is held by another coordinator, "locksmithd": stop it first` + "\n"
	if !ok || exit.ExitCode() != 1 || second.said() != want {
		t.Errorf("ended with %v\n got %s\nwant %s", err, second.said(), want)
	}
	if _, err := m.client().Status(t.Context()); err != nil {
		t.Errorf("the first daemon suffered: %v", err)
	}
}

func TestWatchdogIsServed(t *testing.T) {
	m := newMachine(t)
	m.start("REBOOT_STRATEGY=reboot", "WATCHDOG_USEC=60000")
	for range 3 {
		m.awaitNote("WATCHDOG=1")
	}
}

func TestRebootWithoutLock(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.start("REBOOT_STRATEGY=reboot").ready()
	m.request()
	m.awaitReboot()
	m.coordinatorSays("NAME=locksmithd\nSTRATEGY=reboot\nSTATE=rebooting\n")
}

func TestWindowIsHeeded(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	later := time.Now().UTC().Add(12 * time.Hour).Format("15:04")
	p := m.start("REBOOT_STRATEGY=reboot", "REBOOT_WINDOW_START="+later, "REBOOT_WINDOW_LENGTH=1h", "REBOOT_WINDOW_TIMEZONE=UTC").ready()
	m.request()
	m.awaitNote("STATUS=window: ")
	if s, err := m.client().Status(t.Context()); err != nil || s.Phase != locksmith.PhaseWindow || !s.Needed || s.Reason != "a test" {
		t.Errorf("outside the window: %+v, %v", s, err)
	}
	p.stop(syscall.SIGTERM)
	if len(m.reboots) > 0 {
		t.Error("rebooted outside the window")
	}
}

// The whole cycle: need, slot, reboot, proof of the boot, slot given back.
// Best-effort goes through it too, where an endpoint was given.
func TestCycleWithLock(t *testing.T) {
	for _, strategy := range []locksmith.Strategy{locksmith.StrategyEtcdLock, locksmith.StrategyBestEffort} {
		t.Run(string(strategy), func(t *testing.T) { testCycle(t, strategy) })
	}
}

func testCycle(t *testing.T, strategy locksmith.Strategy) {
	needRoot(t)
	server := etcdtest.Start(t, etcdtest.Debian)
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	holders := func() []string {
		t.Helper()
		sem, faults, err := store.Semaphore(t.Context(), "web")
		if err != nil || len(faults) > 0 {
			t.Fatal(faults, err)
		}
		return sem.Holders
	}
	m := newMachine(t)
	env := []string{"REBOOT_STRATEGY=" + string(strategy), "LOCKSMITHD_GROUP=web", "LOCKSMITHD_ENDPOINT=" + server.Endpoint}
	p := m.start(env...).ready()
	m.request()
	m.awaitReboot()
	if got := holders(); len(got) != 1 || got[0] != machineID {
		t.Fatalf("rebooting with the holders %v", got)
	}
	p.stop(syscall.SIGTERM) // as the machine goes down
	if got := holders(); len(got) != 1 {
		t.Fatalf("the slot was not kept over the stop: %v", got)
	}
	m.boot("boot-2")
	m.start(env...).ready()
	released(t, store)
	if s, err := m.client().Status(t.Context()); err != nil || s.BootID != "boot-2" || s.Needed {
		t.Errorf("after the reboot: %+v, %v", s, err)
	}
}

// released waits until nobody holds a slot of the group any more.
func released(t *testing.T, store *etcd.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	done := errors.New("released")
	err := store.WatchStatus(ctx, "web", func(s locksmith.GroupStatus) error {
		if len(s.Sem.Holders) == 0 {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatalf("the slot was not given back: %v", err)
	}
}

// The agent's status changes faster than the service manager is told: what it is
// told is the newest, and telling never blocks.
func TestAnnouncerKeepsTheNewest(t *testing.T) {
	a := newAnnouncer(nil)
	for _, phase := range locksmith.Phases {
		a.changed(agent.Status{Phase: phase})
	}
	want := locksmith.Phases[len(locksmith.Phases)-1]
	if got := <-a.latest; got.Phase != want {
		t.Errorf("got %s, want %s", got.Phase, want)
	}
	if line := statusLine(agent.Status{Phase: "queued", Waiting: "behind web-2"}); line != "queued: behind web-2" {
		t.Errorf("status line is %q", line)
	}
}
