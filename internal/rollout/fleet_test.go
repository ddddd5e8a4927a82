package rollout_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/rollout"
)

// t0 is the beginning of what tests tell; they count minutes from it.
var t0 = time.Date(2026, 8, 3, 2, 0, 0, 0, time.UTC)

func at(minute float64) time.Time { return t0.Add(time.Duration(minute * float64(time.Minute))) }

func minutes(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }

// story is a group's past, told in the order of time.
type story struct {
	f rollout.Fleet
}

func tell(max int) *story {
	s := new(story)
	s.f.Status = locksmith.GroupStatus{Exists: true, Revision: 1 << 20}
	s.f.Status.Sem, _ = locksmith.NewSemaphore().SetMax(max)
	return s
}

func (s *story) entry(minute float64, e locksmith.HistoryEntry) {
	e.Time, e.Revision = at(minute), int64(len(s.f.History)+1)
	s.f.History = slices.Insert(s.f.History, 0, e)
}

// lock is a slot granted, which its holder has until unlock.
func (s *story) lock(minute float64, machine, actor, reason string) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: actor, Action: locksmith.ActionLock, Machine: machine, Outcome: reason})
	return s.holds(machine, locksmith.Holder{StartTime: at(minute).Unix(), By: actor})
}

// holds adds a holder without a history.
func (s *story) holds(machine string, record locksmith.Holder) *story {
	s.f.Status.Sem, _ = s.f.Status.Sem.Lock(machine)
	record.MachineID = machine
	if record.Phase == "" {
		record.Phase = locksmith.PhaseAcquired
	}
	s.f.Status.Holders = append(s.f.Status.Holders, locksmith.HolderStatus{Holder: record, Recorded: true, Present: true})
	return s
}

func (s *story) unlock(minute float64, machine, actor, outcome string, held, down float64) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: actor, Action: locksmith.ActionUnlock, Machine: machine, Outcome: outcome,
		Held: minutes(held), Down: minutes(down)})
	s.f.Status.Sem, _ = s.f.Status.Sem.Unlock(machine)
	s.f.Status.Holders = slices.DeleteFunc(s.f.Status.Holders, func(h locksmith.HolderStatus) bool { return h.MachineID == machine })
	return s
}

// reboots is a cycle of the agent, with a minute of it down.
func (s *story) reboots(from, to float64, machine string) *story {
	return s.lock(from, machine, locksmith.ByAgent, "new kernel").
		unlock(to, machine, locksmith.ByAgent, "rebooted", to-from, 1)
}

// change edits a holder.
func (s *story) change(machine string, edit func(*locksmith.HolderStatus)) *story {
	for i := range s.f.Status.Holders {
		if h := &s.f.Status.Holders[i]; h.MachineID == machine {
			edit(h)
		}
	}
	return s
}

func (s *story) waits(since float64, machine, by string) *story {
	s.f.Status.Queue = append(s.f.Status.Queue, locksmith.Waiter{MachineID: machine, By: by, Since: at(since).Unix()})
	return s
}

func (s *story) pause(minute float64) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: "alice", Action: locksmith.ActionPause, Outcome: "moving racks"})
	s.f.Status.Pauses = []locksmith.Pause{{By: "alice", Reason: "moving racks", Scope: locksmith.PauseScope{Group: "web"}}}
	return s
}

func (s *story) resume(minute float64) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: "alice", Action: locksmith.ActionResume, Outcome: "moving racks"})
	s.f.Status.Pauses = nil
	return s
}

// machine adds what an agent says of itself.
func (s *story) machine(id string, edit func(*locksmith.MachineStatus)) *story {
	m := locksmith.MachineStatus{Present: true, Presence: locksmith.Presence{MachineID: id, Strategy: locksmith.StrategyEtcdLock}}
	edit(&m)
	s.f.Machines = append(s.f.Machines, m)
	return s
}

// needs adds a machine that needs a reboot and does not ask for a slot.
func (s *story) needs(minute float64, id string, phase locksmith.Phase) *story {
	return s.machine(id, func(m *locksmith.MachineStatus) {
		m.NeededSince, m.Phase, m.Seen = at(minute).Unix(), phase, at(minute).Unix()
	})
}

func name(i int) string { return fmt.Sprintf("m%02d", i) }

// oneByOne is n reboots that took five minutes and a quarter each, from minute 0.
func (s *story) oneByOne(n int) *story {
	for i := range n {
		s.reboots(5.25*float64(i), 5.25*float64(i+1), name(i))
	}
	return s
}

// queue is n machines that wait since the beginning.
func (s *story) queue(n int) *story {
	for i := range n {
		s.waits(0, fmt.Sprintf("q%02d", i), locksmith.ByAgent)
	}
	return s
}
