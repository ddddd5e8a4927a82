package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/hook"
	"github.com/locksmith-reboot/locksmith/internal/login1"
	"github.com/locksmith-reboot/locksmith/internal/packages"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// hooks are the site's own programs around a reboot; nil: there are none.
func (d *daemon) hooks(s settings) (*hook.Hooks, error) {
	if s.hookDir == "" {
		return nil, nil
	}
	return hook.New(hook.Config{
		Dir: s.hookDir, StateDir: s.stateDir, Runner: d.runner, MachineID: d.me.MachineID, Groups: s.groups,
		Timeout: s.hookTimeout, TotalTimeout: s.hookTotalTimeout, Log: d.log,
	})
}

// blockers are what may keep the machine from rebooting, besides its window.
func (d *daemon) blockers(s settings, h host, machine *login1.Machine, hooks *hook.Hooks, triggers []agent.Trigger) []agent.Check {
	list := []agent.Check{machine.Inhibitors(), &atWork{Check: packages.New(h.root), triggers: triggers}}
	if s.loginPolicy == loginBlock {
		list = append(list, machine.Users())
	}
	if s.alerts != nil {
		list = append(list, s.alerts)
	}
	if hooks != nil {
		list = append(list, hooks.Checks())
	}
	return list
}

// atWork is the check for a package manager. When one has ended its work, the commands
// that say whether a reboot is needed are asked anew.
type atWork struct {
	agent.Check
	triggers []agent.Trigger
	was      atomic.Bool
}

func (c *atWork) Run(ctx context.Context, about agent.About) error {
	err := c.Check.Run(ctx, about)
	if was := c.was.Swap(err != nil); was && err == nil {
		trigger.Recheck(c.triggers)
	}
	return err
}

// verifiers are what has to pass after a reboot.
func (d *daemon) verifiers(s settings, hooks *hook.Hooks) (list []agent.Check) {
	if len(s.verifyUnits) > 0 {
		list = append(list, d.systemd.UnitsActive(s.verifyUnits))
	}
	if len(s.verifySystem) > 0 {
		list = append(list, d.systemd.SystemState(s.verifySystem))
	}
	if hooks != nil {
		list = append(list, hooks.Verifier())
	}
	return list
}

// rebooter is logind's machine, which can also reboot by an administrator's command.
type rebooter struct {
	*login1.Machine
	runner   *command.Runner
	settings settings
}

// Reboot asks logind, or runs the command and takes the exit status 0 for "accepted".
func (r rebooter) Reboot(ctx context.Context, method locksmith.Method) error {
	if method != locksmith.MethodCommand {
		return r.Machine.Reboot(ctx, method)
	}
	line := r.settings.command
	result, err := r.runner.Run(ctx, command.Spec{Name: "reboot", Path: line[0], Args: line[1:], Timeout: r.settings.hookTimeout})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", line[0], err)
	case result.ExitCode != 0:
		return fmt.Errorf("%s: exit status %d: %s", line[0], result.ExitCode, result.Output)
	}
	return nil
}
