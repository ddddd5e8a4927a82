//go:build !amd64

package clock

import "errors"

// Supported says whether Follow works here.
const Supported = false

// Follow has this process see the wall clock that Set sets.
func Follow(string) error {
	return errors.New("a process has no clock of its own on this architecture")
}
