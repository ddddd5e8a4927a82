// Package machines boots real Linux machines for tests: systemd as process 1,
// D-Bus, logind, a journal and an identity of their own, in systemd-nspawn
// containers on one base image. A machine reboots for real; the harness plays
// its firmware and its power cord.
//
// The package watches from outside. When a machine goes down and is up again is
// told by the machine's own systemd through a pipe (see Event), never by the
// lock under test. It must not know the code it tests: of locksmith it knows
// the programs, the unit, the keys in etcd and the control socket, as a user
// does.
//
// It needs root, systemd-nspawn and, once, debootstrap: see Missing.
package machines
