package locksmith

// How the history tells what became of a slot, in the outcome of its unlock entry. Who
// reads the history to count reboots goes by these; other outcomes are for people.
const (
	OutcomeRebooted     = "rebooted"                       // given back after a proven reboot
	OutcomeAborted      = "aborted"                        // given back before one; ": " and why follow
	OutcomeRebootFailed = "reboot failed"                  // so did locksmithctl reboot; ": " and why follow
	OutcomeSteady       = "reported steady over FleetLock" // given back by a machine that speaks FleetLock
	OutcomeClientGone   = "client went away"               // given back because nobody waited for it any more
	OutcomeUnlocked     = "unlocked"                       // taken away by an administrator; ": " and why may follow
)

// ReasonFleetLock is why a machine that speaks FleetLock holds a slot: it says no more.
const ReasonFleetLock = "asked over FleetLock"
