package window_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/locksmith-reboot/locksmith/internal/window"
)

// Zones and spans in which clocks do odd things: an hour or half of one, at
// night or at midnight, a whole day left out, back over midnight.
var oddities = []struct {
	zone     string
	from, to int // years
}{
	{"Europe/Berlin", 2020, 2040}, {"America/New_York", 2000, 2040}, {"Australia/Lord_Howe", 2000, 2040},
	{"America/Sao_Paulo", 2000, 2020}, {"Pacific/Apia", 2010, 2013}, {"America/St_Johns", 2000, 2012},
	{"Africa/Casablanca", 2015, 2030}, {"UTC", 2000, 2040},
}

type spec struct {
	w            *window.Window
	loc          *time.Location
	weekday      int // -1: daily
	hour, minute int
	length       time.Duration
	instant      time.Time
}

func drawSpec(t *rapid.T, locs map[string]*time.Location) spec {
	odd := rapid.SampledFrom(oddities).Draw(t, "zone")
	s := spec{loc: locs[odd.zone]}
	s.weekday = rapid.IntRange(-1, 6).Draw(t, "weekday")
	// Half of the starts lie where clocks are put forward and back.
	s.hour = rapid.OneOf(rapid.IntRange(0, 23), rapid.IntRange(0, 3)).Draw(t, "hour")
	s.minute = rapid.IntRange(0, 59).Draw(t, "minute")
	limit := 24 * time.Hour
	start := fmt.Sprintf("%02d:%02d", s.hour, s.minute)
	if s.weekday >= 0 {
		limit = 7 * 24 * time.Hour
		start = time.Weekday(s.weekday).String()[:3] + " " + start
	}
	s.length = time.Duration(rapid.Int64Range(1, int64(limit/time.Second)-1).Draw(t, "seconds")) * time.Second
	w, err := window.Parse(start, s.length.String(), s.loc)
	if err != nil {
		t.Fatal(err)
	}
	s.w = w
	from := time.Date(odd.from, 1, 1, 0, 0, 0, 0, time.UTC)
	to := time.Date(odd.to, 1, 1, 0, 0, 0, 0, time.UTC)
	s.instant = from.Add(time.Duration(rapid.Int64Range(0, int64(to.Sub(from)/time.Second)).Draw(t, "instant")) * time.Second)
	if rapid.Bool().Draw(t, "near a change of the clocks") {
		if _, change := s.instant.In(s.loc).ZoneBounds(); !change.IsZero() {
			s.instant = change.Add(time.Duration(rapid.Int64Range(-2*86400, 2*86400).Draw(t, "seconds from it")) * time.Second)
		}
	}
	return s
}

// starts lists when windows of s start between from and to, found without the
// package's own way of doing it: by looking at the clock every minute around
// each day's start.
func (s spec) starts(from, to time.Time) []time.Time {
	var starts []time.Time
	y, m, d := from.In(s.loc).Date()
	for i := -2; ; i++ {
		wall := time.Date(y, m, d+i, s.hour, s.minute, 0, 0, time.UTC)
		if wall.After(to.Add(3 * 24 * time.Hour)) {
			return starts
		}
		if s.weekday >= 0 && int(wall.Weekday()) != s.weekday {
			continue
		}
		if start := s.look(wall); !start.Before(from) && !start.After(to) {
			starts = append(starts, start)
		}
	}
}

// look is the first instant at which the clock shows wall or later. Offsets in
// the zones and years of this test are whole minutes, so a minute is a fine
// enough step.
func (s spec) look(wall time.Time) time.Time {
	for t := wall.Add(-30 * time.Hour); ; t = t.Add(time.Minute) {
		if _, offset := t.In(s.loc).Zone(); !t.Add(time.Duration(offset) * time.Second).Before(wall) {
			return t
		}
	}
}

func zones(t *testing.T) map[string]*time.Location {
	t.Helper()
	locs := map[string]*time.Location{}
	for _, odd := range oddities {
		locs[odd.zone] = zone(t, odd.zone)
	}
	return locs
}

func TestProperties(t *testing.T) {
	locs := zones(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSpec(t, locs)
		start, end := s.w.Next(s.instant)
		if got := end.Sub(start); got != s.length {
			t.Fatalf("window of %s is %s long", s.length, got)
		}
		if !end.After(s.instant) {
			t.Fatalf("window returned for %s ended at %s", s.instant, end)
		}
		inside := !start.After(s.instant)
		if got := s.w.Contains(s.instant); got != inside {
			t.Fatalf("Contains says %t, Next says %s to %s", got, start, end)
		}
		if !s.w.Contains(start) || !s.w.Contains(end.Add(-1)) {
			t.Fatalf("%s to %s does not contain its own start or end", start, end)
		}
		s.compare(t, start, inside)
	})
}

// compare holds what the package says against the clock.
func (s spec) compare(t *rapid.T, start time.Time, inside bool) {
	var known, contains bool
	for _, real := range s.starts(s.instant.Add(-s.length), start) {
		known = known || real.Equal(start)
		contains = contains || !real.After(s.instant) && real.Add(s.length).After(s.instant)
		if real.After(s.instant) && real.Before(start) {
			t.Fatalf("%s is outside; the window at %s was skipped for %s", s.instant, real, start)
		}
	}
	if !known {
		t.Fatalf("no window starts at %s", start)
	}
	if contains != inside {
		t.Fatalf("%s inside: %t, by the clock %t", s.instant, inside, contains)
	}
}

// Windows follow each other without one being skipped: at each start that the
// clock knows, it is the window that Next returns.
func TestNoneIsSkipped(t *testing.T) {
	locs := zones(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSpec(t, locs)
		for _, real := range s.starts(s.instant, s.instant.Add(16*24*time.Hour)) {
			if start, _ := s.w.Next(real.Add(-1)); start.After(real) {
				t.Fatalf("just before %s, Next gives %s", real, start)
			}
			if start, _ := s.w.Next(real); !start.Equal(real) {
				t.Fatalf("at the start %s, Next gives the window of %s", real, start)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{{"Thu 23:00", "1h30m"}, {"4:00", "1h"}, {"", ""}, {"Sun 00:00", "167h59m"}, {"+4:00", "-1h"}, {"24:00", "1d"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, start, length string) {
		w, err := window.Parse(start, length, time.UTC)
		if err != nil || w == nil {
			if (start != "" || length != "") == (err == nil) {
				t.Errorf("%q, %q: got %v, %v", start, length, w, err)
			}
			return
		}
		instant := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
		from, to := w.Next(instant)
		if !to.After(from) || !to.After(instant) || to.Sub(from) >= 168*time.Hour {
			t.Errorf("%s: next window is %s to %s", w, from, to)
		}
	})
}
