package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What a Line says of a machine.
const (
	KindPhase   = "phase"   // its agent went on; Note is the phase
	KindDown    = "down"    // its agent had it reboot: from here on it is down
	KindUp      = "up"      // a process of the next boot is about to be started
	KindCrash   = "crash"   // the harness pulled its plug: it is down, but not by its agent's doing
	KindAsked   = "asked"   // the harness told it that a reboot is needed
	KindEnded   = "ended"   // the agent's process has ended; Note is its number
	KindAsks    = "asks"    // its agent asks for a slot, or whether it may reboot: Note is one of the Ask constants
	KindGranted = "granted" // that was granted

	KindPaused   = "paused"   // the administrator was told that a pause is in force; Note is its scope, Machine is empty
	KindResuming = "resuming" // the administrator is about to end it

	KindFault = "fault" // a fault of the schedule began or ended; Note says which, Machine is empty
)

// What an agent asks for, Line.Note of KindAsks and KindGranted.
const (
	AskSlot   = "slot"
	AskReboot = "reboot"
)

// Line is one observation. All of them, from every process, pass through one pipe,
// and the order in it is the proof: what happened because of something else comes
// later, however late the reader is.
type Line struct {
	At      time.Duration // the monotonic clock, the same in all processes
	Machine string
	Boot    string
	Kind    string
	Note    string
}

func (l Line) String() string {
	boot := l.Boot
	if len(boot) > 8 {
		boot = boot[:8]
	}
	return fmt.Sprintf("%10.3fs %-4s %-8s %-8s %s", l.At.Seconds(), l.Machine, boot, l.Kind, l.Note)
}

// monotonic is the kernel's monotonic clock.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // no kernel is without it
	}
	return time.Duration(ts.Nano())
}

// writeLine writes l with the present time. One line is one write, shorter than what
// a pipe keeps in one piece.
func writeLine(to *os.File, l Line) error {
	l.At = monotonic()
	doc, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := to.Write(append(doc, '\n')); err != nil {
		return fmt.Errorf("what happened could not be written down: %w", err)
	}
	return nil
}
