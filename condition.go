package locksmith

import "time"

// Condition is one thing that has to be met before a machine reboots, or before it
// gives its slot back. A machine that does not reboot has one that is not met.
type Condition struct {
	Name  string         `json:"name"` // one of the Cond constants, or a blocker's name: "20-backup"
	State ConditionState `json:"state"`
	// Text says it for people, in one line. It has no time that is relative to
	// now, which a reader adds from Since and Until.
	Text  string `json:"text,omitempty"`
	Since int64  `json:"since,omitempty"` // in this state, seconds since the epoch; 0: not known
	Until int64  `json:"until,omitempty"` // when it is going to change by itself; 0: not known
}

// ConditionState is where a condition stands.
type ConditionState string

// The states of conditions.
const (
	CondMet     ConditionState = "met"     // nothing to wait for
	CondWaiting ConditionState = "waiting" // is going to be met by itself
	CondBlocked ConditionState = "blocked" // somebody has to end it
	CondUnknown ConditionState = "unknown" // cannot be found out, so counts as not met
	CondPending ConditionState = "pending" // its turn has not come
)

// The conditions of every machine. Blockers come with names of their own.
const (
	CondNeed    = "need"    // a trigger says reboot needed
	CondWindow  = "window"  // inside a window
	CondPause   = "pause"   // nobody paused the machine or its groups
	CondBreaker = "breaker" // not too often, not too soon, not in vain
	CondChecks  = "checks"  // no blocker, while none of them says anything
	CondSlot    = "slot"    // a slot in each group
	CondUsers   = "users"   // logged-in users had their time
	CondVerify  = "verify"  // the checks after the reboot pass
)

// When is the instant of a time in seconds since the epoch, zero for 0.
func When(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
