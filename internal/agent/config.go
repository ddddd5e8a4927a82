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
	DefaultLoginDelay  = 5 * time.Minute
	DefaultRebootGrace = 5 * time.Minute
)

// Config is what an Agent needs. New refuses it where a required field is
// missing.
type Config struct {
	MachineID string             // required
	BootID    string             // required: of the present boot
	Hostname  string             // shown to people
	Groups    []locksmith.Group  // required, as locksmith.ParseGroups returns them
	Strategy  locksmith.Strategy // required: etcd-lock, reboot or best-effort; off has no agent
	Priority  int                // in the queue, 0 (most urgent) to 9

	Lock     Lock      // required unless Strategy is reboot
	Machine  Machine   // required
	Triggers []Trigger // required: at least one

	// UseLock answers, for best-effort, whether etcd is running at this moment.
	// An error counts as "unknown": the agent waits and asks again. Required
	// for best-effort.
	UseLock func(ctx context.Context) (bool, error)

	Window      Window      // nil: always open
	Steps       Steps       // nil: every step passes
	Coordinator Coordinator // nil: nobody is told

	LoginDelay  time.Duration // what logged-in users are given; 0: no delay and no message
	RebootGrace time.Duration // how long an accepted reboot may take to happen; 0: DefaultRebootGrace

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
		locksmith.StrategyBestEffort}, c.Strategy), fmt.Sprintf("strategy %q has no agent", c.Strategy))
	need(c.Priority >= locksmith.MinPriority && c.Priority <= locksmith.MaxPriority, "Priority must be 0 to 9")
	need(c.Lock != nil || c.Strategy == locksmith.StrategyReboot, "Lock is required")
	need(c.UseLock != nil || c.Strategy != locksmith.StrategyBestEffort, "UseLock is required")
	need(c.Machine != nil, "Machine is required")
	need(len(c.Triggers) > 0, "Triggers is required")
	need(c.LoginDelay >= 0 && c.RebootGrace >= 0, "durations must not be negative")
	return errors.Join(errs...)
}
