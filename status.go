package locksmith

import "time"

// HolderStatus is one holder with what is known of it.
type HolderStatus struct {
	Holder        // only MachineID is set where there is no record
	Recorded bool `json:"recorded"` // a holder record exists
	Present  bool `json:"present"`  // its agent keeps a presence in etcd at this moment
	// Seen is when it last did; zero: Present, or not known. A holder that is
	// not present is stale, unless it is on its way through its reboot.
	Seen time.Time `json:"seen,omitzero"`
}

// Waiter is one entry of a group's queue.
type Waiter struct {
	MachineID string  `json:"machineID"`
	Hostname  string  `json:"hostname,omitempty"`
	By        string  `json:"by,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Address   string  `json:"address,omitempty"` // as in Holder
	Groups    []Group `json:"groups"`
	Since     int64   `json:"since"` // seconds since the epoch
	Nonce     string  `json:"nonce"`

	Priority int   `json:"-"` // from the key
	Revision int64 `json:"-"` // orders waiters of one priority, in all groups alike
}

// GroupStatus is everything stored about one group at one revision.
type GroupStatus struct {
	Group    Group
	Revision int64          // of the whole store, at which this was read
	Exists   bool           // the semaphore was written once
	Faults   []string       // what is inconsistent in the stored document, if anything
	Sem      Semaphore      //
	Holders  []HolderStatus // sorted by machine
	Queue    []Waiter       // in the order in which they will be served
	Pauses   []Pause        // of this group and of all groups, those that are over left out
}

// GroupSummary is one line of the list of groups.
type GroupSummary struct {
	Group   Group
	Max     int
	Held    int
	Waiting int
	Paused  bool  // by a pause of its own or of all groups
	Err     error // the group's semaphore could not be read
}

// Action is what a history entry records.
type Action string

// The actions.
const (
	ActionLock   Action = "lock"    // a slot was granted
	ActionUnlock Action = "unlock"  // a slot was given back or taken away
	ActionSetMax Action = "set-max" // the number of slots changed
	ActionPause  Action = "pause"   // reboots were paused; the outcome is the reason
	ActionResume Action = "resume"  // they may start again; the outcome is the reason of the pause that ended
	ActionRefuse Action = "refuse"  // locksmith-server refused somebody something; the outcome says what and why
)

// HistoryEntry is one thing that happened to a group's semaphore, or that was refused.
type HistoryEntry struct {
	Group    *Group        `json:"group,omitempty"` // nil: of no group
	Time     time.Time     `json:"time"`
	Actor    string        `json:"actor"`
	Action   Action        `json:"action"`
	Machine  string        `json:"machine,omitempty"`
	Hostname string        `json:"hostname,omitempty"`
	Outcome  string        `json:"outcome,omitempty"`
	Held     time.Duration `json:"held,omitempty"` // nanoseconds; how long the slot was held
	Down     time.Duration `json:"down,omitempty"` // nanoseconds; how long the machine was down
	Revision int64         `json:"-"`              // orders entries, newest is highest
}

// Presence is what a running agent says of itself. The newest one is kept beside
// its lease, so that a machine that is gone is remembered. Times are seconds since
// the epoch, 0 where there is nothing to say.
type Presence struct {
	MachineID string   `json:"machineID"`
	Hostname  string   `json:"hostname,omitempty"`
	Groups    []Group  `json:"groups"`
	Strategy  Strategy `json:"strategy,omitempty"`
	BootID    string   `json:"bootID,omitempty"`
	OS        string   `json:"os,omitempty"`      // PRETTY_NAME of os-release
	Kernel    string   `json:"kernel,omitempty"`  // release, as uname -r prints it
	Version   string   `json:"version,omitempty"` // of locksmithd
	Started   int64    `json:"started"`           // the agent

	Phase       Phase       `json:"phase,omitempty"`
	PhaseTime   int64       `json:"phaseTime,omitempty"`   // since when in this phase
	NeededSince int64       `json:"neededSince,omitempty"` // 0: no reboot is needed
	Reason      string      `json:"reason,omitempty"`      // why one is needed
	Waiting     string      `json:"waiting,omitempty"`     // what the phase waits for, or what went wrong
	Conditions  []Condition `json:"conditions,omitempty"`
	LastReboot  int64       `json:"lastReboot,omitempty"`  // when the last cycle ended
	LastOutcome string      `json:"lastOutcome,omitempty"` // and how: "rebooted"
	DryRun      bool        `json:"dryRun,omitempty"`

	Seen int64 `json:"seen,omitempty"` // when this was written
}

// MachineStatus is what is known of one machine, whether it runs or not.
type MachineStatus struct {
	Presence
	Present bool    `json:"present"`          // its agent is connected to etcd at this moment
	Holds   *Holder `json:"holds,omitempty"`  // its record, where it holds slots; nil otherwise
	Pauses  []Pause `json:"pauses,omitempty"` // of this machine, those that are over left out
}
