package locksmith

import (
	"slices"
	"time"
)

// BootTime is how long a machine may be silent after its reboot was asked for,
// before it is worth a look. Servers with much memory take minutes to start.
const BootTime = 10 * time.Minute

// FleetLockTime is how long a machine that speaks FleetLock, of which nothing is heard
// while it is down, may hold its slot before it is worth a look.
const FleetLockTime = 30 * time.Minute

// Booting says whether the machine was asked to reboot so short a time ago that it
// may well be silent.
func (h Holder) Booting(now time.Time) bool {
	return h.Phase == PhaseRebooting && now.Sub(When(h.PhaseTime)) < BootTime
}

// Stale says whether a holder is silent that should not be. Slots that an
// administrator or a command holds need no agent. Of a machine that speaks FleetLock
// only the time tells.
func (h HolderStatus) Stale(now time.Time) bool {
	if h.By == ByFleetLock {
		return now.Sub(h.Since()) >= FleetLockTime
	}
	return h.Own() && !h.Present && !h.Booting(now)
}

// Stale says whether a machine is silent that should not be.
func (m MachineStatus) Stale(now time.Time) bool {
	if m.Holds != nil && m.Holds.By == ByFleetLock && !m.Present && m.Seen == 0 {
		return HolderStatus{Holder: *m.Holds}.Stale(now)
	}
	return !m.Present && (m.Holds == nil || !m.Holds.Booting(now))
}

// LastSeen is when the machine last said anything, zero where nobody knows: in its
// presence, or in the record that its agent wrote later.
func (m MachineStatus) LastSeen() time.Time {
	seen := m.Seen
	if m.Holds != nil && (m.Holds.By == ByAgent || m.Holds.By == ByFleetLock) {
		seen = max(seen, m.Holds.PhaseTime)
	}
	return When(seen)
}

// Where is the phase the machine is in, and since when in seconds since the epoch.
// The holder record tells it where that is newer than the presence, as for a machine
// that went down before it could say more. The phase is empty, and the time 0,
// where nobody knows.
func (m MachineStatus) Where() (phase Phase, since int64) {
	h := m.Holds
	if h == nil || !h.Own() && h.By != ByFleetLock || h.Phase == "" || m.PhaseTime > h.PhaseTime {
		return m.Phase, m.PhaseTime
	}
	if m.PhaseTime == h.PhaseTime && slices.Index(Phases, m.Phase) > slices.Index(Phases, h.Phase) {
		return m.Phase, m.PhaseTime
	}
	return h.Phase, h.PhaseTime
}

// Name is what people call the machine: its host name, or else its id.
func (m MachineStatus) Name() string {
	if m.Holds != nil && m.Hostname == "" {
		return nameOf(m.Holds.Hostname, m.MachineID)
	}
	return nameOf(m.Hostname, m.MachineID)
}

// Name is what people call the machine: its host name, or else its id.
func (h Holder) Name() string { return nameOf(h.Hostname, h.MachineID) }

func nameOf(hostname, id string) string {
	if hostname != "" {
		return hostname
	}
	return id
}
