package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/window"
)

// windowDaemon is a locksmithd with windows.
type windowDaemon struct {
	Daemon
	allow, deny []string
	err         error
}

func (d windowDaemon) Windows(context.Context) (allow, deny []string, err error) {
	return d.allow, d.deny, d.err
}

func TestWindow(t *testing.T) {
	const head = "START                     END                       LENGTH  WHEN\n"
	machine := windowDaemon{allow: []string{"Mon..Fri 22:00 4h Europe/Berlin", "2nd Tue 03:00 2h UTC", "Thu 09:00 6h UTC"},
		deny: []string{"2026-11-20..2027-01-03 Europe/Berlin"}}
	for _, tt := range []struct {
		name   string
		daemon windowDaemon
		args   []string
		want   string
	}{
		{"open now", machine, []string{"-n", "2", "Thu 09:00 6h"}, head +
			"Thu 2026-11-19 09:00 CET  Thu 2026-11-19 15:00 CET  6 h     now, 3 h left\n" +
			"Thu 2026-11-26 09:00 CET  Thu 2026-11-26 15:00 CET  6 h     in 6 d 21 h\n"},
		{"in the specification's zone", machine, []string{"-n=1", "22:00 90m America/New_York"}, head +
			"Thu 2026-11-19 22:00 EST  Thu 2026-11-19 23:30 EST  1 h 30 min  in 16 h\n"},
		{"in local time for several zones", machine, []string{"-n=2", "22:00 1h America/New_York", "22:00 1h UTC"}, head +
			"Thu 2026-11-19 23:00 CET  Fri 2026-11-20 00:00 CET  1 h     in 11 h\n" +
			"Fri 2026-11-20 04:00 CET  Fri 2026-11-20 05:00 CET  1 h     in 16 h\n"},
		{"in the zone asked for", machine, []string{"-n=1", "-zone", "UTC", "22:00 1h America/New_York"}, head +
			"Fri 2026-11-20 03:00 UTC  Fri 2026-11-20 04:00 UTC  1 h     in 16 h\n"},
		{"commas do not split a deny window", machine, []string{"-n=1", "-deny", "Thu,Fri", "-deny", "Sat", "12:00 1h"}, head +
			"Sun 2026-11-22 12:00 CET  Sun 2026-11-22 13:00 CET  1 h     in 3 d\n"},
		{"only denied", machine, []string{"-n=1", "-deny", "2026-11-25"}, head +
			"-                         Wed 2026-11-25 00:00 CET  -       now, 5 d 12 h left\n"},
		{"without an end", machine, []string{"-deny", "2026-11-18..2026-11-19"}, head +
			"Fri 2026-11-20 00:00 CET  -    -       in 12 h\n"},
		{"never", machine, []string{"2026-11-01"}, "Never: nothing opens in the next five years.\n"},
		{"this machine's", machine, []string{"-n=2"},
			"This machine: Mon..Fri 22:00 4h Europe/Berlin, 2nd Tue 03:00 2h UTC, Thu 09:00\n" +
				"              6h UTC, except 2026-11-20..2027-01-03 Europe/Berlin\n\n" + head +
				"Thu 2026-11-19 10:00 CET  Thu 2026-11-19 16:00 CET  6 h     now, 4 h left\n" +
				"Thu 2026-11-19 22:00 CET  Fri 2026-11-20 00:00 CET  2 h     in 10 h\n"},
		{"a machine without windows", windowDaemon{}, nil, "At any time: there are no windows.\n"},
		{"a machine that never reboots", windowDaemon{deny: []string{"Mon..Sun UTC"}}, nil,
			"This machine: at any time, except Mon..Sun UTC\n\nNever: nothing opens in the next five years.\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, status := atNoon(t, nil, tt.daemon, append([]string{"window"}, tt.args...)...)
			if status != 0 || errs != "" {
				t.Fatalf("status %d: %s", status, errs)
			}
			if got, want := squeeze(out), squeeze(tt.want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", out, tt.want)
			}
		})
	}
}

// squeeze leaves two spaces between columns, whose widths tests of tables look at.
func squeeze(table string) string {
	var b []rune
	for _, r := range table {
		if n := len(b); r == ' ' && n > 1 && b[n-1] == ' ' && b[n-2] == ' ' {
			continue
		}
		b = append(b, r)
	}
	return string(b)
}

func TestWindowErrors(t *testing.T) {
	for _, tt := range []struct {
		daemon windowDaemon
		status int
		want   string
	}{
		{windowDaemon{err: errors.New("locksmithd is not running")}, 1, "Error asking locksmithd: locksmithd is not running\n"},
		{windowDaemon{allow: []string{"1 fortnight"}}, 1, `Error reading locksmithd's windows: invalid window "1 fortnight": ` +
			`"1" is not a day, a time of day or a date; must be like "Mon..Fri 22:00 4h", "2nd Tue 03:00 2h Europe/Berlin", ` +
			`"Sat,Sun" or "2026-12-20..2027-01-03"` + "\n"},
	} {
		out, errs, status := atNoon(t, nil, tt.daemon, "window")
		if status != tt.status || out != "" || errs != tt.want {
			t.Errorf("status %d: %s%s\nwant %s", status, out, errs, tt.want)
		}
	}
}

// The daemon's local time is the system's, also where its asker has another.
func TestWindowOfAnotherZone(t *testing.T) {
	data, err := os.ReadFile("/usr/share/zoneinfo/Asia/Kolkata")
	if err != nil {
		t.Fatalf("%v: install tzdata", err)
	}
	path := filepath.Join(t.TempDir(), "localtime")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	loc, err := systemZone(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := window.ParseSpec("22:00 4h", loc)
	if err != nil {
		t.Fatal(err)
	}
	if start, _ := s.Next(noon); start.UTC().Format(time.RFC3339) != "2026-11-19T16:30:00Z" {
		t.Errorf("it starts at %s", start)
	}
	if loc, err := systemZone(path + "-missing"); err != nil || loc != time.UTC {
		t.Errorf("no file: got %v, %v", loc, err)
	}
	if err := os.WriteFile(path, []byte("Asia/Kolkata\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if loc, err := systemZone(path); err == nil {
		t.Errorf("a bad file is read as %v", loc)
	}
}
