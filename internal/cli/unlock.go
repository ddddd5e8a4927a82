package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
)

func (a *app) unlock() *cli.Command {
	return &cli.Command{
		Name:      "unlock",
		Usage:     "take a machine's slot away, so that the next one can have it",
		ArgsUsage: "[MACHINE-ID]",
		Description: `The machine is this one unless named. Only unlock a machine that is up and done,
or that will not come back by itself: the next one goes down as soon as it has the slot.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the history"},
		},
		Action: a.action(1, runUnlock),
	}
}

func runUnlock(ctx context.Context, c *call) error {
	machine, _, err := c.machine()
	if err != nil {
		return fail("unlocking", err)
	}
	groups, err := c.groupList()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	result := locksmith.Result{Actor: c.deps.actor(), Outcome: locksmith.OutcomeUnlocked}
	if reason := oneLine(c.cmd.String("reason")); reason != "" {
		result.Outcome += ": " + reason
	}
	for _, g := range groups {
		if err := store.Unlock(ctx, g, machine, result); err != nil {
			if len(groups) > 1 {
				err = fmt.Errorf("%s: %w", groupName(g), err)
			}
			return fail("unlocking", err)
		}
	}
	return nil
}

// unlockCommands are the command lines that take away what req asked for.
func (c *call) unlockCommands(req locksmith.Request) string {
	var lines []string
	for _, g := range req.Groups {
		lines = append(lines, c.unlockCommand(g, req.MachineID))
	}
	return strings.Join(lines, "; ")
}
