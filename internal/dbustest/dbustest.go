// Package dbustest starts a private message bus, a real dbus-daemon, for tests, and
// puts services with made-up answers on it. It is imported by tests only and must
// not know what any service means.
package dbustest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Everybody may own every name, and call and signal everybody, so that tests can
// also play the forger. A connection may have few match rules, so that one that
// forgets to remove them is noticed.
const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path=%s</listen>
  <servicedir>%s</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
  <limit name="max_match_rules_per_connection">32</limit>
</busconfig>
`

// Daemon is a message bus that can be stopped and started again.
type Daemon struct {
	t      testing.TB
	dir    string
	cmd    *exec.Cmd // nil while stopped
	exited chan error
}

// New starts a message bus that ends with the test. It fails the test where
// dbus-daemon is missing.
func New(t testing.TB) *Daemon {
	t.Helper()
	d := Stopped(t)
	d.Start()
	return d
}

// Stopped prepares a message bus that is not running yet.
func Stopped(t testing.TB) *Daemon {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Fatalf("dbus-daemon is missing, which this test needs; install Debian's package dbus: %v", err)
	}
	// Not t.TempDir: a socket's path must be shorter than 108 bytes.
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, dir: dir}
	t.Cleanup(func() {
		d.Stop()
		os.RemoveAll(dir)
	})
	text := fmt.Sprintf(config, d.socket(), dir)
	if err := os.WriteFile(d.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Daemon) socket() string { return filepath.Join(d.dir, "socket") }
func (d *Daemon) file() string   { return filepath.Join(d.dir, "bus.conf") }

// Address is where the bus listens whenever it runs.
func (d *Daemon) Address() string {
	return "unix:path=" + dbus.EscapeBusAddressValue(d.socket())
}

// Startable makes name one that a service could be started for, while the bus is
// stopped. The service does not really start.
func (d *Daemon) Startable(name string) {
	d.t.Helper()
	text := fmt.Sprintf("[D-BUS Service]\nName=%s\nExec=/bin/false\n", name)
	if err := os.WriteFile(filepath.Join(d.dir, name+".service"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// Start starts a stopped bus, at the same address as before, and returns once it
// listens.
func (d *Daemon) Start() {
	d.t.Helper()
	if d.cmd != nil {
		d.t.Fatal("dbustest: Start of a bus that is running")
	}
	os.Remove(d.socket())
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+d.file(), "--print-address=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("starting dbus-daemon: %v", err)
	}
	d.cmd, d.exited = cmd, make(chan error, 1)
	// It prints its address once it listens.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		d.t.Fatalf("dbus-daemon did not start: %v (%v)\n%s", err, cmd.Wait(), stderr.Bytes())
	}
	go func() { d.exited <- cmd.Wait() }()
}

// Stop ends the bus, at once and with all its connections, as a crash would. It
// does nothing where the bus is stopped.
func (d *Daemon) Stop() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Kill()
	<-d.exited
	d.cmd = nil
}

// Freeze halts the bus without closing its connections; the returned function
// lets it go on.
func (d *Daemon) Freeze() (thaw func()) {
	d.t.Helper()
	process := d.cmd.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	return func() { process.Signal(syscall.SIGCONT) }
}

// Connect returns a connection that is closed with the test.
func (d *Daemon) Connect(options ...dbus.ConnOption) *dbus.Conn {
	d.t.Helper()
	conn, err := dbus.Connect(d.Address(), options...)
	if err != nil {
		d.t.Fatalf("connecting to the test bus: %v", err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return conn
}

// Call is a method call as a service of a test receives it.
type Call struct {
	Path   dbus.ObjectPath
	Name   string // with its interface, "org.freedesktop.login1.Manager.Reboot"
	Args   []any
	Sender string
}

// Serve puts a service on the bus that owns name and answers every call, whatever
// its object and method, with the values or the error that answer returns; an
// error other than *dbus.Error becomes org.freedesktop.DBus.Error.Failed. The
// values need not be what the method should return. Calls may overlap. The service
// leaves when the returned connection is closed, at the latest with the test.
func (d *Daemon) Serve(name string, answer func(Call) ([]any, error)) *dbus.Conn {
	d.t.Helper()
	conn := d.Connect(dbus.WithHandler(handler(answer)))
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		d.t.Fatalf("owning %s on the test bus: %v, %v", name, reply, err)
	}
	return conn
}

// Emit sends a signal with any body; name includes the interface.
func (d *Daemon) Emit(conn *dbus.Conn, path dbus.ObjectPath, name string, values ...any) {
	d.t.Helper()
	if err := conn.Emit(path, name, values...); err != nil {
		d.t.Fatalf("sending %s: %v", name, err)
	}
}
