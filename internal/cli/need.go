package cli

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) sendNeedReboot() *cli.Command {
	return &cli.Command{
		Name:  "send-need-reboot",
		Usage: "tell this machine's locksmithd that a reboot is needed",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for people, shown in status"},
			&cli.BoolFlag{Name: "cancel", Usage: "take an earlier request back"},
		},
		Description: `The machine then waits for its window and its slot like after any update. Needs root.`,
		Action: a.action(0, func(ctx context.Context, c *call) error {
			reason := oneLine(c.cmd.String("reason"))
			ctx, cancel := context.WithTimeout(ctx, c.cmd.Duration(options.Timeout))
			defer cancel()
			if !c.cmd.Bool("cancel") {
				if err := c.daemon().NeedReboot(ctx, reason); err != nil {
					return fail("requesting a reboot", err)
				}
				return nil
			}
			if reason != "" {
				return options.Usagef("-reason is for a request: leave it out with -cancel")
			}
			if err := c.daemon().CancelReboot(ctx); err != nil {
				return fail("cancelling the reboot", err)
			}
			return nil
		}),
	}
}
