// Package clock sets the wall clock of one process, by any time and as often as one
// likes, while its monotonic clock goes on: what a machine's programs see when somebody
// sets its clock. It is for tests, on amd64 only, and must not know what the process does.
//
// Go asks the kernel for the time by a function that the kernel maps into every process,
// whose address the runtime keeps. Follow puts another function in its place.
package clock

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// Set sets the clocks of all processes that follow a file: they are off by so much, in
// whole seconds, from then on. The file is made where there is none.
func Set(path string, by time.Duration) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("setting a clock: %w", err)
	}
	// One write of one word: nobody sees half of it.
	if _, err := f.Write(binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second)))); err != nil {
		f.Close()
		return fmt.Errorf("setting a clock: %w", err)
	}
	return f.Close()
}
