package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

var needed = Need{Needed: true, Reason: "new version"}

// expect compares all that was done with what should have been.
func (w *world) expect(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(want, w.log); diff != "" {
		w.t.Error(diff)
	}
}

// done is all that was done.
func (w *world) done() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

func (w *world) count(suffix string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.log {
		if strings.HasSuffix(l, suffix) {
			n++
		}
	}
	return n
}

// untilClock moves the clock, which starts at midnight UTC on 1 January 2000, to the
// next such time of day.
func untilClock(hour, minute int) {
	now := time.Now().UTC()
	at := time.Date(now.Year(), now.Month(), now.Day(), hour, minute, 0, 0, time.UTC)
	for at.Before(now) {
		at = at.AddDate(0, 0, 1)
	}
	time.Sleep(time.Until(at)) // virtual
	synctest.Wait()
}

func TestOneCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.run(func(c *Config) { c.Coordinator = w })
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Needed || s.Triggers["test"] != "not needed" {
			t.Errorf("%+v", s)
		}
		w.setNeed(needed)
		w.reboots(r)
		time.Sleep(30 * time.Second)
		r = w.run(func(c *Config) { c.Coordinator = w })
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held {
			t.Errorf("%+v", s)
		}
		w.expect("0s coordinator starting", "0s find", "0s coordinator running",
			"0s check", "0s queue", "0s granted", "0s coordinator reboot-planned", "0s prepare", "0s sessions",
			"0s coordinator rebooting", "0s check", "0s advance to rebooting", "0s reboot", "0s booted",
			"30s coordinator starting", "30s find", "30s coordinator running", "30s verify", "30s restore", "30s release: rebooted")
	})
}

// A slot won just before the window closes is given back, and no reboot happens
// until the window opens again.
func TestSlotWonJustBeforeTheWindowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = daily{3, 1}
		finish := w.gate("prepare") // takes until after the window
		untilClock(3, 59)
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhasePreparing {
			t.Fatalf("%+v", s)
		}
		untilClock(4, 1)
		finish()
		synctest.Wait()
		if h := w.holds(); h != nil || w.count("restore") != 1 {
			t.Errorf("still held or prepared outside the window: %+v", h)
		}
		if s := r.Status(); s.Phase != locksmith.PhaseIdle && s.Phase != locksmith.PhaseWindow {
			t.Errorf("%+v", s)
		}
		untilClock(2, 59)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || !strings.HasPrefix(s.Waiting, "window opens ") {
			t.Errorf("%+v", s)
		}
		if n := w.count("reboot"); n != 0 {
			t.Errorf("%d reboots before the window", n)
		}
		untilClock(3, 0)
		w.reboots(r)
	})
}

// Outside its window a machine neither holds a slot nor waits in the queue.
func TestQueueIsLeftWhenTheWindowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = daily{3, 1}
		w.setFree(false)
		w.setNeed(needed)
		r := w.run()
		untilClock(2, 0)
		if w.count("queue") != 0 {
			t.Error("queued outside the window")
		}
		untilClock(3, 30)
		if s := r.Status(); s.Phase != locksmith.PhaseQueued || w.waits() != 1 {
			t.Fatalf("%+v", s)
		}
		untilClock(4, 0)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || w.waits() != 0 {
			t.Fatalf("%+v", s)
		}
		w.setFree(true)
		untilClock(2, 59)
		if w.count("granted") != 0 {
			t.Error("granted outside the window")
		}
		untilClock(3, 0)
		w.reboots(r)
	})
}

func TestRebootCallFails(t *testing.T) {
	t.Run("once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.rebootErrs = []error{errors.New("an inhibitor")}
			w.setNeed(needed)
			r := w.run()
			synctest.Wait()
			if s := r.Status(); s.Waiting != "the reboot call failed: an inhibitor" || s.Phase != locksmith.PhaseRebooting {
				t.Errorf("%+v", s)
			}
			w.reboots(r)
			w.expect("0s find", "0s check", "0s queue", "0s granted", "0s prepare", "0s sessions", "0s check", "0s advance to rebooting",
				"0s reboot", "10s check", "10s advance to rebooting", "10s reboot", "10s booted")
		})
	})
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			err := errors.New("refused")
			w.rebootErrs = []error{err, err, err}
			w.setNeed(needed)
			r := w.run()
			time.Sleep(time.Minute)
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held || s.Waiting != "aborted: the reboot call failed: refused; next try at 00:05:20" {
				t.Errorf("%+v", s)
			}
			if w.count("restore") != 1 || w.count("release: aborted: the reboot call failed: refused") != 1 {
				t.Error(w.done())
			}
			w.reboots(r) // tried again later
			if took := time.Since(w.began); took < afterAbort {
				t.Errorf("tried again after %v", took)
			}
		})
	})
	t.Run("accepted, never happens", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.hang = true
			w.setNeed(needed)
			r := w.run(func(c *Config) { c.RebootGrace = time.Minute })
			time.Sleep(4 * time.Minute)
			if s := r.Status(); s.Held || w.count("reboot") != rebootAttempts {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
}

// A daemon that is restarted while an inhibitor holds up the shutdown keeps its
// slot, although the window has closed and nothing says "needed" any more.
func TestRestartWhileGoingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = daily{3, 1}
		untilClock(3, 59)
		w.hang = true
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		if w.count(" reboot") != 1 {
			t.Fatalf("%q", w.done())
		}
		r.stop()
		w.change(func() { w.shutdown = true })
		w.setNeed(Need{})
		r = w.run()
		untilClock(4, 30)
		if s := r.Status(); s.Phase != locksmith.PhaseRebooting || w.holds() == nil || w.count(" reboot") != 1 {
			t.Errorf("%+v %q", s, w.done())
		}
		w.change(func() { w.shutdown = false }) // somebody cancelled it
		untilClock(5, 0)
		if s := r.Status(); s.Held || w.holds() != nil {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

// A user who logs in during the delay is told how long is left; the delay stays.
func TestUserLogsInDuringTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1", User: "core", TTY: "pts/0"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(2 * time.Minute)
		w.logIn(w.sessions[0], Session{ID: "2", User: "root", TTY: "tty1"})
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseNotifying || s.Waiting != "users are logged in, reboot at 00:05:00" {
			t.Errorf("%+v", s)
		}
		w.reboots(r)
		if took := time.Since(w.began); took != DefaultLoginDelay {
			t.Errorf("rebooted after %v", took)
		}
		want := []string{"1: This machine will reboot in 5m0s (new version).", "2: This machine will reboot in 3m0s (new version).",
			"1: This machine will reboot in 1m0s (new version).", "2: This machine will reboot in 1m0s (new version)."}
		if diff := cmp.Diff(want, w.told); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEverybodyLogsOutDuringTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		w.logIn()
		w.reboots(r)
		if took := time.Since(w.began); took != time.Minute {
			t.Errorf("rebooted after %v", took)
		}
	})
}

// The agent is stopped in each phase, as by a crash or an update of its own, and
// started again: no slot is lost, and the machine reboots exactly once.
func TestStopInEachPhase(t *testing.T) {
	for phase, gate := range map[locksmith.Phase]string{
		locksmith.PhaseRecovering: "find",
		locksmith.PhaseWindow:     "check",
		locksmith.PhaseQueued:     "queue",
		locksmith.PhasePreparing:  "prepare",
		locksmith.PhaseNotifying:  "sessions",
		locksmith.PhaseRebooting:  "advance to rebooting",
		locksmith.PhaseVerifying:  "verify",
		locksmith.PhaseRestoring:  "restore",
		locksmith.PhaseReleasing:  "release: rebooted",
	} {
		t.Run(string(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setNeed(needed)
				after := slices.Contains([]locksmith.Phase{locksmith.PhaseVerifying, locksmith.PhaseRestoring, locksmith.PhaseReleasing}, phase)
				open := w.gate(gate)
				r := w.run()
				if after {
					w.reboots(r)
					r = w.run()
				}
				synctest.Wait()
				if s := r.Status(); s.Phase != phase {
					t.Fatalf("in phase %s", s.Phase)
				}
				before := w.holds()
				r.stop()
				if w.waits() != 0 {
					t.Error("still in the queue")
				}
				if before != nil && w.holds() == nil {
					t.Error("the slot was lost with the stop")
				}
				open()
				r = w.run()
				if !after {
					w.reboots(r)
					r = w.run()
				}
				synctest.Wait()
				if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil {
					t.Errorf("%+v, holder %+v", s, w.holds())
				}
				if n := w.count(" reboot"); n != 1 {
					t.Errorf("%d reboots: %q", n, w.done())
				}
			})
		})
	}
}

func TestVerifyFailsThenPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setNeed(needed)
		w.reboots(w.run())
		w.change(func() { w.failing["verify"] = errors.New("unit x is down") })
		r := w.run()
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseFailed || !s.Held || s.Waiting != "checks after the reboot fail: verify: unit x is down" {
			t.Errorf("%+v", s)
		}
		if w.count("advance to failed") != 1 {
			t.Errorf("%q", w.done())
		}
		w.change(func() { delete(w.failing, "verify") })
		time.Sleep(retryLast)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held {
			t.Errorf("%+v", s)
		}
	})
}

// An administrator unlocks the machine while its users are given time.
func TestUnlockedDuringTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		w.change(func() { w.holder = nil })
		time.Sleep(5 * time.Minute)
		if s := r.Status(); w.count(" reboot") != 0 || w.count("restore") != 1 || w.count("release: aborted: the slot was taken away") != 0 ||
			s.Held || s.Waiting != "aborted: the slot was taken away; next try at 00:10:00" {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

func TestTriggerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setNeed(Need{Needed: true, Reason: "ignored", Err: errors.New("no bus")})
		r := w.run()
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Needed || s.Triggers["test"] != "error: no bus" {
			t.Errorf("%+v", s)
		}
	})
}

// An update engine that restarts costs the machine neither its place nor its slot,
// and no reboot is asked for until it has answered.
func TestTriggerRestartsDuringTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(DefaultLoginDelay - 10*time.Second)
		w.setNeed(Need{Err: errors.New("not running")})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseRebooting || !s.Held || w.count(" reboot") != 0 {
			t.Errorf("%+v %q", s, w.done())
		}
		w.setNeed(needed)
		w.reboots(r)
	})
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{Strategy: "tomorrow"})
	want := `agent: MachineID is required
agent: BootID is required
agent: Groups is required
agent: strategy "tomorrow" has no agent
agent: Lock is required
agent: Machine is required
agent: Triggers is required`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
