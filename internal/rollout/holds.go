package rollout

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// hold is a bar with what tells whether it was a reboot.
type hold struct {
	Bar
	locked   *locksmith.HistoryEntry  // nil: lost from the ring, or never written
	unlocked *locksmith.HistoryEntry  // nil: still held, or lost
	holder   *locksmith.HolderStatus  // nil: no holder now
	where    *locksmith.MachineStatus // what its agent says, of a holder; nil: nothing
}

// holdsOf pairs the history's entries and joins them with who holds slots now. The
// result is of reboots only, in the order in which they began. No time is after now,
// and nothing ends before it begins.
func holdsOf(f Fleet, now time.Time) []hold {
	p := pairing{open: make(map[string]int)}
	for _, e := range slices.Backward(f.History) {
		switch {
		case e.Machine == "":
		case e.Action == locksmith.ActionLock:
			p.lock(e)
		case e.Action == locksmith.ActionUnlock:
			p.unlock(e)
		}
	}
	p.join(f)
	list := slices.DeleteFunc(p.holds, func(h hold) bool { return !h.reboots() })
	for i := range list {
		list[i].settle(now)
	}
	slices.SortStableFunc(list, func(a, b hold) int { return a.From.Compare(b.From) })
	return list
}

// pairing is the walk through a history, oldest entry first.
type pairing struct {
	holds []hold
	open  map[string]int // machines that hold a slot, with their place in holds
}

func (p *pairing) lock(e locksmith.HistoryEntry) {
	if i, twice := p.open[e.Machine]; twice { // its end is lost
		p.holds[i].To, p.holds[i].State = e.Time, Unknown
	}
	p.open[e.Machine] = len(p.holds)
	p.holds = append(p.holds, hold{locked: &e, Bar: Bar{Machine: e.Machine, Hostname: e.Hostname, From: e.Time, By: e.Actor}})
}

func (p *pairing) unlock(e locksmith.HistoryEntry) {
	i, ok := p.open[e.Machine]
	if !ok { // its beginning is lost, or it is an old client's
		i = len(p.holds)
		p.holds = append(p.holds, hold{Bar: Bar{Machine: e.Machine, From: e.Time.Add(-e.Held)}})
	}
	delete(p.open, e.Machine)
	h := &p.holds[i]
	h.unlocked, h.To, h.Outcome = &e, e.Time, e.Outcome
	h.Hostname = cmp.Or(h.Hostname, e.Hostname)
	if e.Down > 0 {
		h.DownFrom, h.DownTo = e.Time.Add(-e.Down), e.Time
	}
}

// join adds what the status says of those that hold slots now. Who took a slot and
// does not hold it although nobody gave it back, took it after the status was read,
// or its semaphore was deleted.
func (p *pairing) join(f Fleet) {
	machines := make(map[string]*locksmith.MachineStatus, len(f.Machines))
	for i := range f.Machines {
		machines[f.Machines[i].MachineID] = &f.Machines[i]
	}
	for i := range f.Status.Holders {
		s := &f.Status.Holders[i]
		at, ok := p.open[s.MachineID]
		if !ok {
			at = len(p.holds)
			p.holds = append(p.holds, hold{Bar: Bar{Machine: s.MachineID, By: s.By}})
		}
		delete(p.open, s.MachineID)
		h := &p.holds[at]
		h.holder, h.where = s, machines[s.MachineID]
		h.Hostname = cmp.Or(s.Hostname, h.Hostname)
		if h.From.IsZero() && s.StartTime > 0 {
			h.From = s.Since()
		}
	}
	for _, at := range p.open {
		if h := &p.holds[at]; h.locked.Revision <= f.Status.Revision {
			h.To, h.State = h.From, Unknown
		}
	}
}

// phase is where a holder is, since when and why.
func (h hold) phase() (locksmith.Phase, time.Time, string) {
	phase, since, reason := h.holder.Phase, h.holder.PhaseTime, h.holder.Reason
	if h.where != nil && h.holder.Own() {
		m := *h.where
		m.Holds = &h.holder.Holder
		phase, since = m.Where()
	}
	return phase, locksmith.When(since), reason
}

// horizon is how far back anything is believed to have begun: documents can say any time.
const horizon = 10 * 365 * 24 * time.Hour

// settle finds the state and puts the times into order: clocks differ, and nobody
// looks into the future.
func (h *hold) settle(now time.Time) {
	if h.From.IsZero() {
		h.From = now
	}
	h.From = within(now.Add(-horizon), h.From, now)
	switch {
	case h.holder != nil:
		h.present(now)
	case h.State == "" && h.unlocked == nil:
		h.State = Held
	case h.State == "":
		h.State = h.ended()
	}
	if !h.To.IsZero() {
		h.To = within(h.From, h.To, now)
	}
	if !h.DownFrom.IsZero() {
		h.DownFrom = within(h.From, h.DownFrom, cmp.Or(h.To, now))
	}
	if !h.DownTo.IsZero() {
		h.DownTo = within(h.DownFrom, h.DownTo, cmp.Or(h.To, now))
	}
}

// present is for a slot that is held.
func (h *hold) present(now time.Time) {
	phase, since, reason := h.phase()
	h.To, h.State, h.Outcome = time.Time{}, Held, string(phase)
	switch {
	case phase == locksmith.PhaseFailed:
		h.State = Failed
		if reason != "" {
			h.Outcome += ": " + reason
		}
	case h.holder.Stale(now):
		h.State = Stale
	}
	if phase == locksmith.PhaseRebooting && !since.IsZero() {
		h.DownFrom = since
	}
}

// within is t, or the nearer end of what it must lie within.
func within(from, t, to time.Time) time.Time {
	if t.After(to) {
		t = to
	}
	if t.Before(from) {
		t = from
	}
	return t
}

// byProgram begins the actor of who works with locksmithctl.
const byProgram = "locksmithctl ("

// reboots says whether the slot was held for a reboot.
func (h hold) reboots() bool {
	if h.holder != nil && h.holder.Recorded {
		return locksmith.Request{By: h.holder.By}.Reboots()
	}
	if h.unlocked != nil && (h.gaveUp() || h.unlocked.Outcome == locksmith.OutcomeRebooted) {
		return true
	}
	if h.locked == nil {
		return h.holder != nil || h.unlocked != nil && (agents(h.unlocked.Actor) || h.overFleetLock())
	}
	return agents(h.locked.Actor) || h.overFleetLock() || !byPerson(h.locked.Actor)
}

// gaveUp says whether a reboot was given up before it took place.
func (h hold) gaveUp() bool {
	o := h.unlocked.Outcome
	return strings.HasPrefix(o, locksmith.OutcomeAborted) || strings.HasPrefix(o, locksmith.OutcomeRebootFailed) || o == locksmith.OutcomeClientGone
}

// ended is how a hold ended that has been given back.
func (h hold) ended() State {
	switch {
	case h.unlocked.Outcome == locksmith.OutcomeRebooted, h.unlocked.Outcome == locksmith.OutcomeSteady:
		return Rebooted
	case h.gaveUp():
		return Aborted
	case strings.HasPrefix(h.unlocked.Outcome, locksmith.OutcomeUnlocked):
		return Unlocked
	case h.overFleetLock() && h.sameActor():
		return Rebooted
	case byPerson(h.unlocked.Actor):
		return Unlocked
	}
	return Unknown
}

// overFleetLock says whether a machine that speaks FleetLock took or gave back the slot.
func (h hold) overFleetLock() bool {
	for _, e := range []*locksmith.HistoryEntry{h.locked, h.unlocked} {
		if e != nil && (e.Outcome == locksmith.ReasonFleetLock || e.Outcome == locksmith.OutcomeSteady || strings.HasPrefix(e.Actor, locksmith.ByFleetLock+"@")) {
			return true
		}
	}
	return false
}

// sameActor says whether who took the slot gave it back, perhaps from another
// address. Where one of the two is lost it is taken for so.
func (h hold) sameActor() bool {
	if h.locked == nil || h.unlocked == nil {
		return true
	}
	took, _, _ := strings.Cut(h.locked.Actor, "@")
	gave, _, _ := strings.Cut(h.unlocked.Actor, "@")
	return took == gave || h.unlocked.Outcome == locksmith.OutcomeSteady
}

func agents(actor string) bool { return actor == locksmith.ByAgent || actor == locksmith.ByReboot }

// byPerson says whether an actor is an administrator: "locksmithctl (alice@jump-1)"
// with etcd, "alice@10.0.0.7" through locksmith-server.
func byPerson(actor string) bool {
	return strings.HasPrefix(actor, byProgram) || strings.Contains(actor, "@") && !strings.HasPrefix(actor, locksmith.ByFleetLock+"@")
}
