package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) reboot() *cli.Command {
	return &cli.Command{
		Name:  "reboot",
		Usage: "take a slot for this machine, then reboot it",
		Description: `Needs root. Without -wait it fails where no slot is free. Windows do not count: this
is an administrator's decision. A pause does count. After the reboot locksmithd gives
the slot back once the machine passed its checks. Where the machine held a slot
through lock already, that one serves, and stays held.`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "wait in the queue for a slot"},
		}, requestFlags()...),
		Action: a.action(0, runReboot),
	}
}

func runReboot(ctx context.Context, c *call) error {
	if c.cmd.IsSet("priority") && !c.cmd.Bool("wait") {
		return options.Usagef("-priority is a place in the queue: give -wait with it")
	}
	if err := c.needEtcd("reboot"); err != nil {
		return err
	}
	req, err := c.rebootRequest()
	if err != nil {
		return fail("rebooting", err)
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	slots, taken, err := c.rebootSlots(ctx, store, req)
	if err != nil {
		return err
	}
	if left, err := c.rebootNow(ctx, store, slots); err != nil {
		if taken {
			err = c.undo(ctx, store, left, req, err)
		}
		return fail("rebooting", c.pausedError(err))
	}
	return nil
}

func (c *call) rebootRequest() (locksmith.Request, error) {
	if c.deps.Euid() != 0 {
		return locksmith.Request{}, errors.New("only root may reboot the machine; run it with sudo")
	}
	machine, err := c.deps.machineID()
	if err != nil {
		return locksmith.Request{}, err
	}
	req, err := c.request(machine, true, locksmith.ByReboot)
	if err != nil {
		return locksmith.Request{}, err
	}
	// Without it locksmithd could not tell afterwards that the reboot happened.
	if req.BootID, err = readLine(c.deps.BootIDFile); err != nil {
		return locksmith.Request{}, fmt.Errorf("this boot's id is unknown: %w", err)
	}
	return req, nil
}

// rebootSlots takes the slots, or finds that an administrator took them for this
// machine before. taken says that they were taken now.
func (c *call) rebootSlots(ctx context.Context, store Store, req locksmith.Request) (slots locksmith.Slots, taken bool, err error) {
	if c.cmd.Bool("wait") {
		slots, err = c.acquire(ctx, store, req)
	} else if slots, err = store.TryAcquire(ctx, req); errors.Is(err, locksmith.ErrHolderExists) {
		held, findErr := store.Find(ctx, req.MachineID, req.Groups)
		if findErr == nil && len(held.Groups) == len(req.Groups) && administrators(held.Record) {
			// The store lets a slot that was taken by hand pass a pause, as no
			// reboot's; this makes it one.
			return held, false, fail("rebooting", c.pausedFor(ctx, store, req))
		}
	}
	if _, paused := errors.AsType[*locksmith.PausedError](err); paused {
		return slots, false, fail("rebooting", c.pausedError(err))
	}
	return slots, err == nil, c.lockError(req, err)
}

// administrators says whether a slot was taken by hand, so that a reboot by hand
// may use it. locksmithd's own is in the middle of something, and a command's was
// taken to keep the machine up.
func administrators(h locksmith.Holder) bool {
	return h.By == locksmith.ByLock || h.By == locksmith.ByReboot || h.By == ""
}

// rebootNow writes the intent, then asks for the reboot. left is what is still held where
// that fails.
func (c *call) rebootNow(ctx context.Context, store Store, slots locksmith.Slots) (left locksmith.Slots, err error) {
	slots, err = store.Advance(ctx, slots, locksmith.PhaseRebooting, slots.Record.Reason)
	if err != nil {
		return slots, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cmd.Duration(options.Timeout))
	defer cancel()
	return slots, c.deps.Reboot(ctx)
}

// undo gives back what was taken for a reboot that does not happen, and is still held.
func (c *call) undo(ctx context.Context, store Store, slots locksmith.Slots, req locksmith.Request, cause error) error {
	switch {
	case len(slots.Groups) == 0:
		return cause
	case errors.Is(cause, ErrMayReboot):
		return fmt.Errorf("%w; the slot stays held; if the machine stays up, give it back with: %s", cause, c.unlockCommands(req))
	}
	result := locksmith.Result{Actor: req.Actor, Outcome: locksmith.OutcomeRebootFailed + ": " + oneLine(cause.Error())}
	if err := store.Release(ctx, slots, result); err != nil {
		return fmt.Errorf("%w; the slot could not be given back either: %w; give it back with: %s", cause, err, c.unlockCommands(req))
	}
	return fmt.Errorf("%w; the slot was given back", cause)
}
