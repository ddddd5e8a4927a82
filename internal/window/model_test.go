package window_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model is what a specification means, found without the package's own way of
// doing it: by counting days in the month, and by looking at the clock every minute.

var modelZones = []struct {
	zone     string
	from, to int // years
}{
	{"Europe/Berlin", 2020, 2040}, {"America/New_York", 2004, 2040}, {"Australia/Lord_Howe", 2004, 2040},
	{"America/St_Johns", 2004, 2012}, {"Africa/Casablanca", 2015, 2030}, {"Pacific/Apia", 2010, 2013},
	{"UTC", 2004, 2040}, {"Asia/Kolkata", 2004, 2040},
}

// clockwork knows when a clock first showed each minute of a span of time.
type clockwork struct {
	first   time.Time // the earliest minute known, as UTC
	instant []time.Time
}

func watchClock(loc *time.Location, from, to time.Time) clockwork {
	shown := func(t time.Time) time.Time { // as UTC
		_, offset := t.In(loc).Zone()
		return t.Add(time.Duration(offset) * time.Second).UTC()
	}
	from = from.Truncate(time.Minute)
	c := clockwork{first: shown(from)}
	for t := from; !t.After(to); t = t.Add(time.Minute) {
		// Minutes that were not shown are taken for shown at the end of the gap.
		for wall := shown(t); len(c.instant) <= int(wall.Sub(c.first)/time.Minute); {
			c.instant = append(c.instant, t)
		}
	}
	return c
}

// when is the first instant at which the clock showed wall; ok is false outside
// the span.
func (c clockwork) when(wall time.Time) (t time.Time, ok bool) {
	i := int(wall.Sub(c.first) / time.Minute)
	if wall.Before(c.first) || i >= len(c.instant) {
		return time.Time{}, false
	}
	return c.instant[i], true
}

type model struct {
	text         string // the specification, without a zone
	days         [7]bool
	places       [6]bool // 1st to 5th and last
	anyPlace     bool
	hour, minute int
	length       time.Duration // 0: whole days
	from, to     time.Time     // dates, as UTC; zero: recurring
}

type span struct{ start, end time.Time }

func (s span) contains(t time.Time) bool { return !t.Before(s.start) && t.Before(s.end) }

// windows lists the model's windows whose dates are in the span of c.
func (m model) windows(c clockwork) []span {
	var list []span
	add := func(start, end time.Time) {
		if end.After(start) {
			list = append(list, span{start, end})
		}
	}
	if !m.to.IsZero() {
		last := c.first.Add(time.Duration(len(c.instant)-1) * time.Minute)
		if m.to.Before(c.first) || m.from.After(last) {
			return nil
		}
		start, known := c.when(m.from)
		if !known {
			start = c.instant[0].Add(-1)
		}
		end, known := c.when(m.to)
		if !known {
			end = c.instant[len(c.instant)-1].Add(1)
		}
		add(start, end)
		return list
	}
	for date := c.first.Truncate(24 * time.Hour); ; date = date.AddDate(0, 0, 1) {
		start, known := c.when(date.Add(time.Duration(60*m.hour+m.minute) * time.Minute))
		if !known && date.Before(c.first) {
			continue
		}
		end, endKnown := c.when(date.AddDate(0, 0, 1))
		if !known || !endKnown {
			return list
		}
		if m.length != 0 {
			end = start.Add(m.length)
		}
		if m.starts(date) {
			add(start, end)
		}
	}
}

func (m model) starts(date time.Time) bool {
	if !m.days[date.Weekday()] {
		return false
	}
	before, after := 0, 0 // such weekdays in this month
	for d := 1; d <= date.AddDate(0, 1, -date.Day()).Day(); d++ {
		other := time.Date(date.Year(), date.Month(), d, 0, 0, 0, 0, time.UTC)
		if other.Weekday() == date.Weekday() && other.Before(date) {
			before++
		} else if other.Weekday() == date.Weekday() && other.After(date) {
			after++
		}
	}
	return m.anyPlace || m.places[before] || after == 0 && m.places[5]
}

var modelWeekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}

// drawModel draws a specification near instant.
func drawModel(t *rapid.T, loc *time.Location, instant time.Time) model {
	if rapid.IntRange(0, 5).Draw(t, "dates") == 0 {
		return drawDates(t, loc, instant)
	}
	var m model
	var words []string
	weekdays := drawList(t, "days", 7, true, m.days[:], func(i int) string {
		name := modelWeekdays[i]
		return rapid.SampledFrom([]string{name[:3], name, strings.ToLower(name[:3]), strings.ToUpper(name)}).Draw(t, "name")
	})
	if m.anyPlace = rapid.IntRange(0, 2).Draw(t, "ordinals") != 0; !m.anyPlace {
		words = append(words, drawList(t, "ordinal", 6, false, m.places[:], func(i int) string {
			return []string{"1st", "2nd", "3rd", "4th", "5th", "last"}[i]
		}))
	}
	whole := rapid.IntRange(0, 4).Draw(t, "whole days") == 0
	if !whole && m.anyPlace && rapid.IntRange(0, 3).Draw(t, "daily") == 0 {
		m.days = [7]bool{true, true, true, true, true, true, true}
	} else {
		words = append(words, weekdays)
	}
	if !whole {
		m.hour = rapid.OneOf(rapid.IntRange(0, 23), rapid.IntRange(0, 3)).Draw(t, "hour")
		m.minute = rapid.OneOf(rapid.IntRange(0, 59), rapid.SampledFrom([]int{0, 30})).Draw(t, "minute")
		m.length = m.drawLength(t)
		words = append(words, fmt.Sprintf("%d:%02d", m.hour, m.minute), m.length.String())
	}
	m.text = strings.Join(words, " ")
	return m
}

func (m model) drawLength(t *rapid.T) time.Duration {
	limit := 24 * time.Hour
	if count(m.days[:]) == 1 {
		limit *= 7
		if count(m.places[:]) == 1 {
			limit *= 4
		}
	}
	some := rapid.Map(rapid.Int64Range(1, int64(limit/time.Second)), func(s int64) time.Duration { return time.Duration(s) * time.Second })
	return rapid.OneOf(some, rapid.SampledFrom([]time.Duration{time.Hour, 23 * time.Hour, 24 * time.Hour, limit})).Draw(t, "length")
}

func count(all []bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// drawList draws the text of a list and notes in has what it means.
func drawList(t *rapid.T, what string, n int, circle bool, has []bool, name func(int) string) string {
	var parts []string
	for range rapid.IntRange(1, 2).Draw(t, what+" parts") {
		from, to := rapid.IntRange(0, n-1).Draw(t, what), rapid.IntRange(0, n-1).Draw(t, what+" end")
		if !circle && from > to {
			from, to = to, from
		}
		if rapid.Bool().Draw(t, what+" range") && from != to {
			parts = append(parts, name(from)+".."+name(to))
		} else {
			to = from
			parts = append(parts, name(from))
		}
		for i := from; ; i = (i + 1) % n {
			has[i] = true
			if i == to {
				break
			}
		}
	}
	return strings.Join(parts, ",")
}

func drawDates(t *rapid.T, loc *time.Location, instant time.Time) model {
	y, mo, d := instant.In(loc).Date()
	date := func(what string, least, most int) time.Time {
		return time.Date(y, mo, d+rapid.IntRange(least, most).Draw(t, what), 0, 0, 0, 0, time.UTC)
	}
	clock := func(date time.Time, what string) (time.Time, string) {
		if rapid.Bool().Draw(t, what+" with time") {
			date = date.Add(time.Duration(rapid.IntRange(0, 1439).Draw(t, what+" minute")) * time.Minute)
			return date, date.Format("2006-01-02T15:04")
		}
		return date, date.Format("2006-01-02")
	}
	var m model
	from := date("from", -10, 20)
	var first, final string
	m.from, first = clock(from, "from")
	m.to, final = clock(from.AddDate(0, 0, rapid.IntRange(1, 20).Draw(t, "days of dates")), "to")
	if len(final) == len("2006-01-02") {
		m.to = m.to.AddDate(0, 0, 1)
	}
	m.text = first + ".." + final
	return m
}

// scene is a zone and an instant to ask about, often near a change of the clocks.
type scene struct {
	loc     *time.Location
	instant time.Time
	clock   clockwork // of 40 days before the instant to 45 days after it
}

const (
	sceneBefore = 40 * 24 * time.Hour
	sceneAfter  = 45 * 24 * time.Hour
)

func drawScene(t *rapid.T, locs map[string]*time.Location) scene {
	z := rapid.SampledFrom(modelZones).Draw(t, "zone")
	s := scene{loc: locs[z.zone]}
	from := time.Date(z.from, 1, 1, 0, 0, 0, 0, time.UTC)
	to := time.Date(z.to, 1, 1, 0, 0, 0, 0, time.UTC)
	s.instant = from.Add(time.Duration(rapid.Int64Range(0, int64(to.Sub(from)/time.Second)).Draw(t, "instant")) * time.Second)
	if rapid.IntRange(0, 3).Draw(t, "near a change of the clocks") > 0 {
		if _, change := s.instant.In(s.loc).ZoneBounds(); !change.IsZero() {
			s.instant = change.Add(time.Duration(rapid.Int64Range(-2*86400, 2*86400).Draw(t, "seconds from it")) * time.Second)
		}
	}
	s.clock = watchClock(s.loc, s.instant.Add(-sceneBefore), s.instant.Add(sceneAfter))
	return s
}

func modelLocations(t testing.TB) map[string]*time.Location {
	locs := map[string]*time.Location{}
	for _, z := range modelZones {
		locs[z.zone] = zone(t, z.zone)
	}
	return locs
}

// periods are the open periods between from and to: the instants at which a window
// starts or ends are sorted, and between two of them nothing changes.
func periods(allow, deny [][]span, from, to time.Time) []span {
	edges := []time.Time{from, to}
	for _, list := range slices.Concat(allow, deny) {
		for _, w := range list {
			edges = append(edges, w.start, w.end)
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	in := func(all [][]span, t time.Time) bool {
		return slices.ContainsFunc(all, func(list []span) bool {
			return slices.ContainsFunc(list, func(w span) bool { return w.contains(t) })
		})
	}
	var open []span
	for i, start := range edges[:len(edges)-1] {
		end := edges[i+1]
		if start.Before(from) || end.After(to) || !end.After(start) || len(allow) > 0 && !in(allow, start) || in(deny, start) {
			continue
		}
		if n := len(open); n > 0 && open[n-1].end.Equal(start) {
			open[n-1].end = end
		} else {
			open = append(open, span{start, end})
		}
	}
	return open
}
