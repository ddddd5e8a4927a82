package cli

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) history() *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "show who took and gave back which slot, newest first",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Value: 20, Usage: "show the `N` newest entries"},
			outputFlag(),
		},
		Description: "A group keeps its 1024 newest entries.",
		Action:      a.action(0, runHistory),
	}
}

func runHistory(ctx context.Context, c *call) error {
	json, err := c.json()
	if err != nil {
		return err
	}
	n := c.cmd.Int("n")
	if n < 1 {
		return options.Usagef("invalid -n %d: must be 1 or more", n)
	}
	group, err := c.oneGroup()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	entries, err := store.History(ctx, group, n)
	if err != nil {
		return fail("reading history", err)
	}
	text := c.historyTable(entries)
	if json {
		if text, err = historyJSON(entries); err != nil {
			return fail("reading history", err)
		}
	}
	return c.write(text)
}

func (c *call) historyTable(entries []locksmith.HistoryEntry) string {
	t := newTable(c.colours(), "TIME", "ACTION", "MACHINE ID", "HOSTNAME", "BY", "HELD", "DOWN", "OUTCOME")
	for _, e := range entries {
		t.add(cell{text: clock(e.Time)}, cell{text: string(e.Action)}, cell{text: e.Machine}, cell{text: e.Hostname},
			cell{text: e.Actor}, cell{text: known(e.Held)}, cell{text: known(e.Down)}, cell{text: e.Outcome})
	}
	return t.String()
}

// known is a duration, or nothing where there was none.
func known(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return age(d)
}

func historyJSON(entries []locksmith.HistoryEntry) (string, error) {
	docs := []historyDoc{}
	for _, e := range entries {
		docs = append(docs, historyDoc{Time: e.Time.UTC().Format(time.RFC3339), Action: string(e.Action),
			MachineID: e.Machine, Hostname: e.Hostname, Actor: e.Actor, HeldSeconds: seconds(e.Held),
			DownSeconds: seconds(e.Down), Outcome: e.Outcome})
	}
	return encode(docs, true)
}
