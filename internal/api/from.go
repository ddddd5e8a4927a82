package api

import (
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// StatusFrom is a group's status at now.
func StatusFrom(s locksmith.GroupStatus, now time.Time) Status {
	d := Status{Group: string(s.Group), Revision: s.Revision, Exists: s.Exists, Available: s.Sem.Semaphore, Max: s.Sem.Max,
		Holders: make([]Holder, 0, len(s.Holders)), Queue: make([]Waiter, 0, len(s.Queue)),
		Pauses: PausesFrom(s.Pauses), Faults: append([]string{}, s.Faults...)}
	for _, h := range s.Holders {
		d.Holders = append(d.Holders, holderFrom(h, now))
	}
	for i, w := range s.Queue {
		d.Queue = append(d.Queue, Waiter{Position: i + 1, Priority: w.Priority, MachineID: w.MachineID, Hostname: w.Hostname,
			Since: Time(w.Since), WaitedSeconds: since(w.Since, now), By: w.By, Reason: w.Reason, Groups: names(w.Groups), Address: w.Address})
	}
	return d
}

func holderFrom(h locksmith.HolderStatus, now time.Time) Holder {
	d := Holder{Record: recordFrom(h.Holder), HeldSeconds: since(h.StartTime, now), Recorded: h.Recorded,
		AgentPresent: h.Present, Stale: h.Stale(now)}
	if !h.Seen.IsZero() {
		d.Seen = Time(h.Seen.Unix())
	}
	return d
}

func recordFrom(h locksmith.Holder) Record {
	return Record{MachineID: h.MachineID, Hostname: h.Hostname, Phase: string(h.Phase), PhaseSince: Time(h.PhaseTime), Since: Time(h.StartTime),
		By: h.By, Reason: h.Reason, Groups: names(h.Groups), BootID: h.BootID, Address: h.Address, Nonce: h.Nonce}
}

// GroupsFrom is the list of groups.
func GroupsFrom(groups []locksmith.GroupSummary) GroupList {
	list := GroupList{Groups: make([]Group, 0, len(groups))}
	for _, g := range groups {
		d := Group{Group: string(g.Group), Max: g.Max, Held: g.Held, Waiting: g.Waiting, Paused: g.Paused}
		if g.Err != nil {
			d.Error = g.Err.Error()
		}
		list.Groups = append(list.Groups, d)
	}
	return list
}

// MachineFrom is what is known of a machine at now.
func MachineFrom(m locksmith.MachineStatus, now time.Time) Machine {
	phase, phaseSince := m.Where()
	d := Machine{MachineID: m.MachineID, Groups: names(GroupsOf(m)), Strategy: string(m.Strategy),
		Phase: string(phase), PhaseSince: Time(phaseSince), NeededSince: Time(m.NeededSince), Reason: m.Reason, Waiting: m.Waiting,
		Conditions: make([]Condition, 0, len(m.Conditions)), BootID: m.BootID, OS: m.OS, Kernel: m.Kernel, Version: m.Version,
		Started: Time(m.Started), DryRun: m.DryRun, LastReboot: Time(m.LastReboot), LastOutcome: m.LastOutcome,
		Present: m.Present, Stale: m.Stale(now), Pauses: PausesFrom(m.Pauses)}
	if d.Hostname = m.Hostname; m.Holds != nil && m.Hostname == "" {
		d.Hostname = m.Holds.Hostname
	}
	if seen := m.LastSeen(); !seen.IsZero() {
		d.Seen = Time(seen.Unix())
	}
	for _, c := range m.Conditions {
		d.Conditions = append(d.Conditions, Condition{Name: c.Name, State: string(c.State), Text: c.Text, Since: Time(c.Since), Until: Time(c.Until)})
	}
	if m.Holds != nil {
		record := recordFrom(*m.Holds)
		d.HeldSince, d.HeldBy, d.Holds = record.Since, record.By, &record
	}
	return d
}

// GroupsOf are the groups the machine is in, as it says itself, and those it holds a
// slot in, sorted.
func GroupsOf(m locksmith.MachineStatus) []locksmith.Group {
	groups := slices.Clone(m.Groups)
	if m.Holds != nil {
		groups = append(groups, m.Holds.Groups...)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// PausesFrom is a list of pauses.
func PausesFrom(pauses []locksmith.Pause) []Pause {
	list := make([]Pause, 0, len(pauses))
	for _, p := range pauses {
		scope := ScopeFrom(p.Scope)
		list = append(list, Pause{Scope: scope.Scope, Group: scope.Group, MachineID: scope.MachineID, By: p.By, Since: Time(p.At),
			Until: Time(p.Until), Reason: p.Reason})
	}
	return list
}

// ScopeFrom is what a pause holds for.
func ScopeFrom(s locksmith.PauseScope) ScopeRequest {
	switch {
	case s.All:
		return ScopeRequest{Scope: ScopeAll}
	case s.Machine != "":
		return ScopeRequest{Scope: ScopeMachine, MachineID: s.Machine}
	}
	return ScopeRequest{Scope: ScopeGroup, Group: new(string(s.Group))}
}

// HistoryFrom is what happened.
func HistoryFrom(entries []locksmith.HistoryEntry) HistoryList {
	list := HistoryList{Entries: make([]Entry, 0, len(entries))}
	for _, e := range entries {
		d := Entry{Time: Time(e.Time.Unix()), Revision: e.Revision, Action: string(e.Action), MachineID: e.Machine, Hostname: e.Hostname,
			Actor: e.Actor, HeldSeconds: Duration(e.Held), DownSeconds: Duration(e.Down), Outcome: e.Outcome}
		if e.Group != nil {
			d.Group = new(string(*e.Group))
		}
		list.Entries = append(list.Entries, d)
	}
	return list
}

// since is how long ago something was, in whole seconds; nil where nobody knows.
func since(unix int64, now time.Time) *Duration {
	if Time(unix).IsZero() {
		return nil
	}
	return new(Duration(max(0, now.Sub(time.Unix(unix, 0)).Truncate(time.Second))))
}

func names(groups []locksmith.Group) []string {
	list := make([]string, 0, len(groups))
	for _, g := range groups {
		list = append(list, string(g))
	}
	return list
}
