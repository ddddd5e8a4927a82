// Command locksmith-server is one semaphore for every kind of machine: it serves
// FleetLock, an API and a dashboard, on an etcd of its own or on a cluster. Its demo
// runs a whole fleet of simulated machines on it.
//
// This package reads command lines, wires the parts and shows what they do. It
// must not decide anything about reboots itself. It is the only program that links
// the etcd server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr, surroundings{os.Environ(), connect}))
}

// surroundings is what the commands find around them. Tests have their own.
type surroundings struct {
	environ []string                              // KEY=value, as os.Environ returns them
	connect func(etcd.Config) (fleet.Lock, error) // a simulated machine to the lock
}

func connect(cfg etcd.Config) (fleet.Lock, error) {
	s, err := etcd.Dial(cfg)
	if err != nil { // or a nil *Store in the interface would not be nil
		return nil, err
	}
	return s, nil
}

// failure is an error with an exit status other than 1.
type failure struct {
	message string
	status  int
}

func (f *failure) Error() string { return f.message }

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal syscall.Signal }

func (i *interrupted) Error() string { return "stopped by " + unix.SignalName(i.signal) }

// failure is how a command ends that the signal kept from its end.
func (i *interrupted) failure() error { return &failure{i.Error(), 128 + int(i.signal)} }

// run runs one command line and returns the exit status: 0, 1 where the command
// failed, 2 where the command line is wrong, 128 and the signal's number where a
// signal cut short what was to end by itself.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, around surroundings) int {
	program := options.ProgramName(args[0])
	a := &app{program: program, stdout: stdout, stderr: stderr, around: around}
	err := a.root().Run(ctx, args)
	if err == nil {
		err = a.notFound
	}
	if err == nil {
		return 0
	}
	line := strings.Join(strings.Fields(err.Error()), " ")
	if _, ok := errors.AsType[*options.UsageError](err); ok {
		help := program + " help"
		if a.misused != nil && a.misused != a.misused.Root() {
			help += " " + a.misused.Name
		}
		fmt.Fprintf(stderr, "%s: %s (see %s)\n", program, line, help)
		return options.ExitUsage
	}
	fmt.Fprintf(stderr, "Error: %s\n", line)
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	return 1
}

// app is one run of the program.
type app struct {
	program string
	stdout  io.Writer
	stderr  io.Writer
	around  surroundings

	misused  *cli.Command // whose options or arguments are wrong
	notFound error        // what the library found wrong where it lets nobody return an error
}

const description = `Without a command it serves: FleetLock (for Zincati and whoever else speaks
it), an API, a dashboard and metrics at -listen. The slots are kept in an etcd
that runs inside, with its data in -data-dir, which locksmithctl and locksmithd
may use too, at -etcd-listen. With -endpoint they are kept in that etcd cluster
instead; then any number of servers may run side by side.

Without -access-file everybody who reaches it may do everything, so only this
machine does, unless -insecure-listen says otherwise.

Settings come from the command line, which beats the environment. An empty
variable counts as unset, and one with the prefix that no option has is
refused.

To see what it is like first: PROGRAM demo -stay

Exit status: 0 after a clean stop, 1 where it cannot start or go on or a
command failed, 2 where the command line is wrong.`

func (a *app) root() *cli.Command {
	one := 1
	root := &cli.Command{
		Name:            a.program,
		Usage:           "serve reboot slots to a fleet, with an etcd of its own or on a cluster",
		ArgsUsage:       "[COMMAND]",
		Description:     description,
		Flags:           serveFlags(options.Prefix(a.program)),
		Writer:          a.stdout,
		ErrWriter:       a.stderr,
		HideHelpCommand: true, // ours, because the library's also sits below every command
		HideVersion:     true,
		StopOnNthArg:    &one, // an unknown command is reported before its options are
		ExitErrHandler:  func(context.Context, *cli.Command, error) {},
		Commands:        []*cli.Command{a.snapshot(), a.restore(), a.importAirlock(), a.token(), a.demo(), a.help()},
	}
	root.Action = func(ctx context.Context, cmd *cli.Command) error {
		switch {
		case cmd.Bool(options.Version):
			return a.printVersion()
		case cmd.Args().Present():
			return unknownCommand(cmd, cmd.Args().First())
		}
		s, err := a.readServe(cmd)
		if err != nil {
			return err
		}
		return a.serve(ctx, s)
	}
	for _, c := range append([]*cli.Command{root}, root.Commands...) {
		c.OnUsageError = func(ctx context.Context, cmd *cli.Command, err error, sub bool) error {
			a.misused = cmd
			return options.OnUsageError(ctx, cmd, err, sub)
		}
		c.CommandNotFound = func(_ context.Context, cmd *cli.Command, name string) {
			a.notFound = unknownCommand(cmd.Root(), name)
		}
	}
	return root
}

// action wraps what a command does: it answers -version, refuses arguments beyond
// maxArgs, and notes which command's help to read.
func (a *app) action(maxArgs int, do func(context.Context, *cli.Command) error) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Bool(options.Version) {
			return a.printVersion()
		}
		a.misused = cmd
		for _, f := range cmd.Root().Flags {
			if name := f.Names()[0]; f.IsSet() && name != options.Version {
				return options.Usagef("-%s before %s is an option of the server: options of %s stand after it", name, cmd.Name, cmd.Name)
			}
		}
		if cmd.Args().Len() > maxArgs {
			return options.Usagef("unexpected argument %q after %s", cmd.Args().Get(maxArgs), cmd.Name)
		}
		return do(ctx, cmd)
	}
}

func (a *app) help() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "describe the program or one of its commands",
		ArgsUsage: "[COMMAND]",
		Action: a.action(1, func(_ context.Context, cmd *cli.Command) error {
			about := cmd.Root()
			if name := cmd.Args().First(); name != "" {
				if about = about.Command(name); about == nil {
					a.misused = nil
					return unknownCommand(cmd.Root(), name)
				}
			}
			options.PrintHelp(a.stdout, about)
			return nil
		}),
	}
}

// unknownCommand reports a word that is no command of the program's.
func unknownCommand(root *cli.Command, name string) error {
	var known []string
	for _, c := range root.Commands {
		known = append(known, c.Name)
	}
	return options.Usagef("unknown command %q%s", name, options.DidYouMean(name, known, ""))
}

func (a *app) printVersion() error {
	_, err := fmt.Fprintf(a.stdout, "%s version %s\n", a.program, options.BuildVersion())
	return err
}

// interruptible ends the context it returns with an *interrupted cause when the
// program is told to stop. A second signal ends the program at once.
func interruptible(parent context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			cancel(&interrupted{s.(syscall.Signal)})
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() { cancel(nil); <-done }
}
