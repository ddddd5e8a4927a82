package locksmith

import (
	"testing"
	"time"
	_ "time/tzdata" // the machine need not have the zones
)

func TestSpan(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s", 0: "0 s", 59*time.Second + 999*time.Millisecond: "59 s", time.Minute: "1 min", 119 * time.Second: "1 min",
		time.Hour: "1 h", time.Hour + 59*time.Second: "1 h", 3*time.Hour + 46*time.Minute: "3 h 46 min",
		47*time.Hour + 59*time.Minute: "47 h 59 min", 2 * day: "2 d", 4*day + 7*time.Hour: "4 d 7 h", 400 * day: "400 d",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	for _, tt := range []struct {
		t    time.Time
		want string
	}{
		{noon, "12:00"},
		{noon.UTC(), "12:00"}, // in now's zone
		{noon.Add(-12 * time.Hour), "00:00"},
		{noon.Add(-12*time.Hour - time.Minute), "Wed 23:59"},
		{noon.Add(12 * time.Hour), "Fri 00:00"},
		{noon.AddDate(0, 0, 6), "Wed 12:00"},
		{noon.AddDate(0, 0, 7), "2026-11-26 12:00"}, // "Thu" would be today's name
		{noon.AddDate(0, 0, -7), "2026-11-12 12:00"},
	} {
		if got := Clock(tt.t, noon); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.t, got, tt.want)
		}
	}
	// Days are counted in the calendar, also where one has 25 hours.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 23, 30, 0, 0, berlin)
	if got := Clock(time.Date(2026, 10, 31, 0, 0, 0, 0, berlin), now); got != "2026-10-31 00:00" {
		t.Errorf("seven days later, with the clocks put back: %q", got)
	}
	if got := Clock(time.Date(2026, 10, 25, 0, 15, 0, 0, berlin), now); got != "Sun 00:15" {
		t.Errorf("the next day: %q", got)
	}
}
