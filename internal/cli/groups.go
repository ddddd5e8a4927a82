package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
)

func (a *app) groups() *cli.Command {
	return &cli.Command{
		Name:  "groups",
		Usage: "list all groups, with their slots and how many machines wait",
		Flags: []cli.Flag{outputFlag()},
		Description: `A group whose stored semaphore cannot be read is reported on standard error, and
the exit status is 1.`,
		Action: a.action(0, runGroups),
	}
}

func runGroups(ctx context.Context, c *call) error {
	json, err := c.json()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	groups, err := store.Groups(ctx)
	if err != nil {
		return fail("listing groups", err)
	}
	text := ""
	if json {
		text, err = groupsJSON(groups)
	} else if text, err = c.groupPauses(ctx, store, groups); err == nil {
		text += c.groupsTable(groups)
	}
	if err != nil {
		return fail("listing groups", err)
	}
	if err := c.write(text); err != nil {
		return err
	}
	return c.groupErrors(groups)
}

// groupPauses are lines to go above the table. Pauses of machines are no group's.
func (c *call) groupPauses(ctx context.Context, store Store, groups []locksmith.GroupSummary) (string, error) {
	if !slices.ContainsFunc(groups, func(g locksmith.GroupSummary) bool { return g.Paused }) {
		return "", nil
	}
	pauses, err := store.Pauses(ctx)
	pauses = slices.DeleteFunc(pauses, func(p locksmith.Pause) bool { return p.Scope.Machine != "" })
	text := ""
	for _, p := range pauses {
		text += c.pauseLine(p)
	}
	if text != "" {
		text += "\n"
	}
	return text, err
}

// defaultName is how lists name the group without a name.
const defaultName = "(default)"

func (c *call) groupsTable(groups []locksmith.GroupSummary) string {
	t := newTable(c.colours(), "GROUP", "MAX", "HELD", "WAITING", "PAUSED")
	for _, g := range groups {
		name := string(g.Group)
		if name == "" {
			name = defaultName
		}
		paused := cell{}
		if g.Paused {
			paused = cell{"yes", yellow}
		}
		if g.Err != nil {
			t.add(cell{name, red}, cell{}, cell{}, cell{text: fmt.Sprint(g.Waiting)}, paused)
			continue
		}
		t.add(cell{text: name}, cell{text: fmt.Sprint(g.Max)}, cell{text: fmt.Sprint(g.Held)}, cell{text: fmt.Sprint(g.Waiting)}, paused)
	}
	return t.String()
}

func groupsJSON(groups []locksmith.GroupSummary) (string, error) {
	docs := []groupDoc{}
	for _, g := range groups {
		d := groupDoc{Group: string(g.Group), Max: g.Max, Held: g.Held, Waiting: g.Waiting, Paused: g.Paused}
		if g.Err != nil {
			d.Error = g.Err.Error()
		}
		docs = append(docs, d)
	}
	return encode(docs, true)
}

// groupErrors reports the groups that could not be read, each in a line.
func (c *call) groupErrors(groups []locksmith.GroupSummary) error {
	var last error
	for _, g := range groups {
		if g.Err == nil {
			continue
		}
		if last != nil {
			fmt.Fprintln(c.stderr, last)
		}
		last = fail("reading "+groupName(g.Group), g.Err)
	}
	return last
}
