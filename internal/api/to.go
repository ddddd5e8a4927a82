package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// GroupStatus is the status in our words. Of waiters the nonce and the revision are
// not known; their order is that of the list.
func (d Status) GroupStatus() (locksmith.GroupStatus, error) {
	s := locksmith.GroupStatus{Group: locksmith.Group(d.Group), Revision: d.Revision, Exists: d.Exists, Faults: d.Faults,
		Sem: locksmith.Semaphore{Semaphore: d.Available, Max: d.Max, Holders: make([]string, 0, len(d.Holders))}}
	for _, h := range d.Holders {
		s.Sem.Holders = append(s.Sem.Holders, h.MachineID)
		status := locksmith.HolderStatus{Holder: h.holder(), Recorded: h.Recorded, Present: h.AgentPresent}
		if h.Seen != 0 {
			status.Seen = time.Unix(int64(h.Seen), 0)
		}
		s.Holders = append(s.Holders, status)
	}
	for _, w := range d.Queue {
		s.Queue = append(s.Queue, locksmith.Waiter{MachineID: w.MachineID, Hostname: w.Hostname, By: w.By, Reason: w.Reason,
			Address: w.Address, Groups: groups(w.Groups), Since: int64(w.Since), Priority: w.Priority})
	}
	var err error
	s.Pauses, err = pauses(d.Pauses)
	return s, err
}

func (d Record) holder() locksmith.Holder {
	return locksmith.Holder{MachineID: d.MachineID, StartTime: int64(d.Since), BootID: d.BootID, Hostname: d.Hostname, Groups: groups(d.Groups),
		Phase: locksmith.Phase(d.Phase), PhaseTime: int64(d.PhaseSince), Reason: d.Reason, By: d.By, Nonce: d.Nonce, Address: d.Address}
}

// Summaries is the list of groups in our words.
func (d GroupList) Summaries() []locksmith.GroupSummary {
	var list []locksmith.GroupSummary
	for _, g := range d.Groups {
		s := locksmith.GroupSummary{Group: locksmith.Group(g.Group), Max: g.Max, Held: g.Held, Waiting: g.Waiting, Paused: g.Paused}
		if g.Error != "" {
			s.Err = errors.New(g.Error)
		}
		list = append(list, s)
	}
	return list
}

// MachineStatus is the machine in our words. Its phase, its groups and when it was
// seen are what the presence and the holder record say together.
func (d Machine) MachineStatus() (locksmith.MachineStatus, error) {
	m := locksmith.MachineStatus{Presence: locksmith.Presence{
		MachineID: d.MachineID, Hostname: d.Hostname, Groups: groups(d.Groups), Strategy: locksmith.Strategy(d.Strategy), BootID: d.BootID,
		OS: d.OS, Kernel: d.Kernel, Version: d.Version, Started: int64(d.Started), Phase: locksmith.Phase(d.Phase), PhaseTime: int64(d.PhaseSince),
		NeededSince: int64(d.NeededSince), Reason: d.Reason, Waiting: d.Waiting, LastReboot: int64(d.LastReboot), LastOutcome: d.LastOutcome,
		DryRun: d.DryRun, Seen: int64(d.Seen)}, Present: d.Present}
	for _, c := range d.Conditions {
		m.Conditions = append(m.Conditions, locksmith.Condition{Name: c.Name, State: locksmith.ConditionState(c.State), Text: c.Text,
			Since: int64(c.Since), Until: int64(c.Until)})
	}
	if d.Holds != nil {
		m.Holds = new(d.Holds.holder())
	}
	var err error
	m.Pauses, err = pauses(d.Pauses)
	return m, err
}

func pauses(docs []Pause) ([]locksmith.Pause, error) {
	var list []locksmith.Pause
	for _, d := range docs {
		scope, err := ScopeRequest{d.Scope, d.Group, d.MachineID}.PauseScope()
		if err != nil {
			return nil, err
		}
		list = append(list, locksmith.Pause{Scope: scope, By: d.By, At: int64(d.Since), Until: int64(d.Until), Reason: d.Reason})
	}
	return list, nil
}

// PauseScope is the scope in our words. What contradicts itself is refused.
func (d ScopeRequest) PauseScope() (locksmith.PauseScope, error) {
	switch {
	case d.Scope == ScopeAll && d.Group == nil && d.MachineID == "":
		return locksmith.PauseScope{All: true}, nil
	case d.Scope == ScopeMachine && d.Group == nil && d.MachineID != "":
		return locksmith.PauseScope{Machine: d.MachineID}, nil
	case d.Scope == ScopeGroup && d.Group == nil && d.MachineID == "":
		return locksmith.PauseScope{}, nil
	case d.Scope == ScopeGroup && d.MachineID == "":
		g, err := locksmith.ParseGroup(*d.Group)
		return locksmith.PauseScope{Group: g}, err
	case d.Scope == ScopeMachine && d.MachineID == "":
		return locksmith.PauseScope{}, errors.New("scope machine needs a machineID")
	case d.Scope == ScopeAll, d.Scope == ScopeGroup, d.Scope == ScopeMachine:
		return locksmith.PauseScope{}, fmt.Errorf("scope %s contradicts the other fields: group goes with scope group, machineID with scope machine, and none with scope all", d.Scope)
	}
	return locksmith.PauseScope{}, fmt.Errorf("invalid scope %.40q: must be %s, %s or %s", d.Scope, ScopeAll, ScopeGroup, ScopeMachine)
}

// HistoryEntries is what happened, in our words.
func (d HistoryList) HistoryEntries() []locksmith.HistoryEntry {
	var list []locksmith.HistoryEntry
	for _, e := range d.Entries {
		entry := locksmith.HistoryEntry{Time: time.Unix(int64(e.Time), 0), Actor: e.Actor, Action: locksmith.Action(e.Action), Machine: e.MachineID,
			Hostname: e.Hostname, Outcome: e.Outcome, Held: time.Duration(e.HeldSeconds), Down: time.Duration(e.DownSeconds), Revision: e.Revision}
		if e.Group != nil {
			entry.Group = new(locksmith.Group(*e.Group))
		}
		list = append(list, entry)
	}
	return list
}

// groups is nil for none, as the vocabulary has it.
func groups(names []string) []locksmith.Group {
	var list []locksmith.Group
	for _, n := range names {
		list = append(list, locksmith.Group(n))
	}
	return list
}
