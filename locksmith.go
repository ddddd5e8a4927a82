// Package locksmith is the vocabulary of a reboot manager for fleets of Linux
// machines: the semaphore of a group and its rules, the record a holder leaves,
// the queue, the history, the phases one machine goes through, and the errors
// callers branch on.
//
// It performs no I/O and imports only the standard library. How a semaphore is
// kept is the business of internal/etcd; when a machine asks for a slot, of
// internal/agent.
package locksmith

import (
	"crypto/rand"
	"encoding/hex"
)

// MaxGroups is how many groups one machine may belong to. It bounds the size of
// the one transaction that takes a slot in all of them.
const MaxGroups = 16

// Queue priorities: 0 is the most urgent.
const (
	MinPriority     = 0
	MaxPriority     = 9
	DefaultPriority = 5
)

// NewNonce returns 16 random bytes in hexadecimal. It names one attempt to take
// a slot, so that a retry after a lost reply can tell "I have it already" from
// "this machine already held it".
func NewNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return hex.EncodeToString(b[:])
}
