package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a started program that leads a process group of its own.
//
// It has no parent-death signal: the kernel ties that to the thread which forked,
// and Go ends threads as it likes. Where the daemon is a service, systemd ends its
// children with it.
type child struct {
	cmd     *exec.Cmd
	out     *os.File      // what it prints
	tail    *tail         // the end of that; to be read once drained is closed
	exited  chan struct{} // closed when the program has ended; only end reaps it
	drained chan struct{} // closed when nobody can print any more
}

func start(cmd *exec.Cmd, tail *tail) (*child, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	c := &child{cmd: cmd, out: out, tail: tail, exited: make(chan struct{}), drained: make(chan struct{})}
	go c.watch()
	go func() {
		defer close(c.drained)
		tail.fill(out)
	}()
	return c, nil
}

// watch sees the program's end without reaping it: until it is reaped its process id
// is not given to another, and neither is that of its group.
func (c *child) watch() {
	defer close(c.exited)
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// await waits until the program has ended. It returns why it should not go on
// waiting, if that comes first: ErrTimeout, or ctx's cause.
func (c *child) await(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.exited:
		return nil
	case <-timer.C:
		return timedOut(limit)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signal sends a signal to the whole group. That nobody is there any more is fine.
func (c *child) signal(s syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, s) }

// end ends the whole group, the program too if it still runs, and reaps the program.
// What of it still prints gets grace after SIGTERM. What moved to a group of its own
// may go on, but nobody listens to it any more.
func (c *child) end(grace time.Duration) syscall.WaitStatus {
	c.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, over := range []chan struct{}{c.exited, c.drained} {
		select {
		case <-over:
		case <-timer.C:
			timer.Reset(0)
		}
	}
	c.signal(syscall.SIGKILL)
	<-c.exited
	_ = c.out.SetReadDeadline(time.Now().Add(time.Second)) // what is in the pipe is read in no time
	<-c.drained
	c.out.Close()
	// The error says of the exit status what the state has, and no more: os/exec
	// copies nothing here.
	_ = c.cmd.Wait()
	status, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}
