package locksmith

import "time"

// HolderStatus is one holder with what is known of it.
type HolderStatus struct {
	Holder        // only MachineID is set where there is no record
	Recorded bool // a holder record exists
	Present  bool // its agent keeps a presence in etcd at this moment
}

// Waiter is one entry of a group's queue.
type Waiter struct {
	MachineID string  `json:"machineID"`
	Hostname  string  `json:"hostname,omitempty"`
	By        string  `json:"by,omitempty"`
	Reason    string  `json:"reason,omitempty"`
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
}

// GroupSummary is one line of the list of groups.
type GroupSummary struct {
	Group   Group
	Max     int
	Held    int
	Waiting int
	Err     error // the group's semaphore could not be read
}

// Action is what a history entry records.
type Action string

// The actions.
const (
	ActionLock   Action = "lock"    // a slot was granted
	ActionUnlock Action = "unlock"  // a slot was given back or taken away
	ActionSetMax Action = "set-max" // the number of slots changed
)

// HistoryEntry is one thing that happened to a group's semaphore.
type HistoryEntry struct {
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

// Presence is what a running agent says of itself; it vanishes with its lease.
type Presence struct {
	MachineID string  `json:"machineID"`
	Hostname  string  `json:"hostname,omitempty"`
	Groups    []Group `json:"groups"`
	BootID    string  `json:"bootID,omitempty"`
	OS        string  `json:"os,omitempty"` // PRETTY_NAME of os-release
	Started   int64   `json:"started"`      // of the agent, seconds since the epoch
}
