package main

import (
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// What the control socket takes as a reason, the trigger that keeps it takes, too: its
// own refusal would come as a failure of the daemon's.
func TestReasonsOfTheSocketFit(t *testing.T) {
	if control.MaxReason != trigger.MaxReason {
		t.Errorf("the socket takes reasons of %d bytes, the trigger of %d", control.MaxReason, trigger.MaxReason)
	}
}
