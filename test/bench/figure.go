package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one line of the table. Durations are in milliseconds, sizes in MB
// (2^20 bytes).
type figure struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"` // "ms", "MB", "requests", …
	Measured float64 `json:"measured"`
	Floor    float64 `json:"floor,omitempty"` // the least possible, measured alike; 0: there is none
	Ratio    float64 `json:"ratio,omitempty"` // of measured to floor
	Target   string  `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"` // absent: there is no target
	Note     string  `json:"note,omitempty"`
}

// add takes down a figure that has no floor or no target.
func (b *bench) add(f figure) {
	if f.Floor > 0 && f.Ratio == 0 {
		f.Ratio = f.Measured / f.Floor
	}
	b.figures = append(b.figures, f)
}

// atMost takes down a figure that should not exceed limit.
func (b *bench) atMost(f figure, limit float64) {
	f.Target = fmt.Sprintf("<= %g %s", limit, f.Unit)
	met := f.Measured <= limit
	f.Met = &met
	b.add(f)
}

// atLeast takes down a figure that should reach limit.
func (b *bench) atLeast(f figure, limit float64) {
	f.Target = fmt.Sprintf(">= %g %s", limit, f.Unit)
	met := f.Measured >= limit
	f.Met = &met
	b.add(f)
}

// ratioAtMost takes down a figure that should not exceed limit times its floor.
func (b *bench) ratioAtMost(f figure, limit float64) {
	f.Ratio = f.Measured / f.Floor
	f.Target = fmt.Sprintf("<= %g x", limit)
	met := f.Ratio <= limit
	f.Met = &met
	b.add(f)
}

func printTable(w io.Writer, figures []figure) {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tMEASURED\tFLOOR\tRATIO\tTARGET\t\tNOTE")
	for _, f := range figures {
		floor, ratio, met := "", "", ""
		if f.Floor > 0 {
			floor = number(f.Floor, f.Unit)
		}
		if f.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Met != nil {
			met = map[bool]string{true: "met", false: "MISSED"}[*f.Met]
		}
		fmt.Fprintln(t, strings.Join([]string{f.Name, number(f.Measured, f.Unit), floor, ratio, f.Target, met, f.Note}, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func number(v float64, unit string) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d %s", int64(v), unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile is the value below which the part q of all values lies.
func quantile[T time.Duration | int64](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
