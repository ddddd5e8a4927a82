package window

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// forms shows what a specification may look like.
const forms = `must be like "Mon..Fri 22:00 4h", "2nd Tue 03:00 2h Europe/Berlin", "Sat,Sun" or "2026-12-20..2027-01-03"`

// ParseSpec reads a specification of windows. Its words are separated by spaces:
//
//	[[ORDINALS] DAYS] HH:MM LENGTH [ZONE]     Mon..Fri 22:00 4h · last Sun 02:00 3h · 03:00 2h (daily)
//	[ORDINALS] DAYS [ZONE]                    Sat,Sun · 1st Mon Europe/Berlin: whole days
//	DATE[..DATE] [ZONE]                       2026-12-24 · 2026-12-20..2027-01-03 · 2026-12-24T18:00..2026-12-27T06:00
//
// DAYS and ORDINALS are lists with commas and ranges; a range of days may run over
// the week's end (Fri..Mon). Days are Mon or Monday, in any case; ordinals, the
// places of a weekday in its month, are 1st to 5th and last. LENGTH is in Go's
// duration syntax, longer than zero and at most as long as the shortest distance
// between two starts: 24h for daily windows, 168h for weekly, four weeks for
// monthly ones. A DATE without a time stands for the whole day, also as the end of
// a stretch; one with a time, as the end, is outside. ZONE is a name of the time
// zone database; without it clocks in loc count, and nil means local time.
func ParseSpec(text string, loc *time.Location) (*Spec, error) {
	if loc == nil {
		loc = time.Local
	}
	p := parser{words: strings.Fields(text), spec: &Spec{loc: loc}}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("invalid window %q: %v", text, err)
	}
	return p.spec, nil
}

type parser struct {
	words []string // not read yet
	spec  *Spec
}

// next is the next word without taking it; empty at the end.
func (p *parser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) take() string {
	word := p.next()
	p.words = p.words[min(1, len(p.words)):]
	return word
}

func (p *parser) parse() error {
	var err error
	switch {
	case len(p.words) == 0:
		return errors.New("it is empty; " + forms)
	case isDate(p.next()):
		err = p.dates()
	default:
		err = p.recurring()
	}
	if err != nil || len(p.words) == 0 {
		return err
	}
	zone := p.take()
	if len(p.words) > 0 {
		return fmt.Errorf("%q is one word too many; %s", p.next(), forms)
	}
	if p.spec.loc, err = time.LoadLocation(zone); err != nil {
		return fmt.Errorf("%q is not a time zone: must be a name of the time zone database (package tzdata), such as Europe/Berlin or UTC", zone)
	}
	return nil
}

func (p *parser) recurring() error {
	s := p.spec
	if strings.Contains(p.next(), ":") {
		s.days = everyDay
		return p.timeAndLength()
	}
	var bad string
	if startsWithOrdinal(p.next()) {
		word := p.take()
		if s.ordinals, bad = list(word, ordinal, false); bad == "" {
			if s.days, bad = list(p.next(), weekday, true); bad != "" {
				return fmt.Errorf("%q needs a weekday after it, as in \"%s Tue 03:00 2h\"", word, word)
			}
		}
	} else {
		s.days, bad = list(p.next(), weekday, true)
	}
	if bad != "" {
		return fmt.Errorf("%q is not a day, a time of day or a date; %s", bad, forms)
	}
	p.take()
	// No zone starts with a digit.
	if next := p.next(); next == "" || !isDigit(next[0]) && !strings.Contains(next, ":") {
		return nil
	}
	return p.timeAndLength()
}

func startsWithOrdinal(word string) bool {
	i, _ := ordinal(word[:strings.IndexAny(word+",", ",.")])
	return i >= 0
}

func (p *parser) timeAndLength() error {
	s := p.spec
	start := p.take()
	var ok bool
	if s.hour, s.minute, ok = timeOfDay(start); !ok {
		return fmt.Errorf("%q is not a time of day: must be HH:MM from 00:00 to 23:59", start)
	}
	if p.next() == "" {
		return fmt.Errorf("the length is missing after %q: must be a duration, as in \"%s 1h30m\"", start, start)
	}
	length := p.take()
	var err error
	switch s.length, err = time.ParseDuration(length); {
	case err != nil:
		return fmt.Errorf("%q is not a length: must be a duration such as 90m or 1h30m", length)
	case s.length <= 0:
		return fmt.Errorf("length %q is too short: must be longer than zero, such as 90m or 1h30m", length)
	case s.length > s.closest():
		return fmt.Errorf("length %q is too long: must be at most %s, the time from one of these windows to the next",
			length, short(s.closest()))
	}
	return nil
}

func (p *parser) dates() error {
	word := p.take()
	first, final, stretch := strings.Cut(word, "..")
	from, fromTime, err := parseDate(first)
	if err != nil {
		return err
	}
	to, toTime := from, fromTime
	if stretch {
		if to, toTime, err = parseDate(final); err != nil {
			return err
		}
	} else if fromTime {
		return fmt.Errorf("%q has no end: must be like 2026-12-24T18:00..2026-12-24T22:00", word)
	}
	if !toTime {
		to = to.Add(day)
	}
	if !from.Before(to) {
		return fmt.Errorf("%q ends before it starts: write the earlier date first", word)
	}
	p.spec.from, p.spec.to = from, to
	if next := p.next(); next != "" && isDigit(next[0]) {
		return fmt.Errorf("%q follows on a date: must be like 2026-12-24T18:00..2026-12-24T22:00", next)
	}
	return nil
}

// isDate tells what is meant as a date, right or wrong, from other words.
func isDate(word string) bool {
	year, _, dash := strings.Cut(word, "-")
	return dash && len(year) == 4 && isDigit(year[0])
}

func parseDate(s string) (t time.Time, withTime bool, err error) {
	if t, err = time.Parse(dateForm, s); err != nil {
		withTime = true
		t, err = time.Parse(instantForm, s)
	}
	if err != nil || t.Year() < 1970 { // so that no start is the zero time
		return t, false, fmt.Errorf("%q is not a date: must be one from 1970 on, like 2026-12-24 or 2026-12-24T18:00", s)
	}
	return t, withTime, nil
}

// list reads a list of names with commas and ranges, such as Mon,Wed..Fri. index
// numbers the names, from 0 to less than n. A range may run over their end only in
// a circle. The part that cannot be read is returned, "" where there is none.
func list(s string, index func(string) (i, n int), circle bool) (all set, bad string) {
	for part := range strings.SplitSeq(s, ",") {
		first, final, isRange := strings.Cut(part, "..")
		from, n := index(first)
		to := from
		if isRange {
			to, _ = index(final)
		}
		switch {
		case from < 0:
			return 0, quotable(first)
		case to < 0:
			return 0, quotable(final)
		case isRange && (from == to || from > to && !circle):
			return 0, part
		case from > to:
			to += n
		}
		for i := from; i <= to; i++ {
			all |= 1 << (i % n)
		}
	}
	return all, ""
}

// quotable makes the part of a list that cannot be read tell from none.
func quotable(s string) string {
	if s == "" {
		return " "
	}
	return s
}

// weekday is the number of a day's name, -1 for other words.
func weekday(s string) (i, n int) {
	i = slices.IndexFunc(weekdays[:], func(name string) bool { return strings.EqualFold(name, s) })
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(d.String(), s) {
			i = int(d)
		}
	}
	return i, len(weekdays)
}

// ordinal is the number of a place in the month, -1 for other words.
func ordinal(s string) (i, n int) {
	return slices.IndexFunc(ordinals[:], func(name string) bool { return strings.EqualFold(name, s) }), len(ordinals)
}

// timeOfDay reads HH:MM with a 24-hour clock. The hour may have one digit.
func timeOfDay(s string) (hour, minute int, ok bool) {
	h, m, ok := strings.Cut(s, ":")
	if !ok || len(h) > 2 || len(m) != 2 {
		return 0, 0, false
	}
	hour, okHour := number(h, 23)
	minute, okMinute := number(m, 59)
	return hour, minute, okHour && okMinute
}

// number reads decimal digits, and only these: strconv.Atoi would take a sign.
func number(s string, atMost int) (n int, ok bool) {
	for _, c := range []byte(s) {
		if !isDigit(c) {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, s != "" && n <= atMost
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
