package locksmith

import "slices"

// Why is what an administrator needs to know to understand why a machine has or
// has not rebooted: the machine's conditions, and its place in each group.
type Why struct {
	Time       int64         `json:"time"` // of the answer, seconds since the epoch
	Machine    MachineStatus `json:"machine"`
	Places     []Place       `json:"places,omitempty"`     // one for each of the machine's groups
	StoreError string        `json:"storeError,omitempty"` // why Places are missing
}

// Place is where a machine stands in a group, and who is before it.
type Place struct {
	Group    Group          `json:"group"`
	Max      int            `json:"max"`
	Free     int            `json:"free"`               // slots, at least 0
	Position int            `json:"position,omitempty"` // in the queue, from 1; 0: does not queue
	Waiting  int            `json:"waiting"`            // how many queue
	Holds    bool           `json:"holds,omitempty"`    // the machine itself holds a slot
	Holders  []HolderStatus `json:"holders,omitempty"`  // the others in a slot
	Pauses   []Pause        `json:"pauses,omitempty"`   // of the group and of all groups
}

// PlaceOf is machine's place in a group.
func PlaceOf(s GroupStatus, machine string) Place {
	p := Place{Group: s.Group, Max: s.Sem.Max, Free: max(0, s.Sem.Semaphore), Waiting: len(s.Queue), Pauses: s.Pauses, Holds: s.Sem.Holds(machine)}
	p.Position = 1 + slices.IndexFunc(s.Queue, func(w Waiter) bool { return w.MachineID == machine })
	for _, h := range s.Holders {
		if h.MachineID != machine {
			p.Holders = append(p.Holders, h)
		}
	}
	return p
}
