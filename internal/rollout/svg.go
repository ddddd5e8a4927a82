package rollout

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
)

// SVGOptions say how a timeline is drawn.
type SVGOptions struct {
	// Width is that of the drawing in its own units, one of which is a CSS pixel where it
	// is shown as wide as this. 0 means 960; at least 280. Below 480 the machines' names
	// stand above their bars.
	Width int

	// Location is the zone of the time axis; nil: that of now.
	Location *time.Location

	// ID, if not empty, begins the ids of title and description, for aria-labelledby: it
	// must be unique in its page.
	ID string
}

// Bounds of a drawing, whatever the history says.
const (
	maxLanes   = 40
	maxBars    = 2000
	minWidth   = 280
	wideEnough = 480 // for names beside the bars
)

// Sizes, in CSS pixels where the drawing is shown as wide as its Width. Text is 12 high,
// as set by the style sheet.
const (
	barHeight  = 14
	wideLane   = 22 // name and bar beside each other
	narrowLane = 34 // the name above the bar
	packedLane = 18 // no names
	axisHeight = 24
	gutter     = 160
	margin     = 8
	letter     = 7.2 // of a monospaced or wide letter
)

// SVG draws a rollout: a lane for each machine, in the order in which they began, and the
// time from left to right. With more than 40 machines bars share lanes, as many as slots
// were held at a time, and names are only in the bars' titles. The result is one <svg>
// element with viewBox, <title> and <desc>, to be put into a page as it is: all text in
// it is escaped, and nothing in it is a style or a script, so that a strict
// Content-Security-Policy holds. Colours are the style sheet's:
//
//	timeline                 the <svg>; set font-size 12px, max-width 100%, height auto
//	timeline-lane            a <rect> behind every other lane
//	timeline-label           a machine's name
//	timeline-tick            a vertical <line> of the axis
//	timeline-tick-label      its time; timeline-day: one that begins a day
//	timeline-now             the vertical <line> at now, where it is in the drawing
//	timeline-bar             a <rect>, the slot held; with one of is-held, is-failed,
//	                         is-stale, is-rebooted, is-aborted, is-unlocked, is-unknown
//	timeline-down            a <rect> in it, the time for which the machine was down
//	timeline-mark            a sign after the bar where not all went well, as colour
//	                         alone must not say it: ! failed, ? stale or unknown,
//	                         × aborted, – unlocked; and … held
//	timeline-note            a line of text below, where something is left out
func SVG(r Rollout, now time.Time, opts SVGOptions) string {
	if opts.Width == 0 {
		opts.Width = 960
	}
	if opts.Location == nil {
		opts.Location = now.Location()
	}
	opts.Width = max(opts.Width, minWidth)
	d := drawing{opts: opts, now: now, rollout: r}
	d.layOut()
	d.scale()
	d.head()
	for i := 1; i < len(d.lanes); i += 2 {
		d.printf(`<rect class="timeline-lane" x="0" y="%d" width="%d" height="%d"/>`+"\n", axisHeight+i*d.laneH, d.opts.Width, d.laneH)
	}
	d.axis()
	for i, lane := range d.lanes {
		d.lane(i, lane)
	}
	d.foot()
	return d.b.String()
}

// drawing is a timeline while it is drawn.
type drawing struct {
	b       bytes.Buffer
	opts    SVGOptions
	now     time.Time
	rollout Rollout

	lanes   [][]Bar
	domain  string // that all machines' names end with; left out of the labels
	packed  bool   // lanes are not machines
	left    int    // bars that are not drawn
	laneTop int    // from a lane's top to its bar
	laneH   int
	from    time.Time
	to      time.Time
	x0, x1  float64 // where from and to are
}

// layOut gives each bar its lane.
func (d *drawing) layOut() {
	bars := slices.Clone(d.rollout.Bars)
	if len(bars) > maxBars {
		bars, d.left = bars[:maxBars], len(bars)-maxBars
	}
	if d.packed = d.rollout.Machines() > maxLanes; d.packed {
		d.pack(bars)
		d.laneH, d.laneTop = packedLane, (packedLane-barHeight)/2
		return
	}
	at := make(map[string]int)
	for _, b := range bars {
		i, ok := at[b.Machine]
		if !ok {
			i = len(d.lanes)
			at[b.Machine] = i
			d.lanes = append(d.lanes, nil)
		}
		d.lanes[i] = append(d.lanes[i], b)
	}
	names := make([]string, len(d.lanes))
	for i, lane := range d.lanes {
		names[i] = lane[0].Name()
	}
	d.domain = domainOf(names)
	if d.narrow() {
		d.laneH, d.laneTop = narrowLane, narrowLane-barHeight-2
	} else {
		d.laneH, d.laneTop = wideLane, (wideLane-barHeight)/2
	}
}

// pack puts each bar into the first lane that is free by then.
func (d *drawing) pack(bars []Bar) {
	slices.SortStableFunc(bars, func(a, b Bar) int { return a.From.Compare(b.From) })
	var free []time.Time
	for _, b := range bars {
		to := b.To
		if to.IsZero() {
			to = d.now.Add(time.Hour * 24 * 365) // it keeps its lane
		}
		i := slices.IndexFunc(free, func(t time.Time) bool { return !b.From.Before(t) })
		switch {
		case i >= 0:
		case len(free) >= maxLanes:
			d.left++
			continue
		default:
			i = len(free)
			free, d.lanes = append(free, time.Time{}), append(d.lanes, nil)
		}
		free[i] = to
		d.lanes[i] = append(d.lanes[i], b)
	}
}

func (d *drawing) narrow() bool { return d.opts.Width < wideEnough }

// scale finds the time that is shown. Something is always to be seen of a bar, however
// short.
func (d *drawing) scale() {
	d.from, d.to = d.rollout.Start, d.rollout.End
	if d.to.IsZero() {
		d.to = d.now
	}
	for _, b := range d.rollout.Bars {
		if b.From.Before(d.from) {
			d.from = b.From
		}
		d.to = later(d.to, later(b.From, b.To))
	}
	if least := d.from.Add(time.Minute); d.to.Before(least) {
		d.to = least
	}
	d.from = later(d.from, d.to.Add(-2*horizon))
	d.x0, d.x1 = margin, float64(d.opts.Width-3*margin) // the last mark needs room
	if !d.packed && !d.narrow() {
		d.x0 += gutter
	}
}

func (d *drawing) x(t time.Time) float64 {
	part := float64(t.Sub(d.from)) / float64(d.to.Sub(d.from))
	return d.x0 + (d.x1-d.x0)*min(1, max(0, part))
}

func (d *drawing) height() int {
	h := axisHeight + len(d.lanes)*d.laneH + margin
	if d.left > 0 {
		h += axisHeight
	}
	return h
}

// printf writes markup. Strings among args are escaped.
func (d *drawing) printf(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = escape(s)
		}
	}
	fmt.Fprintf(&d.b, format, args...)
}

// escape makes s the text of an element or attribute. What no XML may hold becomes U+FFFD.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

func (d *drawing) head() {
	title, desc := d.title(), d.describe()
	labelled, titleID, descID := "", "", ""
	if d.opts.ID != "" {
		id := escape(d.opts.ID)
		labelled = fmt.Sprintf(` aria-labelledby="%s-title %s-desc"`, id, id)
		titleID, descID = fmt.Sprintf(` id="%s-title"`, id), fmt.Sprintf(` id="%s-desc"`, id)
	}
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" class="timeline" role="img"%s viewBox="0 0 %d %d" width="%d" height="%d">`,
		labelled, d.opts.Width, d.height(), d.opts.Width, d.height())
	fmt.Fprintf(&d.b, "<title%s>%s</title><desc%s>%s</desc>\n", titleID, escape(title), descID, escape(desc))
}

func (d *drawing) lane(i int, bars []Bar) {
	top := axisHeight + i*d.laneH
	if !d.packed {
		x, y, room := margin, top+wideLane/2+4, gutter-margin
		if d.narrow() {
			y, room = top+13, d.opts.Width-2*margin
		}
		name := bars[0].Name()
		d.printf(`<text class="timeline-label" x="%d" y="%d"><title>%s</title>%s</text>`+"\n", x, y, name, short(strings.TrimSuffix(name, d.domain), room))
	}
	for _, b := range bars {
		d.bar(b, top+d.laneTop)
	}
}

// minBar is how wide a bar is at least, or it would not be seen.
const minBar = 3

func (d *drawing) bar(b Bar, y int) {
	end := func(t time.Time) time.Time {
		if t.IsZero() {
			return later(d.now, b.From)
		}
		return t
	}
	from, to := d.x(b.From), d.x(end(b.To))
	width := max(minBar, to-from)
	d.printf(`<g><title>%s</title><rect class="timeline-bar is-%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`,
		b.Text(d.now, d.opts.Location), string(b.State), from, y, width, barHeight)
	if !b.DownFrom.IsZero() {
		x := d.x(b.DownFrom)
		d.printf(`<rect class="timeline-down" x="%.1f" y="%d" width="%.1f" height="%d"/>`, x, y+barHeight/2, max(1, d.x(end(b.DownTo))-x), barHeight/2)
	}
	if m := mark(b.State); m != "" {
		d.printf(`<text class="timeline-mark" x="%.1f" y="%d">%s</text>`, from+width+3, y+barHeight-3, m)
	}
	d.printf("</g>\n")
}

func mark(s State) string {
	switch s {
	case Rebooted:
		return ""
	case Held:
		return "…"
	case Failed:
		return "!"
	case Aborted:
		return "×"
	case Unlocked:
		return "–"
	}
	return "?"
}

func (d *drawing) foot() {
	if d.left > 0 {
		d.printf(`<text class="timeline-note" x="%d" y="%d">%s</text>`+"\n", margin, d.height()-margin,
			fmt.Sprintf("and %d more that are not drawn", d.left))
	}
	d.printf("</svg>\n")
}

// domainOf is the longest ".example.net" that all of several names end with, empty where
// there is none, or one of them would have nothing left.
func domainOf(names []string) string {
	if len(names) < 2 {
		return ""
	}
	domain := names[0]
	for domain != "" {
		dot := strings.IndexByte(domain[1:], '.')
		if dot < 0 {
			return ""
		}
		domain = domain[1+dot:]
		if !slices.ContainsFunc(names, func(n string) bool { return len(n) <= len(domain) || !strings.HasSuffix(n, domain) }) {
			break
		}
	}
	return domain
}

// short is s cut to what fits into so many pixels.
func short(s string, room int) string {
	most := int(float64(room) / letter)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(1, most-1)]) + "…"
}

// title is "Rollout of 40 machines, 2026-08-01 02:00 to 05:12".
func (d *drawing) title() string {
	n := d.rollout.Machines()
	begin := d.rollout.Start.In(d.opts.Location).Format("2006-01-02 15:04")
	if d.rollout.End.IsZero() {
		return fmt.Sprintf("Rollout of %s so far, running since %s", plural(n, "machine", "machines"), begin)
	}
	end := d.rollout.End.In(d.opts.Location)
	return fmt.Sprintf("Rollout of %s, %s to %s", plural(n, "machine", "machines"), begin, locksmith.Clock(end, d.rollout.Start.In(d.opts.Location)))
}

// describe says in words what is drawn.
func (d *drawing) describe() string {
	counts := make(map[State]int)
	for _, b := range d.rollout.Bars {
		counts[b.State]++
	}
	var parts []string
	for _, s := range []struct {
		state State
		what  string
	}{
		{Rebooted, "rebooted"}, {Held, "under way"}, {Failed, "failed checks"}, {Stale, "silent"},
		{Aborted, "given up"}, {Unlocked, "unlocked by an administrator"}, {Unknown, "ended in a way that is not known"},
	} {
		if n := counts[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.what))
		}
	}
	lanes := "a lane for each machine"
	if d.packed {
		lanes = "machines share lanes"
	}
	return fmt.Sprintf("Bars show when machines held a slot, the lower half of a bar when they were down; %s. %s.", lanes, sentenceless(parts))
}

func sentenceless(parts []string) string {
	if len(parts) == 0 {
		return "Nothing to show"
	}
	return strings.Join(parts, ", ")
}

// Text says what a bar shows, in one line for people: "web-1: slot held from 14:02 to
// 14:09 (7 min), down for 42 s; rebooted". Times are in loc.
func (b Bar) Text(now time.Time, loc *time.Location) string {
	now = now.In(loc)
	var s strings.Builder
	fmt.Fprintf(&s, "%s: slot held ", b.Name())
	if b.To.IsZero() {
		fmt.Fprintf(&s, "since %s (%s)", locksmith.Clock(b.From, now), locksmith.Span(now.Sub(b.From)))
	} else {
		fmt.Fprintf(&s, "from %s to %s (%s)", locksmith.Clock(b.From, now), locksmith.Clock(b.To, now), locksmith.Span(b.To.Sub(b.From)))
	}
	switch {
	case b.DownFrom.IsZero():
	case b.DownTo.IsZero():
		fmt.Fprintf(&s, ", down since %s", locksmith.Clock(b.DownFrom, now))
	default:
		fmt.Fprintf(&s, ", down for %s", locksmith.Span(b.DownTo.Sub(b.DownFrom)))
	}
	switch {
	case b.Outcome == "":
		fmt.Fprintf(&s, "; %s", b.State)
	case b.State == Rebooted || b.State == Held || strings.HasPrefix(b.Outcome, string(b.State)):
		fmt.Fprintf(&s, "; %s", b.Outcome)
	default:
		fmt.Fprintf(&s, "; %s: %s", b.State, b.Outcome)
	}
	return s.String()
}
