package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Defaults of Config's durations.
const (
	DefaultLoginDelay   = 5 * time.Minute
	DefaultRebootGrace  = 5 * time.Minute
	DefaultCheckTimeout = 5 * time.Minute
)

// Config is what an Agent needs. New refuses it where a required field is
// missing.
type Config struct {
	MachineID string             // required
	BootID    string             // required: of the present boot, as locksmith.Boot returns it
	Hostname  string             // shown to people
	Groups    []locksmith.Group  // required, as locksmith.ParseGroups returns them
	Strategy  locksmith.Strategy // required; off has no agent
	Priority  int                // in the queue, 0 (most urgent) to 9

	Lock     Lock      // required unless Strategy is reboot
	Machine  Machine   // required
	Triggers []Trigger // required: at least one

	// Keeper is who keeps the slots where that is not etcd, for people: "the FleetLock
	// server …". It must not block. Nil: etcd.
	Keeper func() string

	// UseLock answers, for best-effort, whether etcd is running at this moment.
	// An error counts as "unknown": the agent waits and asks again. Required
	// for best-effort.
	UseLock func(ctx context.Context) (bool, error)

	Window      Window      // nil: always open
	Windows     []string    // what Window is made of, as specifications, for people
	DenyWindows []string    // likewise
	Blockers    []Check     // none: nothing blocks
	Steps       Steps       // nil: every step passes
	Verifiers   []Check     // none: a machine that came back is well
	Coordinator Coordinator // nil: nobody is told

	Method      locksmith.Method // of reboots; empty: what the triggers say is enough, or else MethodReboot
	LoginDelay  time.Duration    // what logged-in users are given; 0: no delay and no message
	RebootGrace time.Duration    // how long an accepted reboot may take to happen; 0: DefaultRebootGrace

	CheckTimeout  time.Duration // for all blockers or verifiers together; 0: DefaultCheckTimeout
	Proceed       bool          // reboot although Prepare failed
	VerifyTimeout time.Duration // after the boot, for the verifiers to pass; then the phase is failed
	VerifySoak    time.Duration // for how long they then have to keep passing

	MaxRebootsPerDay int           // in any 24 hours; 0: any number
	MinUptime        time.Duration // before the next reboot; 0: none
	Booted           time.Time     // when this boot began; required with MinUptime

	// Memory is what the machine remembers of before, and Remember makes the
	// next one durable before it returns. A nil Remember forgets with the agent.
	Memory   Memory
	Remember func(Memory) error

	// DryRun goes through every step, takes no slot, prepares and remembers nothing,
	// and does not reboot: the log says what would have been done.
	DryRun bool

	// OnChange, if not nil, is called from the agent's loop after each change
	// of its status. It must not block.
	OnChange func(Status)

	Log *slog.Logger // nil: discard
}

// Status is what the agent says of itself, on the control socket and to tests.
type Status struct {
	MachineID string             `json:"machineID"`
	Hostname  string             `json:"hostname,omitempty"`
	BootID    string             `json:"bootID"`
	Groups    []locksmith.Group  `json:"groups"`
	Strategy  locksmith.Strategy `json:"strategy"`
	Phase     locksmith.Phase    `json:"phase"`
	Since     time.Time          `json:"since"`              // in this phase
	Needed    bool               `json:"needed"`             // a trigger says reboot needed
	Reason    string             `json:"reason,omitempty"`   // why, as the trigger gave it
	Waiting   string             `json:"waiting,omitempty"`  // what the present phase waits for, or what went wrong last
	Held      bool               `json:"held"`               // slots are held
	Triggers  map[string]string  `json:"triggers,omitempty"` // each trigger's last answer: "needed: …", "not needed", "error: …"

	NeededSince time.Time             `json:"neededSince,omitzero"`
	HeldSince   time.Time             `json:"heldSince,omitzero"`
	HeldGroups  []locksmith.Group     `json:"heldGroups,omitempty"` // those of the slots
	Method      locksmith.Method      `json:"method,omitempty"`     // of the next reboot
	Conditions  []locksmith.Condition `json:"conditions,omitempty"` // in the order in which they are met
	Pauses      []locksmith.Pause     `json:"pauses,omitempty"`     // that hold for this machine
	DelayUntil  time.Time             `json:"delayUntil,omitzero"`  // end of the logged-in users' delay
	DryRun      bool                  `json:"dryRun,omitempty"`
	LastReboot  *Past                 `json:"lastReboot,omitempty"`
	Outcomes    map[string]int        `json:"outcomes,omitempty"`      // of all cycles since the machine was set up
	TriggerErrs map[string]int        `json:"triggerErrors,omitempty"` // answers with an error, since the agent started
	WindowStart time.Time             `json:"windowStart,omitzero"`    // of the present window or else of the next
	WindowEnd   time.Time             `json:"windowEnd,omitzero"`
	Windows     []string              `json:"windows,omitempty"`     // as specifications; none: always
	DenyWindows []string              `json:"denyWindows,omitempty"` // likewise
}

// Memory is what a machine remembers across its reboots, beside what stands in the
// store. It is stored as JSON; fields are only ever added.
type Memory struct {
	NeededSince time.Time      `json:"neededSince,omitzero"` // zero: no reboot is needed
	Cycle       *Cycle         `json:"cycle,omitempty"`      // the reboot under way
	Reboots     []time.Time    `json:"reboots,omitempty"`    // when those of the last day were asked for, oldest first
	InVain      []string       `json:"inVain,omitempty"`     // reasons that a reboot did not cure
	Last        *Past          `json:"last,omitempty"`
	Outcomes    map[string]int `json:"outcomes,omitempty"`
}

// Cycle is a reboot under way: what was begun, written before it is done.
type Cycle struct {
	Boot     string           `json:"boot"`               // in which it began, see locksmith.Boot
	Triggers []string         `json:"triggers,omitempty"` // that said reboot needed
	Reasons  []string         `json:"reasons,omitempty"`  // theirs, in the same order
	Prepared bool             `json:"prepared,omitempty"`
	Method   locksmith.Method `json:"method,omitempty"`
	Asked    time.Time        `json:"asked,omitzero"` // the reboot; zero: not yet
}

// Past is a cycle that ended.
type Past struct {
	Time    time.Time     `json:"time"` // of its end
	Reasons []string      `json:"reasons,omitempty"`
	Outcome string        `json:"outcome"` // "rebooted", "aborted: …"
	Down    time.Duration `json:"down,omitempty"`
	Cured   bool          `json:"cured,omitempty"` // since then no reboot was needed once
}

func (c Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("agent: %s", what))
		}
	}
	need(c.MachineID != "", "MachineID is required")
	need(c.BootID != "", "BootID is required")
	need(len(c.Groups) > 0, "Groups is required")
	need(slices.Contains([]locksmith.Strategy{locksmith.StrategyEtcdLock, locksmith.StrategyReboot,
		locksmith.StrategyBestEffort, locksmith.StrategyFleetLock}, c.Strategy), fmt.Sprintf("strategy %q has no agent", c.Strategy))
	need(c.Priority >= locksmith.MinPriority && c.Priority <= locksmith.MaxPriority, "Priority must be 0 to 9")
	need(c.Lock != nil || c.Strategy == locksmith.StrategyReboot, "Lock is required")
	need(c.UseLock != nil || c.Strategy != locksmith.StrategyBestEffort, "UseLock is required")
	need(c.Machine != nil, "Machine is required")
	need(len(c.Triggers) > 0, "Triggers is required")
	need(min(c.LoginDelay, c.RebootGrace, c.CheckTimeout, c.VerifyTimeout, c.VerifySoak, c.MinUptime) >= 0, "durations must not be negative")
	need(c.MaxRebootsPerDay >= 0, "MaxRebootsPerDay must not be negative")
	need(c.MinUptime == 0 || !c.Booted.IsZero(), "MinUptime needs Booted")
	return errors.Join(errs...)
}
