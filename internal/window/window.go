// Package window says when reboots are allowed: windows that recur on the wall
// clock, stretches of dates, and sets of both, allowed and denied. It knows
// calendars and clocks that are put forward and back, and nothing of what a window
// is for.
package window

import (
	"fmt"
	"strings"
	"time"
)

const week = 7 * day

// Window is one daily or weekly window in the form of two settings, its start and
// its length. It is immutable; make one with Parse.
type Window struct{ spec Spec }

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
	w := &Window{Spec{days: everyDay, loc: loc}}
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
		i, _ := weekday(fields[0])
		if i < 0 || len(fields[0]) != len(weekdays[i]) {
			return false
		}
		w.spec.days = 1 << i
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return false
	}
	w.spec.hour, w.spec.minute, ok = timeOfDay(fields[0])
	return ok
}

func (w *Window) parseLength(s string) error {
	limit, kind := day, "daily"
	if w.spec.days != everyDay {
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
	w.spec.length = d
	return nil
}

// String is the window as people write it: "Thu 23:00 for 1h30m (Europe/Berlin)".
func (w *Window) String() string {
	var prefix string
	if w.spec.days != everyDay {
		prefix = w.spec.dayList() + " "
	}
	return fmt.Sprintf("%s%02d:%02d for %s (%s)", prefix, w.spec.hour, w.spec.minute, short(w.spec.length), w.spec.loc)
}

// Spec is the same window as a member of a Set.
func (w *Window) Spec() *Spec {
	s := w.spec
	return &s
}

// Contains says whether t lies in a window: its start is inside, its end outside.
func (w *Window) Contains(t time.Time) bool { return w.spec.Contains(t) }

// Next returns the start and end of the window that contains t, or else of the
// next one after t. The end is always the window's length after the start.
//
// Where the clocks go forward, a long window can reach into the one after it;
// of two that contain t, the later one is returned.
func (w *Window) Next(t time.Time) (start, end time.Time) { return w.spec.Next(t) }
