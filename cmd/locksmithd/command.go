package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/coordinator"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Names of the daemon's own options.
const (
	optStrategy       = "reboot-strategy"
	optWindowStart    = "reboot-window-start"
	optWindowLength   = "reboot-window-length"
	optWindowTimezone = "reboot-window-timezone"
	optPriority       = "priority"
	optLoginDelay     = "login-delay"
	optRebootGrace    = "reboot-grace"
	optLeaseTTL       = "lease-ttl"
	optControlSocket  = "control-socket"
	optCoordinator    = "coordinator-file"
	optLogFormat      = "log-format"
)

const description = `Waits until something says that this machine needs a reboot (the update engine, or
locksmithctl send-need-reboot), until the reboot window is open, and until the
machine holds a slot in each of its groups. Then it tells logged-in users, waits
for them, reboots, and gives the slots back once the machine is up again.

Settings come from the command line, which beats the environment, which beats
/etc/flatcar/update.conf, which beats /etc/coreos/update.conf. An empty variable
counts as unset. REBOOT_STRATEGY, REBOOT_WINDOW_START, REBOOT_WINDOW_LENGTH and
REBOOT_WINDOW_TIMEZONE count where the variable with the prefix is unset.

Strategies:
  etcd-lock    reboot only with a slot
  reboot       reboot without a slot
  best-effort  with a slot where etcd is running (an endpoint was given, a local
               etcd unit is not inactive, or the default endpoint answers), else without
  off          never reboot: the daemon says so and ends

Exit status: 0 after a clean stop, 1 where it cannot start or go on, 2 where the
command line is wrong.`

// command is the program's command line. start runs the daemon, with settings
// that were checked.
func command(program string, start func(context.Context, settings) error, h host) *cli.Command {
	prefix := options.Prefix(program)
	return &cli.Command{
		Name:            program,
		Usage:           "reboot this machine when it is its turn",
		Description:     description,
		Flags:           flags(prefix),
		HideHelpCommand: true,
		HideVersion:     true,
		OnUsageError:    options.OnUsageError,
		ExitErrHandler:  func(context.Context, *cli.Command, error) {},
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

func flags(prefix string) []cli.Flag {
	own := []cli.Flag{
		&cli.StringFlag{Name: optStrategy, Value: string(locksmith.StrategyBestEffort),
			Usage: "`STRATEGY` of coordination: etcd-lock, reboot, best-effort or off"},
		&cli.StringFlag{Name: optWindowStart,
			Usage: "`START` of the reboot window, [Day ]HH:MM, Day one of Sun Mon Tue Wed Thu Fri Sat; with a day once a week, else every day"},
		&cli.StringFlag{Name: optWindowLength,
			Usage: "length of the reboot window, a `DURATION` such as 1h30m; less than 24h, with a day less than 168h"},
		&cli.StringFlag{Name: optWindowTimezone,
			Usage: "time `ZONE` of the reboot window, such as Europe/Berlin; without it local time"},
		&cli.IntFlag{Name: optPriority, Value: locksmith.DefaultPriority,
			Usage: "place in the queue, a `NUMBER` from 0 (most urgent) to 9"},
		&cli.DurationFlag{Name: optLoginDelay, Value: agent.DefaultLoginDelay,
			Usage: "`DURATION` that logged-in users are given before the reboot; 0: no delay and no message"},
		&cli.DurationFlag{Name: optRebootGrace, Value: agent.DefaultRebootGrace,
			Usage: "`DURATION` after which a reboot that was accepted and did not happen has failed"},
		&cli.DurationFlag{Name: optLeaseTTL, Value: etcd.DefaultLeaseTTL,
			Usage: "`DURATION`, in whole seconds, after which a machine that fell silent counts as gone and leaves the queue; slots are not affected"},
		&cli.StringFlag{Name: optControlSocket, Value: control.DefaultPath, TakesFile: true,
			Usage: "`FILE` of the local control socket"},
		&cli.StringFlag{Name: optCoordinator, Value: coordinator.DefaultPath, TakesFile: true,
			Usage: "`FILE` in which the update engine is told about this coordinator"},
		&cli.StringFlag{Name: optLogFormat, Value: "text",
			Usage: "`FORMAT` of the log on standard error: text or json"},
	}
	list := append(options.EtcdFlags(prefix), options.GroupFlag())
	list = append(list, own...)
	return append(list, options.DebugFlag(), options.VersionFlag())
}

// whole says whether d is a whole number of seconds.
func whole(d time.Duration) bool { return d%time.Second == 0 }
