package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

const description = `Waits until something says that this machine needs a reboot (a trigger, or
locksmithctl send-need-reboot), until the reboot window is open and nothing blocks,
and until the machine holds a slot in each of its groups. Then it runs the prepare
hooks, tells logged-in users, waits for them and reboots. Back again, it checks the
machine, runs the restore hooks and gives the slots back. locksmithctl why shows
what it waits for.

Settings come from the command line, which beats the environment, which beats
/etc/flatcar/update.conf, which beats /etc/coreos/update.conf. An empty variable
counts as unset. REBOOT_STRATEGY, REBOOT_WINDOW_START, REBOOT_WINDOW_LENGTH and
REBOOT_WINDOW_TIMEZONE count where the variable with the prefix is unset.

Strategies:
  etcd-lock    reboot only with a slot
  reboot       reboot without a slot
  best-effort  with a slot where etcd is running (an endpoint was given, a local
               etcd unit is not inactive, or the default endpoint answers), else without
  fleet-lock   reboot only with a slot, which a FleetLock server keeps (locksmith-server,
               airlock, or any other)
  off          never reboot: the daemon says so and ends

Exit status: 0 after a clean stop, 1 where it cannot start or go on, 2 where the
command line is wrong.`

// commandLine is the program's command line. start runs the daemon, with settings
// that were checked.
func commandLine(program string, start func(context.Context, settings) error, h host) *cli.Command {
	prefix := options.Prefix(program)
	return &cli.Command{
		Name:            program,
		Usage:           "reboot this machine when it is its turn",
		Description:     description,
		Flags:           flags(prefix),
		HideHelpCommand: true,
		HideVersion:     true,
		// Windows have commas of their own.
		DisableSliceFlagSeparator: true,
		OnUsageError:              options.OnUsageError,
		ExitErrHandler:            func(context.Context, *cli.Command, error) {},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Bool(options.Version) {
				_, err := fmt.Fprintf(cmd.Root().Writer, "%s version %s\n", program, options.BuildVersion())
				return err
			}
			if cmd.Args().Present() {
				return options.Usagef("unexpected argument %q: %s takes options only", cmd.Args().First(), program)
			}
			s, err := readSettings(cmd, prefix, h)
			if err != nil {
				return err
			}
			return start(ctx, s)
		},
	}
}

// whole says whether d is a whole number of seconds.
func whole(d time.Duration) bool { return d%time.Second == 0 }
