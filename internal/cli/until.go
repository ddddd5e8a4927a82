package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// parseUntil reads the end of something that begins now: a duration ("4h", "2d",
// "1w2d", "1h30m"), the next time a clock in now's zone shows "18:00", a date and time
// in that zone ("2026-12-24 18:00"), or RFC 3339. The result is a whole second after now.
func parseUntil(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	t, ok := untilInstant(s, now)
	if !ok {
		return t, fmt.Errorf("invalid -until %q: must be a duration such as 4h or 2d, a time such as 18:00, a date and time "+
			"such as \"2026-12-24 18:00\", or RFC 3339", s)
	}
	if whole := t.Truncate(time.Second); whole.Before(t) {
		t = whole.Add(time.Second)
	}
	if !t.After(now) {
		return t, fmt.Errorf("invalid -until %q: that is not in the future; it is %s now", s, now.Format("2006-01-02 15:04:05 MST"))
	}
	return t, nil
}

func untilInstant(s string, now time.Time) (t time.Time, ok bool) {
	if d, ok := parseDays(s); ok {
		return now.Add(d), true
	}
	if clock, err := time.Parse("15:04", s); err == nil {
		next := func(days int) time.Time {
			return time.Date(now.Year(), now.Month(), now.Day()+days, clock.Hour(), clock.Minute(), 0, 0, now.Location())
		}
		if t = next(0); !t.After(now) {
			t = next(1)
		}
		return t, true
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, true
		}
	}
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil
}

var daysPattern = regexp.MustCompile(`^(?:(\d{1,3})w)?(?:(\d{1,4})d)?(.*)$`)

// parseDays is time.ParseDuration with weeks and days of 24 hours before the rest.
func parseDays(s string) (time.Duration, bool) {
	m := daysPattern.FindStringSubmatch(s)
	if s == "" || m == nil {
		return 0, false
	}
	whole := time.Duration(0)
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		n, _ := strconv.Atoi(m[i+1]) // empty, or digits that fit
		whole += time.Duration(n) * unit
	}
	if m[3] == "" {
		return whole, true
	}
	rest, err := time.ParseDuration(m[3])
	return whole + rest, err == nil && (rest >= 0 || whole == 0)
}
