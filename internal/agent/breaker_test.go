package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

const notCured = "checks after the reboot fail: still needed for the same reason after the reboot: new version"

// A reboot that does not help keeps its slot, says so once, and is not repeated.
func TestStillNeededAfterTheReboot(t *testing.T) {
	begin := func(t *testing.T) (*world, *running) {
		w := newWorld(t)
		w.remembers, w.after = true, needed
		w.setNeed(needed)
		w.reboots(w.run())
		r := w.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseFailed || !s.Held || s.Waiting != notCured {
			t.Fatalf("%+v", s)
		}
		if h := w.holds(); h.Phase != locksmith.PhaseFailed || h.Reason != "still needed for the same reason after the reboot: new version" {
			t.Errorf("%+v", h)
		}
		if m := w.memory(); !slices.Equal(m.InVain, []string{"new version"}) || m.Cycle == nil {
			t.Errorf("remembers %+v", m)
		}
		return w, r
	}
	synctest.Test(t, func(t *testing.T) {
		w, r := begin(t)
		// Said and remembered once, and not asked about all the time.
		if w.count("advance to failed") != 1 || w.count("remember") != 4 || w.count("verify") < 50 || w.count("verify") > 125 || w.count("restore") != 0 {
			t.Errorf("%q", w.done())
		}
		w.setNeed(Need{})
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil || w.owed || w.memory().InVain != nil {
			t.Errorf("%+v", s)
		}
	})
	t.Run("then for another reason", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, r := begin(t)
			w.change(func() { w.after = Need{} })
			w.setNeed(Need{Needed: true, Reason: "newer version"})
			w.reboots(r)
			w.run()
			synctest.Wait()
			if m := w.memory(); m.InVain != nil || w.holds() != nil || len(m.Reboots) != 2 || w.count("release: rebooted") != 2 {
				t.Errorf("remembers %+v, did %q", m, w.done())
			}
		})
	})
	t.Run("the agent is restarted, and the trigger cannot tell", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, r := begin(t)
			r.stop()
			w.setNeed(Need{Err: errors.New("no bus")})
			r = w.run()
			time.Sleep(time.Hour)
			synctest.Wait()
			want := "checks after the reboot fail: still needed for the same reason after the reboot, when the triggers last could tell: new version"
			if s := r.Status(); s.Phase != locksmith.PhaseFailed || !s.Held || s.Waiting != want || w.count("advance to failed") != 2 {
				t.Errorf("%+v %q", s, w.done())
			}
			w.setNeed(needed)
			time.Sleep(2 * time.Minute)
			if s := r.Status(); s.Phase != locksmith.PhaseFailed || s.Waiting != notCured {
				t.Errorf("%+v", s)
			}
			w.setNeed(Need{})
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held {
				t.Errorf("%+v", s)
			}
		})
	})
}

// A trigger that does not answer after the reboot holds up nobody for long.
func TestTriggerSilentAfterTheReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers, w.after = true, Need{Err: errors.New("not running")}
		w.setNeed(needed)
		w.reboots(w.run())
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseVerifying || s.Waiting != "for the triggers to say whether the reboot helped" {
			t.Errorf("%+v", s)
		}
		time.Sleep(answerWait)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil {
			t.Errorf("%+v", s)
		}
	})
}

// The trigger answers when the slot is back already: the machine waits, without one.
func TestTriggerLateAfterTheReboot(t *testing.T) {
	begin := func(t *testing.T, after time.Duration) (*world, *running) {
		w := newWorld(t)
		w.remembers, w.after = true, Need{Err: errors.New("not running")}
		w.setNeed(needed)
		w.reboots(w.run())
		r := w.run()
		time.Sleep(after)
		w.change(func() { w.after = Need{} })
		w.setNeed(needed)
		return w, r
	}
	blocked := func(w *world, r *running) {
		t.Helper()
		time.Sleep(24 * time.Hour)
		s := r.Status()
		if s.Phase != locksmith.PhaseWindow || !strings.HasPrefix(s.Waiting, "the last reboot did not cure this need") || w.count("queue") != 1 {
			t.Errorf("%+v %q", s, w.done())
		}
		i := slices.IndexFunc(s.Conditions, func(c locksmith.Condition) bool { return c.Name == locksmith.CondBreaker })
		if c := s.Conditions[i]; c.State != locksmith.CondBlocked || c.Text != s.Waiting {
			t.Errorf("%+v", c)
		}
	}
	t.Run("and then for another reason", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, r := begin(t, 9*time.Minute)
			blocked(w, r)
			r.stop()
			r = w.run() // it remembers
			blocked(w, r)
			w.setNeed(Need{Needed: true, Reason: "something else"})
			w.reboots(r)
		})
	})
	t.Run("and then it was not needed for a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, r := begin(t, 9*time.Minute)
			blocked(w, r)
			w.setNeed(Need{})
			synctest.Wait()
			w.setNeed(needed)
			w.reboots(r)
		})
	})
	t.Run("too late to have to do with it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, r := begin(t, 11*time.Minute)
			w.reboots(r)
		})
	})
	t.Run("after it said no", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.remembers = true
			w.setNeed(needed)
			w.reboots(w.run())
			r := w.run()
			time.Sleep(time.Minute)
			w.setNeed(needed) // a new one, of the same words
			w.reboots(r)
		})
	})
	t.Run("while it queues for something else", func(t *testing.T) {
		r := testRules()
		s := in(locksmith.PhaseQueued, func(s *state) {
			s.reasons = []string{"b"}
			s.mem.Last = &Past{Time: open.Add(-time.Minute), Reasons: []string{"a"}, Outcome: rebooted}
		})
		_, effects := r.step(s, evNeed{known: true, needed: true, reasons: []string{"a"}}, open)
		if len(effects) != 1 || effects[0].kind != effectAbandon {
			t.Errorf("%+v", effects)
		}
	})
}

// What another trigger cannot tell does not make a new need an old one.
func TestNewNeedBesideAnError(t *testing.T) {
	r := testRules()
	s := in(locksmith.PhaseIdle, func(s *state) { s.mem.Last = &Past{Time: open, Reasons: []string{"by hand"}, Outcome: rebooted} })
	yes := evNeed{known: true, needed: true, triggers: []string{"control"}, reasons: []string{"by hand"}, sure: []string{"control"}}
	if s := r.answered(s, yes, open.Add(time.Minute)); !s.inVain() {
		t.Error("a need that never went is a new one")
	}
	s = r.answered(s, evNeed{sure: []string{"control"}}, open.Add(time.Minute)) // and another cannot tell
	if s := r.answered(s, yes, open.Add(time.Minute)); s.inVain() {
		t.Error("a new need is kept back")
	}
}

// An old need that a reboot did not cure stays known while a new one comes and goes.
func TestOldNeedBesideANewOne(t *testing.T) {
	r := testRules()
	s := in(locksmith.PhaseWindow, func(s *state) { s.mem.InVain = []string{"old"} })
	ask := func(reasons ...string) state {
		s = r.answered(s, evNeed{known: true, needed: len(reasons) > 0, reasons: reasons}, open)
		return s
	}
	if s := ask("old", "new"); s.inVain() {
		t.Error("the new need is kept back")
	}
	if s := ask("old"); !s.inVain() {
		t.Error("the old need is not kept back any more")
	}
	if s := ask("new"); s.mem.InVain != nil {
		t.Errorf("%q", s.mem.InVain)
	}
	if s := ask("old"); s.inVain() {
		t.Error("a need that came back is no new one")
	}
}

// That a reboot helped is remembered too: after a restart of the agent the next need for
// the same reason is a new one.
func TestCuredAndRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.setNeed(needed)
		w.reboots(w.run())
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Needed {
			t.Fatalf("%+v", s)
		}
		r.stop()
		w.setNeed(needed)
		w.reboots(w.run())
		w.run()
		synctest.Wait()
		if m := w.memory(); len(m.Reboots) != 2 || m.InVain != nil {
			t.Errorf("remembers %+v, did %q", m, w.done())
		}
	})
}

// The fourth reboot within a day waits until the first is a day ago.
func TestRebootsPerDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		often := func(c *Config) { c.MaxRebootsPerDay = 3 }
		for n := range 3 {
			w.setNeed(Need{Needed: true, Reason: fmt.Sprint("update ", n)})
			w.reboots(w.run(often))
			time.Sleep(time.Hour)
		}
		w.setNeed(Need{Needed: true, Reason: "update 4"})
		r := w.run(often)
		time.Sleep(time.Hour)
		synctest.Wait()
		s := r.Status()
		if s.Phase != locksmith.PhaseWindow || s.Waiting != "3 reboots in 24 h, at most 3 are allowed" || s.Held || w.count("queue") != 3 {
			t.Errorf("%+v %q", s, w.done())
		}
		i := slices.IndexFunc(s.Conditions, func(c locksmith.Condition) bool { return c.Name == locksmith.CondBreaker })
		if c := s.Conditions[i]; c.State != locksmith.CondWaiting || !locksmith.When(c.Until).Equal(w.began.Add(24*time.Hour)) {
			t.Errorf("%+v", c)
		}
		w.reboots(r)
		if at := time.Since(w.began); at != 24*time.Hour {
			t.Errorf("rebooted after %v", at)
		}
	})
}

func TestMinUptime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setNeed(needed)
		r := w.run(func(c *Config) { c.MinUptime, c.Booted = time.Hour, time.Now().Add(-10*time.Minute) })
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || s.Waiting != "the machine has been up for less than 1h0m0s" {
			t.Errorf("%+v", s)
		}
		w.reboots(r)
		if at := time.Since(w.began); at != 50*time.Minute {
			t.Errorf("rebooted after %v", at)
		}
	})
}

func TestBreaker(t *testing.T) {
	at := func(hours ...float64) (out []time.Time) { // before open
		for _, h := range hours {
			out = append(out, open.Add(-time.Duration(h*float64(time.Hour))))
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		rules   rules
		reboots []time.Time
		until   time.Duration // from open; 0: not kept back
	}{
		{"no limit", rules{}, at(3, 2, 1), 0},
		{"below the limit", rules{maxPerDay: 3}, at(2, 1), 0},
		{"at the limit", rules{maxPerDay: 3}, at(3, 2, 1), 21 * time.Hour},
		{"above the limit", rules{maxPerDay: 2}, at(4, 3, 2, 1), 22 * time.Hour},
		{"one is a day ago", rules{maxPerDay: 3}, at(24, 2, 1), 0},
		{"one is almost a day ago", rules{maxPerDay: 3}, at(23.5, 2, 1), 30 * time.Minute},
		{"the clock was put back an hour", rules{maxPerDay: 3}, at(1, 0.5, -1), 23 * time.Hour},
		{"in any order", rules{maxPerDay: 3}, at(-1, 0.5, 1), 23 * time.Hour},
		{"the clock was years ahead", rules{maxPerDay: 3}, at(-30000, -30001, -30002), 0},
		{"up for long", rules{minUptime: time.Hour, booted: open.Add(-time.Hour)}, nil, 0},
		{"up for less", rules{minUptime: time.Hour, booted: open.Add(-time.Minute)}, nil, 59 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, until := tt.rules.breaker(state{reasons: []string{"x"}, mem: Memory{Reboots: tt.reboots}}, open)
			if (why == "") != (tt.until == 0) || why != "" && !until.Equal(open.Add(tt.until)) {
				t.Errorf("%q until %v", why, until)
			}
		})
	}
}

// Whatever keeps a machine back before its blockers are asked also voids what they said.
func TestKeptBack(t *testing.T) {
	for name, tt := range map[string]struct {
		at    time.Time
		state func(*state)
		end   func(*state)
	}{
		"by the window":  {shut, func(*state) {}, func(*state) {}},
		"by the breaker": {open, func(s *state) { s.mem.InVain = s.reasons }, func(s *state) { s.mem.InVain = nil }},
		"by a pause":     {open, func(s *state) { s.pauses = []locksmith.Pause{pausedMachine} }, func(s *state) { s.pauses = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRules()
			s, effects := r.step(in(locksmith.PhaseWindow, func(s *state) {
				s.reasons, s.checked, s.vetoes, s.retryAt = []string{"x"}, true, []Veto{{"a", "b"}}, tt.at.Add(time.Hour)
				tt.state(s)
			}), evTick{}, tt.at)
			if len(effects) != 0 || s.checked || s.vetoes != nil || s.waiting == "" {
				t.Errorf("%v in state %+v", effects, s)
			}
			tt.end(&s)
			s, effects = r.step(s, evTick{}, opens)
			if len(effects) != 1 || effects[0].kind != effectCheck || s.waiting != "" || s.tripped != "" {
				t.Errorf("afterwards %v in state %+v", effects, s)
			}
		})
	}
}
