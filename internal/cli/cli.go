package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Run runs one command line, args[0] being the program's name, and returns the
// exit status: 0, 1 where the command failed, 2 where the command line is wrong,
// and what reboot, lock -wait and with-lock say in their help.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, deps Deps) int {
	log.SetOutput(io.Discard) // net/http's remarks: what goes wrong is an error, too
	a := newApp(args[0], stdin, stdout, stderr, deps)
	return a.exitStatus(a.root().Run(ctx, args))
}

// app is one run of the program.
type app struct {
	deps    Deps
	program string // as it was called
	prefix  string // of its environment variables
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer

	notFound error // what the library found wrong where it lets nobody return an error
}

func newApp(argv0 string, stdin io.Reader, stdout, stderr io.Writer, deps Deps) *app {
	program := options.ProgramName(argv0)
	return &app{deps: deps.withDefaults(), program: program, prefix: options.Prefix(program),
		stdin: stdin, stdout: stdout, stderr: stderr}
}

// root is the tree of all commands.
func (a *app) root() *cli.Command {
	one := 1
	root := &cli.Command{
		Name:  a.program,
		Usage: "watch and steer the reboots of a fleet",
		Flags: slices.Concat(options.EtcdFlags(a.prefix), options.ServerFlags(a.prefix),
			[]cli.Flag{options.GroupFlag(), options.ControlSocketFlag(), options.DebugFlag(), options.VersionFlag()}),

		Reader: a.stdin, Writer: a.stdout, ErrWriter: a.stderr,
		HideHelpCommand: true, // ours, because the library's also sits below every command and eats machine ids
		HideVersion:     true, // ours may stand after the command too
		StopOnNthArg:    &one, // an unknown command is reported before its options are
		ExitErrHandler:  func(context.Context, *cli.Command, error) {},

		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: a.completion,
		Commands: []*cli.Command{
			a.status(), a.watch(), a.lock(), a.unlock(), a.setMax(), a.groups(), a.machines(), a.why(), a.window(), a.history(),
			a.pause(), a.resume(), a.pauses(), a.withLock(), a.reboot(), a.sendNeedReboot(), a.help(),
		},
	}
	root.Action = func(_ context.Context, cmd *cli.Command) error {
		switch name := cmd.Args().First(); {
		case cmd.Bool(options.Version):
			return a.printVersion()
		case cmd.Args().Present():
			return a.unknownCommand(cmd, name)
		}
		options.PrintHelp(a.stdout, cmd)
		return nil
	}
	a.adopt(root)
	for _, c := range root.Commands {
		a.adopt(c)
	}
	return root
}

// adopt gives a command our way to report a wrong command line.
func (a *app) adopt(c *cli.Command) {
	c.OnUsageError = func(ctx context.Context, cmd *cli.Command, err error, sub bool) error {
		return &misuse{options.OnUsageError(ctx, cmd, err, sub), cmd}
	}
	c.CommandNotFound = func(_ context.Context, cmd *cli.Command, name string) {
		a.notFound = a.unknownCommand(cmd, name)
	}
}

// misuse is a wrong command line together with the command whose help tells more.
type misuse struct {
	err error
	cmd *cli.Command
}

func (m *misuse) Error() string { return m.err.Error() }
func (m *misuse) Unwrap() error { return m.err }

// failure is an error with the line that reports it and its exit status.
type failure struct {
	line   string // empty: nothing more to say
	status int
}

func (f *failure) Error() string { return f.line }

// fail reports err as what happened while doing something: "Error locking: …".
// Wrong command lines stay what they are.
func fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	var usage *options.UsageError
	var done *failure
	if errors.As(err, &usage) || errors.As(err, &done) {
		return err
	}
	return &failure{fmt.Sprintf("Error %s: %v", doing, err), 1}
}

// exitStatus reports err and says how the program ends.
func (a *app) exitStatus(err error) int {
	if err == nil {
		err = a.notFound
	}
	var done *failure
	var usage *options.UsageError
	var where *misuse
	switch {
	case err == nil:
		return 0
	case errors.As(err, &done):
		if done.line != "" {
			fmt.Fprintln(a.stderr, oneLine(done.line))
		}
		return done.status
	case errors.As(err, &usage):
		help := a.program + " help"
		if errors.As(err, &where) && where.cmd != where.cmd.Root() {
			help += strings.TrimPrefix(where.cmd.FullName(), a.program)
		}
		fmt.Fprintf(a.stderr, "%s: %s (see %s)\n", a.program, oneLine(usage.Message), help)
		return options.ExitUsage
	}
	fmt.Fprintf(a.stderr, "Error: %s\n", oneLine(err.Error()))
	return 1
}

// call is one command being run.
type call struct {
	*app
	cmd  *cli.Command
	args []string

	given []string // the options of every command that are on the command line, not from the environment
}

// isGiven says whether an option is on the command line.
func (c *call) isGiven(name string) bool { return slices.Contains(c.given, name) }

// action wraps what a command does: it completes the options, refuses more than
// maxArgs arguments (-1: any number) and says which command's help to read.
func (a *app) action(maxArgs int, run func(context.Context, *call) error) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Bool(options.Version) {
			return a.printVersion()
		}
		c := &call{app: a, cmd: cmd, args: cmd.Args().Slice()}
		for _, f := range cmd.Root().Flags {
			if name := f.Names()[0]; cmd.IsSet(name) {
				c.given = append(c.given, name)
			}
		}
		err := options.FromEnv(cmd.Root().Flags, a.prefix, a.deps.LookupEnv)
		if err == nil && maxArgs >= 0 && len(c.args) > maxArgs {
			err = options.Usagef("unexpected argument %q after %s", c.args[maxArgs], cmd.Name)
		}
		if err == nil {
			err = run(ctx, c)
		}
		var usage *options.UsageError
		var where *misuse
		if errors.As(err, &usage) && !errors.As(err, &where) {
			return &misuse{err, cmd}
		}
		return err
	}
}

// daemon is the locksmithd of this machine.
func (c *call) daemon() Daemon { return c.deps.Daemon(c.cmd.String(options.ControlSocket)) }

// groupList is what -group names.
func (c *call) groupList() ([]locksmith.Group, error) {
	groups, err := locksmith.ParseGroups(c.cmd.String(options.Group))
	if err != nil {
		return nil, options.Usagef("%v", err)
	}
	return groups, nil
}

// oneGroup is what -group names, for commands that look at one group.
func (c *call) oneGroup() (locksmith.Group, error) {
	groups, err := c.groupList()
	if err != nil {
		return "", err
	}
	if len(groups) > 1 {
		return "", options.Usagef("%s takes one group, -%s names %d", c.cmd.Name, options.Group, len(groups))
	}
	return groups[0], nil
}

// machine is the first argument, or this machine.
func (c *call) machine() (id string, own bool, err error) {
	mine, mineErr := c.deps.machineID()
	if len(c.args) == 0 {
		return mine, true, mineErr
	}
	if err := locksmith.CheckMachineID(c.args[0]); err != nil {
		return "", false, options.Usagef("%v", err)
	}
	return c.args[0], mineErr == nil && mine == c.args[0], nil
}

// write writes a command's whole output at once.
func (a *app) write(text string) error {
	if _, err := io.WriteString(a.stdout, text); err != nil {
		return fail("writing output", err)
	}
	return nil
}

// warn says something worth knowing that is no failure.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "Warning: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

func (a *app) printVersion() error {
	return a.write(fmt.Sprintf("%s version %s\n", a.program, options.BuildVersion()))
}
