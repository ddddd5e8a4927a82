// Package fleetlock speaks the FleetLock protocol, in which a machine asks a server for
// the permission to reboot and gives it back once it is up again: a handler for
// servers, and a client.
//
// It knows nothing of how slots are kept.
package fleetlock

import "context"

// Paths of the protocol, below a server's base URL.
const (
	PreRebootPath   = "/v1/pre-reboot"
	SteadyStatePath = "/v1/steady-state"
)

// Request is what a machine asks for, by either call.
type Request struct {
	ID    string // of the machine, 1 to 253 bytes, case-sensitive
	Group string // matches ^[a-zA-Z0-9.-]+$, 1 to 253 bytes
}

// Backend keeps the slots. An error that is no *Error is answered as KindInternal, and
// its text is not told to the client.
type Backend interface {
	// PreReboot returns nil once the machine holds a slot of the group, also where it
	// held one before. It may wait, until ctx ends, which it does when the client goes
	// away. Nothing is held, and nothing waits, for a request that ended with an error.
	PreReboot(ctx context.Context, req Request) error

	// SteadyState gives the machine's slot back. That it holds none is no error.
	SteadyState(ctx context.Context, req Request) error
}

// Kind is the sort of an error. Clients use it as a label of metrics, so there are few.
type Kind string

// The kinds, with their HTTP status.
const (
	KindInvalid      Kind = "invalid_request"            // 400
	KindUnauthorized Kind = "unauthorized"               // 401
	KindForbidden    Kind = "forbidden"                  // 403
	KindNoGroup      Kind = "unknown_group"              // 404
	KindNotFound     Kind = "not_found"                  // 404: no such path
	KindMethod       Kind = "method_not_allowed"         // 405
	KindHeld         Kind = "failed_lock_held_by_other"  // 409: somebody else holds the machine's slot
	KindTooLarge     Kind = "request_too_large"          // 413
	KindFull         Kind = "failed_lock_semaphore_full" // 423: no slot is free
	KindPaused       Kind = "failed_lock_paused"         // 423: an administrator paused reboots
	KindInternal     Kind = "internal_error"             // 500
	KindStore        Kind = "store_unavailable"          // 503: where slots are kept is away
	KindBusy         Kind = "too_many_requests"          // 503: too many wait already
)

// Error is how a request fails, on both sides of the protocol.
type Error struct {
	Kind   Kind   // one of ours, or what another server says
	Value  string // for people
	Status int    // of HTTP; 0 at a server: the kind's
}

func (e *Error) Error() string { return e.Value }
