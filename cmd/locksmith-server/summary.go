package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// judge is the summary of a demo that took so long and ended with runErr, and the
// error that it ends with. What counts is what was observed of the machines.
func judge(r fleet.Report, s demoSettings, took time.Duration, runErr error) (string, error) {
	var b strings.Builder
	b.WriteString(timesTable(r))
	b.WriteByte('\n')
	rebooted := 0
	var others []fleet.Record
	for _, m := range r.Machines {
		if m.RebootedOnce() {
			rebooted++
		} else {
			others = append(others, m)
		}
	}
	signal, wasInterrupted := errors.AsType[*interrupted](runErr)
	complete := runErr == nil || wasInterrupted && s.stay && len(others) == 0
	switch {
	case len(others) == 0:
		fmt.Fprintf(&b, "%s, after %s in all.\n", count(rebooted, "machine rebooted once", "machines rebooted once each"), short(took))
	case runErr != nil:
		fmt.Fprintf(&b, "Stopped after %s: %d of %s had rebooted.\n", short(took), rebooted, count(len(r.Machines), "machine", "machines"))
	default:
		for _, m := range others {
			fmt.Fprintf(&b, "FAILED: %s did not reboot exactly once: it went down %s and booted %s.\n", m.Machine,
				count(len(m.Outages), "time", "times"), count(m.Boots, "time", "times"))
		}
	}
	exceeded := writePeaks(&b, r, s)
	switch {
	case exceeded:
		return b.String(), errors.New("more machines were down at once than max allows")
	case complete && len(others) > 0:
		return b.String(), fmt.Errorf("%s did not reboot exactly once", count(len(others), "machine", "machines"))
	case complete:
		return b.String(), nil
	case wasInterrupted:
		return b.String(), signal.failure()
	}
	return b.String(), runErr
}

func timesTable(r fleet.Report) string {
	now := time.Now()
	rows := [][]string{{"MACHINE", "WAITED", "DOWN", "BOOTS"}}
	for _, m := range r.Machines {
		waited, down := times(m, now)
		rows = append(rows, []string{m.Machine, waited, down, fmt.Sprint(m.Boots)})
	}
	return aligned(rows)
}

// times is how long a machine waited and was down, "-" where it was not.
func times(m fleet.Record, now time.Time) (waited, down string) {
	waited, down = "-", "-"
	if !m.Needed.IsZero() {
		waited = short(m.Waited(now))
	}
	if len(m.Outages) > 0 {
		down = short(m.Down(now))
	}
	return waited, down
}

// writePeaks says of each group how many were down at once, and whether that was
// more than allowed.
func writePeaks(b *strings.Builder, r fleet.Report, s demoSettings) (exceeded bool) {
	allowed := make(map[locksmith.Group]int)
	for _, g := range s.groups {
		allowed[g] = s.max
	}
	for _, p := range r.Exceeded(allowed) {
		exceeded = true
		fmt.Fprintf(b, "EXCEEDED: max is %d, but %d were down at once%s: %s.\n", s.max, p.Down, in(p.Group), strings.Join(p.Machines, ", "))
	}
	if exceeded {
		return true
	}
	for _, p := range r.Peaks() {
		fmt.Fprintf(b, "Most down at once%s: %d. Max is %d, never exceeded.\n", in(p.Group), p.Down, s.max)
	}
	return false
}

// in names a group where it is worth naming.
func in(g locksmith.Group) string {
	if g == "" {
		return ""
	}
	return fmt.Sprintf(" in the group %s", g)
}
