// Package etcd is the reboot lock on etcd v3: it takes and gives back slots,
// keeps the queue, the holder records, the history, the pauses and what machines say
// of themselves, and reads them for people.
//
// It knows how things are stored and how a slot changes hands, and translates
// etcd's errors into one line that says what to do. It does not know what a slot
// is used for: reboots, windows and hooks are elsewhere.
//
// Each decision is one transaction. A slot is a plain record compared by
// ModRevision and never bound to a lease; leases carry only queue entries and
// presence.
package etcd
