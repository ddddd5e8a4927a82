package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) status() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show how many slots are free, and who holds the others",
		Description: `Without options the output is made for scripts and does not change.
-long adds what is paused, who the holders are, whether their locksmithd is
connected to etcd, and who waits. A holder whose locksmithd is silent is stale;
a machine that was asked to reboot has ten minutes for it. With -watch a pipe
gets each new state after a line with the time (with -o json: one document a
line), a terminal is redrawn; Ctrl-C ends it.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "show holders and waiting machines in full"},
			outputFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "show every change until interrupted"},
		},
		Action: a.action(0, func(ctx context.Context, c *call) error {
			json, err := c.json()
			if err != nil {
				return err
			}
			form := form{long: c.cmd.Bool("long"), json: json}
			if c.cmd.Bool("watch") {
				return c.watchStatus(ctx, form)
			}
			return c.showStatus(ctx, form)
		}),
	}
}

// outputFlag chooses between text and JSON.
func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "output `FORMAT`: text or json"}
}

func (c *call) json() (bool, error) {
	switch o := c.cmd.String("output"); o {
	case "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, options.Usagef("invalid -output %q: must be text or json", o)
	}
}

// form is how a status is shown.
type form struct{ long, json bool }

func (c *call) showStatus(ctx context.Context, f form) error {
	group, err := c.oneGroup()
	if err != nil {
		return err
	}
	store, err := c.open()
	if err != nil {
		return err
	}
	defer store.Close()
	status, err := read(ctx, store, group, f.long)
	if err != nil {
		return fail("reading status", err)
	}
	c.warnFaults(status)
	text, err := c.statusText(status, f)
	if err != nil {
		return fail("writing status", err)
	}
	return c.write(text)
}

// read asks for no more than is shown: the short form is one key.
func read(ctx context.Context, store Store, group locksmith.Group, long bool) (locksmith.GroupStatus, error) {
	if long {
		return store.Status(ctx, group)
	}
	sem, faults, err := store.Semaphore(ctx, group)
	status := locksmith.GroupStatus{Group: group, Sem: sem, Faults: faults}
	for _, id := range sem.Holders {
		status.Holders = append(status.Holders, locksmith.HolderStatus{Holder: locksmith.Holder{MachineID: id}})
	}
	return status, err
}

func (c *call) warnFaults(s locksmith.GroupStatus) {
	if len(s.Faults) > 0 {
		c.warn("what is stored of the %s is inconsistent: %s", groupName(s.Group), strings.Join(s.Faults, "; "))
	}
}

func (c *call) statusText(s locksmith.GroupStatus, f form) (string, error) {
	switch {
	case f.json:
		return c.statusJSON(s, f.long, true)
	case f.long:
		return c.longStatus(s), nil
	}
	return shortStatus(s.Sem), nil
}

// shortStatus is what scripts read.
func shortStatus(sem locksmith.Semaphore) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Available: %d\nMax: %d\n", sem.Semaphore, sem.Max)
	if len(sem.Holders) > 0 {
		b.WriteString("\nMACHINE ID\n")
		for _, id := range sem.Holders {
			fmt.Fprintln(&b, oneLine(id))
		}
	}
	return b.String()
}

func (c *call) longStatus(s locksmith.GroupStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Group: %s\n", oneLine(s.Group.String()))
	for _, p := range s.Pauses {
		b.WriteString(c.pauseLine(p))
	}
	fmt.Fprintf(&b, "Available: %d\nMax: %d\n", s.Sem.Semaphore, s.Sem.Max)
	if text := c.holdersTable(s); text != "" {
		b.WriteString("\n" + text)
	}
	if text := c.staleLines(s); text != "" {
		b.WriteString("\n" + text)
	}
	if text := c.queueTable(s.Queue); text != "" {
		b.WriteString("\n" + text)
	}
	return b.String()
}

// pauseLine is "Group lb paused by alice@jump-1 until 18:00, 3 h 46 min left: moving racks".
func (c *call) pauseLine(p locksmith.Pause) string {
	text := oneLine(sentence(p.Scope.String()) + " " + p.Words(c.deps.Now()))
	return painted(cell{text, yellow}, c.colours()) + "\n"
}

func (c *call) holdersTable(s locksmith.GroupStatus) string {
	if len(s.Holders) == 0 {
		return ""
	}
	t := newTable(c.colours(), "MACHINE ID", "HOSTNAME", "PHASE", "SINCE", "HELD", "AGENT", "BY", "REASON")
	now := c.deps.Now()
	for _, h := range s.Holders {
		since, held := "", ""
		if h.StartTime > 0 {
			since, held = clock(h.Since()), age(now.Sub(h.Since()))
		}
		t.add(cell{text: h.MachineID}, cell{text: h.Hostname}, phaseCell(h.Phase), cell{text: since}, cell{text: held},
			agentState(h, now), cell{text: h.By}, cell{text: h.Reason})
	}
	return t.String()
}

// staleLines propose what to do about holders that may never give their slot back.
func (c *call) staleLines(s locksmith.GroupStatus) string {
	text, now := "", c.deps.Now()
	for _, h := range s.Holders {
		if h.Stale(now) {
			text += fmt.Sprintf("%s is stale, %s: look at it. If it is gone for good:\n    %s\n",
				oneLine(h.Name()), h.NotSeen(now), c.unlockCommand(s.Group, h.MachineID))
		}
	}
	return text
}

// agentState says whether the holder's locksmithd is connected to etcd. It need
// not be for a slot that an administrator or a command holds.
func agentState(h locksmith.HolderStatus, now time.Time) cell {
	switch {
	case h.Present:
		return cell{text: "up"}
	case h.Stale(now) && !h.Seen.IsZero():
		return cell{"stale " + age(now.Sub(h.Seen)), red}
	case h.Stale(now):
		return cell{"stale", red}
	case h.Own():
		return cell{"rebooting", yellow}
	}
	return cell{}
}

func phaseCell(p locksmith.Phase) cell {
	c := cell{text: string(p)}
	switch p {
	case locksmith.PhaseRebooting:
		c.paint = yellow
	case locksmith.PhaseFailed:
		c.paint = red
	}
	return c
}

// unlockCommand is the command line that takes machine's slot away.
func (c *call) unlockCommand(group locksmith.Group, machine string) string {
	line := c.program + " unlock "
	if group != "" {
		line += "-" + options.Group + " " + quote(string(group)) + " "
	}
	return line + quote(machine)
}

// quote makes s one word of a shell's command line.
func quote(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+,", r)
	}
	if s != "" && s[0] != '-' && strings.TrimFunc(s, safe) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(oneLine(s), "'", `'\''`) + "'"
}

func (c *call) queueTable(queue []locksmith.Waiter) string {
	if len(queue) == 0 {
		return ""
	}
	t := newTable(c.colours(), "POSITION", "PRIORITY", "MACHINE ID", "HOSTNAME", "SINCE", "WAITED", "BY", "REASON")
	for i, w := range queue {
		since, waited := "", ""
		if w.Since > 0 {
			joined := time.Unix(w.Since, 0)
			since, waited = clock(joined), age(c.deps.Now().Sub(joined))
		}
		t.add(cell{text: fmt.Sprint(i + 1)}, cell{text: fmt.Sprint(w.Priority)}, cell{text: w.MachineID},
			cell{text: w.Hostname}, cell{text: since}, cell{text: waited}, cell{text: w.By}, cell{text: w.Reason})
	}
	return t.String()
}

// groupName is the group in a sentence.
func groupName(g locksmith.Group) string {
	if g == "" {
		return "default group"
	}
	return fmt.Sprintf("group %q", string(g))
}
