package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// rebooted is the exit status by which nspawn says that the machine asked for a
// reboot.
const rebooted = 133

// powerOn enters the machine's control groups, mounts its disk in a mount
// namespace of its own (so that nothing is left mounted however it ends) and
// becomes nspawn. Arguments: the overlay's options, its mount point, the
// number of control groups, these, and nspawn's arguments.
const powerOn = `set -e
options=$1 root=$2 groups=$3
shift 3
while [ "$groups" -gt 0 ]; do
	echo $$ >"$1/cgroup.procs"
	shift
	groups=$((groups - 1))
done
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "$options" "$root"
exec systemd-nspawn "$@"
`

// Machine is one machine of a fleet: a disk that lasts, and a power switch.
type Machine struct {
	Name string // host name, and its name in events
	ID   string // machine id, 32 hexadecimal digits

	// Groups are the groups its locksmithd is configured with, for the Audit.
	// To be set before the machine starts.
	Groups []string

	fleet  *Fleet
	dir    string
	cgroup cgroup

	mu        sync.Mutex
	pid       int           // nspawn's; 0 while the machine has no process
	unplugged bool          // its plug was pulled: it does not come back by itself
	done      chan struct{} // closed when it is off for good; nil before the first start
}

// Start switches the machine on and returns when it is up.
func (m *Machine) Start(ctx context.Context) error {
	before := len(m.fleet.Events())
	if err := m.SwitchOn(); err != nil {
		return err
	}
	var last Event
	err := m.fleet.Wait(ctx, m.Name+" to come up", func(events []Event) bool {
		for _, e := range events[before:] {
			if last = e; e.Machine == m.Name && (e.Kind == Up || e.Kind == Off) {
				return true
			}
		}
		return false
	})
	if err == nil && last.Kind == Off {
		err = fmt.Errorf("it went off with status %s", last.Status)
	}
	if err != nil {
		return fmt.Errorf("starting %s: %w\n%s", m.Name, err, m.Console())
	}
	return nil
}

// SwitchOn switches the machine on and does not wait.
func (m *Machine) SwitchOn() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done != nil {
		select {
		case <-m.done:
		default:
			return fmt.Errorf("starting %s: it is on already", m.Name)
		}
	}
	m.unplugged, m.done = false, make(chan struct{})
	go m.firmware(m.done)
	return nil
}

func (m *Machine) on() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done == nil {
		return false
	}
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// firmware boots the machine, and again whenever it has rebooted, until it
// powers off.
func (m *Machine) firmware(done chan struct{}) {
	defer close(done)
	for {
		status, err := m.boot()
		said := strconv.Itoa(status)
		if err != nil {
			said = strings.Join(strings.Fields(err.Error()), "_")
		}
		// A machine that is gone must be seen as gone. If the pipe is closed, so
		// is the fleet, and nobody looks.
		m.fleet.note("off " + m.Name + " " + said)
		if err != nil || status != rebooted || m.isUnplugged() {
			return
		}
		time.Sleep(m.fleet.cfg.Firmware)
	}
}

// boot runs the machine until its last process is gone.
func (m *Machine) boot() (status int, err error) {
	root := filepath.Join(m.dir, "root")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", m.fleet.lower, m.dir, m.dir)
	args := []string{"--mount", "/bin/sh", "-c", powerOn, "sh", options, root, strconv.Itoa(len(m.cgroup))}
	args = append(args, m.cgroup...)
	args = append(args, "-M", m.Name, "-D", root, "--boot", "--register=no", "--keep-unit", "--console=pipe",
		"--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--bind="+filepath.Join(m.fleet.dir, "observe")+":/observe")
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer console.Close()
	cmd := exec.Command("unshare", args...)
	cmd.Stdout, cmd.Stderr = console, console
	// Ctrl-C is for the tests, which then switch the machines off.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	m.mu.Lock()
	if m.unplugged {
		m.mu.Unlock()
		return 0, nil
	}
	if err := cmd.Start(); err != nil {
		m.mu.Unlock()
		return 0, err
	}
	m.pid = cmd.Process.Pid
	m.mu.Unlock()

	err = cmd.Wait()
	m.mu.Lock()
	m.pid = 0
	m.mu.Unlock()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (m *Machine) isUnplugged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unplugged
}

// PowerOff pulls the plug: every process of the machine dies at once. It
// returns when the machine is off; one that is off already stays so.
func (m *Machine) PowerOff(ctx context.Context) error {
	if !m.on() {
		return nil
	}
	m.mu.Lock()
	m.unplugged = true
	done := m.done
	m.mu.Unlock()
	if err := m.fleet.note("down " + m.Name + " plug"); err != nil {
		return err
	}
	// A boot that had begun before the plug was seen pulled may enter its control
	// group late, so that once may not be enough.
	return Poll(ctx, m.Name+" to be off", func() (bool, error) {
		err := m.cgroup.kill(ctx)
		select {
		case <-done:
			return true, err
		default:
			return false, err
		}
	})
}

// WaitOff returns when the machine is off and does not come back by itself.
func (m *Machine) WaitOff(ctx context.Context) error {
	m.mu.Lock()
	done := m.done
	m.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to be off: %w", m.Name, context.Cause(ctx))
	}
}

// leader is the process that is the machine's process 1, as the host numbers it.
func (m *Machine) leader() (int, error) {
	m.mu.Lock()
	pid := m.pid
	m.mu.Unlock()
	if pid == 0 {
		return 0, fmt.Errorf("%s has no process at the moment", m.Name)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m.Name, err)
	}
	for _, word := range bytes.Fields(data) {
		child, err := strconv.Atoi(string(word))
		if err != nil {
			return 0, err
		}
		if n, err := nspid(child); err == nil && n == 1 {
			return child, nil
		}
	}
	return 0, fmt.Errorf("%s has no process 1 at the moment", m.Name)
}

// Path is where the host finds the file name of the running machine. It is good
// until the machine goes down.
func (m *Machine) Path(name string) (string, error) {
	pid, err := m.leader()
	if err != nil {
		return "", err
	}
	return filepath.Join(fmt.Sprintf("/proc/%d/root", pid), name), nil
}

// WriteFile writes a file with mode 0644 on the machine, whether it is on or off.
func (m *Machine) WriteFile(name string, data []byte) error { return m.write(name, data, 0o644) }

// WriteProgram is WriteFile with mode 0755.
func (m *Machine) WriteProgram(name string, data []byte) error { return m.write(name, data, 0o755) }

func (m *Machine) write(name string, data []byte, mode os.FileMode) error {
	if !m.on() {
		return writeFile(filepath.Join(m.dir, "upper", name), data, mode)
	}
	path, err := m.Path(name)
	if err != nil {
		return err
	}
	return writeFile(path, data, mode)
}

// Remove removes a file of the running machine. One that is not there is no error.
func (m *Machine) Remove(name string) error {
	path, err := m.Path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile reads a file of the machine: of a running one anything, of one that is
// off only what it has written itself.
func (m *Machine) ReadFile(name string) ([]byte, error) {
	if !m.on() {
		return os.ReadFile(filepath.Join(m.dir, "upper", name))
	}
	path, err := m.Path(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
