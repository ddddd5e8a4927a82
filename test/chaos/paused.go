package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/locksmith-reboot/locksmith"
)

// What a pause keeps from happening.
//
// Grants to machines that want to reboot, and steps to the reboot itself (a holder
// record of the phase "rebooting" is written), are transactions that compare every
// policy that holds for the machine: its groups', that of all and its own. So neither
// lies at a revision at which one of them has a pause. A machine that took that step
// before goes down all the same.
//
// Over FleetLock the step is a request that is answered and writes nothing. What is told is
// told by whom it was asked from: a request that begins after the pause was confirmed to the
// administrator, and ends before its end was asked for, is never granted. The machines on
// the store are held to that, too.

// sureOver is for how long before its own end, in seconds, a pause is not judged: it
// ends by the clock of the machine.
const sureOver = 30

// pausedAt is the pause that a policy document holds at a time in seconds; "": none.
// One that cannot be read holds as a pause.
func pausedAt(doc []byte, seconds int64) string {
	if doc == nil {
		return ""
	}
	var policy struct {
		Pause *struct {
			Until  int64  `json:"until"`
			Reason string `json:"reason"`
		} `json:"pause"`
	}
	switch err := json.Unmarshal(doc, &policy); {
	case err != nil:
		return "unreadable: " + err.Error()
	case policy.Pause == nil, policy.Pause.Until != 0 && policy.Pause.Until < seconds+sureOver:
		return ""
	}
	return fmt.Sprintf("%q", policy.Pause.Reason)
}

// policyAt is the scope of a policy's key, in the words of locksmith.PauseScope.
func policyAt(key string, groups []locksmith.Group) (scope locksmith.PauseScope, ok bool) {
	if key == prefix+"/all/policy" {
		return locksmith.PauseScope{All: true}, true
	}
	if machine, ok := strings.CutPrefix(key, prefix+"/machine-policy/"); ok {
		return locksmith.PauseScope{Machine: machine}, true
	}
	i := slices.IndexFunc(groups, func(g locksmith.Group) bool { return key == base(g)+"/policy" })
	if i < 0 {
		return scope, false
	}
	return locksmith.PauseScope{Group: groups[i]}, true
}

// scopes are those of the pauses that hold for a machine.
func (r Rules) scopes(machine string) []locksmith.PauseScope {
	list := []locksmith.PauseScope{{All: true}, {Machine: machine}}
	for _, g := range r.Groups[machine] {
		list = append(list, locksmith.PauseScope{Group: g})
	}
	return list
}

// unpaused judges a step of a machine that a pause would have kept from happening.
func (s *state) unpaused(revision int64, doc locksmith.Holder, step string) {
	if !reboots(doc) {
		return
	}
	for _, scope := range s.rules.scopes(doc.MachineID) {
		if why := pausedAt(s.policies[scope], doc.PhaseTime); why != "" {
			s.fail(revision, "%s %s while %s is paused: %s", doc.MachineID, step, scope, why)
		}
	}
}

// CheckPaused judges what machines were told that asked for a slot, or for the step to
// the reboot, by the order of what was said: nothing was granted that was asked for
// after a pause stood, and that was answered before anybody asked for its end.
func CheckPaused(lines []Line, r Rules) (violations []string) {
	paused := make(map[string]int) // at which line, by scope
	asked := make(map[string]int)  // at which line, by machine
	for i, l := range lines {
		switch l.Kind {
		case KindPaused:
			paused[l.Note] = i
		case KindResuming:
			delete(paused, l.Note)
		case KindAsks:
			asked[l.Machine] = i
		case KindGranted:
			ask, known := asked[l.Machine]
			if !known || lines[ask].Boot != l.Boot || lines[ask].Note != l.Note {
				violations = append(violations, fmt.Sprintf("%s was granted what it did not ask for: %v", l.Machine, l))
				continue
			}
			for _, scope := range r.scopes(l.Machine) {
				if p, holds := paused[scope.String()]; holds && p < ask {
					violations = append(violations, fmt.Sprintf("%s asked while %s was paused, and was granted it: %v", l.Machine, scope, l))
				}
			}
		}
	}
	return violations
}
