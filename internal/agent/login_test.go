package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// expectTold compares all that users were told with what they should have been.
func (w *world) expectTold(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(want, w.told); diff != "" {
		w.t.Error(diff)
	}
}

// With a delay of a minute or less there is nothing to say twice.
func TestOneMessageForAShortDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		w.reboots(w.run(func(c *Config) { c.LoginDelay = time.Minute }))
		w.expectTold("1: This machine will reboot in 1m0s (new version).")
		if took := time.Since(w.began); took != time.Minute {
			t.Errorf("rebooted after %v", took)
		}
	})
}

// Restarts during the delay do not prolong it, however many there are.
func TestRestartsDuringTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		for range 3 {
			time.Sleep(90 * time.Second)
			r.stop()
			r = w.run()
		}
		w.reboots(r)
		if took := time.Since(w.began); took != DefaultLoginDelay {
			t.Errorf("rebooted after %v", took)
		}
		if w.count("advance to notifying") != 1 {
			t.Errorf("%q", w.done())
		}
		// The last start is within the last minute. Who is told with less than a minute left is told once.
		w.expectTold("1: This machine will reboot in 5m0s (new version).", "1: This machine will reboot in 3m30s (new version).",
			"1: This machine will reboot in 2m0s (new version).",
			"1: This machine will reboot in 1m0s (new version).", "1: This machine will reboot in 30s (new version).")
	})
}

// Who logs in within the last minute is told once, the others are not told again.
func TestLogInWithinTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(DefaultLoginDelay - 20*time.Second)
		w.logIn(Session{ID: "1"}, Session{ID: "2"})
		w.reboots(r)
		w.expectTold("1: This machine will reboot in 5m0s (new version).", "1: This machine will reboot in 1m0s (new version).",
			"2: This machine will reboot in 20s (new version).")
		if took := time.Since(w.began); took != DefaultLoginDelay {
			t.Errorf("rebooted after %v", took)
		}
	})
}

// The next cycle has a delay of its own.
func TestDelayOfTheNextCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		r.stop()
		r = w.run() // from here on the delay is that of the record
		time.Sleep(time.Minute)
		w.setNeed(Need{}) // aborted
		time.Sleep(time.Hour)
		before := time.Now()
		w.setNeed(needed)
		w.reboots(r)
		if took := time.Since(before); took != DefaultLoginDelay {
			t.Errorf("rebooted after %v", took)
		}
	})
}
