package window

import (
	"fmt"
	"strings"
	"time"
)

// Spec is one specification of windows: recurring ones, or one from a date to
// another. It is immutable; make one with ParseSpec.
type Spec struct {
	days         set // of time.Weekday, on which windows start; all of them: daily
	ordinals     set // only on these of a month's such weekdays; none: on all
	hour, minute int
	length       time.Duration // that elapses; 0: whole days, however long they are
	from, to     time.Time     // on a clock whose zone is written as UTC; zero: recurring
	loc          *time.Location
}

// set is a set of small numbers, one bit each.
type set uint8

func (s set) has(i int) bool { return s&(1<<i) != 0 }

const everyDay set = 1<<7 - 1

var weekdays = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// ordinals are the places of a weekday in its month. The last is the 4th or 5th.
var ordinals = [...]string{"1st", "2nd", "3rd", "4th", "5th", "last"}

const last = len(ordinals) - 1

// dated says whether the Spec is one window between two dates.
func (s *Spec) dated() bool { return !s.to.IsZero() }

// always says whether each day is a whole day of the Spec.
func (s *Spec) always() bool {
	return !s.dated() && s.days == everyDay && s.ordinals == 0 && s.length == 0
}

// startsOn says whether a recurring window starts on date, a midnight in UTC.
func (s *Spec) startsOn(date time.Time) bool {
	if !s.days.has(int(date.Weekday())) {
		return false
	}
	if s.ordinals == 0 {
		return true
	}
	return s.ordinals.has((date.Day()-1)/7) || s.ordinals.has(last) && date.Add(7*day).Month() != date.Month()
}

// on is the recurring window of date, a midnight in UTC.
func (s *Spec) on(date time.Time) (start, end time.Time) {
	start = firstInstant(date.Add(time.Duration(s.hour)*time.Hour+time.Duration(s.minute)*time.Minute), s.loc)
	if s.length == 0 {
		return start, firstInstant(date.Add(day), s.loc)
	}
	return start, start.Add(s.length)
}

// closest is the shortest distance between the starts of two windows, at most
// four weeks, by the calendar: where clocks are put forward it is shorter.
func (s *Spec) closest() time.Duration {
	shortest := 28 * day
	var before time.Time
	date := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 28 * 366 { // 28 years have all patterns of weekdays and leap years
		if s.startsOn(date) {
			if !before.IsZero() {
				shortest = min(shortest, date.Sub(before))
			}
			before = date
		}
		date = date.Add(day)
	}
	return shortest
}

// Contains says whether t lies in a window: its start is inside, its end outside.
func (s *Spec) Contains(t time.Time) bool {
	c := cursor{spec: s}
	return c.contains(t)
}

// Next returns the start and end of the window that contains t, or else of the
// next one after t; zero times where none comes any more, which is so only after
// a date. The end of a window that has a length is always that length after its
// start.
//
// Where the clocks go forward, a long window can reach into the one after it;
// of two that contain t, the later one is returned.
func (s *Spec) Next(t time.Time) (start, end time.Time) {
	c := cursor{spec: s}
	if !c.seek(t) {
		return time.Time{}, time.Time{}
	}
	start, end = c.start, c.end
	for c.step() && !c.start.After(t) {
		start, end = c.start, c.end
	}
	return start, end
}

// Location is the zone in which the specification is read.
func (s *Spec) Location() *time.Location { return s.loc }

// String is the specification in one form of the many that mean the same, with its
// zone: "Mon..Fri 22:00 4h Europe/Berlin". ParseSpec reads it back.
func (s *Spec) String() string {
	var words []string
	if s.dated() {
		return s.dates() + " " + s.loc.String()
	}
	if s.ordinals != 0 {
		words = append(words, s.ordinalList())
	}
	if s.days != everyDay || s.ordinals != 0 || s.length == 0 {
		words = append(words, s.dayList())
	}
	if s.length != 0 {
		words = append(words, fmt.Sprintf("%02d:%02d", s.hour, s.minute), short(s.length))
	}
	return strings.Join(append(words, s.loc.String()), " ")
}

func (s *Spec) ordinalList() string {
	var names []string
	for i, name := range ordinals {
		if s.ordinals.has(i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// dayList starts with the first weekday, from Monday, that follows on one without
// windows, so that a range over the weekend stays in one piece.
func (s *Spec) dayList() string {
	if s.days == everyDay {
		return "Mon..Sun"
	}
	has := func(i int) bool { return s.days.has(i % 7) }
	name := func(i int) string { return weekdays[i%7] }
	var parts []string
	for i := 1; i <= 7; i++ { // Monday is 1, Sunday 7
		if !has(i) || has(i+6) {
			continue
		}
		end := i
		for has(end + 1) {
			end++
		}
		switch end - i {
		case 0:
			parts = append(parts, name(i))
		case 1:
			parts = append(parts, name(i), name(end))
		default:
			parts = append(parts, name(i)+".."+name(end))
		}
	}
	return strings.Join(parts, ",")
}

const (
	dateForm    = "2006-01-02"
	instantForm = "2006-01-02T15:04"
)

// dates leaves midnights out: a date that starts a stretch starts at its first
// instant, one that ends it ends after its last.
func (s *Spec) dates() string {
	from, to := s.from.Format(instantForm), s.to.Format(instantForm)
	if s.from.Equal(s.from.Truncate(day)) {
		from = s.from.Format(dateForm)
	}
	if s.to.Equal(s.to.Truncate(day)) {
		to = s.to.Add(-day).Format(dateForm)
	}
	if from == to {
		return from
	}
	return from + ".." + to
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
