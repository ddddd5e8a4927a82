package main

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Names of the demo's options.
const (
	optMachines   = "machines"
	optMax        = "max"
	optDown       = "down"
	optStay       = "stay"
	optEtcdListen = "etcd-listen" // the server has it too
	optDir        = "dir"
	optPlain      = "plain"
)

// Bounds of the demo. Each machine has a connection of its own, as a real one has,
// and both of its ends are in this process.
const (
	mostMachines = 1000
	longestDown  = 10 * time.Minute
)

const demoDescription = `Starts an etcd, and on it a number of machines that all need a reboot at once.
The machines run the agent that real machines run; only their reboot is
simulated: the agent stops, and after a while it is back with another boot id.
They wait in the queue, reboot at most as many at a time as -max allows, prove
their boot and give their slots back. Then the demo ends with a summary of what
it observed. A browser shows it too, on the dashboard; to look around there,
give -stay.

On a terminal a table shows where each machine is, in colour unless NO_COLOR is
set. Elsewhere, and with -plain, each change of phase is a line.

Exit status: 0 if each machine rebooted exactly once and never more than max
were down at once; 1 if not; 128 and the signal's number if it was interrupted
before that.`

// demoSettings is what the demo is asked for, checked.
type demoSettings struct {
	machines int
	max      int
	down     time.Duration
	groups   []locksmith.Group
	stay     bool
	listen   string // IP:PORT of etcd; empty: a free port on loopback
	web      string // HOST:PORT of the dashboard, likewise
	dir      string // empty: a temporary one
	plain    bool
}

func (a *app) demo() *cli.Command {
	return &cli.Command{
		Name:        "demo",
		Usage:       "watch simulated machines reboot a few at a time",
		Description: demoDescription,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: optMachines, Value: 5, Usage: "`NUMBER` of machines, 1 to 1000"},
			&cli.IntFlag{Name: optMax, Value: 1, Usage: "how many may be down at a time, a `NUMBER` from 1"},
			&cli.DurationFlag{Name: optDown, Value: 3 * time.Second,
				Usage: "`DURATION` for which a machine is down; each time up to a quarter more, at random"},
			options.GroupFlag(),
			&cli.BoolFlag{Name: optStay, Usage: "keep the machines up after the last reboot, until Ctrl-C"},
			&cli.StringFlag{Name: optListen, Usage: "`HOST:PORT` of this machine at which the dashboard is served; without it a free port on loopback"},
			&cli.StringFlag{Name: optEtcdListen, Usage: "`IP:PORT` at which etcd serves clients; without it a free port on loopback"},
			&cli.StringFlag{Name: optDir, TakesFile: true,
				Usage: "`DIRECTORY` in which etcd's data stays; without it a temporary one that is removed at the end"},
			&cli.BoolFlag{Name: optPlain, Usage: "print lines even on a terminal"},
		},
		Action: a.action(0, func(ctx context.Context, cmd *cli.Command) error {
			s, err := readDemo(cmd)
			if err != nil {
				return err
			}
			ctx, release := interruptible(ctx)
			defer release()
			return a.runDemo(ctx, s)
		}),
	}
}

func readDemo(cmd *cli.Command) (demoSettings, error) {
	s := demoSettings{
		machines: cmd.Int(optMachines), max: cmd.Int(optMax), down: cmd.Duration(optDown),
		stay: cmd.Bool(optStay), plain: cmd.Bool(optPlain),
		listen: cmd.String(optEtcdListen), web: cmp.Or(cmd.String(optListen), "127.0.0.1:0"), dir: cmd.String(optDir),
	}
	var err error
	if s.groups, err = locksmith.ParseGroups(cmd.String(options.Group)); err != nil {
		return demoSettings{}, options.Usagef("%v", err)
	}
	if err := access.CheckListen(s.web, false, false); err != nil {
		return demoSettings{}, options.Usagef("invalid -%s %q: must be an address of this machine and a port, such as %s: anybody may do anything there", optListen, s.web, defaultListen)
	}
	switch {
	case s.machines < 1 || s.machines > mostMachines:
		return demoSettings{}, options.Usagef("invalid -%s %d: must be 1 to %d", optMachines, s.machines, mostMachines)
	case s.max < 1:
		return demoSettings{}, options.Usagef("invalid -%s %d: must be 1 or more, or no machine could ever reboot", optMax, s.max)
	case s.down <= 0 || s.down > longestDown:
		return demoSettings{}, options.Usagef("invalid -%s %v: must be more than 0 and at most %v", optDown, s.down, longestDown)
	case s.listen != "":
		if _, err := netip.ParseAddrPort(s.listen); err != nil {
			return demoSettings{}, options.Usagef("invalid -%s %q: must be an IP address and a port, such as 127.0.0.1:2379", optEtcdListen, s.listen)
		}
	}
	return s, nil
}
