package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Exit statuses of with-lock where the command could not run, as shells have them.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// How long with-lock tries to give a slot back while etcd is away. One left behind
// keeps every other machine of the group waiting.
const (
	giveBackFor   = 2 * time.Minute
	giveBackPause = time.Second
)

func (a *app) withLock() *cli.Command {
	first := 1
	return &cli.Command{
		Name:      "with-lock",
		Usage:     "run a command while holding a slot, and give the slot back when it ends",
		ArgsUsage: "-- COMMAND [ARGUMENT...]",
		Description: `Waits in the queue for a slot of this machine, runs the command and exits with its
exit status: 128+N where signal N killed it, 126 where it cannot be run, 127 where it
does not exist. Signals go on to the command, and the slot is given back after it
ended. Where locksmithctl itself is killed with SIGKILL the slot stays held. A pause
does not hold it up: it is no reboot.`,
		Flags:        requestFlags(),
		StopOnNthArg: &first, // the command's own options are not ours
		Action:       a.action(-1, runWithLock),
	}
}

func runWithLock(ctx context.Context, c *call) error {
	if len(c.args) == 0 {
		return options.Usagef("with-lock needs a command: with-lock -- COMMAND [ARGUMENT...]")
	}
	if err := c.needEtcd("with-lock"); err != nil {
		return err
	}
	path, err := lookCommand(c.args[0])
	if err != nil {
		return err
	}
	machine, err := c.deps.machineID()
	if err != nil {
		return fail("locking", err)
	}
	req, err := c.request(machine, true, locksmith.ByWithLock)
	if err != nil {
		return err
	}
	if req.Reason == "" {
		req.Reason = oneLine(filepath.Base(path)) // not its arguments: they may hold secrets
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()

	// From here on no signal may end the program before the slot is given back.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	slots, err := c.acquire(ctx, store, req)
	if err != nil {
		return err
	}
	status, outcome := c.runCommand(path, signals)
	if err := c.finish(ctx, store, slots, locksmith.Result{Actor: req.Actor, Outcome: outcome}, signals); err != nil {
		fmt.Fprintf(c.stderr, "Error unlocking: %v; give the slot back with: %s\n", err, c.unlockCommands(req))
		status = max(status, 1)
	}
	if status != 0 {
		return &failure{"", status}
	}
	return nil
}

// lookCommand finds the command before anything is locked for it.
func lookCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot) && path != "":
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", &failure{fmt.Sprintf("Error running %s: it is not an executable file", name), exitCannotRun}
	}
	return "", &failure{fmt.Sprintf("Error running %s: command not found", name), exitNotFound}
}

// runCommand runs the command to its end. outcome is for the history.
func (c *call) runCommand(path string, signals <-chan os.Signal) (status int, outcome string) {
	cmd := exec.Command(path, c.args[1:]...)
	cmd.Args[0] = c.args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(c.stderr, "Error running %s: %s\n", c.args[0], oneLine(err.Error()))
		return exitCannotRun, "command could not run"
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if !sentByTerminal(s) {
				_ = cmd.Process.Signal(s) // fails only where the command has just ended
			}
		case err := <-ended:
			return commandStatus(cmd, err)
		}
	}
}

func commandStatus(cmd *exec.Cmd, err error) (status int, outcome string) {
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), "command ended by " + unix.SignalName(ws.Signal())
	}
	status = cmd.ProcessState.ExitCode()
	if status == 0 && err != nil {
		status = 1 // its output could not be copied
	}
	return status, fmt.Sprintf("command ended with status %d", status)
}

// sentByTerminal says whether s came from a key of the terminal that this program
// runs on in the foreground. The terminal then sent it to the command as well,
// which must not get it twice: for many programs a second interrupt means "now".
func sentByTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// finish gives the slots back, and warns where they were lost before.
func (c *call) finish(ctx context.Context, store Store, slots locksmith.Slots, result locksmith.Result, signals <-chan os.Signal) error {
	found, err := store.Find(ctx, slots.Record.MachineID, slots.Groups)
	if err == nil && (len(found.Groups) < len(slots.Groups) || found.Record.Nonce != slots.Record.Nonce) {
		c.warn("the slot was taken away while the command ran; another machine may have been down at the same time")
	}
	give, cancel := context.WithTimeout(ctx, giveBackFor)
	defer cancel()
	pause := giveBackPause
	for {
		err := store.Release(give, slots, result)
		var away interface{ Transient() bool }
		if err == nil || !errors.As(err, &away) || !away.Transient() {
			return err
		}
		fmt.Fprintf(c.stderr, "Waiting to give the slot back: %s\n", oneLine(err.Error()))
		select {
		case <-time.After(pause):
			pause = min(2*pause, 10*time.Second)
		case <-signals:
			return err
		case <-give.Done():
			return err
		}
	}
}
