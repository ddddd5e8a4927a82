package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printVerdicts writes what came of a run as tables.
func printVerdicts(w io.Writer, r record, verdicts []verdict) {
	length := time.Duration(r.Head.Duration * float64(time.Second))
	fmt.Fprintf(w, "%d machines, rollouts and faults for %v, seed %d, started %s\n", r.Head.Machines, length, r.Head.Seed, r.Head.Started.UTC().Format("2006-01-02 15:04 MST"))
	if r.Head.Leak != "" {
		fmt.Fprintf(w, "A %s is leaked at each boot of 70 of them, on purpose.\n", r.Head.Leak)
	}
	for _, part := range []struct{ about, head string }{
		{aboutPromise, "PROMISE\tKEPT\t"},
		{aboutRest, "AT REST\tBEFORE\tAFTER\tMAY GROW BY\tGOOD"},
		{aboutGrowth, "UNDER LOAD, SECOND HALF\tMEDIAN\tGREW BY\tMAY GROW BY\tGOOD"},
		{aboutLeft, "LEFT BEHIND\tBEFORE\tAFTER\tMAY GROW BY\tGOOD"},
	} {
		var table strings.Builder
		t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, part.head)
		any := false
		for _, v := range verdicts {
			if v.about != part.about {
				continue
			}
			any = true
			if v.about == aboutPromise {
				fmt.Fprintf(t, "%s\t%s\t%s\n", v.name, yes(v.good), v.note)
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s %s\n", v.name, v.unit.show(v.was), v.unit.show(v.is), v.unit.show(v.allowed), yes(v.good), v.note)
		}
		t.Flush()
		if !any {
			continue
		}
		fmt.Fprintln(w)
		for l := range strings.Lines(table.String()) {
			fmt.Fprintln(w, strings.TrimRight(l, " \n"))
		}
	}
}

func yes(good bool) string {
	if good {
		return "yes"
	}
	return "NO"
}

// show is a value for people.
func (u unit) show(v float64) string {
	if u == mib {
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	}
	return fmt.Sprintf("%.0f", v)
}
