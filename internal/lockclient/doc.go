// Package lockclient is the reboot lock of a machine whose slots a FleetLock server
// keeps: locksmith-server, airlock, or any other.
//
// The protocol has no question "what do I hold?", so the machine keeps that itself, in a
// file: what it is about to ask for is written before it asks, and what it was granted
// before it goes on. A crash at any point therefore leaves a slot that is known, or one
// that may have been granted and is given back at the next start.
//
// It must not know when or why a machine reboots; that is the agent's business.
package lockclient
