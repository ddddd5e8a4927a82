package window_test

import (
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/window"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("%v: install tzdata", err)
	}
	return loc
}

func parse(t testing.TB, start, length string, loc *time.Location) *window.Window {
	t.Helper()
	w, err := window.Parse(start, length, loc)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func at(t testing.TB, s string, loc *time.Location) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05 -0700", "2006-01-02 15:04 -0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	if at, err := time.ParseInLocation("2006-01-02 15:04", s, loc); err == nil {
		return at
	}
	at, err := time.ParseInLocation("2006-01-02 15:04:05.999999999", s, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestNext(t *testing.T) {
	tests := []struct {
		name, start, length, zone string
		at                        string
		wantStart, wantEnd        string // RFC 3339
		inside                    bool
	}{
		{"weekly over midnight", "Thu 23:00", "1h30m", "UTC",
			"2026-11-27 00:29:59.999999999", "2026-11-26T23:00:00Z", "2026-11-27T00:30:00Z", true},
		{"its start is inside", "Thu 23:00", "1h30m", "UTC",
			"2026-11-26 23:00:00", "2026-11-26T23:00:00Z", "2026-11-27T00:30:00Z", true},
		{"just before it", "Thu 23:00", "1h30m", "UTC",
			"2026-11-26 22:59:59.999999999", "2026-11-26T23:00:00Z", "2026-11-27T00:30:00Z", false},
		{"its end is outside", "Thu 23:00", "1h30m", "UTC",
			"2026-11-27 00:30:00", "2026-12-03T23:00:00Z", "2026-12-04T00:30:00Z", false},
		{"daily, later today", "4:00", "1h", "UTC",
			"2026-11-22 03:00:00", "2026-11-22T04:00:00Z", "2026-11-22T05:00:00Z", false},
		{"daily, tomorrow", "04:00", "1h", "UTC",
			"2026-12-31 05:00:00", "2027-01-01T04:00:00Z", "2027-01-01T05:00:00Z", false},
		{"nearly a week", "sAt 00:00", "167h59m", "UTC",
			"2026-11-27 23:58:00", "2026-11-21T00:00:00Z", "2026-11-27T23:59:00Z", true},
		{"in another zone", "14:00", "1h", "Europe/Berlin",
			"2026-11-22 13:30:00 +0000", "2026-11-22T14:00:00+01:00", "2026-11-22T15:00:00+01:00", true},

		{"forward: start in the gap", "02:30", "1h", "Europe/Berlin",
			"2026-03-29 01:59:59", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00", false},
		{"forward: the gap's end is inside", "02:30", "1h", "Europe/Berlin",
			"2026-03-29 03:00:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00", true},
		{"forward: keeps its elapsed length", "01:30", "1h", "Europe/Berlin",
			"2026-03-29 03:29:59", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", true},
		{"forward: long windows overlap, the later counts", "03:00", "23h30m", "Europe/Berlin",
			"2026-03-29 03:10:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00", true},
		{"forward at midnight", "00:00", "30m", "America/Sao_Paulo",
			"2018-11-03 23:59:59", "2018-11-04T01:00:00-02:00", "2018-11-04T01:30:00-02:00", false},
		{"back: the first of two counts", "02:30", "20m", "Europe/Berlin",
			"2026-10-25 02:40 +0200", "2026-10-25T02:30:00+02:00", "2026-10-25T02:50:00+02:00", true},
		{"back: the second does not", "02:30", "20m", "Europe/Berlin",
			"2026-10-25 02:40 +0100", "2026-10-26T02:30:00+01:00", "2026-10-26T02:50:00+01:00", false},
		{"back over midnight: tomorrow's first midnight has been", "Sun 00:00", "40m", "America/St_Johns",
			"2010-11-06 23:30 -0330", "2010-11-07T00:00:00-02:30", "2010-11-06T23:40:00-03:30", true},
		{"half an hour forward", "02:10", "10m", "Australia/Lord_Howe",
			"2026-10-04 02:30:00", "2026-10-04T02:30:00+11:00", "2026-10-04T02:40:00+11:00", true},
		{"a day that never was", "Fri 12:00", "1h", "Pacific/Apia",
			"2011-12-29 23:00:00", "2011-12-31T00:00:00+14:00", "2011-12-31T01:00:00+14:00", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			loc := zone(t, tt.zone)
			w, instant := parse(t, tt.start, tt.length, loc), at(t, tt.at, loc)
			start, end := w.Next(instant)
			if got := start.Format(time.RFC3339); got != tt.wantStart {
				t.Errorf("start is %s, want %s", got, tt.wantStart)
			}
			if got := end.Format(time.RFC3339); got != tt.wantEnd {
				t.Errorf("end is %s, want %s", got, tt.wantEnd)
			}
			if got := w.Contains(instant); got != tt.inside {
				t.Errorf("contains %s: %t", instant, got)
			}
		})
	}
}

func TestParse(t *testing.T) {
	const badStart = ": must be [Day ]HH:MM from 00:00 to 23:59, Day one of Sun Mon Tue Wed Thu Fri Sat"
	const badLength = ": must be a duration such as 90m or 1h30m"
	tests := []struct {
		start, length string
		want          string // the window as String shows it
		err           string
	}{
		{"Thu 23:00", "1h30m", "Thu 23:00 for 1h30m (UTC)", ""},
		{"tHU 4:05", "167h59m59s", "Thu 04:05 for 167h59m59s (UTC)", ""},
		{"00:00", "23h", "00:00 for 23h (UTC)", ""},
		{" 23:59 ", "1ns", "23:59 for 1ns (UTC)", ""},
		{"", "1h", "", `reboot window has the length "1h" and no start: set both or neither`},
		{"04:00", "", "", `reboot window has the start "04:00" and no length: set both or neither`},
		{"04:00", "0s", "", `invalid reboot window length "0s": a daily window must be longer than zero and shorter than 24h`},
		{"04:00", "-1h", "", `invalid reboot window length "-1h": a daily window must be longer than zero and shorter than 24h`},
		{"04:00", "24h", "", `invalid reboot window length "24h": a daily window must be longer than zero and shorter than 24h`},
		{"Mon 04:00", "168h", "", `invalid reboot window length "168h": a weekly window must be longer than zero and shorter than 168h`},
		{"04:00", "1", "", `invalid reboot window length "1"` + badLength},
		{"04:00", "1d", "", `invalid reboot window length "1d"` + badLength},
		{"24:00", "1h", "", `invalid reboot window start "24:00"` + badStart},
		{"12:60", "1h", "", `invalid reboot window start "12:60"` + badStart},
		{"+4:00", "1h", "", `invalid reboot window start "+4:00"` + badStart},
		{"4:0", "1h", "", `invalid reboot window start "4:0"` + badStart},
		{"004:00", "1h", "", `invalid reboot window start "004:00"` + badStart},
		{":00", "1h", "", `invalid reboot window start ":00"` + badStart},
		{"04:00pm", "1h", "", `invalid reboot window start "04:00pm"` + badStart},
		{"0400", "1h", "", `invalid reboot window start "0400"` + badStart},
		{"Thursday 04:00", "1h", "", `invalid reboot window start "Thursday 04:00"` + badStart},
		{"Thu", "1h", "", `invalid reboot window start "Thu"` + badStart},
		{"Thu Fri 04:00", "1h", "", `invalid reboot window start "Thu Fri 04:00"` + badStart},
		{" ", "1h", "", `invalid reboot window start " "` + badStart},
	}
	for _, tt := range tests {
		w, err := window.Parse(tt.start, tt.length, time.UTC)
		if err != nil || tt.err != "" {
			if err == nil || err.Error() != tt.err || w != nil {
				t.Errorf("%q, %q:\n got %v\nwant %s", tt.start, tt.length, err, tt.err)
			}
			continue
		}
		if got := w.String(); got != tt.want {
			t.Errorf("%q, %q: got %s, want %s", tt.start, tt.length, got, tt.want)
		}
	}
	if w, err := window.Parse("", "", nil); w != nil || err != nil {
		t.Errorf("no window: got %v, %v", w, err)
	}
	if got := parse(t, "04:00", "1h", nil).String(); got != "04:00 for 1h (Local)" {
		t.Errorf("no zone: got %s", got)
	}
}
