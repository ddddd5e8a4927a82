package command

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What systemd's tools get to answer, beyond what the unit itself may take.
const toolMargin = 10 * time.Second

// manager is systemd, as its tools show it.
type manager struct {
	bind string // the unit that the programs' units are bound to; empty: none

	version func() int // of systemd; 0: not known

	mu      sync.Mutex
	cleared map[string]bool // units of which no earlier process's is running
}

func newManager(bind string) *manager {
	return &manager{bind: bind, version: sync.OnceValue(systemdVersion), cleared: map[string]bool{}}
}

// unit runs a program as a transient service.
//
// systemd-run --wait has the program's exit status, but 1 is also its own failure and
// a time limit's, and 0 also a program that SIGTERM ended. So the unit says itself how
// it went, in its last words: see report.
func (r *Runner) unit(ctx context.Context, spec Spec) (Result, error) {
	unit, nonce := unitName(spec.Name), "locksmith-"+rand.Text()
	if err := r.manager.clear(ctx, unit); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	cmd, err := r.manager.command(unit, nonce, spec)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	const lastWords = 256
	c, err := start(cmd, newTail(MaxOutput+lastWords))
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	cause := c.await(ctx, spec.Timeout)
	if cause != nil {
		if err := r.manager.stop(unit, c.exited); err != nil {
			cause = fmt.Errorf("%w, and %w", cause, err)
		}
	}
	status := c.end(time.Second)
	output, said := cutReport(c.tail.bytes(), nonce)
	result := Result{Output: clean(output, MaxOutput)}
	if cause != nil {
		return result, cause
	}
	result.ExitCode, err = said.outcome(spec.Timeout)
	var signal *SignalError
	switch {
	case said == report{}:
		err = fmt.Errorf("%w: systemd-run: %s", ErrNotStarted, lastLine(result.Output, status))
	case errors.As(err, &signal) && signal.Signal == "TERM":
		err = r.stoppedWith(ctx, err)
	}
	return result, err
}

// stoppedWith is why a program was ended by SIGTERM. When this process's own unit is
// stopped, so are those bound to it, at the same time: the program's end may be seen
// before the signal that ends ctx.
func (r *Runner) stoppedWith(ctx context.Context, err error) error {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return err
	}
}

// command is the systemd-run that runs spec as unit and reports with nonce.
func (m *manager) command(unit, nonce string, spec Spec) (*exec.Cmd, error) {
	run, err := exec.LookPath("systemd-run")
	if err != nil {
		return nil, err
	}
	echo, err := exec.LookPath("echo")
	if err != nil {
		return nil, err
	}
	args := []string{"--no-ask-password", "--quiet", "--collect", "--pipe", "--wait", "--unit=" + unit,
		"--description=locksmith: " + spec.Name}
	if m.version() >= 240 { // the older ones fail a little later, with status 203
		args = append(args, "--service-type=exec")
	}
	properties := []string{
		// Only for the case that this process cannot stop the unit: after its time.
		fmt.Sprintf("RuntimeMaxSec=%d", int((spec.Timeout+toolMargin)/time.Second)+1),
		fmt.Sprintf("TimeoutStopSec=%d", stopGrace/time.Second),
		"KillMode=control-group",
		"IgnoreSIGPIPE=no", // as a shell has it
		"WorkingDirectory=" + spec.Dir,
		fmt.Sprintf("ExecStopPost=%s %s ${SERVICE_RESULT} ${EXIT_CODE} ${EXIT_STATUS}", echo, nonce),
	}
	if m.bind != "" {
		properties = append(properties, "BindsTo="+m.bind)
	}
	for _, p := range properties {
		args = append(args, "--property="+p)
	}
	cmd := exec.Command(run)
	cmd.Env = spec.environment()
	cmd.Dir = "/"
	args = append(args, m.setenv(cmd.Env)...)
	args = append(args, "--", spec.Path)
	for _, arg := range spec.Args { // systemd replaces variables in them
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}
	cmd.Args = append(cmd.Args, args...)
	return cmd, nil
}

// setenv passes the variables by name, so that their values are in no list of
// processes; where systemd-run is too old for that, with their values. Either way
// they are no place for secrets: systemd shows them to everybody.
func (m *manager) setenv(env []string) []string {
	var args []string
	for _, v := range env {
		if m.version() >= 250 {
			v, _, _ = strings.Cut(v, "=")
		}
		args = append(args, "--setenv="+v)
	}
	return args
}

// unitName is the unit of the program called name. Programs that differ only in
// characters that units cannot have share one.
func unitName(name string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
	name = strings.Map(func(c rune) rune {
		if strings.ContainsRune(letters, c) {
			return c
		}
		return '_'
	}, name)
	return "locksmith-run-" + name[:min(len(name), 200)] + ".service"
}

// clear stops what an earlier process left running under the unit's name, once.
func (m *manager) clear(ctx context.Context, unit string) error {
	m.mu.Lock()
	cleared := m.cleared[unit]
	m.mu.Unlock()
	if cleared {
		return nil
	}
	if err := m.systemctlStop(ctx, unit); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cleared[unit] = true
	return nil
}

// stop stops the unit and returns once over is closed: systemd-run ends after its
// unit, so nothing is left then. A unit that systemd-run was about to start when it
// was to be stopped is stopped in the next turn.
func (m *manager) stop(unit string, over <-chan struct{}) error {
	// Not the caller's context: that has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 2*(stopGrace+toolMargin))
	defer cancel()
	for {
		err := m.systemctlStop(ctx, unit)
		again := time.NewTimer(500 * time.Millisecond)
		select {
		case <-over:
			again.Stop()
			return nil
		case <-again.C:
		}
		if ctx.Err() != nil {
			m.mu.Lock()
			delete(m.cleared, unit)
			m.mu.Unlock()
			return errors.Join(fmt.Errorf("unit %s could not be stopped and may still run", unit), err)
		}
	}
}

// systemctlStop stops the unit and waits until it has ended. A unit that is not there
// has.
func (m *manager) systemctlStop(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace+toolMargin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", "--no-ask-password", "stop", unit)
	cmd.Env, cmd.WaitDelay = []string{"PATH=" + path, "LANG=C.UTF-8"}, time.Second
	output, err := cmd.CombinedOutput()
	const notLoaded = 5
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() == notLoaded {
		return nil
	}
	if text := strings.TrimSpace(clean(output, 500)); text != "" {
		err = fmt.Errorf("%w: %s", err, strings.ReplaceAll(text, "\n", "; "))
	}
	return fmt.Errorf("systemctl stop %s: %w", unit, err)
}

// systemdVersion is the version of systemd-run, 0 if it does not say.
func systemdVersion() int {
	ctx, cancel := context.WithTimeout(context.Background(), toolMargin)
	defer cancel()
	output, _ := exec.CommandContext(ctx, "systemd-run", "--version").Output()
	if words := strings.Fields(string(output)); len(words) > 1 && words[0] == "systemd" {
		// "252", or "256~rc1"
		digits := words[1][:len(words[1])-len(strings.TrimLeft(words[1], "0123456789"))]
		n, _ := strconv.Atoi(digits)
		return n
	}
	return 0
}

// report is how a unit ended, as systemd tells what runs after it; its zero value is
// that nothing ran. See systemd.exec(5) for the words.
type report struct {
	result string // "success", "exit-code", "signal", "core-dump", "timeout", "oom-kill", …
	code   string // of the main process: "exited", "killed" or "dumped"
	status string // exit status or signal: "3", "TERM"
}

// cutReport cuts the report from the end of a unit's output. The nonce makes sure
// that the program did not write it.
func cutReport(output []byte, nonce string) ([]byte, report) {
	before, after, found := bytes.Cut(output, []byte(nonce))
	if !found {
		return output, report{}
	}
	words := append(strings.Fields(string(after)), "", "", "")
	return before, report{words[0], words[1], words[2]}
}

// outcome is the program's exit status, or why it has none.
func (p report) outcome(limit time.Duration) (int, error) {
	const notExecuted = "203" // systemd's EXIT_EXEC
	known := []string{"success", "exit-code", "signal", "core-dump"}
	switch {
	case p.result == "timeout":
		return 0, timedOut(limit)
	case !slices.Contains(known, p.result):
		return 0, fmt.Errorf("ended by systemd: %s", p.result)
	case p.code == "killed" || p.code == "dumped":
		return 0, &SignalError{Signal: p.status}
	case p.status == notExecuted:
		return 0, fmt.Errorf("%w: systemd could not execute it, does its interpreter exist?", ErrNotStarted)
	}
	n, err := strconv.Atoi(p.status)
	if err != nil || p.code != "exited" {
		return 0, fmt.Errorf("systemd says %q of its end, which is not understood", p)
	}
	return n, nil
}

// lastLine is what systemd-run said last, or how it ended.
func lastLine(output string, status syscall.WaitStatus) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	if status.Signaled() {
		return "ended by signal " + signalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
