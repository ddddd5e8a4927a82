package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// colour is how a cell stands out on a terminal.
type colour string

// The colours, as terminals know them.
const (
	plain  colour = ""
	bold   colour = "\x1b[1m"
	red    colour = "\x1b[31m"
	yellow colour = "\x1b[33m"
	faint  colour = "\x1b[2m"

	endColour = "\x1b[0m"
)

// cell is one field of a table.
type cell struct {
	text  string
	paint colour
}

// table is aligned columns under a heading.
type table struct {
	colours bool
	rows    [][]cell
}

func newTable(colours bool, heading ...string) *table {
	t := &table{colours: colours}
	row := make([]cell, len(heading))
	for i, h := range heading {
		row[i] = cell{h, bold}
	}
	t.rows = append(t.rows, row)
	return t
}

// add appends a row. Empty fields show as "-", so that columns can be counted.
func (t *table) add(cells ...cell) {
	for i := range cells {
		if cells[i].text = oneLine(cells[i].text); cells[i].text == "" {
			cells[i].text = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// String is the table, two spaces between columns and none at the end of a line.
func (t *table) String() string {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(painted(c, t.colours))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func painted(c cell, colours bool) string {
	if !colours || c.paint == plain {
		return c.text
	}
	return string(c.paint) + c.text + endColour
}

// oneLine makes text from outside safe to print: what a reason, a host name or
// an error says must not move the cursor or start another line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.TrimSpace(s))
}

// age is a duration for people, with its two leading units: 3m12s, 2h05m, 4d7h.
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second) // clocks of two machines may disagree
	switch h := int(d.Hours()); {
	case h >= 48:
		return fmt.Sprintf("%dd%dh", h/24, h%24)
	case h >= 1:
		return fmt.Sprintf("%dh%02dm", h, int(d.Minutes())%60)
	}
	return d.String()
}

// clock is an instant for people, in local time.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// isTerminal says whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// terminalRows is how many lines w shows, 0 where nobody knows.
func terminalRows(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}

// colours says whether standard output gets colours: only a terminal that can
// show them, and only if nobody objects (https://no-color.org).
func (a *app) colours() bool {
	no, _ := a.deps.LookupEnv("NO_COLOR")
	term, _ := a.deps.LookupEnv("TERM")
	return no == "" && term != "" && term != "dumb" && isTerminal(a.stdout)
}
