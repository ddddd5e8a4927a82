package locksmith

import (
	"fmt"
	"strings"
	"time"
)

// Words is "3rd of 12 in group lb; held by web-4 (verifying, 2 min)".
func (p Place) Words(now time.Time) string {
	group := groupWords(p.Group)
	text := ""
	switch {
	case p.Holds:
		return "has one in " + group
	case p.Position > 0:
		text = fmt.Sprintf("%s of %d in %s", ordinal(p.Position), p.Waiting, group)
	case p.Waiting > 0:
		text = fmt.Sprintf("%d wait in %s", p.Waiting, group)
	default:
		text = "nobody waits in " + group
	}
	switch {
	case p.Max == 0:
		text += "; its maximum is 0"
	case p.Free > 0:
		text += fmt.Sprintf("; %d of %d free", p.Free, p.Max)
	}
	const shown = 3
	var holders []string
	for i, h := range p.Holders {
		if i == shown {
			holders = append(holders, fmt.Sprintf("%d others", len(p.Holders)-shown))
			break
		}
		holders = append(holders, h.words(now))
	}
	return text + behind("; held by ", strings.Join(holders, ", "))
}

func (h HolderStatus) words(now time.Time) string {
	what, since := string(h.Phase), h.PhaseTime
	switch {
	case h.Stale(now):
		return fmt.Sprintf("%s (stale: %s)", h.Name(), h.NotSeen(now))
	case h.By == ByLock:
		what, since = "locked by hand", h.StartTime
	case h.By == ByWithLock:
		what, since = "runs a command", h.StartTime
	}
	if since == 0 {
		since = h.StartTime
	}
	switch {
	case since <= 0 && what == "":
		return h.Name()
	case since <= 0:
		return fmt.Sprintf("%s (%s)", h.Name(), what)
	case what == "":
		what = "for"
	default:
		what += ","
	}
	return fmt.Sprintf("%s (%s %s)", h.Name(), what, Span(now.Sub(When(since))))
}

// NotSeen says for how long nothing was heard of a holder's agent.
func (h HolderStatus) NotSeen(now time.Time) string {
	if h.Seen.IsZero() {
		return "never seen"
	}
	return "not seen for " + Span(now.Sub(h.Seen))
}

// Words is "paused by alice@jump-1 until 18:00, 3 h 46 min left: moving racks".
func (p Pause) Words(now time.Time) string {
	text := "paused" + behind(" by ", p.By)
	if p.Until != 0 {
		until := When(p.Until)
		text += fmt.Sprintf(" until %s, %s left", Clock(until, now), Span(until.Sub(now)))
	}
	return text + behind(": ", p.Reason)
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
