package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksmith-reboot/locksmith/test/scale/plot"
)

// plotFile draws the run that a file has into dir.
func plotFile(path, dir string) error {
	r, err := readRecord(path)
	if err != nil {
		return err
	}
	files, err := draw(r)
	if err != nil {
		return err
	}
	return plot.Write(dir, files)
}

// curve is one line of a drawing.
type curve struct {
	series, name string
	unit         unit
	lowest       bool
}

var drawings = []struct {
	file, title, label string
	curves             []curve
}{
	{"soak-memory.svg", "Memory over time", "MiB", []curve{
		{"server.own", "server, in all", mib, false}, {"server.heap", "server, heap", mib, true},
		{"rolling-1.own", "70 agents, in all", mib, false}, {"rolling-1.heap", "70 agents, heap", mib, true},
		{"standing.own", "40 that wait", mib, false}, {"callers.own", "20 on FleetLock", mib, false}}},
	{"soak-goroutines.svg", "Goroutines and open files over time", "number", []curve{
		{"server.goroutines", "server, goroutines", number, false}, {"rolling-1.goroutines", "70 agents, gor.", number, false},
		{"standing.goroutines", "40 that wait, gor.", number, false}, {"server.files", "server, files", number, false}, {"rolling-1.files", "70 agents, files", number, false}}},
	{"soak-etcd.svg", "What etcd keeps over time", "number", []curve{
		{"etcd.watchers", "watchers", number, false}, {"etcd.leases", "leases", number, false}, {"etcd.keys", "keys that stay", number, false}, {"etcd.queue", "queue entries", number, false}}},
	{"soak-size.svg", "etcd's database over time", "MiB", []curve{
		{"etcd.size", "file", mib, false}, {"etcd.used", "in use", mib, false}}},
}

// draw makes the SVG of each drawing, by the name of its file.
func draw(r record) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, d := range drawings {
		c := plot.Chart{Title: d.title, X: axis("minutes", r.Head.Duration/60),
			Note: fmt.Sprintf("%d machines, rollouts and faults, medians of %v", r.Head.Machines, time.Duration(r.Head.Duration*float64(time.Second))/windows)}
		top := 0.0
		for _, one := range d.curves {
			l := plot.Line{Name: one.name}
			for _, p := range windowsOf(r, figure{series: one.series, lowest: one.lowest}) {
				if one.unit == mib {
					p.y /= 1 << 20
				}
				top = max(top, p.y)
				l.Points = append(l.Points, plot.Point{X: p.x / 60, Y: p.y})
			}
			if len(l.Points) > 0 {
				c.Lines = append(c.Lines, l)
			}
		}
		if len(c.Lines) == 0 {
			return nil, errors.New("there are no samples to draw")
		}
		c.Y = axis(d.label, top)
		svg, err := plot.SVG(c)
		if err != nil {
			return nil, err
		}
		files[d.file] = svg
	}
	return files, nil
}

// axis reaches from 0 to top or a little further, in four to ten steps.
func axis(label string, top float64) plot.Axis {
	a := plot.Axis{Label: label, Linear: true}
	step := 0.1
	for factors, i := []float64{2, 2.5, 2}, 0; step*8 < top; i++ {
		step *= factors[i%3]
	}
	for n := 0; ; n++ {
		at := float64(n) * step
		a.Ticks = append(a.Ticks, plot.Tick{At: at, Label: fmt.Sprintf("%.4g", at)})
		if n > 0 && at >= top {
			return a
		}
	}
}
