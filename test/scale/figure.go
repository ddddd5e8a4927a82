package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// figure is one line of the table of what was measured.
type figure struct {
	Name     string  `json:"name"`
	Machines int     `json:"machines"`
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit"`            // "s", "ms", "kB" (2^10 bytes), "requests", …
	Ideal    float64 `json:"ideal,omitempty"` // 0: there is none
	Note     string  `json:"note,omitempty"`
}

func printFigures(w io.Writer, figures []figure) {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINES\tFIGURE\tMEASURED\tIDEAL\tRATIO\tNOTE")
	for _, f := range figures {
		ideal, ratio := "", ""
		if f.Ideal > 0 {
			ideal, ratio = number(f.Ideal, f.Unit), fmt.Sprintf("%.2f", f.Measured/f.Ideal)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", f.Machines, f.Name, number(f.Measured, f.Unit), ideal, ratio, f.Note)
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
