package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/locksmith-reboot/locksmith"
)

// obeying is an administration that does what it is told.
type obeying struct{ administration }

func (obeying) SetMax(context.Context, locksmith.Group, int, string) (int, error) { return 0, nil }

// What the ledger is told of a max that goes up does not depend on how much of what it was
// told before it has read.
func TestALateLedgerIsToldOfEachRaise(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &soak{ledger: newLedger(), referee: newReferee(), lines: w}
	for _, step := range []func() error{
		func() error { return s.setMax(t.Context(), obeying{}, "fl", 5) },
		func() error { return s.allow("fl", 2) }, // as settle does
		func() error { return s.setMax(t.Context(), obeying{}, "fl", 4) },
		func() error { return s.setMax(t.Context(), obeying{}, "fl", 1) }, // not before it holds
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	var told []int
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		told = append(told, l.Max)
	}
	if want := []int{5, 2, 4}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
