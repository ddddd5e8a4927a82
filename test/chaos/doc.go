// Package chaos proves the reboot lock under faults: three members of an etcd
// cluster and a number of machines run as processes of their own, each on a network
// node of its own, while a schedule of faults that is computed from a seed kills,
// pauses and cuts them off. What happened is judged from what the machines did, in
// the order in which they did it, and from every revision that the store went
// through.
//
// The agent, its lock and etcd are the real ones; only the reboot is simulated, by
// the harness, which ends the process and starts another one with another boot ID.
// The package must not know how the lock decides: it reads the stored documents,
// whose form is a contract, and the machines' own words.
package chaos
