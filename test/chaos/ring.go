package chaos

import (
	"encoding/json"
	"slices"

	"github.com/locksmith-reboot/locksmith"
)

// entry is a place of the history's ring: one change, and in More those of the same
// transaction that came after it.
type entry struct {
	Action  locksmith.Action `json:"action"`
	Machine string           `json:"machine"`
	More    []entry          `json:"more"`
}

// agree compares the change of a group's semaphore with what the same transaction
// wrote into the history: carried out one after the other, the entries must lead
// from one document to the other.
func (s *state) agree(revision int64, g locksmith.Group, before, after locksmith.Semaphore, told [][]byte) {
	if len(told) != 1 {
		s.fail(revision, "the semaphore of %q changed with %d entries in the history", g, len(told))
		return
	}
	var first entry
	if err := json.Unmarshal(told[0], &first); err != nil {
		s.fail(revision, "the history of %q: %v: %q", g, err, told[0])
		return
	}
	holders, newMax := slices.Clone(before.Holders), false
	for _, e := range append([]entry{first}, first.More...) {
		i := slices.Index(holders, e.Machine)
		switch {
		case e.Action == locksmith.ActionLock && i < 0:
			holders = append(holders, e.Machine)
		case e.Action == locksmith.ActionUnlock && i >= 0:
			holders = slices.Delete(holders, i, i+1)
		case e.Action == locksmith.ActionSetMax:
			newMax = true
		case e.Action == locksmith.ActionPause || e.Action == locksmith.ActionResume: // of the group, or of one that the history names
		default:
			s.fail(revision, "the history of %q tells of %s of %s, with %q as holders", g, e.Action, e.Machine, holders)
		}
	}
	slices.Sort(holders)
	if !slices.Equal(holders, after.Holders) {
		s.fail(revision, "the history of %q leads to the holders %q, and they are %q", g, holders, after.Holders)
	}
	if before.Max != after.Max && !newMax {
		s.fail(revision, "max of %q went from %d to %d, and the history does not tell", g, before.Max, after.Max)
	}
}
