package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) lock() *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "take a slot for a machine, until somebody unlocks it",
		ArgsUsage: "[MACHINE-ID]",
		Description: `The machine is this one unless named. Without -wait it fails where no slot is
free. With -wait it queues; an interrupt leaves the queue (exit status 130). A
pause does not hold it up: it is no reboot.`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "wait in the queue for a slot"},
		}, requestFlags()...),
		Action: a.action(1, runLock),
	}
}

// requestFlags are those of every command that asks for a slot.
func requestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "priority", Value: locksmith.DefaultPriority,
			Usage: "place in the queue: `N` from 0, the most urgent, to 9"},
		&cli.StringFlag{Name: "reason", Usage: "`TEXT` for people, shown in status"},
	}
}

func runLock(ctx context.Context, c *call) error {
	wait := c.cmd.Bool("wait")
	if c.cmd.IsSet("priority") && !wait {
		return options.Usagef("-priority is a place in the queue: give -wait with it")
	}
	if wait {
		if err := c.needEtcd("lock -wait"); err != nil {
			return err
		}
	}
	machine, own, err := c.machine()
	if err != nil {
		return fail("locking", err)
	}
	req, err := c.request(machine, own, locksmith.ByLock)
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	if wait {
		_, err = c.acquire(ctx, store, req)
		return err
	}
	_, err = store.TryAcquire(ctx, req)
	return c.lockError(req, err)
}

// request is what the options ask for.
func (c *call) request(machine string, own bool, by string) (locksmith.Request, error) {
	groups, err := c.groupList()
	if err != nil {
		return locksmith.Request{}, err
	}
	priority := c.cmd.Int("priority")
	if priority < locksmith.MinPriority || priority > locksmith.MaxPriority {
		return locksmith.Request{}, options.Usagef("invalid -priority %d: must be %d, the most urgent, to %d",
			priority, locksmith.MinPriority, locksmith.MaxPriority)
	}
	req := locksmith.Request{Groups: groups, MachineID: machine, By: by, Actor: c.deps.actor(),
		Reason: oneLine(c.cmd.String("reason")), Priority: priority}
	if own {
		req.Hostname = c.deps.hostname()
	}
	return req, nil
}

// acquire waits in the queue. An interrupt is an error with its own exit status,
// and leaves nothing held: a slot that was granted at that moment goes back.
func (c *call) acquire(ctx context.Context, store Store, req locksmith.Request) (locksmith.Slots, error) {
	waiting, stop := interruptible(ctx)
	defer stop()
	said := ""
	slots, err := store.Acquire(waiting, req, func(what string) {
		if what = oneLine(what); what != "" && what != said {
			fmt.Fprintf(c.stderr, "Waiting: %s\n", what)
		}
		said = what
	})
	var signal *interrupted
	if !errors.As(context.Cause(waiting), &signal) {
		return slots, c.lockError(req, err)
	}
	if err == nil {
		if err := store.Release(ctx, slots, locksmith.Result{Actor: req.Actor, Outcome: "interrupted"}); err != nil {
			return locksmith.Slots{}, &failure{fmt.Sprintf("Interrupted, but the slot had just been granted and "+
				"could not be given back: %v; give it back with: %s", err, c.unlockCommands(req)), signal.status()}
		}
	}
	return locksmith.Slots{}, &failure{"Interrupted: left the queue, nothing is held.", signal.status()}
}

// lockError reports why there is no slot. The wording for one group is what
// scripts read; with several the group that is full is named.
func (c *call) lockError(req locksmith.Request, err error) error {
	var full *locksmith.FullError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &full) && len(req.Groups) > 1:
		return fail("locking", fmt.Errorf("%s: %w", groupName(full.Group), err))
	}
	return fail("locking", err)
}
