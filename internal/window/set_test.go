package window_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/locksmith-reboot/locksmith/internal/window"
)

func TestSetNext(t *testing.T) {
	tests := []struct {
		name               string
		allow, deny        string // separated by semicolons
		at                 string
		wantStart, wantEnd string // RFC 3339; empty: zero
	}{
		{"one window", "Sat 10:00 2h", "", "2026-11-22 12:00", "2026-11-28T10:00:00Z", "2026-11-28T12:00:00Z"},
		{"the next of two", "Sat 10:00 2h; Tue 10:00 2h", "", "2026-11-22 12:00", "2026-11-24T10:00:00Z", "2026-11-24T12:00:00Z"},
		{"overlapping ones are one", "10:00 2h; 11:00 3h", "", "2026-11-22 13:00", "2026-11-22T10:00:00Z", "2026-11-22T14:00:00Z"},
		{"one inside another", "10:00 6h; 11:00 1h", "", "2026-11-22 12:30", "2026-11-22T10:00:00Z", "2026-11-22T16:00:00Z"},
		{"touching ones are one", "10:00 2h; 12:00 2h", "", "2026-11-22 12:00", "2026-11-22T10:00:00Z", "2026-11-22T14:00:00Z"},
		{"touching ones of one specification", "Sat,Sun 00:00 24h", "", "2026-11-22 12:00", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"},
		{"whole days touch", "Fri..Mon", "", "2026-11-17 00:00", "2026-11-20T00:00:00Z", "2026-11-24T00:00:00Z"},
		{"in several zones", "23:00 2h UTC; 01:00 2h Europe/Berlin", "", "2026-11-22 23:30", "2026-11-22T23:00:00Z", "2026-11-23T03:00:00+01:00"},
		{"denied at its end", "10:00 4h", "12:00 8h", "2026-11-22 11:00", "2026-11-22T10:00:00Z", "2026-11-22T12:00:00Z"},
		{"denied at its start", "10:00 4h", "08:00 4h", "2026-11-22 11:00", "2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z"},
		{"denied in its middle, before", "10:00 4h", "11:00 1h", "2026-11-22 10:59:59", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"},
		{"denied in its middle, meanwhile", "10:00 4h", "11:00 1h", "2026-11-22 11:00", "2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z"},
		{"denied in its middle, after", "10:00 4h", "11:00 1h", "2026-11-22 12:30", "2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z"},
		{"deny windows touch", "10:00 4h", "10:00 1h; 11:00 30m; 11:30 30m", "2026-11-22 09:00", "2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z"},
		{"a deny window of another week", "Mon..Fri 22:00 4h", "2026-12-20..2027-01-03", "2026-12-18 23:00", "2026-12-18T22:00:00Z", "2026-12-19T02:00:00Z"},
		{"the holidays", "Mon..Fri 22:00 4h", "2026-12-20..2027-01-03", "2026-12-19 02:00", "2027-01-04T22:00:00Z", "2027-01-05T02:00:00Z"},
		{"only denied", "", "Mon..Fri 08:00 10h", "2026-11-23 12:00", "2026-11-23T18:00:00Z", "2026-11-24T08:00:00Z"},
		{"only denied, over the weekend", "", "Mon..Fri 08:00 10h", "2026-11-22 12:00", "2026-11-20T18:00:00Z", "2026-11-23T08:00:00Z"},
		{"only a date denied, after it", "", "2026-11-20", "2026-11-22 12:00", "2026-11-21T00:00:00Z", ""},
		{"only a date denied, before it", "", "2026-11-24", "2026-11-22 12:00", "1970-01-01T00:00:00Z", "2026-11-24T00:00:00Z"},
		{"always", "Mon..Sun", "", "2026-11-22 12:00", "1970-01-01T00:00:00Z", ""},
		{"always, but for dates", "00:00 24h", "2026-11-20; 2027-11-20", "2026-11-22 12:00", "2026-11-21T00:00:00Z", "2027-11-20T00:00:00Z"},
		{"only a date denied, long after it", "", "2006-11-20", "2026-11-22 12:00", "2006-11-21T00:00:00Z", ""},
		{"always, before there is a start", "Mon..Sun", "", "1969-11-22 12:00", "1969-11-22T12:00:00Z", ""},
		{"a date that is over", "2026-11-20", "", "2026-11-22 12:00", "", ""},
		{"a date beyond sight", "2036-11-20", "", "2026-11-22 12:00", "", ""},
		{"all is denied", "10:00 4h", "Mon..Sun", "2026-11-22 12:00", "", ""},
		{"all is denied, without windows", "", "00:00 24h", "2026-11-22 12:00", "", ""},
		{"all of the window is denied", "10:00 4h", "09:00 3h; 12:00 2h", "2026-11-22 12:00", "", ""},
		{"all is denied for some years", "Sat 10:00 1h", "2026-01-01..2029-12-31", "2026-11-22 12:00", "2030-01-05T10:00:00Z", "2030-01-05T11:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSet(t, tt.allow, tt.deny)
			instant := at(t, tt.at, time.UTC)
			start, end := s.Next(instant)
			if got := rfc3339(start); got != tt.wantStart {
				t.Errorf("start is %s, want %s", got, tt.wantStart)
			}
			if got := rfc3339(end); got != tt.wantEnd {
				t.Errorf("end is %s, want %s", got, tt.wantEnd)
			}
			if want := !start.IsZero() && !start.After(instant); s.Contains(instant) != want {
				t.Errorf("contains %s: %t", instant, !want)
			}
		})
	}
}

func newSet(t testing.TB, allow, deny string) *window.Set {
	t.Helper()
	read := func(text string) []*window.Spec {
		if text == "" {
			return nil
		}
		return specs(t, time.UTC, strings.Split(text, ";")...)
	}
	return window.NewSet(read(allow), read(deny))
}

func TestSetTexts(t *testing.T) {
	if s := window.NewSet(nil, []*window.Spec{}); s != nil {
		t.Errorf("a set of nothing is %s, want nil", s)
	}
	old := parse(t, "Thu 23:00", "1h30m", time.UTC).Spec()
	s := window.NewSet(append(specs(t, time.UTC, "2nd Tue 3:00 2h"), old), specs(t, time.UTC, "2026-12-20..2027-01-03", "Fri"))
	if got, want := s.String(), "2nd Tue 03:00 2h UTC, Thu 23:00 1h30m UTC, except 2026-12-20..2027-01-03 UTC, Fri UTC"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := s.Windows(); !slices.Equal(got, []string{"2nd Tue 03:00 2h UTC", "Thu 23:00 1h30m UTC"}) {
		t.Errorf("windows are %q", got)
	}
	if got := s.DenyWindows(); !slices.Equal(got, []string{"2026-12-20..2027-01-03 UTC", "Fri UTC"}) {
		t.Errorf("deny windows are %q", got)
	}
	if got, want := newSet(t, "", "Fri").String(), "at any time, except Fri UTC"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOpenings(t *testing.T) {
	tests := []struct {
		name, allow, deny string
		want              []string // starts and ends
	}{
		{"as many as asked for", "Mon,Wed 10:00 1h", "2026-11-25", []string{
			"2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z", "2026-11-30T10:00:00Z", "2026-11-30T11:00:00Z",
			"2026-12-02T10:00:00Z", "2026-12-02T11:00:00Z"}},
		{"the present one too", "Sun 10:00 4h; 2026-11-27", "2026-11-29..2035-01-01", []string{
			"2026-11-22T10:00:00Z", "2026-11-22T14:00:00Z", "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"}},
		{"one without an end", "", "2026-11-22..2026-11-23", []string{"2026-11-24T00:00:00Z", ""}},
		{"none", "10:00 1h", "Mon..Sun", nil},
	}
	for _, tt := range tests {
		var got []string
		for _, o := range newSet(t, tt.allow, tt.deny).Openings(at(t, "2026-11-22 12:00", time.UTC), 3) {
			got = append(got, rfc3339(o.Start), rfc3339(o.End))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// What a Set says is what the clock says, for random sets at random instants.
func TestSetProperties(t *testing.T) {
	locs := modelLocations(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t, locs)
		draw := func(what string, least, most int) (all []*window.Spec, windows [][]span) {
			for range rapid.IntRange(least, most).Draw(t, what) {
				m := drawModel(t, s.loc, s.instant)
				spec, err := window.ParseSpec(m.text, s.loc)
				if err != nil {
					t.Fatal(err)
				}
				all, windows = append(all, spec), append(windows, m.windows(s.clock))
			}
			return all, windows
		}
		allow, allowed := draw("windows", 0, 3)
		deny, denied := draw("deny windows", max(0, 1-len(allow)), 3) // without any there is no set
		set := window.NewSet(allow, deny)
		// The windows of the model's first four weeks are not all known, as they
		// may have begun before, and neither are those of its last days.
		from, to := s.instant.Add(-sceneBefore+29*24*time.Hour), s.instant.Add(sceneAfter-3*24*time.Hour)
		open := periods(allowed, denied, from, to)
		var before time.Time
		for _, at := range instants(open, from, to, s.instant) {
			start := checkSet(t, set, open, from, to, at)
			if start.IsZero() {
				continue // not in sight yet
			}
			if start.Before(before) {
				t.Fatalf("%s: at %s the next start is %s, before it was %s", set, at, start, before)
			}
			before = start
		}
	})
}

// instants are those worth asking about between from and to, in order: t, and where
// periods start and end, with the instants before and after.
func instants(open []span, from, to, t time.Time) []time.Time {
	all := []time.Time{t}
	for _, p := range open[:min(6, len(open))] {
		for _, edge := range []time.Time{p.start, p.end} {
			for _, d := range []time.Duration{-1, 0, 1} {
				if at := edge.Add(d); at.After(from) && at.Before(to) {
					all = append(all, at)
				}
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// checkSet compares what set says at an instant with the open periods between from
// and to. It returns the start that Next gives.
func checkSet(t *rapid.T, set *window.Set, open []span, from, to, at time.Time) (start time.Time) {
	start, end := set.Next(at)
	inside := !start.IsZero() && !start.After(at)
	if inside != set.Contains(at) {
		t.Fatalf("%s at %s: Contains says %t, Next %s to %s", set, at, !inside, start, end)
	}
	if !end.IsZero() && !end.After(at) || inside && !set.Contains(start) ||
		!end.IsZero() && (!set.Contains(end.Add(-1)) || set.Contains(end)) {
		t.Fatalf("%s at %s: the period is not %s to %s", set, at, start, end)
	}
	i := slices.IndexFunc(open, func(p span) bool { return p.end.After(at) })
	if i < 0 {
		if !start.IsZero() && start.Before(to) {
			t.Fatalf("%s at %s: by the clock nothing opens until %s, Next says %s", set, at, to, start)
		}
		return start
	}
	want := open[i]
	if began := want.start.After(from); began && !start.Equal(want.start) || !began && start.After(from) {
		t.Fatalf("%s at %s: by the clock open at %s, Next says %s", set, at, want.start, start)
	}
	if ends := want.end.Before(to); ends && !end.Equal(want.end) || !ends && !end.IsZero() && end.Before(to) {
		t.Fatalf("%s at %s: by the clock open until %s, Next says %s", set, at, want.end, end)
	}
	return start
}

// A specification alone: each window has its length, none is skipped, and what is
// written is read back.
func TestSpecProperties(t *testing.T) {
	locs := modelLocations(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t, locs)
		m := drawModel(t, s.loc, s.instant)
		text, loc := m.text, s.loc
		if rapid.Bool().Draw(t, "zone in the text") {
			text, loc = text+" "+s.loc.String(), time.Local
		}
		spec, err := window.ParseSpec(text, loc)
		if err != nil {
			t.Fatal(err)
		}
		again, err := window.ParseSpec(spec.String(), time.Local)
		if err != nil || again.String() != spec.String() {
			t.Fatalf("%q is written as %q, which reads as %v, %v", text, spec, again, err)
		}
		windows := m.windows(s.clock)
		ask := []time.Time{s.instant}
		for _, w := range windows {
			ask = append(ask, w.start.Add(-1), w.start, w.start.Add(1), w.end.Add(-1), w.end)
		}
		for _, at := range ask {
			// Dates reach further than the model looks; a window may have begun before it did.
			if at.After(s.instant.Add(-sceneBefore+29*24*time.Hour)) && at.Before(s.instant.Add(sceneAfter-3*24*time.Hour)) {
				checkSpec(t, again, m, windows, at)
			}
		}
	})
}

func checkSpec(t *rapid.T, spec *window.Spec, m model, windows []span, at time.Time) {
	start, end := spec.Next(at)
	if got := end.Sub(start); m.length != 0 && got != m.length {
		t.Fatalf("%s at %s: %s to %s is %s long", spec, at, start, end, got)
	}
	inside := !start.IsZero() && !start.After(at)
	if spec.Contains(at) != inside || !end.IsZero() && !end.After(at) {
		t.Fatalf("%s at %s: Contains says %t, Next %s to %s", spec, at, !inside, start, end)
	}
	var want span // of those that contain the instant the last, or else the first after it
	for _, w := range windows {
		if w.contains(at) || w.start.After(at) && want.start.IsZero() {
			want = w
		}
	}
	if want.start.IsZero() {
		if !m.to.IsZero() && !start.IsZero() && m.from.Before(at) {
			t.Fatalf("%s at %s: over, but Next says %s", spec, at, start)
		}
		return
	}
	if m.to.IsZero() && (!start.Equal(want.start) || !end.Equal(want.end)) {
		t.Fatalf("%s at %s: %s to %s, by the clock %s to %s", spec, at, start, end, want.start, want.end)
	}
}

func BenchmarkSetNext(b *testing.B) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, bb := range []struct{ name, allow, deny string }{
		{"typical", "Mon..Fri 22:00 4h Europe/Berlin; 2nd Tue 03:00 2h", "2026-12-20..2027-01-03; last Fri"},
		{"always open", "00:00 24h", ""},
		{"never open", "10:00 4h Europe/Berlin", "Mon..Sun Europe/Berlin"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := newSet(b, bb.allow, bb.deny)
			for b.Loop() {
				s.Next(now)
			}
		})
	}
}
