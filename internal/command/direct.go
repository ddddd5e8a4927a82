package command

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct runs a program as a child of this process.
func (r *Runner) direct(ctx context.Context, spec Spec) (Result, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir, cmd.Env = spec.Dir, spec.environment()
	c, err := start(cmd, newTail(MaxOutput))
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	cause := c.await(ctx, spec.Timeout)
	status := c.end(r.grace)
	result := Result{Output: clean(c.tail.bytes(), MaxOutput)}
	switch {
	case cause != nil:
		return result, cause
	case status.Signaled():
		return result, &SignalError{Signal: signalName(status.Signal())}
	}
	result.ExitCode = status.ExitStatus()
	return result, nil
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return fmt.Sprint(int(s))
}
