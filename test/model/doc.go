// Package model is the protocol by which machines take and give back reboot slots, as a
// small state machine, and an explorer that visits every state it can reach and holds
// each against what docs/design.md promises.
//
// It models what etcd keeps (semaphores, holder records, the queue, pauses), what each
// agent knows, and the requests under way between them, which may arrive late, lose
// their replies, or outlive the process that sent them. It does not know how any of that
// is stored or sent: its tests replay its traces against the real store.
package model
