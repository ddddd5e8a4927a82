// Package rollout says how far the reboots of a group are, when they will be over at
// the present pace, and who was down when. It reckons from what is stored: the
// group's status, its machines and its history.
//
// It is pure: it knows neither the store, nor who looks, nor the clock, which it is
// handed.
//
// A rollout is a run of reboots without a long rest: it ends where for an hour no
// slot was held for a reboot and nobody waited for one. An hour, because the machines of a
// fleet do not find out at the same time that they need a reboot: they look for
// updates every hour, or begin at a random minute of it. A pause does not end the
// rollout that it interrupts, unless it lasts for more than three days.
//
// Slots that administrators hold by hand, or commands while they run, are no reboots.
// The history does not say so in a word; actors and outcomes tell. Its times come from
// the machines' clocks, which may differ, and its ring of 1024 may have lost the
// beginning of what it tells.
package rollout

import (
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// gap is the rest after which the next reboot belongs to another rollout.
const gap = time.Hour

// maxPause is how long a pause may last before what follows is another rollout.
const maxPause = 72 * time.Hour

// Fleet is what is known of one group at one moment.
type Fleet struct {
	Status   locksmith.GroupStatus
	Machines []locksmith.MachineStatus // of that group
	History  []locksmith.HistoryEntry  // of that group, newest first
}

// Progress says how far the present rollout is. Done and Remaining count machines, each
// once, and add up to Total. Without a rollout that is running, Start is zero, nothing
// is done, and what remains are the machines that need a reboot and do not ask for a
// slot yet.
type Progress struct {
	Running bool
	Start   time.Time

	Done      int // rebooted, and need no other reboot now
	Remaining int // hold a slot for their reboot, wait for one, or need a reboot and do not wait yet
	Total     int
	Failed    int // of those that remain: failed their checks and keep their slot

	Pace time.Duration // per machine, at the present pace; 0: not known
	Ends time.Time     // zero: not known, Why says why

	// Reckoning shows the arithmetic in one or two sentences, for people: "12 of 40
	// machines rebooted in 1 h 3 min, one every 5 min 15 s; the 28 left take about 2 h
	// 27 min at this pace."
	Reckoning string

	// Why says in one sentence why no end is given, empty where one is or nothing
	// remains: "The group is paused by alice: moving racks."
	Why string
}

// Rollout is one run of reboots, for the timeline.
type Rollout struct {
	Start time.Time
	End   time.Time // zero: still running
	Bars  []Bar     // at least one, in the order in which they begin
}

// Machines is how many machines held a slot in it.
func (r Rollout) Machines() int {
	seen := make(map[string]bool)
	for _, b := range r.Bars {
		seen[b.Machine] = true
	}
	return len(seen)
}

// State is how the holding of a slot ended, or where it stands.
type State string

// The states of bars.
const (
	Held     State = "held"     // still, and all is well as far as one knows
	Failed   State = "failed"   // still, as the machine fails its checks after the reboot
	Stale    State = "stale"    // still, and the machine is silent that should not be
	Rebooted State = "rebooted" // given back after the reboot
	Aborted  State = "aborted"  // given back without a reboot
	Unlocked State = "unlocked" // taken away by an administrator
	Unknown  State = "unknown"  // over; nobody knows how
)

// Bar is one machine that held a slot for a reboot.
type Bar struct {
	Machine, Hostname string
	From, To          time.Time // slot held; To zero: still held

	// DownFrom and DownTo are when the machine was down; both zero: not known, DownTo
	// zero: it is. The history has only how long; so of what is over it is shown as the
	// last part of the hold, although checks may have followed.
	DownFrom, DownTo time.Time

	State   State
	Outcome string // as in the history; while the slot is held, the phase and its reason
	By      string // who took the slot: an actor of the history
}

// Name is what people call the machine: its host name, or else its id.
func (b Bar) Name() string {
	return locksmith.Holder{MachineID: b.Machine, Hostname: b.Hostname}.Name()
}

// Timeline lists the last rollouts, newest first, at most so many.
func Timeline(f Fleet, now time.Time, most int) []Rollout {
	runs, _ := runsOf(f, now)
	var list []Rollout
	for i := len(runs) - 1; i >= 0 && len(list) < most; i-- {
		r := runs[i]
		if len(r.holds) == 0 { // they only wait so far
			continue
		}
		rollout := Rollout{Start: r.start, End: r.end}
		if r.open {
			rollout.End = time.Time{}
		}
		for _, h := range r.holds {
			rollout.Bars = append(rollout.Bars, h.Bar)
		}
		list = append(list, rollout)
	}
	return list
}
