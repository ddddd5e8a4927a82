package cli

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine need not have the zones
)

func TestParseUntil(t *testing.T) {
	for in, want := range map[string]string{
		"4h": "2026-11-19T16:00:00+01:00", "1h30m": "2026-11-19T13:30:00+01:00", "2d": "2026-11-21T12:00:00+01:00",
		"1w2d": "2026-11-28T12:00:00+01:00", "1d12h": "2026-11-21T00:00:00+01:00", " 90s ": "2026-11-19T12:01:30+01:00",
		"1ms":   "2026-11-19T12:00:01+01:00", // whole seconds, and never in the past
		"18:00": "2026-11-19T18:00:00+01:00", "12:01": "2026-11-19T12:01:00+01:00",
		"12:00": "2026-11-20T12:00:00+01:00", "8:00": "2026-11-20T08:00:00+01:00", // the next one
		"2026-12-24 18:00": "2026-12-24T18:00:00+01:00", "2026-12-24T18:00:30": "2026-12-24T18:00:30+01:00",
		"2026-12-24T18:00:00Z": "2026-12-24T19:00:00+01:00", "2026-12-24T18:00:00-05:00": "2026-12-25T00:00:00+01:00",
	} {
		got, err := parseUntil(in, noon)
		if err != nil || got.In(noon.Location()).Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "tomorrow", "4", "4x", "25:00", "18:60", "2026-12-24", "2026-13-01 00:00", "2d-4h", "d", "w", "99999999999h", "1d1w", "18"} {
		if got, err := parseUntil(in, noon); err == nil || !strings.Contains(err.Error(), "must be a duration such as 4h or 2d") {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"0", "0s", "-4h", "0d", "2026-11-19 12:00", "2020-01-01 00:00", "2026-11-19T10:59:59Z"} {
		if got, err := parseUntil(in, noon); err == nil || !strings.Contains(err.Error(), "that is not in the future; it is 2026-11-19 12:00:00 CET now") {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	// Tomorrow at the same time is 23 hours away when the clocks go forward.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 28, 18, 0, 0, 0, berlin)
	if got, err := parseUntil("18:00", now); err != nil || got.Sub(now) != 23*time.Hour {
		t.Errorf("over the change of the clocks: %v, %v", got, err)
	}
}

func FuzzParseUntil(f *testing.F) {
	for _, s := range []string{"4h", "2d", "1w2d3h", "18:00", "2026-12-24 18:00", "2026-12-24T18:00:00Z", "-1h", "9999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseUntil(s, noon); err == nil && (!got.After(noon) || got.Nanosecond() != 0) {
			t.Errorf("%q: %v is not a whole second after %v", s, got, noon)
		}
	})
}
