package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// Colours, as terminals know them.
const (
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// table is the fleet as rows of text. It knows nothing of the terminal but how
// many rows there are and whether it has colours.
type table struct {
	settings demoSettings
	colours  bool
	began    time.Time
	order    []string
	machines map[string]*machineRow
}

// machineRow is what is shown of one machine.
type machineRow struct {
	status fleet.Status
	state  string
	since  time.Time
}

func newTable(s demoSettings, names []string, began time.Time, colours bool) *table {
	t := &table{settings: s, colours: colours, began: began, order: names, machines: make(map[string]*machineRow)}
	for _, n := range names {
		t.machines[n] = &machineRow{status: fleet.Status{Record: fleet.Record{Machine: n}},
			state: string(locksmith.PhaseRecovering), since: began}
	}
	return t
}

func (t *table) apply(changes []change) {
	for _, c := range changes {
		m := t.machines[c.status.Machine]
		if state := stateOf(c.status); state != m.state {
			m.state, m.since = state, c.at
		}
		m.status = c.status
	}
}

// render is the table at an instant, in at most rows lines where rows is not 0.
func (t *table) render(now time.Time, rows int) []string {
	names := t.order
	hidden := 0
	if room := rows - 4; rows > 0 && len(names) > max(room, 1) { // headline, empty line, heading, remark
		names = t.busiest()[:max(room, 1)]
		hidden = len(t.order) - len(names)
	}
	width := len("MACHINE")
	for _, n := range t.order {
		width = max(width, len(n))
	}
	lines := []string{t.headline(now), "",
		t.paint(bold, fmt.Sprintf("%-*s  %-10s  %7s  %5s  %7s  %7s", width, "MACHINE", "PHASE", "SINCE", "BOOTS", "WAITED", "DOWN"))}
	for _, n := range names {
		lines = append(lines, t.row(t.machines[n], width, now))
	}
	if hidden > 0 {
		lines = append(lines, t.paint(faint, "… "+count(hidden, "more machine", "more machines")))
	}
	return lines
}

func (t *table) row(m *machineRow, width int, now time.Time) string {
	waited, down := times(m.status.Record, now)
	line := fmt.Sprintf("%-*s  %s  %7s  %5d  %7s  %7s", width, m.status.Machine,
		t.paint(t.colour(m), fmt.Sprintf("%-10s", m.state)), short(now.Sub(m.since)), m.status.Boots, waited, down)
	if w := m.status.Agent.Waiting; m.status.Up && w != "" {
		line += "  " + t.paint(faint, oneLine(w))
	}
	return line
}

// headline is the fleet in one line.
func (t *table) headline(now time.Time) string {
	rebooted, down, waiting := 0, 0, 0
	for _, m := range t.machines {
		switch {
		case m.state == stateDown:
			down++
		case m.status.RebootedOnce():
			rebooted++
		case m.status.Granted.IsZero():
			waiting++
		}
	}
	line := fmt.Sprintf("%s  %s  %s  %s", short(now.Sub(t.began)),
		t.paint(t.pick(rebooted > 0, green), fmt.Sprintf("%d of %d rebooted", rebooted, len(t.order))),
		t.paint(t.pick(down > 0, red), fmt.Sprintf("%d down, max %d", down, t.settings.max)),
		t.paint(t.pick(waiting > 0, yellow), fmt.Sprintf("%d waiting", waiting)))
	if t.settings.stay {
		line += t.paint(faint, "  Ctrl-C ends")
	}
	return line
}

func (t *table) pick(yes bool, colour string) string {
	if yes {
		return colour
	}
	return ""
}

func (t *table) colour(m *machineRow) string {
	switch {
	case m.state == stateDown, m.state == string(locksmith.PhaseFailed):
		return red
	case m.status.RebootedOnce():
		return green
	case m.state == string(locksmith.PhaseQueued), m.state == string(locksmith.PhaseWindow):
		return yellow
	}
	return ""
}

// busiest is the machines in the order in which they are worth a row: those under
// way, those that wait longest, those that are done.
func (t *table) busiest() []string {
	rank := func(m *machineRow) int {
		switch {
		case m.status.RebootedOnce():
			return 2
		case m.status.Granted.IsZero():
			return 1
		}
		return 0
	}
	names := slices.Clone(t.order)
	slices.SortStableFunc(names, func(a, b string) int {
		x, y := t.machines[a], t.machines[b]
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		if rank(x) == 2 {
			return y.since.Compare(x.since)
		}
		return x.since.Compare(y.since)
	})
	return names
}

func (t *table) paint(colour, text string) string {
	if !t.colours || colour == "" {
		return text
	}
	return colour + text + reset
}

// short is a duration for a narrow column: 3.2s, 2m05s, 1h02m.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// aligned is rows of cells under a heading, the first column to the left and the
// others to the right.
func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(&b, "  %*s", widths[i+1], cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
