package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/window"
)

func (a *app) window() *cli.Command {
	return &cli.Command{
		Name:      "window",
		Usage:     "show when reboots are allowed next, on this machine or by a specification",
		ArgsUsage: "[SPEC...]",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Value: 5, Usage: "show the next `N` times, at most 1000"},
			&cli.StringSliceFlag{Name: "deny", Config: cli.StringConfig{TrimSpace: true},
				Usage: "deny window, a `SPEC` like those of locksmithd's -no-reboot-window; repeatable"},
			&cli.StringFlag{Name: "zone", Usage: "time `ZONE` of what names none itself, such as Europe/Berlin; times are shown in it"},
			outputFlag(),
		},
		DisableSliceFlagSeparator: true, // specifications have commas of their own
		Description: `Without SPEC and -deny it asks this machine's locksmithd for its windows. Each SPEC is
a window like those of locksmithd's -reboot-window, quoted as one argument:
    locksmithctl window 'Mon..Fri 22:00 4h' '2nd Tue 03:00 2h Europe/Berlin'
    locksmithctl window -deny 2026-12-20..2027-01-03 'Sat,Sun'
Windows that overlap or touch are shown as one.`,
		Action: a.action(-1, runWindow),
	}
}

// maxOpenings bounds -n, so that a slip does not keep the machine busy.
const maxOpenings = 1000

func runWindow(ctx context.Context, c *call) error {
	asJSON, err := c.json()
	if err != nil {
		return err
	}
	n := c.cmd.Int("n")
	if n < 1 || n > maxOpenings {
		return options.Usagef("invalid -n %d: must be 1 to %d", n, maxOpenings)
	}
	plan, err := c.windowPlan(ctx)
	if err != nil {
		return err
	}
	now := c.deps.Now()
	var openings []window.Opening
	if plan.set != nil {
		openings = plan.set.Openings(now, n)
	}
	if asJSON {
		text, err := encode(windowJSON(plan, openings, now), true)
		if err != nil {
			return fail("listing windows", err)
		}
		return c.write(text)
	}
	return c.write(c.windowText(plan, openings, now))
}

// windowPlan is what the command line or this machine's locksmithd says of windows.
type windowPlan struct {
	set     *window.Set    // nil: always open
	zone    *time.Location // in which times are shown
	machine bool           // this machine's, not the command line's
}

func (c *call) windowPlan(ctx context.Context) (windowPlan, error) {
	zone, err := c.zone()
	if err != nil {
		return windowPlan{}, err
	}
	allow, deny := c.args, c.cmd.StringSlice("deny")
	wrong := func(err error) error { return options.Usagef("%v", err) }
	loc, machine := zone, len(allow)+len(deny) == 0
	if machine {
		if allow, deny, loc, err = c.machineWindows(ctx); err != nil {
			return windowPlan{}, fail("asking locksmithd", err)
		}
		wrong = func(err error) error { return fail("reading locksmithd's windows", err) }
	}
	if loc == nil {
		loc = c.deps.Now().Location()
	}
	allowed, err := readSpecs(allow, loc)
	if err != nil {
		return windowPlan{}, wrong(err)
	}
	denied, err := readSpecs(deny, loc)
	if err != nil {
		return windowPlan{}, wrong(err)
	}
	if zone == nil {
		zone = commonZone(slices.Concat(allowed, denied), c.deps.Now().Location())
	}
	return windowPlan{window.NewSet(allowed, denied), zone, machine}, nil
}

// zone is what -zone names, nil without it.
func (c *call) zone() (*time.Location, error) {
	name := c.cmd.String("zone")
	if name == "" {
		return nil, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, options.Usagef("invalid -zone %q: must be a name of the time zone database (package tzdata), such as Europe/Berlin or UTC", name)
	}
	return loc, nil
}

// machineWindows asks locksmithd. Its local time is the machine's, which is not that
// of a user who has set TZ.
func (c *call) machineWindows(ctx context.Context) (allow, deny []string, local *time.Location, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cmd.Duration(options.Timeout))
	defer cancel()
	if allow, deny, err = c.daemon().Windows(ctx); err != nil {
		return nil, nil, nil, err
	}
	const localName = " Local"
	for _, list := range [][]string{allow, deny} {
		for i, text := range list {
			list[i] = strings.TrimSuffix(text, localName)
		}
	}
	if _, set := c.deps.LookupEnv("TZ"); set {
		local, err = systemZone("/etc/localtime")
	}
	return allow, deny, local, err
}

// systemZone is the zone in a file of the system's; without the file that is UTC.
func systemZone(path string) (*time.Location, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return time.UTC, nil
	} else if err != nil {
		return nil, err
	}
	loc, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", path, err)
	}
	return loc, nil
}

func readSpecs(texts []string, loc *time.Location) ([]*window.Spec, error) {
	var list []*window.Spec
	for _, text := range texts {
		s, err := window.ParseSpec(text, loc)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// commonZone is the zone of all specifications, or local where they have several.
func commonZone(specs []*window.Spec, local *time.Location) *time.Location {
	zone := local
	for i, s := range specs {
		if i > 0 && s.Location().String() != zone.String() {
			return local
		}
		zone = s.Location()
	}
	return zone
}

func (c *call) windowText(plan windowPlan, openings []window.Opening, now time.Time) string {
	if plan.set == nil {
		return "At any time: there are no windows.\n"
	}
	head := ""
	if plan.machine {
		head = "This machine: " + wrap(plan.set.String(), c.textWidth(), len("This machine: ")) + "\n\n"
	}
	if len(openings) == 0 {
		return head + "Never: nothing opens in the next five years.\n"
	}
	return head + c.openingsTable(plan.zone, openings, now).String()
}

func (c *call) openingsTable(zone *time.Location, openings []window.Opening, now time.Time) *table {
	t := newTable(c.colours(), "START", "END", "LENGTH", "WHEN")
	shown := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.In(zone).Format("Mon 2006-01-02 15:04 MST")
	}
	for _, o := range openings {
		start := begun(o)
		length, when := "", "now"
		if !start.IsZero() && !o.End.IsZero() {
			length = locksmith.Span(o.End.Sub(start))
		}
		switch open := !o.Start.After(now); {
		case !open:
			when = "in " + locksmith.Span(o.Start.Sub(now))
		case !o.End.IsZero():
			when = "now, " + locksmith.Span(o.End.Sub(now)) + " left"
		}
		t.add(cell{text: shown(start)}, cell{text: shown(o.End)}, cell{text: length}, cell{text: when})
	}
	return t
}

// begun is the start of o, zero where it has none that is known.
func begun(o window.Opening) time.Time {
	if o.Start.Unix() <= 0 {
		return time.Time{}
	}
	return o.Start
}

func windowJSON(plan windowPlan, openings []window.Opening, now time.Time) windowDoc {
	doc := windowDoc{Always: plan.set == nil, Windows: []string{}, DenyWindows: []string{}, Openings: []openingDoc{}}
	if plan.set != nil {
		doc.Windows = append(doc.Windows, plan.set.Windows()...)
		doc.DenyWindows = append(doc.DenyWindows, plan.set.DenyWindows()...)
	}
	for _, o := range openings {
		start := begun(o)
		d := openingDoc{Open: !o.Start.After(now)}
		if !start.IsZero() {
			d.Start = start.UTC().Format(time.RFC3339)
		}
		if !o.End.IsZero() {
			d.End = o.End.UTC().Format(time.RFC3339)
		}
		if !start.IsZero() && !o.End.IsZero() {
			d.LengthSeconds = seconds(o.End.Sub(start))
		}
		doc.Openings = append(doc.Openings, d)
	}
	return doc
}

// windowDoc is what -o json prints. Always: there are no windows, so no openings
// are listed either.
type windowDoc struct {
	Always      bool         `json:"always"`
	Windows     []string     `json:"windows"`
	DenyWindows []string     `json:"denyWindows"`
	Openings    []openingDoc `json:"openings"`
}

// openingDoc has no start where none is known, and no end where none is in sight.
type openingDoc struct {
	Start         string   `json:"start,omitempty"`
	End           string   `json:"end,omitempty"`
	LengthSeconds *float64 `json:"lengthSeconds,omitempty"`
	Open          bool     `json:"open"` // at this moment
}
