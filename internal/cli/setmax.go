package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"
)

func (a *app) setMax() *cli.Command {
	return &cli.Command{
		Name:      "set-max",
		Usage:     "set how many machines of a group may be down at the same time",
		ArgsUsage: "N",
		Description: `0 stops all further reboots. A maximum below the number of holders takes no slot
away: nobody gets one until enough of them came back.`,
		Action: a.action(1, runSetMax),
	}
}

func runSetMax(ctx context.Context, c *call) error {
	if len(c.args) == 0 {
		return &failure{"New maximum value must be set.", 1}
	}
	n, err := strconv.ParseInt(c.args[0], 10, 32)
	if err != nil || n < 0 {
		return &failure{"Invalid maximum value: " + c.args[0], 1}
	}
	group, err := c.oneGroup()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	old, err := store.SetMax(ctx, group, int(n), c.deps.actor())
	if err != nil {
		return fail("setting maximum", err)
	}
	return c.write(fmt.Sprintf("Old: %d\nNew: %d\n", old, n))
}
