package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Fault is one thing that goes wrong for a while.
type Fault struct {
	At  time.Duration // since the start
	For time.Duration // until it is healed; who dies in a phase ends the waiting for that
	Act Action
	Who int // which member or machine, from 0; -1: the leader at that time, or all

	In   locksmith.Phase // of an agent that is killed in a phase
	Late time.Duration   // how long after its beginning, or after that of a wait
	Left int64           // on a disk that is filled: the bytes that it still takes
	Slow time.Duration   // of a slow disk: what each fsync takes more
	Step time.Duration   // by which a clock is off
}

// Action is a kind of fault.
type Action string

// The kinds. What is killed is started again when the fault is healed, but for
// agents and machines, which come back by themselves.
const (
	KillMember   Action = "kill-member"
	PauseMember  Action = "pause-member"
	KillAgent    Action = "kill-agent"
	PauseAgent   Action = "pause-agent"
	CrashMachine Action = "crash-machine"

	CutMember     Action = "cut-member"      // from all but the observer
	MuteMember    Action = "mute-member"     // it hears the other members, and they do not hear it
	DeafenMember  Action = "deafen-member"   // they hear it, and it does not hear them
	CutAgent      Action = "cut-agent"       // from all members
	MuteAgent     Action = "mute-agent"      // its requests are lost
	DeafenAgent   Action = "deafen-agent"    // its requests are carried out, and the replies are lost
	CutFromLeader Action = "cut-from-leader" // one agent from the leader of that time
	KillServer    Action = "kill-server"     // it is started again when the fault is healed
	PauseServer   Action = "pause-server"    //
	CutServer     Action = "cut-server"      // from all members
	DeafenServer  Action = "deafen-server"   // its changes are made, and it does not learn of it
	LowerMax      Action = "lower-max"       // an administrator sets max to 0
	RaiseMax      Action = "raise-max"       // to one more than there were
	HoldSlot      Action = "hold-slot"       // one takes a slot by hand
	PauseGroup    Action = "pause-group"     // one pauses a group,
	PauseMachine  Action = "pause-machine"   // a machine,
	PauseAll      Action = "pause-all"       // or everybody
	LosePackets   Action = "lose-packets"    // one in ten, of everybody's
	DelayPackets  Action = "delay-packets"   // by up to 50 ms each way, of everybody's

	FillDisk Action = "fill-disk" // a member's, after it took a few more bytes
	SlowDisk Action = "slow-disk" // a member's

	FillQuota Action = "fill-quota" // the database reaches its quota, and takes no writes until an administrator makes room

	StepClock Action = "step-clock" // a machine's, and back again

	KillInPhase  Action = "kill-in-phase"  // the next agent that enters a phase is killed there,
	CrashInPhase Action = "crash-in-phase" // or its machine loses its power
	KillWaiting  Action = "kill-waiting"   // a server is killed while requests wait there
)

// Actions lists all kinds.
var Actions = []Action{KillMember, PauseMember, KillAgent, PauseAgent, CrashMachine,
	CutMember, MuteMember, DeafenMember, CutAgent, MuteAgent, DeafenAgent, CutFromLeader,
	KillServer, PauseServer, CutServer, DeafenServer, LosePackets, DelayPackets,
	LowerMax, RaiseMax, HoldSlot, PauseGroup, PauseMachine, PauseAll,
	FillDisk, SlowDisk, FillQuota, StepClock, KillInPhase, CrashInPhase, KillWaiting}

// theLeader is Fault.Who of what is to hit the leader of that time, or whoever comes next.
const theLeader = -1

func (f Fault) String() string {
	who := fmt.Sprint(f.Who + 1)
	if f.Who == theLeader {
		who = "leader"
	}
	if f.In != "" {
		who = "any"
	}
	text := fmt.Sprintf("%7v %-14s %-6s for %v", f.At, f.Act, who, f.For)
	if f.In != "" {
		text += fmt.Sprintf(", in %s", f.In)
	}
	if f.Left > 0 {
		text += fmt.Sprintf(", with %d bytes left", f.Left)
	}
	if f.Step != 0 {
		text += fmt.Sprintf(", by %v", f.Step)
	}
	if f.Slow > 0 {
		text += fmt.Sprintf(", by %v", f.Slow)
	}
	if f.Late > 0 {
		text += fmt.Sprintf(" after %v", f.Late)
	}
	return text
}

// steps are by how much clocks are set, forwards and backwards.
var steps = []time.Duration{10 * time.Second, 5 * time.Minute, 2 * time.Hour, 72 * time.Hour}

// ofServer says whether it hits a locksmith-server.
func (f Fault) ofServer() bool {
	return slices.Contains([]Action{KillServer, PauseServer, CutServer, DeafenServer, KillWaiting}, f.Act)
}

// quotaOneIn is in how many schedules there is one with FillQuota.
const quotaOneIn = 4

// Schedule is a number of faults in the order in which they begin.
type Schedule []Fault

func (s Schedule) String() string {
	var b strings.Builder
	for _, f := range s {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// Plan computes a schedule: of a seed, always the same. The first fault begins after
// a moment of rest, and all are healed when length is over. Faults overlap: two
// members may well be away, and with them the cluster. Kinds in without are left out; who
// leaves out servers that are killed means all kinds of that.
func Plan(seed uint64, length time.Duration, machines int, without ...Action) Schedule {
	rng := rand.New(rand.NewPCG(seed, 0x706c616e))
	choices := []struct {
		weight int
		act    Action
		among  int // how many there are to choose from
		leader bool
	}{
		{2, KillMember, members, false}, {2, KillMember, members, true},
		{1, PauseMember, members, false}, {2, PauseMember, members, true},
		{4, KillAgent, machines, false}, {2, PauseAgent, machines, false}, {1, CrashMachine, machines, false},
		{1, CutMember, members, false}, {2, CutMember, members, true},
		{1, MuteMember, members, true}, {1, DeafenMember, members, true},
		{2, CutAgent, machines, false}, {1, MuteAgent, machines, false}, {2, DeafenAgent, machines, false},
		{2, CutFromLeader, machines, false}, {2, KillServer, servers, false}, {1, PauseServer, servers, false},
		{1, CutServer, servers, false}, {1, DeafenServer, servers, false},
		{1, LowerMax, machines, false}, {1, RaiseMax, machines, false}, {2, HoldSlot, machines, false},
		{1, PauseGroup, machines, false}, {1, PauseMachine, machines, false}, {1, PauseAll, 1, false},
		{1, LosePackets, 1, false}, {1, DelayPackets, 1, false},
		{1, FillDisk, members, false}, {1, FillDisk, members, true}, {1, SlowDisk, members, false}, {2, SlowDisk, members, true},
		{3, StepClock, machines, false},
		{4, KillInPhase, 1, true}, {1, CrashInPhase, 1, true}, {1, KillWaiting, servers, false},
	}
	var deck []int
	for i, c := range choices {
		if slices.Contains(without, c.act) || c.act == KillWaiting && slices.Contains(without, KillServer) {
			continue
		}
		deck = append(deck, slices.Repeat([]int{i}, c.weight)...)
	}
	var s Schedule
	for at := between(rng, 500, 1500); ; at += between(rng, 100, 1200) {
		c := choices[deck[rng.IntN(len(deck))]]
		f := Fault{At: at, For: between(rng, 300, 3000), Act: c.act, Who: rng.IntN(c.among)}
		if c.leader {
			f.Who = theLeader
		}
		switch f.Act {
		case KillInPhase, CrashInPhase:
			f.In, f.Late = PhasesToDieIn[rng.IntN(len(PhasesToDieIn))], lateness(rng, latest)
		case FillDisk:
			f.Left = rng.Int64N(mostLeft)
		case SlowDisk:
			f.Slow = between(rng, 20, 1500)
		case StepClock:
			f.Step = steps[rng.IntN(len(steps))]
			if rng.IntN(2) == 0 {
				f.Step = -f.Step
			}
		case KillWaiting:
			f.Late = between(rng, 0, 300)
		}
		if f.At+f.For > length {
			return s.withQuota(seed, length, without)
		}
		s = append(s, f)
	}
}

// withQuota adds, to one of some schedules, that etcd is out of space for a while. One of
// its own draws that, so that the other faults of a seed are what they are without it.
// It is rare and there is one at most, because nothing else can happen meanwhile.
func (s Schedule) withQuota(seed uint64, length time.Duration, without []Action) Schedule {
	rng := rand.New(rand.NewPCG(seed, 0x71756f7461))
	f := Fault{For: between(rng, 5000, 8000), Act: FillQuota}
	if slices.Contains(without, FillQuota) || rng.IntN(quotaOneIn) != 0 || f.For > length/2 {
		return s
	}
	f.At = between(rng, 1000, int((length-f.For)/time.Millisecond))
	i, _ := slices.BinarySearchFunc(s, f.At, func(f Fault, at time.Duration) int { return cmp.Compare(f.At, at) })
	return slices.Insert(s, i, f)
}

// between is a random time of from to to milliseconds.
func between(rng *rand.Rand, from, to int) time.Duration {
	return time.Duration(from+rng.IntN(to-from+1)) * time.Millisecond
}
