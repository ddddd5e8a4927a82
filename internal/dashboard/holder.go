package dashboard

import (
	"cmp"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// Tones say how something is shown. What they mean is always in words, too.
const (
	toneCalm = "calm" // nothing to do
	toneBusy = "busy" // on its way
	toneWarn = "warn" // worth a look
	toneBad  = "bad"  // somebody has to do something
)

// holderView is one machine in a slot.
type holderView struct {
	ID, Name string
	State    string // "Down"
	Tone     string
	Since    int64  // of the state; 0: not known
	Phase    string // as locksmithd calls it
	Held     int64  // since when it has the slot; 0: not known
	Reason   string // why it reboots, or why it failed
	By       string // who holds it, where that is not its locksmithd
	Down     bool   // it is on its way through the reboot itself
	Unlock   *link
}

func holderViewOf(h locksmith.HolderStatus, g locksmith.Group, who access.Caller, now time.Time) holderView {
	v := holderView{ID: h.MachineID, Name: h.Name(), Phase: string(h.Phase), Held: h.StartTime, Reason: h.Reason,
		Unlock: unlockLink(who, g, h.Holder)}
	v.State, v.Tone, v.Since = stateOf(h, now)
	v.Down = h.Own() && h.Phase == locksmith.PhaseRebooting || h.By == locksmith.ByFleetLock
	switch {
	case h.By == locksmith.ByFleetLock && h.Address != "":
		v.By = "FleetLock, from " + h.Address
	case h.By == locksmith.ByFleetLock:
		v.By = "FleetLock"
	case !h.Recorded:
		v.By = "an older client, which leaves no record"
	case h.By != locksmith.ByAgent:
		v.By = h.By
	}
	return v
}

// stateOf says what a holder does, in a word or two, and since when.
func stateOf(h locksmith.HolderStatus, now time.Time) (state, tone string, since int64) {
	since = cmp.Or(h.PhaseTime, h.StartTime)
	switch {
	case h.Phase == locksmith.PhaseFailed && h.Own():
		return "Failed its checks", toneBad, since
	case h.By == locksmith.ByFleetLock && h.Stale(now):
		return "Not back", toneBad, h.StartTime
	case h.Stale(now):
		if !h.Seen.IsZero() {
			since = h.Seen.Unix()
		}
		return "Stale, not heard of", toneBad, since
	case h.By == locksmith.ByLock:
		return "Held by hand", toneCalm, h.StartTime
	case h.By == locksmith.ByWithLock:
		return "Runs a command", toneCalm, h.StartTime
	case h.By == locksmith.ByFleetLock:
		return "Rebooting", toneWarn, h.StartTime
	}
	switch h.Phase {
	case locksmith.PhaseAcquired:
		return "Has its slot", toneBusy, since
	case locksmith.PhasePreparing:
		return "Prepares", toneBusy, since
	case locksmith.PhaseNotifying:
		return "Warns its users", toneBusy, since
	case locksmith.PhaseRebooting:
		if h.Present {
			return "Goes down", toneWarn, since
		}
		return "Down", toneWarn, since
	case locksmith.PhaseVerifying:
		return "Back, being checked", toneBusy, since
	case locksmith.PhaseRestoring, locksmith.PhaseReleasing:
		return "Back, finishing", toneBusy, since
	}
	return "Has its slot", toneBusy, since
}

// sortHolders has those first that somebody must look at, then those that are down.
func sortHolders(list []holderView) {
	rank := map[string]int{toneBad: 0, toneWarn: 1, toneBusy: 2, toneCalm: 3}
	slices.SortStableFunc(list, func(a, b holderView) int {
		return cmp.Or(cmp.Compare(rank[a.Tone], rank[b.Tone]), cmp.Compare(a.Since, b.Since), cmp.Compare(a.Name, b.Name))
	})
}

// slotView is one slot as it is drawn.
type slotView struct {
	Tone string // empty: free
	Text string
}

// maxSlots is how many slots are drawn; of more only the number is told.
const maxSlots = 60

// slotsOf draws a group's slots: those that are taken, and those that are free. There
// may be more taken than there are.
func slotsOf(s locksmith.GroupStatus, holders []holderView) []slotView {
	if max(s.Sem.Max, len(holders)) > maxSlots {
		return nil
	}
	var slots []slotView
	for _, h := range holders {
		slots = append(slots, slotView{h.Tone, h.Name + ": " + h.State})
	}
	for range max(0, s.Sem.Semaphore) {
		slots = append(slots, slotView{Text: "free"})
	}
	return slots
}
