package locksmith

import (
	"fmt"
	"slices"
	"strings"
)

// Phase is where a machine is in its cycle from "a reboot is needed" to "the
// slot is given back".
type Phase string

// The phases, in the order in which a machine goes through them.
const (
	PhaseIdle       Phase = "idle"       // no reboot needed
	PhaseNeeded     Phase = "needed"     // a trigger says reboot needed
	PhaseWindow     Phase = "window"     // waits for its window, or for what blocks it
	PhaseQueued     Phase = "queued"     // waits for its slots
	PhaseAcquired   Phase = "acquired"   // holds a slot in each of its groups
	PhasePreparing  Phase = "preparing"  // prepare hooks run
	PhaseNotifying  Phase = "notifying"  // logged-in users were told, their delay runs
	PhaseRebooting  Phase = "rebooting"  // the intent is written, the reboot is asked for
	PhaseVerifying  Phase = "verifying"  // back with another boot ID, checks run
	PhaseRestoring  Phase = "restoring"  // what was prepared is undone
	PhaseReleasing  Phase = "releasing"  // the slots are given back
	PhaseFailed     Phase = "failed"     // checks after the reboot fail, the slot is kept
	PhaseRecovering Phase = "recovering" // at start: finds out what an earlier run left
)

// Phases lists all phases in cycle order.
var Phases = []Phase{PhaseRecovering, PhaseIdle, PhaseNeeded, PhaseWindow, PhaseQueued, PhaseAcquired,
	PhasePreparing, PhaseNotifying, PhaseRebooting, PhaseVerifying, PhaseRestoring, PhaseReleasing, PhaseFailed}

// HoldsSlots says whether a machine in this phase may hold slots, so that others
// wait for it.
func (p Phase) HoldsSlots() bool {
	switch p {
	case PhaseAcquired, PhasePreparing, PhaseNotifying, PhaseRebooting, PhaseVerifying, PhaseRestoring, PhaseReleasing, PhaseFailed:
		return true
	}
	return false
}

// Strategy says how a machine coordinates its reboots.
type Strategy string

// The strategies.
const (
	StrategyEtcdLock   Strategy = "etcd-lock"   // only with a slot
	StrategyReboot     Strategy = "reboot"      // without a slot
	StrategyBestEffort Strategy = "best-effort" // with a slot where etcd is running, else without
	StrategyFleetLock  Strategy = "fleet-lock"  // only with a slot, which a FleetLock server keeps
	StrategyOff        Strategy = "off"         // never
)

// Strategies lists what ParseStrategy accepts.
var Strategies = []Strategy{StrategyEtcdLock, StrategyReboot, StrategyBestEffort, StrategyFleetLock, StrategyOff}

// ParseStrategy accepts the exact name of a strategy and the empty string, which
// is the default, best-effort. Anything else is an error: guessing would mean
// reboots without a lock.
func ParseStrategy(s string) (Strategy, error) {
	if s == "" {
		return StrategyBestEffort, nil
	}
	if !slices.Contains(Strategies, Strategy(s)) {
		names := make([]string, len(Strategies))
		for i, st := range Strategies {
			names[i] = string(st)
		}
		return "", fmt.Errorf("invalid reboot strategy %q: must be one of %s", s, strings.Join(names, ", "))
	}
	return Strategy(s), nil
}
