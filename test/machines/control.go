package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exec runs a command as root on the machine and returns its standard output.
// The error has its standard error.
func (m *Machine) Exec(ctx context.Context, command ...string) ([]byte, error) {
	pid, err := m.leader()
	if err != nil {
		return nil, err
	}
	args := append([]string{"--target", strconv.Itoa(pid), "--all", "--", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Start()
	if err == nil {
		go resumeStopped(cmd.Process.Pid)
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %s: %w: %s", m.Name, strings.Join(command, " "), err,
			bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// resumeStopped lets a process go on whenever it was stopped, until it ends. A
// machine that shuts down stops all its processes for a moment, and nsenter stops
// itself when its command does: nobody would ever collect that command, and the
// machine would wait for it forever.
func resumeStopped(pid int) {
	for {
		var info unix.Siginfo
		// Not collecting an end leaves that to whoever started the process.
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || info.Code != cldStopped {
			return
		}
		// Collected here, or the same stop would be seen again.
		_ = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOHANG, nil)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// cldStopped is waitid's CLD_STOPPED.
const cldStopped = 5

// Pids are the processes of a unit, as the host numbers them; empty where the
// unit does not run.
func (m *Machine) Pids(unit string) []int {
	return m.cgroup.pids(filepath.Join("payload/system.slice", unit))
}

// CPU is the CPU time that a unit took since it was started, with its processes that
// have ended.
func (m *Machine) CPU(unit string) (time.Duration, error) {
	return m.cgroup.cpu(filepath.Join("payload/system.slice", unit))
}

// Kill sends sig to every process of a unit. It is an error if there is none.
func (m *Machine) Kill(unit string, sig syscall.Signal) error {
	pids := m.Pids(unit)
	if len(pids) == 0 {
		return fmt.Errorf("%s: %s has no process to signal", m.Name, unit)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("%s: signalling process %d of %s: %w", m.Name, pid, unit, err)
		}
	}
	return nil
}

// Console is the end of what the machine wrote to its console, in all boots.
func (m *Machine) Console() string {
	data, err := readTail(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(tail(data, 30))
}

// Journal is what unit has logged, in all boots, its last 200 lines. It works
// also when the machine is off.
func (m *Machine) Journal(ctx context.Context, unit string) string {
	cmd := exec.CommandContext(ctx, "journalctl", "--no-pager", "--quiet", "--output=short-precise", "--lines=200",
		"--directory="+filepath.Join(m.dir, "upper/var/log/journal"), "--unit="+unit)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%sjournalctl: %v\n", out, err)
	}
	return string(out)
}

// Login logs the user tester in on a terminal and returns once logind has the
// session.
func (m *Machine) Login(ctx context.Context) error {
	if _, err := m.Exec(ctx, "systemctl", "start", "test-login.service"); err != nil {
		return err
	}
	return Poll(ctx, "the session of tester on "+m.Name, func() (bool, error) {
		out, err := m.Exec(ctx, "loginctl", "list-sessions", "--no-legend")
		return strings.Contains(string(out), "tester"), err
	})
}

// Logout has the machine end the session that Login began, and does not wait for
// that: it may take the machine down, whose locksmithd may have waited for it.
func (m *Machine) Logout(ctx context.Context) error {
	// terminate-user is for a shell that was hit while it started up, and may
	// outlive its terminal.
	_, err := m.Exec(ctx, "systemd-run", "--quiet", "--collect", "--no-block",
		"sh", "-c", "systemctl stop test-login.service; loginctl terminate-user tester")
	return err
}

// Terminal is everything that was written to the terminal of Login's session.
func (m *Machine) Terminal() (string, error) {
	data, err := m.ReadFile("/var/log/test-login")
	return string(data), err
}

// HoldShutdown delays every shutdown of the machine that is asked for from now
// on: logind accepts it and waits, two minutes at most, for LetShutdown.
func (m *Machine) HoldShutdown(ctx context.Context) error {
	_, err := m.Exec(ctx, "systemctl", "start", "test-inhibit.service")
	return err
}

// LetShutdown ends the delay. A shutdown that was asked for begins at once.
func (m *Machine) LetShutdown(ctx context.Context) error {
	_, err := m.Exec(ctx, "systemctl", "stop", "--no-block", "test-inhibit.service")
	return err
}
