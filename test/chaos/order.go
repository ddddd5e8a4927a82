package chaos

import (
	"slices"
	"strconv"
	"strings"

	"github.com/locksmith-reboot/locksmith"
)

// Who goes before whom.
//
// A grant from the queue deletes the machine's entries in the transaction that makes
// its holder records. At that revision
//
//   - no entry of a more urgent level stands in any of the machine's groups,
//   - and none of its own level there that is older, by the revision at which it was
//     created, unless the same transaction serves that one, too.
//
// There is no exception for those who cannot go at that moment, because none of them
// stays in the way: who is first in a group that is paused keeps its place only while
// nobody behind it could go either; else it leaves, and with it a machine that is
// paused itself, and one that is first in one group and waits in another, of which one is
// paused. A machine of several groups that is first in one and not in the other keeps
// those behind it waiting.
//
// Over FleetLock a slot may also be granted to a machine that has no entry yet: only
// where nobody waits at its level or a more urgent one. An agent always waits. Whoever else
// asks without waiting (an administrator's lock) has no regard to the queue.

// seat is the place of a queue entry in a group.
type seat struct {
	group   locksmith.Group
	level   int
	machine string
}

// grant is a holder record that came to be.
type grant struct {
	group locksmith.Group
	doc   locksmith.Holder
}

// seatAt reads the place from what a key has behind its group's base.
func seatAt(g locksmith.Group, rest string) (seat, bool) {
	rest, isEntry := strings.CutPrefix(rest, "queue/")
	level, machine, ok := strings.Cut(rest, "/")
	n, err := strconv.Atoi(level)
	return seat{g, n, machine}, isEntry && ok && err == nil
}

// entry takes in that a queue entry came, went or was written anew, which leaves it
// its place.
func (s *state) entry(at seat, c Change) {
	created, stands := s.queue[at]
	switch {
	case c.Value == nil && stands:
		delete(s.queue, at)
		s.left[at] = created
	case c.Value != nil && !stands:
		s.queue[at] = c.Revision
	}
}

// fair judges the order of the grants of one revision.
func (s *state) fair(revision int64) {
	for _, g := range s.granted {
		own, since, waited := s.seatOf(g)
		switch {
		case waited:
		case g.doc.By == locksmith.ByFleetLock: // the last in line, as it were
			own, since = seat{g.group, locksmith.DefaultPriority, g.doc.MachineID}, revision
		case g.doc.By == locksmith.ByAgent:
			s.fail(revision, "%s was given a slot in %q without having waited in the queue", g.doc.MachineID, g.group)
			continue
		default:
			continue // has no regard to it
		}
		for other, created := range s.before(g.group) {
			switch {
			case other.level < own.level:
				s.fail(revision, "%s was given a slot in %q at level %d while %s waited at level %d",
					own.machine, g.group, own.level, other.machine, other.level)
			case other.level == own.level && created < since:
				s.fail(revision, "%s was given a slot in %q and had waited since revision %d, while %s had waited since revision %d",
					own.machine, g.group, since, other.machine, created)
			}
		}
	}
}

// seatOf is where the machine that was granted a slot waited until this revision, and
// since which one.
func (s *state) seatOf(g grant) (at seat, since int64, waited bool) {
	for at, since := range s.left {
		if at.group == g.group && at.machine == g.doc.MachineID {
			return at, since, true
		}
	}
	return seat{}, 0, false
}

// reboots says whether a holder is one because it wants to reboot.
func reboots(h locksmith.Holder) bool { return locksmith.Request{By: h.By}.Reboots() }

// before are the entries of a group that stood right before this revision and were
// not served by it, and when they were created.
func (s *state) before(group locksmith.Group) map[seat]int64 {
	served := func(at seat) bool {
		return slices.ContainsFunc(s.granted, func(g grant) bool { return g.group == at.group && g.doc.MachineID == at.machine })
	}
	all := make(map[seat]int64)
	for _, entries := range []map[seat]int64{s.queue, s.left} {
		for at, created := range entries {
			if at.group == group && !served(at) {
				all[at] = created
			}
		}
	}
	return all
}
