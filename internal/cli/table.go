package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
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

// fit makes the table no wider than width: it cuts the fields of some columns, and
// where even that is not enough leaves columns out, both in the order given. What then
// still is too wide stays so.
func (t *table) fit(width int, cut, drop []int) {
	least := t.widths()
	for _, i := range cut {
		least[i] = min(least[i], max(6, utf8.RuneCountInString(t.rows[0][i].text)))
	}
	var out []int
	for _, i := range drop {
		if total(least, out) <= width {
			break
		}
		out = append(out, i)
	}
	widths := t.widths()
	for _, i := range cut {
		excess := max(0, total(widths, out)-width)
		widths[i] = max(widths[i]-excess, least[i])
	}
	for r, row := range t.rows {
		var kept []cell
		for i, c := range row {
			if slices.Contains(out, i) {
				continue
			}
			if text := []rune(c.text); len(text) > widths[i] {
				c.text = string(text[:widths[i]-1]) + "…"
			}
			kept = append(kept, c)
		}
		t.rows[r] = kept
	}
}

// total is the width of a table without the columns that are out.
func total(widths, out []int) int {
	sum := -2
	for i, w := range widths {
		if !slices.Contains(out, i) {
			sum += w + 2
		}
	}
	return sum
}

func (t *table) widths() []int {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	return widths
}

// String is the table, two spaces between columns and none at the end of a line.
func (t *table) String() string {
	widths := t.widths()
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(painted(c, t.colours))
			if i < len(row)-1 {
				b.WriteString(pad(c.text, widths[i]+2))
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

// terminalSize is how many lines and columns w shows, 0 where nobody knows.
func terminalSize(w io.Writer) (rows, columns int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}

// textWidth is where text for people is wrapped: at a terminal's edge, but not
// where lines get too long to read, nor where nothing fits.
func (a *app) textWidth() int {
	if _, columns := terminalSize(a.stdout); columns > 0 {
		return min(max(columns, 40), 120)
	}
	return 80
}

// wrap breaks text between words so that no line is wider than width. It starts in
// column indent, and so do the lines that follow. A word that is too wide, as the
// path of a file, stays whole.
func wrap(text string, width, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range words(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// inSpan is a space within a span of time: "12 min", "(3 h 46 min)".
var inSpan = regexp.MustCompile(`(\d) (s|min|h|d)\b`)
var inLongSpan = regexp.MustCompile(`(\d\x00[dh]) (\d+\x00(?:min|h))`)

// words splits text where it may be wrapped.
func words(text string) []string {
	text = inLongSpan.ReplaceAllString(inSpan.ReplaceAllString(text, "$1\x00$2"), "$1\x00$2")
	list := strings.Fields(text)
	for i, word := range list {
		list[i] = strings.ReplaceAll(word, "\x00", " ")
	}
	return list
}

// pad is the spaces that make text width columns wide.
func pad(text string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// short is the start of an id, enough to tell machines and boots apart by.
func short(id string) string {
	const shown = 8
	if utf8.RuneCountInString(id) <= shown+1 {
		return id
	}
	return string([]rune(id)[:shown]) + "…"
}

// colours says whether standard output gets colours: only a terminal that can
// show them, and only if nobody objects (https://no-color.org).
func (a *app) colours() bool {
	no, _ := a.deps.LookupEnv("NO_COLOR")
	term, _ := a.deps.LookupEnv("TERM")
	return no == "" && term != "" && term != "dumb" && isTerminal(a.stdout)
}
