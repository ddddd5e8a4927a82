package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// The states of the system that a check may allow.
const (
	stateRunning  = "running"
	stateDegraded = "degraded" // running, but a unit failed
)

const errorUnknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"

// ParseStates reads the states that SystemState allows: "running", or
// "running,degraded". No other state is one to give a slot back in, and degraded
// alone would fail a machine because it is well. The empty text allows none.
func ParseStates(text string) ([]string, error) {
	var states []string
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for state := range strings.SplitSeq(text, ",") {
		state = strings.TrimSpace(state)
		if state != stateRunning && state != stateDegraded {
			return nil, fmt.Errorf("invalid system state %q: give %s, or %s,%s", state, stateRunning, stateRunning, stateDegraded)
		}
		if !slices.Contains(states, state) {
			states = append(states, state)
		}
	}
	if !slices.Contains(states, stateRunning) {
		return nil, fmt.Errorf("invalid system states %q: give %s, or %s,%s", text, stateRunning, stateRunning, stateDegraded)
	}
	return states, nil
}

// SystemState is a check that passes while the system is in one of the states
// allowed, as ParseStates returns them. Else there is a *agent.Veto with the state it
// is in, as systemctl is-system-running says it; for a degraded system with the
// units that failed.
func (m *Manager) SystemState(allowed []string) agent.Check {
	return systemState{m, slices.Clone(allowed)}
}

type systemState struct {
	m       *Manager
	allowed []string
}

func (systemState) Name() string { return "system" }

func (c systemState) Run(ctx context.Context, _ agent.About) error {
	ctx, cancel := c.m.limited(ctx)
	defer cancel()
	state, err := c.m.word(ctx, managerPath, managerIface, "SystemState")
	if err != nil {
		return asking("the state of the system", err)
	}
	if slices.Contains(c.allowed, state) {
		return nil
	}
	reason := state
	if state == stateDegraded {
		units, err := c.m.failedUnits(ctx)
		switch {
		case err != nil:
			reason += fmt.Sprintf("; the units that failed cannot be listed: %v", err)
		case units != "":
			reason += ": failed: " + units
		}
	}
	return &agent.Veto{By: c.Name(), Reason: reason}
}

// SoftReboots returns how many soft reboots systemd has made since the kernel was
// booted. supported is false where systemd does not count them, which it does since
// version 256; soft reboots themselves came with 254, so that there they could be
// made but not proven.
func (m *Manager) SoftReboots(ctx context.Context) (count uint32, supported bool, err error) {
	ctx, cancel := m.limited(ctx)
	defer cancel()
	const name = "SoftRebootsCount"
	value, err := m.property(ctx, managerPath, managerIface, name)
	if bus.ErrorName(err) == errorUnknownProperty {
		return 0, false, nil
	}
	if err == nil {
		if count, supported = value.Value().(uint32); !supported {
			err = malformed(name, value, "a number")
		}
	}
	return count, err == nil, asking("soft reboots", err)
}

// UserspaceStart returns when systemd began to start userspace, by the machine's
// clock of that time: at the last boot, or at the last soft reboot after it (since
// systemd 256).
func (m *Manager) UserspaceStart(ctx context.Context) (time.Time, error) {
	ctx, cancel := m.limited(ctx)
	defer cancel()
	const name = "UserspaceTimestamp"
	value, err := m.property(ctx, managerPath, managerIface, name)
	if err != nil {
		return time.Time{}, asking("the start of userspace", err)
	}
	// Microseconds since the epoch.
	switch usec, ok := value.Value().(uint64); {
	case !ok:
		err = malformed(name, value, "a number")
	case usec == 0:
		err = errors.New("it does not know")
	case usec > math.MaxInt64:
		err = malformed(name, value, "a time")
	default:
		return time.UnixMicro(int64(usec)), nil
	}
	return time.Time{}, asking("the start of userspace", err)
}
