package agent

import (
	"errors"
	"maps"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// state is where the machine is. It is a value: step returns a new one.
type state struct {
	phase   locksmith.Phase
	since   time.Time
	waiting string // what the phase waits for, or what went wrong last

	needed    bool             // a trigger says reboot needed
	needKnown bool             // the triggers have answered
	doubt     time.Time        // since when the trigger that said so cannot tell any more; zero: it can
	reason    string           // of the need, all triggers' together
	triggers  []string         // that say so
	reasons   []string         // theirs, in the same order
	method    locksmith.Method // that they say is enough; empty: one of them says nothing
	atLeast   locksmith.Method // that one of them says is needed; empty: none does
	sure      []string         // triggers whose last answer is no error
	cured     bool             // since this start no reboot was needed once
	saidNo    []string         // triggers that said since this start that none is needed

	pauses  []locksmith.Pause
	heard   bool   // of pauses, or that there are none
	vetoes  []Veto // of the last check that did not pass
	tripped string // why the breaker keeps the machine from rebooting, "" if it does not

	op         effectKind // what is being carried out; none: nothing
	abandoning bool       // the wait in the queue was asked to end
	recovered  bool       // the store was asked what an earlier run left
	queued     bool       // an earlier wait may stand in the queues, and be granted slots yet
	findAt     time.Time  // best-effort without etcd: when to ask again
	useLock    bool       // a slot is required
	decided    bool       // best-effort: useLock is valid for this cycle

	held    bool            // slots are held
	slots   locksmith.Slots // valid if held
	resumed time.Time       // since when slots of an earlier run wait for the triggers' answer
	checked bool            // the check for the present step passed

	mem   Memory
	dirty bool // mem has something that can be written at leisure
	noted bool // the intent of the present phase is in mem, durably

	prepared bool          // prepare was begun: restore has to run
	outcome  string        // for the history, once the cycle ends
	rest     time.Duration // after an abort, before the next try
	down     time.Duration

	sessions   []Session
	told       []string  // ids of sessions that know
	warned     bool      // and that there is only a minute left
	listed     bool      // sessions is up to date
	notified   time.Time // when an earlier run told the users; zero: it did not
	delayUntil time.Time // end of the logged-in users' delay
	published  bool      // the store knows of what people wait for

	asked     bool      // a reboot may have been accepted, now or by an earlier run
	confirmed bool      // the intent to reboot is written
	accepted  time.Time // when the reboot was accepted
	attempts  int       // reboot calls that came to nothing

	failure     string    // why the checks after the reboot fail
	verified    bool      // they pass, for as long as they have to
	verifyUntil time.Time // until then a failure is none yet
	soakUntil   time.Time // until then they have to keep passing; zero: they do not pass
	answerUntil time.Time // for the triggers to say whether the reboot helped

	dryDone  []string  // the reasons of the last dry run
	failures int       // in a row, of the present step
	refusals int       // in a row, of the wait in the queue
	retryAt  time.Time // not before then
	wakeAt   time.Time // when to look again; zero: only at an event
}

// effectKind names what the loop has to carry out.
type effectKind string

const (
	none           effectKind = ""
	effectFind     effectKind = "find"     // Lock.Find → found
	effectWithdraw effectKind = "withdraw" // Lock.Withdraw → found
	effectDecide   effectKind = "decide"   // UseLock → decided
	effectCheck    effectKind = "check"    // Blockers → done
	effectAcquire  effectKind = "acquire"  // Lock.Acquire → granted or done
	effectAbandon  effectKind = "abandon"  // end effectAcquire; its own event comes
	effectRemember effectKind = "remember" // Remember → done
	effectPrepare  effectKind = "prepare"  // Steps.Prepare → done
	effectSessions effectKind = "sessions" // Machine.Sessions → listed
	effectTell     effectKind = "tell"     // Machine.Tell → done
	effectPublish  effectKind = "publish"  // Lock.Advance, for people → advanced
	effectConfirm  effectKind = "confirm"  // Lock.Advance to rebooting → advanced
	effectReboot   effectKind = "reboot"   // Machine.Reboot → done
	effectDown     effectKind = "down"     // Machine.GoingDown → going down
	effectVerify   effectKind = "verify"   // Verifiers → done
	effectRestore  effectKind = "restore"  // Steps.Restore → done
	effectRelease  effectKind = "release"  // Lock.Release → done
)

// effect is one thing to carry out.
type effect struct {
	kind     effectKind
	sessions []Session        // tell
	message  string           // tell; the reason to publish
	phase    locksmith.Phase  // publish, confirm
	method   locksmith.Method // reboot
	memory   Memory           // remember
	result   locksmith.Result // release
}

// event is what the loop tells step. Exactly one for each effect but abandon.
type event interface{}

type (
	evTick struct{}
	// evNeed is the answer of all triggers together.
	evNeed struct {
		known, needed   bool
		reason          string
		triggers        []string // that say so
		reasons         []string
		method, atLeast locksmith.Method
		sure            []string // triggers whose last answer is no error
	}
	evPauses struct {
		pauses  []locksmith.Pause
		unknown bool // they cannot be followed any more; the store still refuses what they forbid
	}
	evSessionsChanged struct{}
	evFound           struct {
		slots locksmith.Slots
		err   error
	}
	evDecided struct {
		useLock bool
		err     error
	}
	evGranted struct{ slots locksmith.Slots }
	evListed  struct {
		sessions []Session
		err      error
	}
	evAdvanced struct {
		slots locksmith.Slots
		err   error
	}
	evGoingDown struct {
		yes bool
		err error
	}
	evDone struct{ err error } // of any other effect
)

// The outcomes of a cycle that went well, and of a dry run that did.
const (
	rebooted = locksmith.OutcomeRebooted
	ranDry   = aborted + dryRun

	aborted  = locksmith.OutcomeAborted + ": " // and why
	dryRun   = "dry run"
	dryWaits = locksmith.RanDry
)

// errAbandoned is how a wait ends that was asked to.
var errAbandoned = errors.New("the wait was abandoned")

// errWindowClosed is why an effect was not carried out.
var errWindowClosed = errors.New("the window is closed")

func start(now time.Time, mem Memory) state {
	return state{phase: locksmith.PhaseRecovering, since: now, mem: mem}
}

// remember has mem made durable. What changes while that goes on is dirty again.
func (s state) remember() (state, effect) {
	s.dirty = false
	return s, effect{kind: effectRemember, memory: s.mem}
}

// followsPauses says whether pauses matter: an idle machine costs the store nothing,
// and what it once heard of them may have changed since.
func (s state) followsPauses() bool { return s.useLock && s.needed }

// cycle is the reboot under way, to be changed and stored again: what mem points
// to is shared with older states.
func (s state) cycle() Cycle {
	if s.mem.Cycle == nil {
		return Cycle{}
	}
	return *s.mem.Cycle
}

// counted is mem's outcomes with one more.
func (s state) counted(outcome string) map[string]int {
	counts := maps.Clone(s.mem.Outcomes)
	if counts == nil {
		counts = make(map[string]int)
	}
	counts[outcome]++
	return counts
}
