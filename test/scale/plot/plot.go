// Package plot draws lines over two axes, logarithmic ones if nothing else is said, as SVG. A drawing stands alone: it
// brings its colours for light and dark pages, and the same Chart gives the same bytes.
//
// It must not know what the lines mean.
package plot

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Chart is one drawing.
type Chart struct {
	Title string
	Note  string // below the title: under which conditions; may be empty
	X, Y  Axis
	Lines []Line // 1 to 6
}

// Axis is one of the two.
type Axis struct {
	Label  string
	Ticks  []Tick // 2 or more, growing; the axis reaches from the first to the last
	Linear bool   // and not logarithmic: then it may begin at 0, or below
}

// Tick is a place on an axis.
type Tick struct {
	At    float64 // more than 0 where the axis is logarithmic
	Label string
}

// Line is a series of points, joined in their order.
type Line struct {
	Name   string
	Dashed bool    // for what others are compared with
	Points []Point // 1 or more, within the axes
}

// Point is one value, within the axes.
type Point struct{ X, Y float64 }

// Sizes in units of the drawing, which are CSS pixels where it is shown as wide as it is.
const (
	width, height = 760, 440
	left, right   = 84, 168 // beside the field: labels of the axis, names of the lines
	top, bottom   = 62, 52
	nameHeight    = 17 // from one line's name to the next
)

// most is how many lines a drawing may have: so many colours are there.
const most = 6

// The colours of the lines can be told apart by those who do not see red or green, and
// stand out from the background of their page: first for light ones, then for dark ones.
// Each line has a marker of its own besides.
var colours = [most][2]string{
	{"#0b62a4", "#6cb6ff"}, {"#c2410c", "#ff9d5c"}, {"#7a3e9d", "#d2a8ff"}, {"#1f7a4d", "#56d397"}, {"#6b6b6b", "#b0b0b0"}, {"#8a6d00", "#e3c341"},
}

// SVG draws c.
func SVG(c Chart) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("plot %q: %w", c.Title, err)
	}
	d := &drawing{chart: c}
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title">`, width, height)
	d.put(`<title id="title">%s</title>`, escape(c.Title))
	d.style()
	d.put(`<rect class="page" width="%d" height="%d"/>`, width, height)
	d.put(`<text class="heading" x="%d" y="26">%s</text>`, left, escape(c.Title))
	d.put(`<text class="quiet" x="%d" y="45">%s</text>`, left, escape(c.Note))
	d.axes()
	for i, l := range c.Lines {
		d.line(i, l)
	}
	d.names()
	d.put(`</svg>`)
	return []byte(d.out.String()), nil
}

func (c Chart) check() error {
	if len(c.Lines) < 1 || len(c.Lines) > most {
		return fmt.Errorf("%d lines: must be 1 to %d", len(c.Lines), most)
	}
	for _, a := range []Axis{c.X, c.Y} {
		if len(a.Ticks) < 2 || a.Ticks[0].At <= 0 && !a.Linear {
			return fmt.Errorf("axis %q: wants two ticks or more, above 0 unless it is linear", a.Label)
		}
		if !slices.IsSortedFunc(a.Ticks, func(a, b Tick) int { return cmp.Compare(a.At, b.At) }) || a.Ticks[0].At == a.Ticks[len(a.Ticks)-1].At {
			return fmt.Errorf("axis %q: ticks must grow", a.Label)
		}
	}
	for _, l := range c.Lines {
		if len(l.Points) == 0 {
			return fmt.Errorf("line %q has no points", l.Name)
		}
		for _, p := range l.Points {
			if !c.X.holds(p.X) || !c.Y.holds(p.Y) {
				return fmt.Errorf("line %q: %g, %g is outside the axes", l.Name, p.X, p.Y)
			}
		}
	}
	return nil
}

// holds is false for NaN too.
func (a Axis) holds(v float64) bool { return v >= a.Ticks[0].At && v <= a.Ticks[len(a.Ticks)-1].At }

// part is how far along the axis v lies, from 0 to 1.
func (a Axis) part(v float64) float64 {
	first, last := a.Ticks[0].At, a.Ticks[len(a.Ticks)-1].At
	if a.Linear {
		return (v - first) / (last - first)
	}
	return math.Log(v/first) / math.Log(last/first)
}

// drawing is an SVG under way.
type drawing struct {
	chart Chart
	out   strings.Builder
}

// put writes one line.
func (d *drawing) put(format string, args ...any) {
	fmt.Fprintf(&d.out, format+"\n", args...)
}

// The products are rounded by themselves, so that all processors reckon the same.

func (d *drawing) x(v float64) float64 {
	return left + float64(d.chart.X.part(v)*(width-left-right))
}

func (d *drawing) y(v float64) float64 {
	return height - bottom - float64(d.chart.Y.part(v)*(height-top-bottom))
}

func (d *drawing) style() {
	d.put(`<style>`)
	d.put(`text{font:13px system-ui,sans-serif}.heading{font-size:16px;font-weight:600}`)
	d.put(`.grid{stroke-width:1}.line{fill:none;stroke-width:2.2;stroke-linejoin:round}.dashed{stroke-dasharray:6 5}.name{font-weight:600}`)
	for i, colour := range []string{"light", "dark"} {
		if colour == "dark" {
			d.put(`@media (prefers-color-scheme:dark){`)
		}
		page, ink, quiet, grid := "#ffffff", "#1b1b1b", "#595959", "#e2e2e2"
		if colour == "dark" {
			page, ink, quiet, grid = "#12161c", "#eaeaea", "#aab2bd", "#2c333d"
		}
		d.put(`.page{fill:%s}text{fill:%s}.quiet{fill:%s}.grid{stroke:%s}`, page, ink, quiet, grid)
		for n := range d.chart.Lines {
			d.put(`.c%d{stroke:%s}.c%[1]d .mark,.name.c%[1]d{fill:%[2]s;stroke:none}`, n, colours[n][i])
		}
	}
	d.put(`}`)
	d.put(`</style>`)
}

func (d *drawing) axes() {
	for _, t := range d.chart.X.Ticks {
		x := d.x(t.At)
		d.put(`<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, x, top, x, height-bottom)
		d.put(`<text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, height-bottom+19, escape(t.Label))
	}
	for _, t := range d.chart.Y.Ticks {
		y := d.y(t.At)
		d.put(`<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, left, y, width-right, y)
		d.put(`<text class="quiet" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-9, y+4.5, escape(t.Label))
	}
	d.put(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-12, escape(d.chart.X.Label))
	d.put(`<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`, (top+height-bottom)/2, escape(d.chart.Y.Label))
}

func (d *drawing) line(n int, l Line) {
	class := fmt.Sprintf("line c%d", n)
	if l.Dashed {
		class += " dashed"
	}
	var path strings.Builder
	for _, p := range l.Points {
		fmt.Fprintf(&path, " %.1f,%.1f", d.x(p.X), d.y(p.Y))
	}
	d.put(`<polyline class="%s" points="%s"/>`, class, path.String()[1:])
	if l.Dashed {
		return
	}
	d.put(`<g class="c%d">`, n)
	for _, p := range l.Points {
		d.mark(n, d.x(p.X), d.y(p.Y))
	}
	d.put(`</g>`)
}

// mark is a circle, a square, a diamond or a triangle.
func (d *drawing) mark(n int, x, y float64) {
	switch n % 4 {
	case 0:
		d.put(`<circle class="mark" cx="%.1f" cy="%.1f" r="3.6"/>`, x, y)
	case 1:
		d.put(`<rect class="mark" x="%.1f" y="%.1f" width="6.6" height="6.6"/>`, x-3.3, y-3.3)
	case 2:
		d.put(`<path class="mark" d="M%.1f %.1fl4.6 4.6-4.6 4.6-4.6-4.6z"/>`, x, y-4.6)
	default:
		d.put(`<path class="mark" d="M%.1f %.1fl4.6 8h-9.2z"/>`, x, y-5)
	}
}

// names writes each line's name beside its end, as near as the others let it.
func (d *drawing) names() {
	type label struct {
		line int
		y    float64
	}
	var labels []label
	for i, l := range d.chart.Lines {
		labels = append(labels, label{i, d.y(l.Points[len(l.Points)-1].Y)})
	}
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	for i := 1; i < len(labels); i++ {
		labels[i].y = max(labels[i].y, labels[i-1].y+nameHeight)
	}
	// What was pushed below the field goes up again, and takes along what is in its way.
	floor := float64(height - bottom)
	for i := len(labels) - 1; i >= 0; i-- {
		labels[i].y = min(labels[i].y, floor)
		floor = labels[i].y - nameHeight
	}
	for _, l := range labels {
		d.put(`<text class="name c%d" x="%d" y="%.1f">%s</text>`, l.line, width-right+12, l.y+4.5, escape(d.chart.Lines[l.line].Name))
	}
}

func escape(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // a Builder takes everything
	return out.String()
}

// Write writes drawings into a directory, which is there, by their files' names.
func Write(dir string, drawings map[string][]byte) error {
	for name, svg := range drawings {
		if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}
