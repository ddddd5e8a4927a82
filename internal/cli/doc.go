// Package cli is locksmithctl: its commands, what they print, and their exit
// statuses. Each command has a file of its own.
//
// It knows the reboot lock, the daemon and the machine only as the interfaces in
// Deps; cmd/locksmithctl puts etcd, the control socket and logind behind them.
// What the default forms print is read by scripts and does not change.
package cli

//go:generate go run ./gendoc ../../docs/reference/locksmithctl.md
