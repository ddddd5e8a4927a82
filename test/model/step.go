package model

import "fmt"

// Act is what happens in a step.
type Act uint8

// What agents do, and etcd for them.
const (
	Boot     Act = iota // the machine is up again
	GoDown              // the accepted reboot happens
	Begin               // the agent starts
	Find                // it looks at what it holds
	Join                // it joins the queue
	Miss                // it learns that its entry is gone
	Front               // it sees that nobody is before it
	Leave               // it leaves the queue
	Ask                 // it looks at the groups, and asks for the slots where there is room
	Write               // it asks to have written that it reboots
	Recall              // it sees that what had no reply has been written
	Stop                // it gives up on the reboot
	Call                // it asks for the reboot
	Return              // it asks to have its slots back in the store
	Carry               // what its process waits for is carried out
	Late                // what nobody waits for any more is carried out
	LateJoin            // a join is carried out that had no reply
	Expire              // the entry of a process that is gone expires; with N 1 the lease of its join under way
	// What administrators do.
	Resume // of scope G
	SetMax // of group G, to N
	Unlock // of machine M in group G
	Lock   // the same
	Pause  // of scope G
	// Faults.
	Crash     // the agent's process ends; with N 1 its request takes the place of an older one under way
	LoseReply // the same, of a reply
	LoseJoin  // it joins the queue, and has no reply
	HoldJoin  // it asks to join the queue, and has no reply; it may be carried out later
	LoseLease // of a process that runs
	Cure      // the need goes away without a reboot
	Lapse     // a slot lapses with a lease (a mistake)
)

// Step is one act: of machine M, or by an administrator on M, in group G.
type Step struct {
	Act     Act
	M, G, N int8
}

// String says in words what happened.
func (p Step) String() string {
	m, g := fmt.Sprintf("machine %c", 'A'+p.M), fmt.Sprintf("group %d", p.G)
	switch p.Act {
	case Boot:
		return m + " is up again"
	case GoDown:
		return m + " goes down"
	case Begin:
		return m + ": its agent starts"
	case Find:
		return m + " looks at what it holds"
	case Join:
		return m + " joins the queue"
	case Miss:
		return m + " learns that its entry is gone"
	case Front:
		return m + " sees that nobody is before it"
	case Leave:
		return m + " leaves the queue"
	case Ask:
		return m + " looks at its groups, and asks for slots if there is room"
	case Write:
		return m + " asks to have written that it reboots"
	case Recall:
		return m + " sees that it was written that it reboots"
	case Stop:
		return m + " gives up on its reboot"
	case Call:
		return m + " asks for its reboot"
	case Return:
		return m + " gives back what it holds"
	case Carry:
		return "the request of " + m + " is carried out, if it still may, and answered"
	case Late:
		return "a request that " + m + " does not wait for any more is carried out"
	case LateJoin:
		return m + " joins the queue by a request that had no reply"
	case Expire:
		if p.N == 1 {
			return "the lease expires under which an earlier process of " + m + " asked to join the queue"
		}
		return "the entry that an earlier process of " + m + " left expires"
	case Resume:
		return "an administrator resumes " + p.scope()
	case SetMax:
		return fmt.Sprintf("an administrator sets max of %s to %d", g, p.N)
	case Unlock:
		return "an administrator unlocks " + m + " in " + g
	case Lock:
		return "an administrator locks " + m + " in " + g
	case Pause:
		return "an administrator pauses " + p.scope()
	case Crash:
		return m + ": its agent is killed"
	case LoseReply:
		return m + " has no reply to its request"
	case LoseJoin:
		return m + " joins the queue, and has no reply"
	case HoldJoin:
		return m + " asks to join the queue, and has no reply"
	case LoseLease:
		return m + " loses its lease"
	case Cure:
		return m + " needs no reboot any more"
	case Lapse:
		return "the slot of " + m + " in " + g + " lapses"
	}
	return fmt.Sprintf("act %d", p.Act)
}

// scope says in words of what a pause is.
func (p Step) scope() string {
	switch {
	case p.G == ofAll:
		return "all groups"
	case p.G > ofAll:
		return fmt.Sprintf("machine %c", 'A'+p.G-ofAll-1)
	}
	return fmt.Sprintf("group %d", p.G)
}

// Kind is who a step depends on.
type Kind uint8

// The kinds of steps.
const (
	Own   Kind = iota // the protocol goes on by itself
	Heal              // an administrator undoes what keeps machines from going on
	Fault             // nothing may depend on it
)

// Transition is a step and what it leads to.
type Transition struct {
	Step
	Kind  Kind
	To    State
	Wrong string // which promise the step breaks, "" for none
}

// Mistake is something that the protocol deliberately does wrong, to see it found.
type Mistake uint8

// The mistakes.
const (
	None            Mistake = iota
	NoComparison            // a grant does not compare the semaphore
	NoProof                 // an agent that starts gives back what it holds, whether it has booted or not
	SlotLease               // slots hang on leases
	NoNonce                 // an agent takes a slot that it finds for an administrator's
	OneByOne                // a slot in one group is taken, and then one in the next
	Impatient               // a waiter asks although others are before it
	NoPolicy                // the step to rebooting does not compare the pauses
	NoPolicyAll             // neither it nor a grant compares the pause of all groups
	NoPolicyMachine         // neither it nor a grant compares the pause of the machine
	NoPolicyGrant           // a grant does not compare the pauses
	NotAsked                // an agent that starts does not ask whether the machine is going down
	Blind                   // after a lost reply it queues again without a look at what it holds
	ReleaseAnyway           // a release does not compare the holder record
	DropsRest               // when one slot is taken away, the others are forgotten
	IdleTooSoon             // an agent that needs nothing lets a grant go on that an earlier process asked for
	LeavesEntry             // a wait that is given up does not leave the queue
	Evicts                  // a lower max takes slots away
	KeepsLease              // a wait ends, and its lease is kept, although a join may still come
)
