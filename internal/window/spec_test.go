package window_test

import (
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // zones do not depend on where the tests run

	"github.com/locksmith-reboot/locksmith/internal/window"
)

func specs(t testing.TB, loc *time.Location, list ...string) []*window.Spec {
	t.Helper()
	var all []*window.Spec
	for _, text := range list {
		s, err := window.ParseSpec(text, loc)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestParseSpec(t *testing.T) {
	tests := []struct{ text, want string }{
		{"Mon..Fri 22:00 4h", "Mon..Fri 22:00 4h UTC"},
		{"Sat,Sun 00:00 24h", "Sat,Sun 00:00 24h UTC"},
		{"2nd Tue 03:00 2h Europe/Berlin", "2nd Tue 03:00 2h Europe/Berlin"},
		{"last Sun 02:00 3h", "last Sun 02:00 3h UTC"},
		{"03:00 2h", "03:00 2h UTC"},
		{"Mon,Wed..Fri 1:30 90m", "Mon,Wed..Fri 01:30 1h30m UTC"},
		{"Fri..Mon 22:00 1h", "Fri..Mon 22:00 1h UTC"},
		{"Sun,Mon,Sat,Wed 22:00 1h", "Wed,Sat..Mon 22:00 1h UTC"},
		{"Sun,Mon 22:00 1h", "Sun,Mon 22:00 1h UTC"},
		{"monday,TUESDAY..thursday 05:00 24h", "Mon..Thu 05:00 24h UTC"},
		{"Mon..Sun 05:00 24h", "05:00 24h UTC"},
		{"Tue..Mon 05:00 1h", "05:00 1h UTC"},
		{"Mon,Mon,Mon 05:00 168h", "Mon 05:00 168h UTC"},
		{"Mon,Thu 05:00 72h", "Mon,Thu 05:00 72h UTC"},
		{"1st,3rd Tue 05:00 336h", "1st,3rd Tue 05:00 336h UTC"},
		{"1st,3rd,5th Tue 05:00 168h", "1st,3rd,5th Tue 05:00 168h UTC"},
		{"1ST..3rd,LAST Tue,Thu 05:00 24h", "1st,2nd,3rd,last Tue,Thu 05:00 24h UTC"},
		{"4th..last Tue 05:00 168h", "4th,5th,last Tue 05:00 168h UTC"},
		{"2nd Tue 03:00 672h", "2nd Tue 03:00 672h UTC"},
		{" \t Sat,Sun  ", "Sat,Sun UTC"},
		{"1st Mon Asia/Kolkata", "1st Mon Asia/Kolkata"},
		{"Mon..Sun", "Mon..Sun UTC"},
		{"1st..5th Mon..Sun", "1st,2nd,3rd,4th,5th Mon..Sun UTC"},
		{"2026-12-24", "2026-12-24 UTC"},
		{"2026-12-20..2027-01-03", "2026-12-20..2027-01-03 UTC"},
		{"2026-12-24T18:00..2026-12-27T06:00 America/New_York", "2026-12-24T18:00..2026-12-27T06:00 America/New_York"},
		{"2026-12-24T00:00..2026-12-25T00:00", "2026-12-24 UTC"},
		{"2026-12-24..2026-12-24", "2026-12-24 UTC"},
		{"2026-12-24T18:00..2026-12-24", "2026-12-24T18:00..2026-12-24 UTC"},
		{"2026-12-24..2026-12-24T18:00", "2026-12-24..2026-12-24T18:00 UTC"},
		{"9999-12-31", "9999-12-31 UTC"},
		{"2028-02-29 Local", "2028-02-29 Local"},
	}
	for _, tt := range tests {
		s, err := window.ParseSpec(tt.text, time.UTC)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := s.String(); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, got, tt.want)
		}
	}
	s, err := window.ParseSpec("Mon", nil)
	if err != nil || s.String() != "Mon Local" || s.Location() != time.Local {
		t.Errorf("no zone: got %s, %v", s, err)
	}
}

func TestParseSpecErrors(t *testing.T) {
	const forms = `; must be like "Mon..Fri 22:00 4h", "2nd Tue 03:00 2h Europe/Berlin", "Sat,Sun" or "2026-12-20..2027-01-03"`
	const noDay = ` is not a day, a time of day or a date` + forms
	const noDate = ` is not a date: must be one from 1970 on, like 2026-12-24 or 2026-12-24T18:00`
	const noTime = ` is not a time of day: must be HH:MM from 00:00 to 23:59`
	const noZone = ` is not a time zone: must be a name of the time zone database (package tzdata), such as Europe/Berlin or UTC`
	tests := []struct{ text, want string }{
		{"", `it is empty` + forms},
		{" ", `it is empty` + forms},
		{"Mno 22:00 4h", `"Mno"` + noDay},
		{"Mon..Fry 22:00 4h", `"Fry"` + noDay},
		{"Mon,,Tue 22:00 4h", `" "` + noDay},
		{"Mon, Tue 22:00 4h", `" "` + noDay},
		{"Mon..Mon 22:00 4h", `"Mon..Mon"` + noDay},
		{"Mon-Fri 22:00 4h", `"Mon-Fri"` + noDay},
		{"Mon...Fri 22:00 4h", `".Fri"` + noDay},
		{"daily 22:00 4h", `"daily"` + noDay},
		{"4h", `"4h"` + noDay},
		{"3rd..1st Mon 22:00 4h", `"3rd..1st"` + noDay},
		{"6th Mon 22:00 4h", `"6th"` + noDay},
		{"Europe/Berlin", `"Europe/Berlin"` + noDay},
		{"2nd 22:00 4h", `"2nd" needs a weekday after it, as in "2nd Tue 03:00 2h"`},
		{"last", `"last" needs a weekday after it, as in "last Tue 03:00 2h"`},
		{"Mon 24:00 4h", `"24:00"` + noTime},
		{"22:60 4h", `"22:60"` + noTime},
		{"+4:00 4h", `"+4:00"` + noTime},
		{"Mon -4:00 4h", `"-4:00"` + noTime},
		{"Mon 0400 4h", `"0400"` + noTime},
		{"Mon 4h", `"4h"` + noTime},
		{"22:00..23:00 4h", `"22:00..23:00"` + noTime},
		{"Mon 22:00", `the length is missing after "22:00": must be a duration, as in "22:00 1h30m"`},
		{"22:00 Europe/Berlin", `"Europe/Berlin" is not a length: must be a duration such as 90m or 1h30m`},
		{"22:00 4", `"4" is not a length: must be a duration such as 90m or 1h30m`},
		{"22:00 0h", `length "0h" is too short: must be longer than zero, such as 90m or 1h30m`},
		{"22:00 -1h", `length "-1h" is too short: must be longer than zero, such as 90m or 1h30m`},
		{"22:00 24h1s", `length "24h1s" is too long: must be at most 24h, the time from one of these windows to the next`},
		{"Sat,Sun 22:00 25h", `length "25h" is too long: must be at most 24h, the time from one of these windows to the next`},
		{"Mon,Thu 22:00 73h", `length "73h" is too long: must be at most 72h, the time from one of these windows to the next`},
		{"Mon 22:00 169h", `length "169h" is too long: must be at most 168h, the time from one of these windows to the next`},
		{"5th Mon 22:00 673h", `length "673h" is too long: must be at most 672h, the time from one of these windows to the next`},
		{"4th,last Mon 22:00 169h", `length "169h" is too long: must be at most 168h, the time from one of these windows to the next`},
		{"1st Mon,Tue 22:00 25h", `length "25h" is too long: must be at most 24h, the time from one of these windows to the next`},
		{"22:00 4h Berlin", `"Berlin"` + noZone},
		{"22:00 4h ../../etc/passwd", `"../../etc/passwd"` + noZone},
		{"Sat,Sun weekend", `"weekend"` + noZone},
		{"22:00 4h UTC UTC", `"UTC" is one word too many` + forms},
		{"2026-02-29", `"2026-02-29"` + noDate},
		{"2026-2-1", `"2026-2-1"` + noDate},
		{"1969-12-31", `"1969-12-31"` + noDate},
		{"2026-12-20..2026-12-32", `"2026-12-32"` + noDate},
		{"2026-12-20..", `""` + noDate},
		{"2026-12-20T25:00..2026-12-21", `"2026-12-20T25:00"` + noDate},
		{"2026-12-24T18:00", `"2026-12-24T18:00" has no end: must be like 2026-12-24T18:00..2026-12-24T22:00`},
		{"2026-12-24 18:00 4h", `"18:00" follows on a date: must be like 2026-12-24T18:00..2026-12-24T22:00`},
		{"2027-01-03..2026-12-20", `"2027-01-03..2026-12-20" ends before it starts: write the earlier date first`},
		{"2026-12-24T18:00..2026-12-24T18:00", `"2026-12-24T18:00..2026-12-24T18:00" ends before it starts: write the earlier date first`},
		{"2026-12-24 Nowhere", `"Nowhere"` + noZone},
		{"2026-12-24 UTC 2026-12-25", `"2026-12-25" is one word too many` + forms},
		{"Mon\x00 22:00 4h", `"Mon\x00"` + noDay},
	}
	for _, tt := range tests {
		s, err := window.ParseSpec(tt.text, time.UTC)
		if err == nil {
			t.Errorf("%q: got %s, want an error", tt.text, s)
			continue
		}
		if got := strings.SplitN(err.Error(), `": `, 2)[1]; got != tt.want || s != nil {
			t.Errorf("%q:\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

func TestSpecNext(t *testing.T) {
	tests := []struct {
		name, spec, zone   string
		at                 string
		wantStart, wantEnd string // RFC 3339; empty: zero
		inside             bool
	}{
		{"Monday evening", "Mon..Fri 22:00 4h", "UTC",
			"2026-11-23 21:00", "2026-11-23T22:00:00Z", "2026-11-24T02:00:00Z", false},
		{"Friday's reaches into Saturday", "Mon..Fri 22:00 4h", "UTC",
			"2026-11-28 01:59:59", "2026-11-27T22:00:00Z", "2026-11-28T02:00:00Z", true},
		{"not on Saturday", "Mon..Fri 22:00 4h", "UTC",
			"2026-11-28 02:00", "2026-11-30T22:00:00Z", "2026-12-01T02:00:00Z", false},
		{"its own zone", "2nd Tue 03:00 2h Europe/Berlin", "UTC",
			"2026-12-08 02:00", "2026-12-08T03:00:00+01:00", "2026-12-08T05:00:00+01:00", true},
		{"the month's is over", "2nd Tue 03:00 2h", "UTC",
			"2026-12-08 05:00", "2027-01-12T03:00:00Z", "2027-01-12T05:00:00Z", false},
		{"the last is the 5th", "last Sun 02:00 3h", "UTC",
			"2026-11-22 02:00", "2026-11-29T02:00:00Z", "2026-11-29T05:00:00Z", false},
		{"the last is the 4th", "last Sun 02:00 3h", "UTC",
			"2026-12-01 00:00", "2026-12-27T02:00:00Z", "2026-12-27T05:00:00Z", false},
		{"not every month has a 5th", "5th Sun 02:00 3h", "UTC",
			"2026-11-30 00:00", "2027-01-31T02:00:00Z", "2027-01-31T05:00:00Z", false},
		{"of the month before", "1st Mon 00:00 600h", "UTC",
			"2027-01-01 00:00", "2027-01-04T00:00:00Z", "2027-01-29T00:00:00Z", false},
		{"four weeks long", "last Mon 00:00 672h", "UTC",
			"2027-01-24 23:00", "2026-12-28T00:00:00Z", "2027-01-25T00:00:00Z", true},
		{"a whole day of 25 hours", "Sun", "Europe/Berlin",
			"2026-10-25 23:30", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", true},
		{"24 hours end an hour early on it", "Sun 00:00 24h", "Europe/Berlin",
			"2026-10-25 23:00", "2026-11-01T00:00:00+01:00", "2026-11-02T00:00:00+01:00", false},
		{"the last day of a leap year, by a zone's rule", "03:00 2h", "Europe/Berlin",
			"2040-12-31 06:00", "2041-01-01T03:00:00+01:00", "2041-01-01T05:00:00+01:00", false},
		{"on the last day of a leap year, by a zone's rule", "Mon 23:30 2h", "Australia/Lord_Howe",
			"2040-12-31 12:00", "2040-12-31T23:30:00+11:00", "2041-01-01T01:30:00+11:00", false},
		{"a whole day of 23 hours", "Sun", "Europe/Berlin",
			"2026-03-29 12:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", true},
		{"clocks put back at midnight", "Sat", "America/Santiago",
			"2026-04-04 23:30 -0400", "2026-04-04T00:00:00-03:00", "2026-04-05T00:00:00-04:00", true},
		{"clocks put forward at midnight", "Sun", "America/Santiago",
			"2026-09-06 01:00 -0300", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00", true},
		{"a whole day that never was", "Fri", "Pacific/Apia",
			"2011-12-29 23:00", "2012-01-06T00:00:00+14:00", "2012-01-07T00:00:00+14:00", false},
		{"a date that never was", "2011-12-30", "Pacific/Apia", "2011-12-29 23:00", "", "", false},
		{"both dates are inside", "2026-12-20..2027-01-03", "Europe/Berlin",
			"2027-01-03 23:59:59", "2026-12-20T00:00:00+01:00", "2027-01-04T00:00:00+01:00", true},
		{"dates over a change of the clocks", "2026-03-28..2026-03-29", "Europe/Berlin",
			"2026-03-01 00:00", "2026-03-28T00:00:00+01:00", "2026-03-30T00:00:00+02:00", false},
		{"dates are over", "2026-12-20..2027-01-03", "Europe/Berlin", "2027-01-04 00:00", "", "", false},
		{"dates with times", "2026-12-24T18:00..2026-12-27T06:00", "Europe/Berlin",
			"2026-12-27 05:59:59", "2026-12-24T18:00:00+01:00", "2026-12-27T06:00:00+01:00", true},
		{"the end's time is outside", "2026-12-24T18:00..2026-12-27T06:00", "Europe/Berlin", "2026-12-27 06:00", "", "", false},
		{"a time that never was", "2026-03-29T02:10..2026-03-29T02:50", "Europe/Berlin", "2026-03-29 00:00", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			loc := zone(t, tt.zone)
			s, instant := specs(t, loc, tt.spec)[0], at(t, tt.at, loc)
			start, end := s.Next(instant)
			if got := rfc3339(start); got != tt.wantStart {
				t.Errorf("start is %s, want %s", got, tt.wantStart)
			}
			if got := rfc3339(end); got != tt.wantEnd {
				t.Errorf("end is %s, want %s", got, tt.wantEnd)
			}
			if got := s.Contains(instant); got != tt.inside {
				t.Errorf("contains %s: %t", instant, got)
			}
		})
	}
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// What is read is written in one form, which means the same.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"Mon..Fri 22:00 4h", "Sat,Sun 00:00 24h", "2nd Tue 03:00 2h Europe/Berlin", "last Sun 02:00 3h",
		"03:00 2h", "Mon,Wed..Fri 1:30 90m", "Fri..Mon", "1st..3rd,last Monday", "2026-12-20..2027-01-03", "2026-12-24 UTC",
		"2026-12-24T18:00..2026-12-27T06:00", "2026-12-24T18:00..2026-12-24", "", "Mon 24:00 -4h", "1970-01-01..9999-12-31"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := window.ParseSpec(text, time.UTC)
		if err != nil {
			if s != nil || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("%q: got %v, %q", text, s, err)
			}
			return
		}
		again, err := window.ParseSpec(s.String(), time.Local)
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is written as %s, which is read as %v, %v", text, s, again, err)
		}
		instant := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
		from, to := s.Next(instant)
		if from.IsZero() != to.IsZero() || !from.IsZero() && (!to.After(from) || !to.After(instant)) {
			t.Errorf("%s: next window is %s to %s", s, from, to)
		}
		if f, e := again.Next(instant); !f.Equal(from) || !e.Equal(to) {
			t.Errorf("%q: %s to %s, written anew %s to %s", text, from, to, f, e)
		}
	})
}

// The examples of the documentation are specifications.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/windows.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		for i, text := range strings.Split(cells[2], "`") {
			if i%2 == 1 {
				specs(t, time.UTC, text)
				examples++
			}
		}
	}
	if examples < 10 {
		t.Errorf("found %d examples", examples)
	}
}
