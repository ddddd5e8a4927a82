package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/locksmith-reboot/locksmith"
)

// Kinds of lines.
const (
	lineDown     = "down"     // a machine goes down for its reboot, from now on
	lineUp       = "up"       // a machine is up again, since before now
	lineReleased = "released" // a machine has given its slots back after the reboot
	lineStats    = "stats"    // what a process says of itself
	lineAllow    = "allow"    // from now on so many machines of a group may be down
)

// line is one observation. All of them, from every process, pass through one pipe, so
// that what happened because of something else comes later, however late the reader is.
type line struct {
	Kind    string
	Process string          `json:",omitempty"`
	Machine string          `json:",omitempty"`
	Wave    int             `json:",omitempty"` // of lineReleased: the rollout, from 1
	Group   locksmith.Group `json:",omitempty"`
	Max     int             `json:",omitempty"`

	Goroutines int    `json:",omitempty"`
	Heap       uint64 `json:",omitempty"` // bytes in use after the last collection
}

// writeLine writes l in one piece: it is shorter than what a pipe keeps together.
func writeLine(to *os.File, l line) error {
	doc, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := to.Write(append(doc, '\n')); err != nil {
		return fmt.Errorf("what happened could not be told: %w", err)
	}
	return nil
}
