package agent

// EventKey is the attribute of a log record that says which event it reports: one
// of the Event constants. Records without it are remarks.
const EventKey = "event"

// The events of a machine's cycle. Their names and, in the journal, their message
// ids never change.
const (
	EventStarted      = "started"       // locksmithd runs
	EventStopped      = "stopped"       // it was asked to stop
	EventNeeded       = "reboot-needed" // a trigger says so
	EventNotNeeded    = "not-needed"    // none does any more
	EventTriggerError = "trigger-error" // a trigger cannot tell
	EventWaiting      = "waiting"       // what a phase waits for has changed
	EventBlocked      = "blocked"       // a blocker does not pass
	EventPaused       = "paused"        // an administrator paused this machine or a group of its
	EventResumed      = "resumed"       // no pause holds any more
	EventPhase        = "phase"         // another phase, where none of the others says it
	EventGranted      = "slot-granted"
	EventUsersTold    = "users-told"
	EventRebooting    = "rebooting" // the reboot is asked for
	EventReturned     = "returned"  // the machine is back from it
	EventFailed       = "failed"    // its checks fail, the slot is kept
	EventAborted      = "aborted"   // the cycle is given up
	EventReleased     = "released"  // the slots were given back
	EventBreaker      = "breaker"   // the breaker keeps the machine from rebooting
	EventDryRun       = "dry-run"   // what would have been done
)
