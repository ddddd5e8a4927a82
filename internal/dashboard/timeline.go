package dashboard

import (
	"context"
	"fmt"
	"html/template"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/rollout"
)

// Bounds of the timeline.
const (
	maxRollouts = 4   // are drawn
	maxBars     = 200 // of each are in its table

	wide, narrow = 1000, 340 // CSS pixels; the style sheet shows one of them
)

// rolloutView is what is reckoned of a group.
type rolloutView struct {
	Progress progressView
	Runs     []runView // newest first
}

// progressView is how far the rollout is.
type progressView struct {
	rollout.Progress
	Percent int
}

// runView is one rollout as it is drawn, and as a table.
type runView struct {
	rollout.Rollout
	Wide  template.HTML
	Slim  template.HTML // for narrow screens
	Heads string        // what it is, in a line
	Rows  []barView
	More  int // bars that are not in the table
}

type barView struct {
	rollout.Bar
	Start string
	Held  string // how long it held the slot
	Down  string // how long it was down; empty: not known
}

// rollout reckons a group's, once for all who look.
func (d *dashboard) rollout(ctx context.Context, s locksmith.GroupStatus) (rolloutView, error) {
	return shared(ctx, d.reads, "rollout "+string(s.Group), func(ctx context.Context, _ rolloutView) (rolloutView, error) {
		history, err := d.reads.history(ctx, s.Group)
		if err != nil {
			return rolloutView{}, err
		}
		fleet, err := d.reads.fleet(ctx)
		if err != nil {
			return rolloutView{}, err
		}
		status, err := d.reads.status(ctx, s.Group)
		if err != nil {
			return rolloutView{}, err
		}
		return reckon(rollout.Fleet{Status: status, Machines: fleet.byGroup[s.Group], History: history}, clock()), nil
	})
}

func reckon(f rollout.Fleet, now time.Time) rolloutView {
	v := rolloutView{Progress: progressView{Progress: rollout.Reckon(f, now)}}
	if v.Progress.Total > 0 {
		v.Progress.Percent = 100 * v.Progress.Done / v.Progress.Total
	}
	for _, r := range rollout.Timeline(f, now, maxRollouts) {
		v.Runs = append(v.Runs, runViewOf(r, now))
	}
	return v
}

func runViewOf(r rollout.Rollout, now time.Time) runView {
	// The drawing is made of escaped text by a package that is tested for it.
	draw := func(width int) template.HTML {
		id := fmt.Sprintf("run-%d-%d-", r.Start.Unix(), width)
		return template.HTML(rollout.SVG(r, now, rollout.SVGOptions{Width: width, ID: id}))
	}
	v := runView{Rollout: r, Wide: draw(wide), Slim: draw(narrow)}
	v.Heads = plural(r.Machines(), "machine") + ", began " + locksmith.Clock(r.Start, now)
	if r.End.IsZero() {
		v.Heads += ", still running"
	} else {
		v.Heads += ", took " + locksmith.Span(r.End.Sub(r.Start))
	}
	for i, b := range r.Bars {
		if i == maxBars {
			v.More = len(r.Bars) - maxBars
			break
		}
		row := barView{Bar: b, Start: locksmith.Clock(b.From, now), Held: "still held"}
		if !b.To.IsZero() {
			row.Held = locksmith.Span(b.To.Sub(b.From))
		}
		switch {
		case b.DownFrom.IsZero():
		case b.DownTo.IsZero():
			row.Down = "down for " + locksmith.Span(now.Sub(b.DownFrom))
		default:
			row.Down = locksmith.Span(b.DownTo.Sub(b.DownFrom))
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}
