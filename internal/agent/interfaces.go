package agent

import (
	"context"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Lock keeps the slots. internal/etcd and internal/lockclient implement it.
type Lock interface {
	// Find reads what machine holds at this moment: the groups among those
	// given in which it is a holder (none: no Groups), and its record, with
	// only MachineID where there is none. Queued says that an earlier process of this
	// machine's agent stands in their queues, so that it may be granted slots yet.
	Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error)

	// Withdraw takes earlier processes of this machine's agent out of the queues of
	// groups, so that they are granted nothing any more, and is Find then.
	Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error)

	// Acquire waits in the queue for a slot in every group of req. It returns
	// when the slots are granted, with ctx's cause once ctx has ended and
	// nothing is held, or at an error that waiting does not cure:
	// locksmith.ErrHolderExists, *locksmith.UnreadableError, no permission, or a
	// *locksmith.PausedError that must not hold up those who queue behind. When
	// ctx ends while a grant is under way, the grant wins and is returned; where it
	// cannot be learnt of, the error is a locksmith.ErrMayHold, too.
	// report, if not nil, is told what the wait is about ("etcd is away: …").
	Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error)

	// Advance writes a new phase and reason into the holder records, in one
	// transaction that fails with locksmith.ErrSlotLost unless every slot is
	// still held, and then returns those that are, perhaps none. To
	// locksmith.PhaseRebooting it also fails, with a *locksmith.PausedError, while the
	// machine or one of the groups is paused. It returns the slots with the new record.
	Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error)

	// Release gives all slots back in one transaction. A slot that somebody
	// else took away meanwhile counts as given back.
	Release(ctx context.Context, slots locksmith.Slots, result locksmith.Result) error

	// FollowPauses calls changed with the pauses that hold for machine and groups,
	// at once and after each change, until ctx ends. Pauses that are over by their
	// own time may be among them. It survives the store being away.
	FollowPauses(ctx context.Context, machine string, groups []locksmith.Group, changed func([]locksmith.Pause)) error
}

// Machine is the machine the agent runs on.
type Machine interface {
	// Reboot asks for a reboot by method and returns once it was accepted or
	// refused. A nil error means accepted, not done.
	Reboot(ctx context.Context, method locksmith.Method) error

	// GoingDown says whether a reboot that was accepted is under way, perhaps
	// held up, so that it cannot be given up any more.
	GoingDown(ctx context.Context) (bool, error)

	// Sessions lists logged-in users.
	Sessions(ctx context.Context) ([]Session, error)

	// SessionChanges calls changed after somebody logged in or out, until ctx
	// ends.
	SessionChanges(ctx context.Context, changed func()) error

	// Tell writes message to the terminals of sessions.
	Tell(ctx context.Context, sessions []Session, message string) error
}

// Session is one login.
type Session struct {
	ID   string // logind's
	User string
	TTY  string // "pts/0", "tty1"; empty for a session without a terminal
}

// Need is a trigger's answer.
type Need struct {
	Trigger string // which trigger answers: "update-engine", "control"
	Needed  bool   // meaningful only without Err
	Reason  string // for people: "update engine: new version 1234.0.0"
	Err     error  // the trigger cannot tell; never counts as needed

	// Method is what the trigger says is enough; empty where it says nothing.
	Method locksmith.Method
}

// Trigger watches for one reason to reboot.
type Trigger interface {
	// Name is short and constant: it keys the trigger's answers.
	Name() string

	// Watch reports the present answer at once, then every change, until ctx
	// ends. It survives what it listens to going away and coming back, and
	// reports that as an answer with Err.
	Watch(ctx context.Context, report func(Need)) error
}

// About is what checks and steps are told of the reboot they belong to.
type About struct {
	Phase   locksmith.Phase
	Reason  string // why the reboot is needed
	Outcome string // how the cycle went: "rebooted", "aborted: …"; empty before that is known
}

// Check is one thing that has to pass: as a blocker before a slot is asked for and
// again right before the reboot, as a verifier after it.
type Check interface {
	// Name is short and constant: "inhibitors", "check.d".
	Name() string

	// Run returns nil if the check passes, and else why it does not; that it
	// cannot be found out is a reason too. A *Veto, also among joined errors, is
	// shown under its own name instead of the check's.
	Run(ctx context.Context, about About) error
}

// Veto is why a reboot is blocked, or why a check after it fails.
type Veto struct {
	By     string // who says so: "20-backup", "apt-get (pid 812)"
	Reason string // in one line: "running until 04:00"
}

func (v *Veto) Error() string { return v.By + ": " + v.Reason }

// Steps are the site's own actions around a reboot. Each method blocks until the
// step is done and its error is the reason shown. A nil Steps passes every step.
type Steps interface {
	// Prepare comes before the reboot, with the slots held. What it does is
	// remembered across the reboot. Called again in the same cycle, by an agent
	// that was restarted, it does all of it again.
	Prepare(ctx context.Context, about About) error

	// Restore undoes what Prepare did and has not been undone yet; nothing is
	// done where nothing was. It is called before the slots go back.
	Restore(ctx context.Context, about About) error
}

// Rehearser is implemented by Steps that can say what they would do.
type Rehearser interface {
	// Rehearse does nothing but say what Prepare, or in phase
	// locksmith.PhaseRestoring Restore, would do for the whole of a cycle. Its
	// error is why that would fail.
	Rehearse(ctx context.Context, about About) error
}

// Window answers when reboots are allowed. internal/window implements it; a nil
// Window is always open.
type Window interface {
	// Contains says whether t lies inside: its start is inside, its end outside.
	Contains(t time.Time) bool

	// Next returns the start and end of the window that contains t, or else of
	// the next one after t.
	Next(t time.Time) (start, end time.Time)
}

// Coordinator publishes the agent's state for the update engine, in
// coordinator.conf: one of the Coordinator constants.
type Coordinator interface {
	SetState(state string) error
}

// The states of coordinator.conf.
const (
	CoordinatorStarting  = "starting"
	CoordinatorRunning   = "running"
	CoordinatorPlanned   = "reboot-planned"
	CoordinatorRebooting = "rebooting"
)
