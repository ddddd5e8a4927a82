package locksmith

import (
	"fmt"
	"time"
)

// Span is a duration for people, in its two leading units: "12 s", "16 min",
// "3 h 46 min", "4 d 7 h". It is cut, not rounded; what is negative, as the clocks
// of two machines may make it, is "0 s".
func Span(d time.Duration) string {
	minutes, hours, days := int(d.Minutes()), int(d.Hours()), int(d.Hours())/24
	switch {
	case hours >= 48 && hours%24 == 0:
		return fmt.Sprintf("%d d", days)
	case hours >= 48:
		return fmt.Sprintf("%d d %d h", days, hours%24)
	case hours >= 1 && minutes%60 == 0:
		return fmt.Sprintf("%d h", hours)
	case hours >= 1:
		return fmt.Sprintf("%d h %d min", hours, minutes%60)
	case minutes >= 1:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
}

// Clock is an instant for people at now, in now's zone: "14:02" on the same day,
// "Thu 23:00" within six days, and "2026-12-24 18:00" further away.
func Clock(t, now time.Time) string {
	t = t.In(now.Location())
	day := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC) }
	switch days := day(t).Sub(day(now)).Hours() / 24; {
	case days == 0:
		return t.Format("15:04")
	case -6 <= days && days <= 6:
		return t.Format("Mon 15:04")
	}
	return t.Format("2006-01-02 15:04")
}
