package cli

import (
	"context"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) help() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "describe the program or one of its commands",
		ArgsUsage: "[COMMAND]",
		Action: a.action(-1, func(_ context.Context, c *call) error {
			cmd := c.cmd.Root()
			for _, name := range c.args {
				sub := cmd.Command(name)
				if sub == nil {
					return a.unknownCommand(cmd, name)
				}
				cmd = sub
			}
			options.PrintHelp(a.stdout, cmd)
			return nil
		}),
	}
}

// unknownCommand reports a word that is no command below cmd.
func (a *app) unknownCommand(cmd *cli.Command, name string) error {
	var known []string
	for _, c := range cmd.Commands {
		if !c.Hidden {
			known = append(known, c.Name)
		}
	}
	return &misuse{options.Usagef("unknown command %q%s", name, options.DidYouMean(name, known, "")), cmd}
}

// completion trims the library's completion command to the shells people have
// where locksmith runs.
func (a *app) completion(c *cli.Command) {
	c.Hidden = false
	c.Usage = "print a completion script for bash, zsh or fish"
	c.ArgsUsage = "bash|zsh|fish"
	c.Description = `bash: in ~/.bashrc
    source <(PROGRAM completion bash)
zsh: in ~/.zshrc
    source <(PROGRAM completion zsh)
fish:
    PROGRAM completion fish > ~/.config/fish/completions/PROGRAM.fish`
	c.Commands = slices.DeleteFunc(c.Commands, func(shell *cli.Command) bool { return shell.Name == "pwsh" })
	c.Action = a.action(-1, func(_ context.Context, run *call) error {
		if len(run.args) == 0 {
			return options.Usagef("completion needs the name of a shell: bash, zsh or fish")
		}
		return options.Usagef("no completion for %q: must be bash, zsh or fish", run.args[0])
	})
	a.adopt(c)
	for _, shell := range c.Commands {
		shell.Usage = "print the completion script for " + shell.Name
		script := shell.Action
		shell.Action = a.action(0, func(ctx context.Context, run *call) error { return script(ctx, run.cmd) })
		a.adopt(shell)
	}
}
