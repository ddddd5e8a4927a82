package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) machines() *cli.Command {
	return &cli.Command{
		Name:  "machines",
		Usage: "list all machines, with what they do and when they were last seen",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "phase", Usage: "only machines in `PHASE`"},
			&cli.BoolFlag{Name: "needed", Usage: "only machines that need a reboot"},
			&cli.BoolFlag{Name: "stale", Usage: "only machines that are silent and should not be"},
			&cli.BoolFlag{Name: "full", Usage: "show everything in full, also where the terminal is too narrow for it"},
			&cli.StringFlag{Name: "forget", Usage: "forget `MACHINE`, which is gone for good, instead of listing"},
			outputFlag(),
		},
		Description: `All machines whose locksmithd was ever connected to etcd, also those that are down.
With -group only those in one of the groups it names. NEEDED is since when a machine
needs a reboot, LAST REBOOT is how long ago its last one ended, and how.

A machine that is present or holds a slot is not forgotten.`,
		Action: a.action(0, runMachines),
	}
}

func runMachines(ctx context.Context, c *call) error {
	json, err := c.json()
	if err != nil {
		return err
	}
	filter, err := c.machineFilter()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	if name := c.cmd.String("forget"); name != "" {
		return c.forget(ctx, store, name)
	}
	machines, err := store.Machines(ctx)
	if err != nil {
		return fail("listing machines", err)
	}
	machines = slices.DeleteFunc(machines, func(m locksmith.MachineStatus) bool { return !filter(m) })
	text := ""
	if !json {
		text = c.machinesTable(machines)
	} else if text, err = c.machinesJSON(machines); err != nil {
		return fail("listing machines", err)
	}
	return c.write(text)
}

// machineFilter is what the options ask for: whether to show a machine.
func (c *call) machineFilter() (func(locksmith.MachineStatus) bool, error) {
	var groups []locksmith.Group
	if c.cmd.IsSet(options.Group) {
		var err error
		if groups, err = c.groupList(); err != nil {
			return nil, err
		}
	}
	phase := locksmith.Phase(c.cmd.String("phase"))
	if phase != "" && !slices.Contains(locksmith.Phases, phase) {
		var known []string
		for _, p := range locksmith.Phases {
			known = append(known, string(p))
		}
		return nil, options.Usagef("invalid -phase %q: must be one of %s", phase, strings.Join(known, ", "))
	}
	needed, stale, now := c.cmd.Bool("needed"), c.cmd.Bool("stale"), c.deps.Now()
	return func(m locksmith.MachineStatus) bool {
		in := func(g locksmith.Group) bool { return slices.Contains(groups, g) }
		is, _ := m.Where()
		return (groups == nil || slices.ContainsFunc(m.AllGroups(), in)) && (phase == "" || is == phase) &&
			(!needed || m.NeededSince > 0) && (!stale || m.Stale(now))
	}, nil
}

func (c *call) forget(ctx context.Context, store Store, name string) error {
	m, err := store.Machine(ctx, name)
	if err == nil {
		err = store.Forget(ctx, m.MachineID)
	}
	if err != nil {
		return c.machineError("forgetting the machine", err)
	}
	return c.write(fmt.Sprintf("Forgot %s.\n", machineName(m)))
}

// machineName is "web-3 (0123…)", with the id in full.
func machineName(m locksmith.MachineStatus) string {
	name := hostnameOf(m)
	if name == "" {
		return oneLine(m.MachineID)
	}
	return oneLine(fmt.Sprintf("%s (%s)", name, m.MachineID))
}

// hostnameOf is empty where the machine never said it.
func hostnameOf(m locksmith.MachineStatus) string {
	if name := m.Name(); name != m.MachineID {
		return name
	}
	return m.Hostname
}

func (c *call) machinesTable(machines []locksmith.MachineStatus) string {
	t := newTable(c.colours(), "HOSTNAME", "MACHINE ID", "GROUPS", "PHASE", "NEEDED", "BOOT", "OS", "KERNEL", "LAST REBOOT", "SEEN")
	full, now := c.cmd.Bool("full"), c.deps.Now()
	id, system := short, shortOS
	if full {
		id = func(s string) string { return s }
		system = id
	}
	for _, m := range machines {
		t.add(cell{text: hostnameOf(m)}, cell{text: id(m.MachineID)}, cell{text: groupNames(m.AllGroups())}, machinePhase(m),
			cell{text: clockOrNothing(m.NeededSince, now)}, cell{text: id(m.BootID)}, cell{text: system(m.OS)}, cell{text: m.Kernel},
			cell{text: lastReboot(m, now)}, seenCell(m, now))
	}
	if _, columns := terminalSize(c.stdout); columns > 0 && !full {
		t.fit(columns, []int{6, 7, 2, 8, 0}, []int{6, 7, 5}) // OS and kernel first
	}
	return t.String()
}

func machinePhase(m locksmith.MachineStatus) cell {
	phase, _ := m.Where()
	c := phaseCell(phase)
	if len(m.Pauses) > 0 {
		c.text, c.paint = strings.TrimPrefix(c.text+",paused", ","), yellow
	}
	return c
}

// groupNames is the groups in one field, where the default one needs a name.
func groupNames(groups []locksmith.Group) string {
	list := names(groups)
	for i, g := range list {
		if g == "" {
			list[i] = defaultName
		}
	}
	return strings.Join(list, ",")
}

var edition = regexp.MustCompile(`( GNU/Linux| \([^)]*\))`)

// shortOS is an operating system without what tells nothing: "Debian 12" for
// "Debian GNU/Linux 12 (bookworm)".
func shortOS(name string) string { return edition.ReplaceAllString(name, "") }

func clockOrNothing(unix int64, now time.Time) string {
	if unix <= 0 {
		return ""
	}
	return locksmith.Clock(locksmith.When(unix), now)
}

func lastReboot(m locksmith.MachineStatus, now time.Time) string {
	if m.LastReboot <= 0 {
		return ""
	}
	return locksmith.Span(now.Sub(locksmith.When(m.LastReboot))) + " ago" + after(": ", m.LastOutcome)
}

func seenCell(m locksmith.MachineStatus, now time.Time) cell {
	c := cell{text: "never"}
	switch {
	case m.Present:
		return cell{text: "now"}
	case !m.LastSeen().IsZero():
		c.text = locksmith.Span(now.Sub(m.LastSeen())) + " ago"
	}
	if m.Stale(now) {
		c.paint = red
	}
	return c
}

func (c *call) machinesJSON(machines []locksmith.MachineStatus) (string, error) {
	docs, now := []machineDoc{}, c.deps.Now()
	for _, m := range machines {
		phase, since := m.Where()
		d := machineDoc{MachineID: m.MachineID, Hostname: hostnameOf(m), Groups: append([]string{}, names(m.AllGroups())...), Strategy: string(m.Strategy),
			Phase: string(phase), PhaseSince: stamp(since), NeededSince: stamp(m.NeededSince), Reason: m.Reason, Waiting: m.Waiting,
			BootID: m.BootID, OS: m.OS, Kernel: m.Kernel, Version: m.Version, DryRun: m.DryRun,
			LastReboot: stamp(m.LastReboot), LastOutcome: m.LastOutcome, Present: m.Present, Stale: m.Stale(now), Seen: stamp(max(0, m.LastSeen().Unix())),
			Pauses: pauseDocs(m.Pauses)}
		if m.Holds != nil {
			d.HeldSince, d.HeldBy = stamp(m.Holds.StartTime), m.Holds.By
		}
		docs = append(docs, d)
	}
	return encode(docs, true)
}
