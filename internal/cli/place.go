package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// placeText is "3rd of 12 in group lb; held by web-4 (verifying, 2 min)".
func placeText(p locksmith.Place, now time.Time) string {
	group := locksmith.PauseScope{Group: p.Group}.String()
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
		holders = append(holders, holderText(h, now))
	}
	return text + after("; held by ", strings.Join(holders, ", "))
}

func holderText(h locksmith.HolderStatus, now time.Time) string {
	what, since := string(h.Phase), h.PhaseTime
	switch {
	case h.Stale(now):
		return fmt.Sprintf("%s (stale: %s)", h.Name(), notSeen(h, now))
	case h.By == locksmith.ByLock:
		what, since = "locked by hand", h.StartTime
	case h.By == locksmith.ByWithLock:
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
	return fmt.Sprintf("%s (%s %s)", h.Name(), what, locksmith.Span(now.Sub(locksmith.When(since))))
}

// notSeen says for how long nothing was heard of a holder's agent.
func notSeen(h locksmith.HolderStatus, now time.Time) string {
	if h.Seen.IsZero() {
		return "never seen"
	}
	return "not seen for " + locksmith.Span(now.Sub(h.Seen))
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
