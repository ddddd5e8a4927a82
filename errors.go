package locksmith

import (
	"errors"
	"fmt"
)

var (
	// ErrHolderExists: the machine holds a slot of the group already, and not
	// through this attempt.
	ErrHolderExists = errors.New("holder exists")

	// ErrNotHolder: the machine holds no slot of the group.
	ErrNotHolder = errors.New("holder does not exist")

	// ErrSlotLost: what this process holds was taken away meanwhile, by an
	// administrator's unlock or by a deleted key. It must not reboot on it.
	ErrSlotLost = errors.New("the slot is no longer held")

	// ErrMayHold: a request for slots ended, and whether they were granted is not
	// known, or may be yet.
	ErrMayHold = errors.New("whether a slot was granted meanwhile is not known")

	// ErrNotPaused: there is no pause of that scope to end.
	ErrNotPaused = errors.New("not paused")

	// ErrUnknownMachine: nothing is stored about the machine.
	ErrUnknownMachine = errors.New("unknown machine")

	// ErrUnknownGroup: the group's semaphore was never written.
	ErrUnknownGroup = errors.New("unknown group")
)

// FullError says that no slot of a group is free.
type FullError struct {
	Group     Group // the group without a free slot
	Semaphore int   // the semaphore's value, 0 or less

	Holders []string // who has the slots, where that was read; sorted
}

func (e *FullError) Error() string { return fmt.Sprintf("semaphore is at %d", e.Semaphore) }

// HeldError says that a machine's slot is held by somebody else than who asks in its
// name: by an administrator, or by its locksmithd.
type HeldError struct {
	Group Group
	By    string // of the holder record
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("the machine's slot is held by %s, and only that gives it back", e.By)
}

// UnreadableError says that a stored document cannot be understood. It is never
// overwritten: an administrator has to look at it.
type UnreadableError struct {
	Key string // where it is stored
	Err error  // what is wrong with it
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("unreadable document at key %s: %v; correct or delete the key", e.Key, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }
