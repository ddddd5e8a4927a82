package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// scene is a fleet of which one machine has rebooted, one is down, one waits and
// one has trouble, eight seconds after the start.
func scene(t *testing.T, colours bool, more int) (*table, time.Time) {
	t.Helper()
	zero := time.Now()
	at := func(s float64) time.Time { return zero.Add(time.Duration(s * float64(time.Second))) }
	names := []string{"m1", "m2", "m3", "m4"}
	for i := range more {
		names = append(names, fmt.Sprintf("x%d", i))
	}
	tab := newTable(demoSettings{machines: len(names), max: 1}, names, zero, colours)
	status := func(name string, phase locksmith.Phase, r fleet.Record) fleet.Status {
		r.Machine, r.Groups, r.Needed = name, []locksmith.Group{""}, at(0)
		return fleet.Status{Record: r, Up: true, Agent: agent.Status{Phase: phase}}
	}
	one := status("m1", locksmith.PhaseIdle, fleet.Record{Granted: at(0.1), Boots: 2, Released: at(3.5),
		Outages: []fleet.Outage{{From: at(0.2), To: at(3.4)}}})
	two := status("m2", locksmith.PhaseRebooting, fleet.Record{Granted: at(3.5), Boots: 1, Outages: []fleet.Outage{{From: at(3.6)}}})
	two.Up = false
	three := status("m3", locksmith.PhaseQueued, fleet.Record{Boots: 1})
	four := status("m4", locksmith.PhaseQueued, fleet.Record{Boots: 1})
	four.Agent.Waiting = "no answer from etcd\x1b[2J"
	tab.apply([]change{{at(0.1), three}, {at(0.2), four}, {at(3.5), one}, {at(3.6), two}})
	return tab, at(8)
}

func TestTable(t *testing.T) {
	tab, now := scene(t, false, 0)
	want := []string{
		"8.0s  1 of 4 rebooted  1 down, max 1  2 waiting",
		"",
		"MACHINE  PHASE         SINCE  BOOTS   WAITED     DOWN",
		"m1       idle           4.5s      2     0.1s     3.2s",
		"m2       down           4.4s      1     3.5s     4.4s",
		"m3       queued         7.9s      1     8.0s        -",
		"m4       queued         7.8s      1     8.0s        -  no answer from etcd [2J",
	}
	if diff := cmp.Diff(want, tab.render(now, 0)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want, tab.render(now, 8)); diff != "" {
		t.Errorf("with room to spare, -want +got:\n%s", diff)
	}
	for _, line := range want {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestTableThatDoesNotFit(t *testing.T) {
	tab, now := scene(t, false, 50)
	lines := tab.render(now, 8)
	var first []string
	for _, l := range lines[3:] {
		name, _, _ := strings.Cut(l, "  ")
		first = append(first, name)
	}
	// What happens comes first, then who waits longest.
	if diff := cmp.Diff([]string{"m2", "x0", "x1", "x2", "… 50 more machines"}, first); diff != "" || len(lines) != 8 {
		t.Errorf("%d lines, -want +got:\n%s", len(lines), diff)
	}
}

func TestColours(t *testing.T) {
	tab, now := scene(t, true, 0)
	painted := strings.Join(tab.render(now, 0), "\n")
	for _, want := range []string{red + "down      " + reset, green + "idle      " + reset, yellow + "queued    " + reset, bold + "MACHINE"} {
		if !strings.Contains(painted, want) {
			t.Errorf("no %q in %q", want, painted)
		}
	}
	tab.colours = false
	plain := strings.Join(tab.render(now, 0), "\n")
	if strings.Contains(plain, "\x1b") {
		t.Errorf("colours where none are wanted: %q", plain)
	}
	if got := escape.ReplaceAllString(painted, ""); got != plain {
		t.Errorf("colours change the text:\n%s\n%s", got, plain)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 49 * time.Millisecond: "0.0s", 3249 * time.Millisecond: "3.2s",
		59940 * time.Millisecond: "59.9s", 59960 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s",
		time.Hour - time.Millisecond: "1h00m", 3*time.Hour + 2*time.Minute: "3h02m",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is shown as %s, want %s", d, got, want)
		}
	}
}

func TestLinesTellTrouble(t *testing.T) {
	out := newBuffer()
	zero := time.Now()
	l := newLines(out, []string{"m1", "m10"}, zero, false)
	s := fleet.Status{Record: fleet.Record{Machine: "m1", Boots: 1}, Up: true, Agent: agent.Status{Phase: locksmith.PhaseQueued}}
	away := s
	away.Agent.Waiting = "no answer\nfrom etcd"
	l.show([]change{{zero.Add(time.Second), s}, {zero.Add(2 * time.Second), away}, {zero.Add(3 * time.Second), away},
		{zero.Add(4 * time.Second), s}, {zero.Add(61 * time.Second), away}}, zero)
	const want = "   1.000s  m1   recovering -> queued\n   2.000s  m1   queued: no answer from etcd\n  61.000s  m1   queued: no answer from etcd\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestJudge(t *testing.T) {
	zero := time.Now()
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	good := func(name string, from, to int) fleet.Record {
		return fleet.Record{Machine: name, Groups: []locksmith.Group{""}, Needed: zero, Granted: at(from), Released: at(to),
			Outages: []fleet.Outage{{From: at(from), To: at(to)}}, Boots: 2}
	}
	twice := good("m2", 3, 4)
	twice.Outages = append(twice.Outages, fleet.Outage{From: at(5), To: at(6)})
	twice.Boots = 3
	never := fleet.Record{Machine: "m2", Groups: []locksmith.Group{""}, Needed: zero, Boots: 1}
	sigint := &interrupted{syscall.SIGINT}
	for _, tt := range []struct {
		name     string
		machines []fleet.Record
		stay     bool
		runErr   error
		want     []string // lines of the summary after the table
		err      string
	}{
		{"good", []fleet.Record{good("m1", 1, 3), good("m2", 3, 4)}, false, nil,
			[]string{"2 machines rebooted once each, after 9.0s in all.", "Most down at once: 1. Max is 1, never exceeded."}, ""},
		{"too many down", []fleet.Record{good("m1", 1, 3), good("m2", 2, 4)}, false, nil,
			[]string{"2 machines rebooted once each, after 9.0s in all.", "EXCEEDED: max is 1, but 2 were down at once: m1, m2."},
			"more machines were down at once than max allows"},
		{"too many down, then stopped", []fleet.Record{good("m1", 1, 3), good("m2", 2, 4)}, true, sigint,
			[]string{"2 machines rebooted once each, after 9.0s in all.", "EXCEEDED: max is 1, but 2 were down at once: m1, m2."},
			"more machines were down at once than max allows"},
		{"twice", []fleet.Record{good("m1", 1, 3), twice}, false, nil,
			[]string{"FAILED: m2 did not reboot exactly once: it went down 2 times and booted 3 times.", "Most down at once: 1. Max is 1, never exceeded."},
			"1 machine did not reboot exactly once"},
		{"never", []fleet.Record{good("m1", 1, 3), never}, false, nil,
			[]string{"FAILED: m2 did not reboot exactly once: it went down 0 times and booted 1 time.", "Most down at once: 1. Max is 1, never exceeded."},
			"1 machine did not reboot exactly once"},
		{"stopped", []fleet.Record{good("m1", 1, 3), never}, true, sigint,
			[]string{"Stopped after 9.0s: 1 of 2 machines had rebooted.", "Most down at once: 1. Max is 1, never exceeded."}, "stopped by SIGINT"},
		{"stayed", []fleet.Record{good("m1", 1, 3)}, true, sigint,
			[]string{"1 machine rebooted once, after 9.0s in all.", "Most down at once: 1. Max is 1, never exceeded."}, ""},
		{"etcd failed", []fleet.Record{never}, false, errors.New("the disk is full"),
			[]string{"Stopped after 9.0s: 0 of 1 machine had rebooted.", "Most down at once: 0. Max is 1, never exceeded."}, "the disk is full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := judge(fleet.Report{Machines: tt.machines},
				demoSettings{max: 1, groups: []locksmith.Group{""}, stay: tt.stay}, 9*time.Second, tt.runErr)
			got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			if diff := cmp.Diff(tt.want, got[len(tt.machines)+2:]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestControlCommand(t *testing.T) {
	for group, want := range map[locksmith.Group]string{
		"": " -endpoint http://[::1]:2379", "a b": " -endpoint http://[::1]:2379 -group 'a b'", "it's": ` -group 'it'\''s'`,
	} {
		if got := controlCommand("http://[::1]:2379", group); !strings.HasSuffix(got, want) {
			t.Errorf("group %q: %s", group, got)
		}
	}
}

var escape = regexp.MustCompile("\x1b\\[[?0-9;]*[A-Za-z]")

// openTerminal is a pseudo terminal, and what is written to it.
func openTerminal(t *testing.T, rows uint16) (*os.File, *buffer) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80})
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen, done := newBuffer(), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = seen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close() // the reader ends with the last one who has it open
		<-done
		master.Close()
	})
	return tty, seen
}

func TestDemoOnTerminal(t *testing.T) {
	for _, tt := range []struct {
		name, term, noColor string
		plain               bool
		table, colours      bool
	}{
		{"colours", "xterm", "", false, true, true},
		{"NO_COLOR", "xterm", "1", false, true, false},
		{"dumb", "dumb", "", false, false, false},
		{"-plain", "xterm", "", true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			tty, seen := openTerminal(t, 24)
			stderr := newBuffer()
			args := []string{"locksmith-server", "demo", "-machines", "2", "-down", "300ms", fmt.Sprintf("-plain=%v", tt.plain)}
			status := run(t.Context(), args, tty, stderr, surroundings{[]string{"TERM=" + tt.term, "NO_COLOR=" + tt.noColor}, connect})
			if status != 0 {
				t.Errorf("exit status %d: %s", status, stderr)
			}
			seen.await(t, `never exceeded\.`)
			out := seen.String()
			if got := strings.Contains(out, "MACHINE  PHASE"); got != tt.table {
				t.Errorf("a table is drawn: %v", got)
			}
			if got := strings.Contains(out, "queued -> preparing"); got == tt.table {
				t.Errorf("lines are printed: %v", got)
			}
			if got := strings.Contains(out, red+"down"); got != tt.colours {
				t.Errorf("colours are used: %v", got)
			}
			if got := strings.Contains(out, "\x1b"); got != tt.table {
				t.Errorf("the cursor is moved: %v", got)
			}
		})
	}
}
