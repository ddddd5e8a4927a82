package locksmith

import "time"

// Who made a holder record, its By field.
const (
	ByAgent    = "locksmithd"             // the agent, for a reboot
	ByReboot   = "locksmithctl reboot"    // an administrator's reboot; the agent gives it back afterwards
	ByLock     = "locksmithctl lock"      // an administrator's hold: only unlock ends it
	ByWithLock = "locksmithctl with-lock" // held while a command runs

	ByFleetLock = "fleetlock" // locksmith-server, for a machine that speaks FleetLock; given back over FleetLock
)

// Holder is the record that stands beside a machine in the semaphore and says
// who holds the slot, since when and why. Times are seconds since the epoch.
// Records of old clients have only the first two fields.
type Holder struct {
	MachineID string `json:"machineID"`
	StartTime int64  `json:"startTime"` // when the slot was granted

	BootID    string  `json:"bootID,omitempty"`    // the boot in which it was granted
	Hostname  string  `json:"hostname,omitempty"`  //
	Groups    []Group `json:"groups,omitempty"`    // all groups taken in the same transaction
	Phase     Phase   `json:"phase,omitempty"`     //
	PhaseTime int64   `json:"phaseTime,omitempty"` // since when in this phase
	Reason    string  `json:"reason,omitempty"`    // why the reboot is needed, or why it failed
	By        string  `json:"by,omitempty"`        // the program: one of the By constants, or another client's name
	Nonce     string  `json:"nonce,omitempty"`     // the attempt that took the slot
	Address   string  `json:"address,omitempty"`   // from where it was asked for over FleetLock, an IP address
}

// Own says whether the record was made for a reboot by locksmithd or on its
// behalf, so that locksmithd may give the slot back. Records without By come from
// old clients, which take slots only for reboots.
func (h Holder) Own() bool { return h.By == ByAgent || h.By == ByReboot || h.By == "" }

// Reboots says whether the slots are asked for in order to reboot, so that none is
// granted while there is a pause. What an administrator holds by hand or while a
// command runs is no reboot; any other client's slot counts as one.
func (r Request) Reboots() bool { return r.By != ByLock && r.By != ByWithLock }

// Since is when the slot was granted.
func (h Holder) Since() time.Time { return time.Unix(h.StartTime, 0) }

// Request asks for one slot in every group.
type Request struct {
	Groups    []Group // required; as ParseGroups returns them
	MachineID string  // required
	By        string  // required: one of the By constants or another client's name
	Actor     string  // who asks, for the history; empty means By
	BootID    string  // the present boot; empty where a reboot is not the purpose
	Hostname  string
	Address   string // from where the request came, an IP address; empty: from the machine itself
	Reason    string
	Priority  int // place in the queue: 0 (most urgent) to 9; waiting requests only

	// Resume takes over the queue entry that an earlier process with the same
	// By left behind, keeping its place. Only for a process that knows it is the
	// only one of its kind on the machine.
	Resume bool
}

// Slots is what one machine holds: one slot in each group of Groups.
type Slots struct {
	Groups []Group
	// Record is the holder record as last written or read. Where there is none
	// only MachineID is set; a record without Nonce is an old client's.
	Record Holder
	// Revision is the store's revision at which Record was last known to be
	// the newest.
	Revision int64
	// Queued says, of what was found in the store, that entries of the machine's
	// locksmithd stand in queues. They are an earlier process's, whose last request
	// may yet be carried out.
	Queued bool
	// Earlier are, of what was found in the store, the groups that the machine's locksmithd
	// said it was in when it was last seen there: it may hold slots of those, too.
	Earlier []Group
}

// Result says how a holding ended; it goes into the history.
type Result struct {
	Actor   string        // who gives the slot back; empty means the record's By
	Outcome string        // "rebooted", "window closed", …
	Down    time.Duration // how long the machine was down; 0 where it was not or nobody knows
}
