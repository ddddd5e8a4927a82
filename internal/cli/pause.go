package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) pause() *cli.Command {
	return &cli.Command{
		Name:  "pause",
		Usage: "keep a group, all groups or one machine from starting reboots",
		Flags: append(scopeFlags("pause"),
			&cli.StringFlag{Name: "until", Usage: "end by itself at `WHEN`: a duration (4h, 2d), a time (18:00), " +
				"a date and time (\"2026-12-24 18:00\"), or RFC 3339; without it only resume ends it"},
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for people, shown wherever somebody waits; required"},
		),
		Description: `Without -group, -all or -machine it is the default group that is paused. Nobody in a
paused group is given a slot for a reboot, and who has one does not start its reboot;
what is rebooting already goes on. A machine whose groups are all paused keeps its place
in the queue. A second pause of the same replaces the first. A pause does not hold up
lock and with-lock, which are no reboots.`,
		Action: a.action(0, runPause),
	}
}

func (a *app) resume() *cli.Command {
	return &cli.Command{
		Name:   "resume",
		Usage:  "end a pause",
		Flags:  scopeFlags("resume"),
		Action: a.action(0, runResume),
		Description: `Each pause is ended by itself: a machine reboots again once neither it, nor one of its
groups, nor all groups are paused. What is paused: PROGRAM pauses`,
	}
}

func (a *app) pauses() *cli.Command {
	return &cli.Command{
		Name:   "pauses",
		Usage:  "list what is paused, by whom, until when and why",
		Flags:  []cli.Flag{outputFlag()},
		Action: a.action(0, runPauses),
	}
}

// scopeFlags say what a pause is for, where that is not the group of -group.
func scopeFlags(verb string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: verb + " all groups"},
		&cli.StringFlag{Name: "machine", Usage: verb + " one `MACHINE`: its id, the start of its id, or its host name"},
	}
}

// scopes is what the options name. A machine that etcd does not know is warned of.
func (c *call) scopes(ctx context.Context, store Store) ([]locksmith.PauseScope, error) {
	if name := c.cmd.String("machine"); name != "" {
		m, err := store.Machine(ctx, name)
		switch {
		case errors.Is(err, locksmith.ErrUnknownMachine):
			c.warn("etcd knows no machine %s: no locksmithd was ever seen on it", name)
			m.MachineID = name
		case err != nil:
			return nil, err
		}
		return []locksmith.PauseScope{{Machine: m.MachineID}}, nil
	}
	if c.cmd.Bool("all") {
		return []locksmith.PauseScope{{All: true}}, nil
	}
	groups, err := c.groupList()
	var scopes []locksmith.PauseScope
	for _, g := range groups {
		scopes = append(scopes, locksmith.PauseScope{Group: g})
	}
	return scopes, err
}

// checkScope refuses options that contradict each other, before etcd is asked. A
// group from the environment is only a default.
func (c *call) checkScope() error {
	machine := c.cmd.IsSet("machine")
	if machine {
		if err := locksmith.CheckMachineID(c.cmd.String("machine")); err != nil {
			return options.Usagef("invalid -machine: %v", err)
		}
	}
	switch {
	case machine && c.cmd.Bool("all"):
		return options.Usagef("-machine and -all exclude each other: give one of them")
	case c.isGiven(options.Group) && machine:
		return options.Usagef("-group and -machine exclude each other: give one of them")
	case c.isGiven(options.Group) && c.cmd.Bool("all"):
		return options.Usagef("-group and -all exclude each other: give one of them")
	}
	return nil
}

func runPause(ctx context.Context, c *call) error {
	p := locksmith.Pause{By: c.deps.person(), At: c.deps.Now().Unix(), Reason: oneLine(c.cmd.String("reason"))}
	if p.Reason == "" {
		return options.Usagef("a pause needs a -reason: whoever waits for it wants to know why")
	}
	if c.cmd.IsSet("until") {
		until, err := parseUntil(c.cmd.String("until"), c.deps.Now())
		if err != nil {
			return options.Usagef("%v", err)
		}
		p.Until = until.Unix()
	}
	return c.eachScope(ctx, "pausing", func(store Store, scope locksmith.PauseScope) error {
		p.Scope = scope
		if err := store.Pause(ctx, p); err != nil {
			return err
		}
		return c.write("Paused " + c.scopeName(scope) + c.untilWords(p) + ": " + pauseMeans(scope) + c.whoWaits(ctx, store, scope) + ".\n")
	})
}

func runResume(ctx context.Context, c *call) error {
	return c.eachScope(ctx, "resuming", func(store Store, scope locksmith.PauseScope) error {
		err := store.Resume(ctx, scope, c.deps.person())
		rest := c.otherPauses(ctx, store, scope)
		switch {
		case errors.Is(err, locksmith.ErrNotPaused) && rest != "":
			return fmt.Errorf("%w, but %s", err, rest)
		case err != nil:
			return err
		}
		if rest != "" {
			c.warn("no reboots yet: %s", rest)
		}
		return c.write("Resumed " + c.scopeName(scope) + c.whoWaits(ctx, store, scope) + ".\n")
	})
}

// eachScope does something to everything that the options name.
func (c *call) eachScope(ctx context.Context, doing string, do func(Store, locksmith.PauseScope) error) error {
	if err := c.checkScope(); err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	scopes, err := c.scopes(ctx, store)
	if err != nil {
		return fail(doing, err)
	}
	for _, scope := range scopes {
		if err := do(store, scope); err != nil {
			return fail(doing, err)
		}
	}
	return nil
}

// scopeName is the scope for an answer.
func (c *call) scopeName(s locksmith.PauseScope) string { return oneLine(s.String()) }

func (c *call) untilWords(p locksmith.Pause) string {
	if p.Until == 0 {
		return " until resumed"
	}
	now, until := c.deps.Now(), time.Unix(p.Until, 0)
	return fmt.Sprintf(" until %s, in %s", locksmith.Clock(until, now), locksmith.Span(until.Sub(now)))
}

func pauseMeans(s locksmith.PauseScope) string {
	switch {
	case s.All:
		return "no machine starts a reboot"
	case s.Machine != "":
		return "it does not start a reboot"
	}
	return "none of its machines starts a reboot"
}

// whoWaits tells whom it concerns. It is said after the fact, so what cannot be
// read is left out.
func (c *call) whoWaits(ctx context.Context, store Store, scope locksmith.PauseScope) string {
	waiting := 0
	switch {
	case scope.Machine != "":
		m, err := store.Machine(ctx, scope.Machine)
		phase, _ := m.Where()
		if err != nil || phase == "" {
			return ""
		}
		return fmt.Sprintf("; %s is in phase %s", oneLine(m.Name()), phase)
	case scope.All:
		groups, err := store.Groups(ctx)
		if err != nil {
			return ""
		}
		for _, g := range groups {
			waiting += g.Waiting
		}
	default:
		s, err := store.Status(ctx, scope.Group)
		if err != nil {
			return ""
		}
		waiting = len(s.Queue)
	}
	switch waiting {
	case 0:
		return "; nobody waits for a slot"
	case 1:
		return "; one waits for a slot"
	}
	return fmt.Sprintf("; %d wait for a slot", waiting)
}

// otherPauses says what else keeps a group or machine from rebooting.
func (c *call) otherPauses(ctx context.Context, store Store, scope locksmith.PauseScope) string {
	all, err := store.Pauses(ctx)
	if err != nil || scope.All {
		return ""
	}
	groups := []locksmith.Group{scope.Group}
	if scope.Machine != "" {
		m, _ := store.Machine(ctx, scope.Machine)
		groups = m.Groups
	}
	for _, p := range all {
		if p.Scope != scope && p.Scope.Machine == "" && covers(p.Scope, "", groups) {
			return fmt.Sprintf("%s %s; to end that: %s", p.Scope, p.Words(c.deps.Now()), c.resumeCommand(p.Scope))
		}
	}
	return ""
}

// covers says whether a pause of scope s concerns the machine or one of groups.
func covers(s locksmith.PauseScope, machine string, groups []locksmith.Group) bool {
	switch {
	case s.All:
		return true
	case s.Machine != "":
		return s.Machine == machine
	}
	return slices.Contains(groups, s.Group)
}

// pausedFor is an error where something keeps req's machine from starting a reboot.
func (c *call) pausedFor(ctx context.Context, store Store, req locksmith.Request) error {
	pauses, err := store.Pauses(ctx)
	pauses = slices.DeleteFunc(pauses, func(p locksmith.Pause) bool { return !covers(p.Scope, req.MachineID, req.Groups) })
	if err != nil || len(pauses) == 0 {
		return err
	}
	return c.pausedError(&locksmith.PausedError{Pauses: pauses})
}

// resumeCommand is the command line that ends a pause.
func (c *call) resumeCommand(s locksmith.PauseScope) string {
	line := c.program + " resume"
	switch {
	case s.All:
		return line + " -all"
	case s.Machine != "":
		return line + " -machine " + quote(s.Machine)
	case s.Group != "":
		return line + " -" + options.Group + " " + quote(string(s.Group))
	}
	return line
}

// pausedError adds how to end it to an error that is a pause.
func (c *call) pausedError(err error) error {
	var paused *locksmith.PausedError
	if !errors.As(err, &paused) {
		return err
	}
	var lines []string
	for _, p := range paused.Pauses {
		lines = append(lines, c.resumeCommand(p.Scope))
	}
	return fmt.Errorf("%w; resume with: %s", err, strings.Join(lines, "; "))
}

func runPauses(ctx context.Context, c *call) error {
	json, err := c.json()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	pauses, err := store.Pauses(ctx)
	if err != nil {
		return fail("listing pauses", err)
	}
	if json {
		text, err := encode(append([]pauseDoc{}, pauseDocs(pauses)...), true)
		if err != nil {
			return fail("listing pauses", err)
		}
		return c.write(text)
	}
	t, now := newTable(c.colours(), "PAUSED", "BY", "SINCE", "UNTIL", "REASON"), c.deps.Now()
	for _, p := range pauses {
		t.add(cell{text: p.Scope.String()}, cell{text: p.By}, cell{text: clockOrNothing(p.At, now)},
			cell{text: clockOrNothing(p.Until, now)}, cell{text: p.Reason})
	}
	return c.write(t.String())
}
