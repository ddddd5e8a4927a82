package model

// How large the model is. Two machines that share a group compete, and the third shows
// whether somebody overtakes.
const (
	Machines = 3
	Groups   = 2
)

// Semaphore is the stored record of a group.
type Semaphore struct {
	Value   int8
	Max     int8
	Holders uint8 // a bit per machine
}

func (s Semaphore) holds(m int) bool { return s.Holders&bit(m) != 0 }

// Record is a holder record, as a set of what is known of it; 0: there is none.
type Record uint8

// What a record says.
const (
	ByAgent   Record = 1 << iota // made for a reboot
	ByAdmin                      // made by an administrator's lock
	OldBoot                      // the machine has booted since
	Rebooting                    // its phase is rebooting
	Known                        // its nonce is the one that the machine's present process has
)

// Entries is the queue: machine+1 in the order of joining, 0: nobody. A machine has one
// entry in each of its groups, all of one transaction and one lease, so one list has them
// all.
type Entries [Machines]uint8

// PC is where the agent of a machine is.
type PC uint8

// Where an agent can be.
const (
	Off       PC = iota // does not run
	Finding             // has started, and is about to look at what it holds
	Needing             // a reboot is needed
	Queued              // has joined the queue
	First               // has seen that nobody is before it
	Held                // holds its slots
	Confirmed           // has written that it reboots
	Asked               // has asked for the reboot
	Returning           // back from its reboot: gives its slots back
	Aborting            // gives its slots back without a reboot
	Done                // idle: rebooted, or no longer in need of it
)

// Power is what the machine itself does.
type Power uint8

// What a machine can do.
const (
	Up    Power = iota
	Going       // the reboot was accepted: nothing stops it
	Down
)

// Request is a kind of transaction under way.
type Request uint8

// The transactions that take more than one look at what is stored.
const (
	NoRequest Request = iota
	Grant
	Confirm
	Release
)

// Flight is a transaction that was sent and not yet carried out. One fact stands for all
// its comparisons: whether everything it compares is still what its sender saw.
type Flight struct {
	Request Request
	Fresh   bool
	Known   bool  // of a ghost: it bears the nonce that the present process has
	Groups  uint8 // of a release: in which groups it removes the machine, a bit per group
}

// Author is who wrote a record.
type Author uint8

// Who can have written a record.
const (
	Nobody  Author = iota
	Itself         // the present process, which had no reply
	Earlier        // a process before it
)

// Joining is a join that was sent and has no reply, by the lease on which its entry would
// hang: it is refused once that is gone.
type Joining uint8

// The leases of joins under way.
const (
	NoJoin   Joining = iota
	Mine             // the present process's
	Left             // one that an earlier process left
	LeftBoth         // the same, and the entry that stands hangs on it, too
)

// Machine is one machine and its agent.
type Machine struct {
	PC     PC
	Power  Power
	Booted bool // it has rebooted
	Cured  bool // a reboot is not needed any more
	Owns   bool // its entry hangs on the present process's lease
	Other  bool // it is another one than that which the process joined with, and waits by
	Join   Joining
	Newer  Author // who wrote its record since its process last knew it
	Flight Flight // its process waits for the reply
	Ghost  Flight // nobody waits for the reply any more, but it may yet be carried out
}

// Limits says how often what is not the protocol's own doing may happen: up to 6 times, or
// Endless. Where more of a kind is left than of all together, it is lowered to that, so
// that states which differ in nothing else are the same.
type Limits struct {
	Total   int8 // of all kinds together
	Crashes int8
	Replies int8 // lost
	Leases  int8 // lost by a process that runs
	SetMax  int8
	Unlocks int8
	Locks   int8
	Pauses  int8
	Cured   int8 // needs that go away without a reboot
}

// State is everything at one moment. It is a value: equal states are the same state.
type State struct {
	Sem     [Groups]Semaphore
	Record  [Groups][Machines]Record
	Queue   Entries
	Paused  [Scopes]bool
	Excused [Groups][Machines]bool // unlocked by an administrator when it was on its way down
	Machine [Machines]Machine
	Left    Limits

	Seen [Machines][Groups]Semaphore // what a grant under way is made of, where it does not compare
}

// Config is one model to explore.
type Config struct {
	Member  [Machines]uint8 // the groups of each machine, a bit per group
	Max     [Groups]int8
	Limits  Limits
	Unheld  uint8 // the machines whose joins are carried out at once or never, a bit per machine
	Mistake Mistake
}

func bit(i int) uint8 { return 1 << i }

// Start is the first state: every machine needs a reboot, nobody has asked for a slot.
func (c Config) Start() State {
	s := State{Left: c.Limits}
	for g := range Groups {
		s.Sem[g] = Semaphore{Value: c.Max[g], Max: c.Max[g]}
	}
	for m := range Machines {
		s.Machine[m].PC = Needing
	}
	return s
}

// in says whether machine m is in group g.
func (c Config) in(m, g int) bool { return c.Member[m]&bit(g) != 0 }

// Goal says whether everybody has rebooted, or needs it no more, and nothing is held.
func (s State) Goal() bool {
	for m := range Machines {
		if s.Machine[m].PC != Done || s.Machine[m].Power != Up {
			return false
		}
	}
	for g := range Groups {
		if s.Sem[g].Holders != 0 {
			return false
		}
	}
	return s.Queue == Entries{}
}

// Calm says whether no administrator keeps machines from going on.
func (s State) Calm() bool {
	if s.Paused != [Scopes]bool{} {
		return false
	}
	for g := range Groups {
		if s.Sem[g].Max < 1 {
			return false
		}
		for m := range Machines {
			if s.Record[g][m]&ByAdmin != 0 {
				return false
			}
		}
	}
	return true
}

// place is the place of machine m in the queue, -1: it has no entry.
func (q Entries) place(m int) int {
	for i, e := range q {
		if int(e) == m+1 {
			return i
		}
	}
	return -1
}

// without is the queue after machine m's entry went.
func (q Entries) without(m int) Entries {
	var out Entries
	n := 0
	for _, e := range q {
		if e != 0 && int(e) != m+1 {
			out[n] = e
			n++
		}
	}
	return out
}

// with is the queue with an entry of machine m at its end.
func (q Entries) with(m int) Entries {
	for i, e := range q {
		if e == 0 {
			q[i] = uint8(m + 1)
			return q
		}
	}
	return q
}

// ahead says whether the entry of another machine that shares a group with m is older.
func (c Config) ahead(s State, m int) bool {
	for _, e := range s.Queue {
		switch {
		case e == 0 || int(e) == m+1:
			return false
		case c.Member[e-1]&c.Member[m] != 0:
			return true
		}
	}
	return false
}

// holdsAny says whether machine m holds a slot in any of its groups.
func (s State) holdsAny(m int) bool {
	for g := range Groups {
		if s.Sem[g].holds(m) {
			return true
		}
	}
	return false
}

// granted says whether machine m's present attempt has its slots, in all groups.
func (c Config) granted(s State, m int) bool {
	for g := range Groups {
		if c.in(m, g) && (!s.Sem[g].holds(m) || s.Record[g][m]&(ByAgent|Known) != ByAgent|Known) {
			return false
		}
	}
	return true
}

// room says whether every group of machine m has a free slot.
func (c Config) room(s State, m int) bool {
	for _, g := range c.wants(s, m) {
		if s.Sem[g].Value <= 0 {
			return false
		}
	}
	return true
}
