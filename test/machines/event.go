package machines

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what was observed of a machine.
type Kind string

// A reboot is seen as Down, Off, Up; a soft reboot, which ends no machine's process
// 1, as Down, Up; pulling the plug as Down, Off.
const (
	Up   Kind = "up"   // its systemd has reached the bus and logind, just before locksmithd starts
	Down Kind = "down" // its shutdown has begun, or its plug was pulled
	Off  Kind = "off"  // its last process is gone
)

// Event is one observation. All of them, the machines' and the harness's, go
// through one pipe and are numbered in its order. That order is the proof: where
// one happened because of another, as the second machine's Down because of the
// first one's Up, it comes later in the pipe, however late the reader is.
type Event struct {
	Time    time.Time // when the harness read it
	Machine string    // its name
	Kind    Kind
	// Boot is of Up and Down the boot id without dashes; after soft reboots with
	// "+" and their number; "plug" where the plug was pulled.
	Boot   string
	Status string // Off: nspawn's exit status, "133" after a reboot
}

func (e Event) String() string {
	return fmt.Sprintf("%s %-4s %s %s%s", e.Time.Format("15:04:05.000"), e.Kind, e.Machine, e.Boot, e.Status)
}

// parseEvent reads "up m1 <boot>", "down m1 <boot>" or "off m1 <status>".
func parseEvent(line string, now time.Time) (Event, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return Event{}, fmt.Errorf("observed %q: want three words", line)
	}
	e := Event{Time: now, Machine: f[1], Kind: Kind(f[0])}
	switch e.Kind {
	case Up, Down:
		e.Boot = f[2]
	case Off:
		e.Status = f[2]
	default:
		return Event{}, fmt.Errorf("observed %q: want up, down or off", line)
	}
	return e, nil
}

// MostDown is how many of machines were down at once, at most, and which ones
// at that moment. A machine is down from Down, or Off without it, until Up. Not
// having been up yet does not count.
func MostDown(events []Event, machines []string) (most int, which []string) {
	down := map[string]bool{}
	for _, e := range events {
		if !slices.Contains(machines, e.Machine) {
			continue
		}
		if e.Kind == Up {
			delete(down, e.Machine)
			continue
		}
		down[e.Machine] = true
		if len(down) > most {
			most, which = len(down), nil
			for m := range down {
				which = append(which, m)
			}
			slices.Sort(which)
		}
	}
	return most, which
}

// IsUp says whether machine is up after events.
func IsUp(events []Event, machine string) bool { return last(events, machine) == Up }

func isDown(events []Event, machine string) bool { return last(events, machine) == Down }

// last is what was last observed of machine.
func last(events []Event, machine string) Kind {
	for _, e := range slices.Backward(events) {
		if e.Machine == machine {
			return e.Kind
		}
	}
	return ""
}

// Boots counts how often machine came up, by a reboot of either kind.
func Boots(events []Event, machine string) int {
	boots := map[string]bool{}
	for _, e := range events {
		if e.Machine == machine && e.Kind == Up {
			boots[e.Boot] = true
		}
	}
	return len(boots)
}

// Format prints events, one a line.
func Format(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
