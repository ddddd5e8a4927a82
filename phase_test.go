package locksmith

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestParseStrategy(t *testing.T) {
	for _, s := range Strategies {
		if got, err := ParseStrategy(string(s)); err != nil || got != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	if got, err := ParseStrategy(""); err != nil || got != StrategyBestEffort {
		t.Errorf("no strategy: %q, %v, want the default %q", got, err, StrategyBestEffort)
	}
	for _, s := range []string{"Reboot", " reboot", "reboot ", "etcd", "none", "best_effort"} {
		got, err := ParseStrategy(s)
		want := fmt.Sprintf("invalid reboot strategy %q: must be one of etcd-lock, reboot, best-effort, fleet-lock, off", s)
		if err == nil || err.Error() != want || got != "" {
			t.Errorf("%q: %q, %v, want %s", s, got, err, want)
		}
	}
}

// Each phase stands once in the list that the documentation and the dashboard
// are made from.
func TestPhasesAreListedOnce(t *testing.T) {
	seen := make(map[Phase]bool)
	for _, p := range Phases {
		if p == "" || seen[p] {
			t.Errorf("phase %q is listed twice or empty", p)
		}
		seen[p] = true
	}
	for _, p := range []Phase{PhaseIdle, PhaseNeeded, PhaseWindow, PhaseQueued, PhaseAcquired, PhasePreparing, PhaseNotifying,
		PhaseRebooting, PhaseVerifying, PhaseRestoring, PhaseReleasing, PhaseFailed, PhaseRecovering} {
		if !slices.Contains(Phases, p) {
			t.Errorf("phase %s is not listed", p)
		}
	}
}

func TestHolder(t *testing.T) {
	for by, own := range map[string]bool{"": true, ByAgent: true, ByReboot: true, ByLock: false, ByWithLock: false, "airlock": false} {
		if got := (Holder{By: by}).Own(); got != own {
			t.Errorf("a record by %q: own is %v, want %v", by, got, own)
		}
	}
	// The two fields that every client knows come first; nothing else is
	// written where nothing is known.
	b, err := json.Marshal(Holder{MachineID: "m", StartTime: 1397496396})
	if err != nil || string(b) != `{"machineID":"m","startTime":1397496396}` {
		t.Errorf("the record is stored as %s, %v", b, err)
	}
	if got := (Holder{StartTime: 1397496396}).Since(); !got.Equal(time.Date(2014, 4, 14, 17, 26, 36, 0, time.UTC)) {
		t.Errorf("held since %v", got)
	}
}

func TestNoncesDiffer(t *testing.T) {
	a, b := NewNonce(), NewNonce()
	if a == b || len(a) != 32 {
		t.Errorf("nonces %q and %q", a, b)
	}
}

func TestUnreadableError(t *testing.T) {
	cause := errors.New("no machineID")
	err := error(&UnreadableError{Key: "a/holders/m", Err: cause})
	const want = "unreadable document at key a/holders/m: no machineID; correct or delete the key"
	if err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("%v, want %s", err, want)
	}
}
