package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/test/scale/plot"
)

func chart() plot.Chart {
	return plot.Chart{
		Title: "a < b", Note: "in a test",
		X: plot.Axis{Label: "machines", Ticks: []plot.Tick{{1, "1"}, {10, "10"}, {100, "100"}}},
		Y: plot.Axis{Label: "hours", Ticks: []plot.Tick{{1, "1"}, {100, "100"}}},
		Lines: []plot.Line{
			{Name: "one & only", Points: []plot.Point{{1, 1}, {10, 10}, {100, 100}}},
			{Name: "near", Points: []plot.Point{{1, 2}, {100, 99}}},
			{Name: "low", Points: []plot.Point{{100, 1}}},
			{Name: "lower", Dashed: true, Points: []plot.Point{{1, 1}, {100, 1}}},
		},
	}
}

// element is one of a drawing.
type element struct {
	name, text string
	at         map[string]string
}

func (e element) number(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e.at[name], 64)
	if err != nil {
		t.Fatalf("%s of %s: %v", name, e.name, err)
	}
	return v
}

// parse reads a drawing, which must be well-formed.
func parse(t *testing.T, svg []byte) []element {
	t.Helper()
	var list []element
	for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, at: make(map[string]string)}
			for _, a := range token.Attr {
				e.at[a.Name.Local] = a.Value
			}
			list = append(list, e)
		case xml.CharData:
			if n := len(list); n > 0 {
				list[n-1].text += strings.TrimSpace(string(token))
			}
		}
	}
}

func TestDrawing(t *testing.T) {
	svg, err := plot.SVG(chart())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := plot.SVG(chart())
	if !bytes.Equal(svg, again) {
		t.Error("the same chart gives two drawings")
	}
	elements := parse(t, svg)
	texts := make(map[string]element)
	var lines, grid []element
	for _, e := range elements {
		switch {
		case e.name == "text":
			texts[e.text] = e
		case e.name == "polyline":
			lines = append(lines, e)
		case e.name == "line":
			grid = append(grid, e)
		}
	}
	for _, want := range []string{"a < b", "in a test", "machines", "hours", "one & only", "near", "low", "lower", "10", "100"} {
		if _, ok := texts[want]; !ok {
			t.Errorf("no text %q", want)
		}
	}
	if len(lines) != 4 || len(grid) != 5 {
		t.Fatalf("%d lines and %d of the grid, want 4 and 5", len(lines), len(grid))
	}
	// A power law is straight on two logarithmic axes, from corner to corner.
	if got, want := lines[0].at["points"], "84.0,388.0 338.0,225.0 592.0,62.0"; got != want {
		t.Errorf("the first line goes %s, want %s", got, want)
	}
	if !strings.Contains(lines[3].at["class"], "dashed") {
		t.Error("the last line is not dashed")
	}
}

// On a linear axis the middle is in the middle, and it may begin at 0.
func TestLinearAxis(t *testing.T) {
	c := chart()
	c.X = plot.Axis{Label: "seconds", Linear: true, Ticks: []plot.Tick{{At: 0, Label: "0"}, {At: 100, Label: "100"}}}
	c.Lines = []plot.Line{{Name: "straight", Points: []plot.Point{{X: 0, Y: 1}, {X: 50, Y: 1}, {X: 100, Y: 1}}}}
	svg, err := plot.SVG(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range parse(t, svg) {
		if e.name == "polyline" && e.at["points"] != "84.0,388.0 338.0,388.0 592.0,388.0" {
			t.Errorf("the line goes %s", e.at["points"])
		}
	}
}

// Names stand beside each other's lines, not on each other, and within the drawing.
func TestNamesStandApart(t *testing.T) {
	svg, err := plot.SVG(chart())
	if err != nil {
		t.Fatal(err)
	}
	var ys []float64
	for _, e := range parse(t, svg) {
		if strings.HasPrefix(e.at["class"], "name ") {
			ys = append(ys, e.number(t, "y"))
		}
	}
	if len(ys) != 4 {
		t.Fatalf("%d names", len(ys))
	}
	for i, y := range ys {
		if y < 40 || y > 400 {
			t.Errorf("name %d is at %g", i, y)
		}
		if i > 0 && y-ys[i-1] < 16 {
			t.Errorf("names %d and %d are %g apart", i-1, i, y-ys[i-1])
		}
	}
}

func TestBothColours(t *testing.T) {
	svg, err := plot.SVG(chart())
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(svg), "@media (prefers-color-scheme:dark){")
	if !ok || strings.Count(string(svg), "{") != strings.Count(string(svg), "}") {
		t.Fatal("no colours for dark pages, or braces that do not match")
	}
	for _, class := range []string{".page{", ".c0{", ".c3{"} {
		if !strings.Contains(light, class) || !strings.Contains(dark, class) {
			t.Errorf("%s has not both colours", class)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, spoil := range map[string]func(*plot.Chart){
		"no lines":          func(c *plot.Chart) { c.Lines = nil },
		"too many lines":    func(c *plot.Chart) { c.Lines = append(c.Lines, c.Lines...) },
		"no points":         func(c *plot.Chart) { c.Lines[1].Points = nil },
		"outside":           func(c *plot.Chart) { c.Lines[0].Points[0].X = 101 },
		"not a number":      func(c *plot.Chart) { c.Lines[0].Points[0].Y = math.NaN() },
		"one tick":          func(c *plot.Chart) { c.X.Ticks = c.X.Ticks[:1] },
		"axis from 0":       func(c *plot.Chart) { c.Y.Ticks[0].At = 0 },
		"axis of one place": func(c *plot.Chart) { c.Y.Ticks[0].At = 100 },
		"axis that shrinks": func(c *plot.Chart) { c.X.Ticks[1].At = 1000 },
	} {
		c := chart()
		spoil(&c)
		if _, err := plot.SVG(c); err == nil {
			t.Errorf("%s: drawn all the same", name)
		}
	}
}
