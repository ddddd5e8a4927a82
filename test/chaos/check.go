package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/locksmith-reboot/locksmith"
)

// Rules are what a run was allowed.
type Rules struct {
	Groups map[string][]locksmith.Group // of each machine
	Max    map[locksmith.Group]int      // the most that was ever allowed down
}

// CheckDown judges what the machines did: at no time more of a group were down than
// allowed. A machine whose plug was pulled is not counted: that was no lock's doing.
func CheckDown(lines []Line, r Rules) (violations []string) {
	down := make(map[string]bool)
	for _, l := range lines {
		switch l.Kind {
		case KindUp:
			delete(down, l.Machine)
			continue
		case KindDown:
			down[l.Machine] = true
		default:
			continue
		}
		for _, g := range r.Groups[l.Machine] {
			var which []string
			for m := range down {
				if slices.Contains(r.Groups[m], g) {
					which = append(which, m)
				}
			}
			if len(which) > r.Max[g] {
				slices.Sort(which)
				violations = append(violations, fmt.Sprintf("%d machines of %q are down at once (%s), %d may be: %v",
					len(which), g, strings.Join(which, ", "), r.Max[g], l))
			}
		}
	}
	return violations
}

// holding is one time that a machine held its slot in a group.
type holding struct {
	machine  string
	group    locksmith.Group
	boot     string // in which it was granted
	served   bool   // over FleetLock, which knows no boots
	intended bool   // the step to the reboot was written
	used     bool   // served: CheckHeld found the reboot that it was for
	ended    *Change
}

// CheckHeld judges the machines' reboots by the store's history: each was made by a
// boot that held a slot in every group of the machine and had written that it
// reboots, and no slot was gone before the machine was up again.
func CheckHeld(lines []Line, holdings []*holding, r Rules) (violations []string) {
	for i, l := range lines {
		if l.Kind != KindDown {
			continue
		}
		up := slices.IndexFunc(lines[i:], func(n Line) bool { return n.Machine == l.Machine && n.Kind == KindUp })
		// The history tells of a change after it was made: earlier than up is certain.
		early := func(h *holding) bool { return h.ended != nil && (up < 0 || h.ended.At < lines[i+up].At) }
		for _, g := range r.Groups[l.Machine] {
			var gone *holding // before the machine was up: of a reboot given up, where there is another
			covered := slices.ContainsFunc(holdings, func(h *holding) bool {
				if h.machine != l.Machine || h.group != g || !h.served && (h.boot != l.Boot || !h.intended) {
					return false
				}
				switch {
				case h.served:
					if early(h) || h.used {
						return false
					}
					h.used = true // which knows no boots: each slot is for one reboot
				case early(h):
					gone = h
				}
				return !early(h)
			})
			switch {
			case covered:
			case gone == nil:
				violations = append(violations, fmt.Sprintf("%s went down without a slot in %q, or without having written so: %v", l.Machine, g, l))
			default:
				violations = append(violations, fmt.Sprintf("%s was down while its slot in %q was free (revision %d): %v",
					l.Machine, g, gone.ended.Revision, l))
			}
		}
	}
	return violations
}

// state is the store at one revision.
type state struct {
	semaphores map[locksmith.Group]locksmith.Semaphore
	records    map[locksmith.Group]map[string]*holding
	policies   map[locksmith.PauseScope][]byte // documents
	queue      map[seat]int64                  // the revisions at which the entries were created
	rules      Rules
	all        []*holding
	violations []string

	// Of the revision that is looked at:
	left    map[seat]int64 // entries that went, as in queue
	granted []grant
}

// CheckStore judges every revision of the store: what stood there agreed with
// itself and with the history written at the same time, no slot was granted where
// none was free, nor during a pause, nor past others who waited, and a machine of several
// groups held a slot in all or in none. It also returns who held what.
func CheckStore(changes []Change, r Rules) (holdings []*holding, violations []string) {
	s := &state{
		rules: r, semaphores: make(map[locksmith.Group]locksmith.Semaphore), records: make(map[locksmith.Group]map[string]*holding),
		policies: make(map[locksmith.PauseScope][]byte), queue: make(map[seat]int64),
	}
	for len(changes) > 0 {
		n := slices.IndexFunc(changes, func(c Change) bool { return c.Revision != changes[0].Revision })
		if n < 0 {
			n = len(changes)
		}
		s.apply(changes[:n])
		changes = changes[n:]
	}
	return s.all, s.violations
}

func (s *state) apply(changes []Change) {
	revision := changes[0].Revision
	touched := false
	changed := make(map[locksmith.Group]locksmith.Semaphore) // what they were before
	told := make(map[locksmith.Group][][]byte)
	s.left, s.granted = make(map[seat]int64), nil
	groups := slices.Collect(maps.Keys(s.rules.Max))
	for i := range changes {
		if scope, ok := policyAt(changes[i].Key, groups); ok {
			s.policies[scope] = changes[i].Value
			continue
		}
		rest, ours := strings.CutPrefix(changes[i].Key, prefix)
		if !ours {
			continue
		}
		for _, g := range groups {
			rest, ofGroup := strings.CutPrefix(prefix+rest, base(g)+"/")
			machine, isRecord := strings.CutPrefix(rest, "holders/")
			at, isEntry := seatAt(g, rest)
			switch {
			case !ofGroup:
			case isEntry:
				s.entry(at, changes[i])
			case strings.HasPrefix(rest, "history/") && changes[i].Value != nil:
				told[g] = append(told[g], changes[i].Value)
			case rest == "semaphore":
				changed[g] = s.semaphores[g]
				s.semaphore(g, changes[i])
				touched = true
			case isRecord:
				s.record(g, machine, &changes[i])
				touched = true
			}
		}
	}
	for g, before := range changed {
		s.agree(revision, g, before, s.semaphores[g], told[g])
	}
	if touched {
		s.consistent(revision)
	}
	s.fair(revision)
}

func (s *state) fail(revision int64, format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf("revision %d: ", revision)+fmt.Sprintf(format, args...))
}

func (s *state) semaphore(g locksmith.Group, c Change) {
	sem, faults, err := locksmith.ParseSemaphore(c.Value)
	switch {
	case err != nil:
		s.fail(c.Revision, "the semaphore of %q is %q: %v", g, c.Value, err)
		return
	case len(faults) > 0:
		s.fail(c.Revision, "the semaphore of %q: %q", g, faults)
	}
	for _, m := range sem.Holders {
		if !s.semaphores[g].Holds(m) && len(sem.Holders) > sem.Max {
			s.fail(c.Revision, "%s was given a slot in %q as one of %d holders, and max is %d", m, g, len(sem.Holders), sem.Max)
		}
	}
	s.semaphores[g] = sem
}

func (s *state) record(g locksmith.Group, machine string, c *Change) {
	if s.records[g] == nil {
		s.records[g] = make(map[string]*holding)
	}
	h := s.records[g][machine]
	if c.Value == nil {
		if h != nil {
			h.ended = c
			delete(s.records[g], machine)
		}
		return
	}
	var doc locksmith.Holder
	if err := json.Unmarshal(c.Value, &doc); err != nil {
		s.fail(c.Revision, "the record of %s in %q is %q: %v", machine, g, c.Value, err)
		return
	}
	if h == nil {
		h = &holding{machine: machine, group: g, boot: doc.BootID, served: doc.By == locksmith.ByFleetLock}
		s.records[g][machine] = h
		s.all = append(s.all, h)
		s.granted = append(s.granted, grant{g, doc})
		s.unpaused(c.Revision, doc, "was given a slot")
	}
	if doc.Phase == locksmith.PhaseRebooting {
		h.intended = true
		s.unpaused(c.Revision, doc, "stepped to its reboot")
	}
}

// consistent compares semaphores with records, and the groups with one another.
func (s *state) consistent(revision int64) {
	for g, sem := range s.semaphores {
		if records := slices.Sorted(maps.Keys(s.records[g])); !slices.Equal(records, sem.Holders) {
			s.fail(revision, "%q is held by %q and has records of %q", g, sem.Holders, records)
		}
	}
	for m, groups := range s.rules.Groups {
		held := 0
		for _, g := range groups {
			if s.semaphores[g].Holds(m) {
				held++
			}
		}
		if held != 0 && held != len(groups) {
			s.fail(revision, "%s holds slots in %d of its groups %q", m, held, groups)
		}
	}
}

// CheckEnd judges what is left when everybody is through: no slot is held.
func CheckEnd(holdings []*holding) (violations []string) {
	for _, h := range holdings {
		if h.ended == nil {
			violations = append(violations, fmt.Sprintf("the slot of %s in %q was lost: it is held although all are through", h.machine, h.group))
		}
	}
	return violations
}
