// Package window is the recurring reboot window: a start on the wall clock, every
// day or once a week, and a length that elapses. It knows calendars and clocks
// that are put forward and back, and nothing of what the window is for.
package window

import (
	"fmt"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Window is a recurring window. It is immutable; make one with Parse.
type Window struct {
	weekday time.Weekday // meaningful only if weekly
	weekly  bool
	hour    int
	minute  int
	length  time.Duration
	loc     *time.Location
}

var weekdays = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Parse reads a window's start, "[Day ]HH:MM" with a 24-hour clock and one of
// Sun Mon Tue Wed Thu Fri Sat in any case, and its length in Go's duration syntax.
// The hour may have one digit. A daily window must be shorter than 24 h, a
// weekly one than 168 h, both longer than zero.
//
// Two empty strings are no window: nil without an error. Only one of them
// empty is an error. The start is read from a clock in loc; nil means local time.
func Parse(start, length string, loc *time.Location) (*Window, error) {
	switch {
	case start == "" && length == "":
		return nil, nil
	case start == "":
		return nil, fmt.Errorf("reboot window has the length %q and no start: set both or neither", length)
	case length == "":
		return nil, fmt.Errorf("reboot window has the start %q and no length: set both or neither", start)
	}
	if loc == nil {
		loc = time.Local
	}
	w := &Window{loc: loc}
	if !w.parseStart(start) {
		return nil, fmt.Errorf("invalid reboot window start %q: must be [Day ]HH:MM from 00:00 to 23:59, Day one of %s",
			start, strings.Join(weekdays[:], " "))
	}
	if err := w.parseLength(length); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Window) parseStart(s string) (ok bool) {
	fields := strings.Fields(s)
	if len(fields) == 2 {
		for i, name := range weekdays {
			if strings.EqualFold(name, fields[0]) {
				w.weekly, w.weekday = true, time.Weekday(i)
			}
		}
		if !w.weekly {
			return false
		}
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return false
	}
	hour, minute, ok := strings.Cut(fields[0], ":")
	if !ok || len(hour) > 2 || len(minute) != 2 {
		return false
	}
	var okHour, okMinute bool
	w.hour, okHour = number(hour, 23)
	w.minute, okMinute = number(minute, 59)
	return okHour && okMinute
}

// number reads decimal digits, and only these: strconv.Atoi would take a sign.
func number(s string, atMost int) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, s != "" && n <= atMost
}

func (w *Window) parseLength(s string) error {
	limit, kind := day, "daily"
	if w.weekly {
		limit, kind = week, "weekly"
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("invalid reboot window length %q: must be a duration such as 90m or 1h30m", s)
	}
	if d <= 0 || d >= limit {
		return fmt.Errorf("invalid reboot window length %q: a %s window must be longer than zero and shorter than %s",
			s, kind, short(limit))
	}
	w.length = d
	return nil
}

// String is the window as people write it: "Thu 23:00 for 1h30m (Europe/Berlin)".
func (w *Window) String() string {
	var prefix string
	if w.weekly {
		prefix = weekdays[w.weekday] + " "
	}
	return fmt.Sprintf("%s%02d:%02d for %s (%s)", prefix, w.hour, w.minute, short(w.length), w.loc)
}

// short is a duration without zero units: 1h30m, not 1h30m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Contains says whether t lies in a window: its start is inside, its end outside.
func (w *Window) Contains(t time.Time) bool {
	start, _ := w.Next(t)
	return !t.Before(start)
}

// reach is how many days apart, at most, an instant's date and the date of a
// window may be for the window to matter to the instant: a week of length, and
// two days for clocks that were put forward or back by up to a whole day.
const reach = 9

// Next returns the start and end of the window that contains t, or else of the
// next one after t. The end is always the window's length after the start.
//
// Where the clocks go forward, a long window can reach into the one after it;
// of two that contain t, the later one is returned.
func (w *Window) Next(t time.Time) (start, end time.Time) {
	y, m, d := t.In(w.loc).Date()
	var inside time.Time
	for i := -reach; ; i++ {
		// Days are counted in UTC, where each has 24 hours and exists.
		wall := time.Date(y, m, d+i, w.hour, w.minute, 0, 0, time.UTC)
		if w.weekly && wall.Weekday() != w.weekday {
			continue
		}
		start = firstInstant(wall, w.loc)
		switch {
		case !start.After(t):
			if t.Before(start.Add(w.length)) {
				inside = start
			}
			continue
		case !inside.IsZero():
			start = inside
		}
		return start, start.Add(w.length)
	}
}

// firstInstant is the first instant at which a clock in loc shows wall, whose
// own location is UTC, or, where it is put forward past it, a later time.
//
// time.Date does not promise which of two instants it picks, nor which side of
// a gap, hence the walk over the zone's periods of constant offset.
func firstInstant(wall time.Time, loc *time.Location) time.Time {
	// Offsets are below 16 hours, so wall cannot have been shown two days before.
	at := wall.Add(-2 * day).In(loc)
	for {
		_, offset := at.Zone()
		from, to := at.ZoneBounds()
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		switch {
		case !to.IsZero() && !t.Before(to):
			at = to
		case t.Before(from): // a zero from is before everything
			return from
		default:
			return t
		}
	}
}
