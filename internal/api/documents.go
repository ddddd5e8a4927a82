package api

// The types below are what a server answers with. Field names stay, and mean what
// locksmithctl -o json means by them; new fields may come. Lists are never null. The
// default group is "". Times are RFC 3339 in UTC and missing where nobody knows.

// Status is everything of one group, at one revision of the store.
type Status struct {
	Group     string   `json:"group"`
	Revision  int64    `json:"revision"`
	Exists    bool     `json:"exists"`    // its semaphore was written once
	Available int      `json:"available"` // slots; negative after max was lowered below the holders
	Max       int      `json:"max"`
	Holders   []Holder `json:"holders"` // sorted by machine
	Queue     []Waiter `json:"queue"`   // in the order in which they will be served
	Pauses    []Pause  `json:"pauses"`  // of this group and of all groups
	Faults    []string `json:"faults"`  // what is inconsistent in what is stored
}

// HolderList is who holds the slots of a group.
type HolderList struct {
	Group     string   `json:"group"`
	Revision  int64    `json:"revision"`
	Available int      `json:"available"`
	Max       int      `json:"max"`
	Holders   []Holder `json:"holders"`
}

// WaiterList is who waits for a slot of a group.
type WaiterList struct {
	Group    string   `json:"group"`
	Revision int64    `json:"revision"`
	Queue    []Waiter `json:"queue"`
}

// Record is what is stored beside a machine that holds a slot. Records of old clients
// have little more than the machine.
type Record struct {
	MachineID  string   `json:"machineID"`
	Hostname   string   `json:"hostname,omitempty"`
	Phase      string   `json:"phase,omitempty"`
	PhaseSince Time     `json:"phaseSince,omitzero"`
	Since      Time     `json:"since,omitzero"` // when the slot was granted
	By         string   `json:"by,omitempty"`   // the program that took it
	Reason     string   `json:"reason,omitempty"`
	Groups     []string `json:"groups"` // in which slots were taken together
	BootID     string   `json:"bootID,omitempty"`
	Address    string   `json:"address,omitempty"` // from where it was asked for over FleetLock
	Nonce      string   `json:"nonce,omitempty"`   // of the attempt that took it
}

// Holder is a machine in a slot.
type Holder struct {
	Record
	HeldSeconds  *Duration `json:"heldSeconds,omitempty"` // until this answer
	Recorded     bool      `json:"recorded"`              // a record exists
	AgentPresent bool      `json:"agentPresent"`          // its locksmithd is connected
	Stale        bool      `json:"stale"`                 // silent, and should not be
	Seen         Time      `json:"seen,omitzero"`         // when its agent was last, where it is not present now
}

// Waiter is a machine in a queue.
type Waiter struct {
	Position      int       `json:"position"` // 1 is next
	Priority      int       `json:"priority"` // 0 is the most urgent
	MachineID     string    `json:"machineID"`
	Hostname      string    `json:"hostname,omitempty"`
	Since         Time      `json:"since,omitzero"`
	WaitedSeconds *Duration `json:"waitedSeconds,omitempty"` // until this answer
	By            string    `json:"by,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Groups        []string  `json:"groups"`
	Address       string    `json:"address,omitempty"`
}

// GroupList is all groups that the caller may see.
type GroupList struct {
	Groups []Group `json:"groups"`
}

// Group is a line of the list of groups.
type Group struct {
	Group   string `json:"group"`
	Max     int    `json:"max"`
	Held    int    `json:"held"`
	Waiting int    `json:"waiting"`
	Paused  bool   `json:"paused"`
	Error   string `json:"error,omitempty"` // max and held are unknown
}

// MachineList is all machines that the caller may see.
type MachineList struct {
	Machines []Machine `json:"machines"`
}

// Machine is what is known of a machine, whether it runs or not.
type Machine struct {
	MachineID   string      `json:"machineID"`
	Hostname    string      `json:"hostname,omitempty"`
	Groups      []string    `json:"groups"` // that it is in, and those it holds slots in
	Strategy    string      `json:"strategy,omitempty"`
	Phase       string      `json:"phase,omitempty"`
	PhaseSince  Time        `json:"phaseSince,omitzero"`
	NeededSince Time        `json:"neededSince,omitzero"` // missing: no reboot is needed
	Reason      string      `json:"reason,omitempty"`
	Waiting     string      `json:"waiting,omitempty"` // what the phase waits for, or what went wrong
	Conditions  []Condition `json:"conditions"`
	HeldSince   Time        `json:"heldSince,omitzero"`
	HeldBy      string      `json:"heldBy,omitempty"`
	Holds       *Record     `json:"holds,omitempty"` // where it holds slots
	BootID      string      `json:"bootID,omitempty"`
	OS          string      `json:"os,omitempty"`
	Kernel      string      `json:"kernel,omitempty"`
	Version     string      `json:"version,omitempty"` // of its locksmithd
	Started     Time        `json:"started,omitzero"`  // its locksmithd
	DryRun      bool        `json:"dryRun,omitempty"`
	LastReboot  Time        `json:"lastReboot,omitzero"`
	LastOutcome string      `json:"lastOutcome,omitempty"`
	Present     bool        `json:"present"` // its locksmithd is connected
	Stale       bool        `json:"stale"`   // silent, and should not be
	Seen        Time        `json:"seen,omitzero"`
	Pauses      []Pause     `json:"pauses"` // of this machine alone
}

// Condition is one thing that has to be met before a machine reboots, or before it
// gives its slot back.
type Condition struct {
	Name  string `json:"name"`
	State string `json:"state"` // met, waiting, blocked, unknown or pending
	Text  string `json:"text,omitempty"`
	Since Time   `json:"since,omitzero"`
	Until Time   `json:"until,omitzero"`
}

// PauseList is all pauses that the caller may see.
type PauseList struct {
	Pauses []Pause `json:"pauses"`
}

// Scopes of a pause.
const (
	ScopeAll     = "all"
	ScopeGroup   = "group"
	ScopeMachine = "machine"
)

// Pause keeps everybody in its scope from starting a reboot.
type Pause struct {
	Scope     string  `json:"scope"`               // one of the Scope constants
	Group     *string `json:"group,omitempty"`     // where scope is group
	MachineID string  `json:"machineID,omitempty"` // where scope is machine
	By        string  `json:"by,omitempty"`
	Since     Time    `json:"since,omitzero"`
	Until     Time    `json:"until,omitzero"` // missing: until somebody resumes it
	Reason    string  `json:"reason,omitempty"`
}

// HistoryList is what happened, newest first.
type HistoryList struct {
	Entries []Entry `json:"entries"`
}

// Entry is one thing that happened, or that was refused.
type Entry struct {
	Time        Time     `json:"time"`
	Revision    int64    `json:"revision"`        // orders entries
	Group       *string  `json:"group,omitempty"` // missing: of none
	Action      string   `json:"action"`
	MachineID   string   `json:"machineID,omitempty"`
	Hostname    string   `json:"hostname,omitempty"`
	Actor       string   `json:"actor"`
	HeldSeconds Duration `json:"heldSeconds,omitzero"` // how long the slot was held
	DownSeconds Duration `json:"downSeconds,omitzero"` // how long the machine was down
	Outcome     string   `json:"outcome,omitempty"`
}

// Caller is who asks, and what they may do.
type Caller struct {
	Name      string   `json:"name"`
	From      string   `json:"from"` // IP address
	Role      string   `json:"role"`
	AllGroups bool     `json:"allGroups"` // the role holds in every group
	Groups    []string `json:"groups"`    // in which it holds, where not in all
	Open      bool     `json:"open"`      // no authorization is configured
}
