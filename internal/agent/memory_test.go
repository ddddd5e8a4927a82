package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

// What is about to be done is on the disk before it is done; an ordinary cycle
// writes no more than that, and nothing to the store but grant, intent and release.
func TestIntentIsRememberedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		began := time.Now()
		w.setNeed(needed)
		w.reboots(w.run())
		m := w.memory()
		if c := m.Cycle; c == nil || c.Boot != "boot-1" || c.Method != locksmith.MethodReboot || !c.Asked.Equal(began) || !c.Prepared ||
			cmp.Diff(c.Reasons, []string{"new version"})+cmp.Diff(c.Triggers, []string{"test"}) != "" {
			t.Errorf("remembers %+v", c)
		}
		time.Sleep(30 * time.Second)
		r := w.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("0s find", "0s remember", "0s check", "0s queue", "0s granted", "0s remember", "0s prepare", "0s sessions",
			"0s check", "0s remember", "0s advance to rebooting", "0s reboot", "0s booted",
			"30s find", "30s verify", "30s restore", "30s release: rebooted", "30s remember")
		m = w.memory()
		back := began.Add(30 * time.Second)
		if l := m.Last; m.Cycle != nil || l == nil || !l.Time.Equal(back) || l.Outcome != rebooted || l.Down != 30*time.Second || len(l.Reasons) != 1 {
			t.Errorf("remembers %+v, %+v", m, l)
		}
		if len(m.Reboots) != 1 || !m.Reboots[0].Equal(began) || m.Outcomes[rebooted] != 1 || len(m.Outcomes) != 1 {
			t.Errorf("remembers reboots %v and outcomes %v", m.Reboots, m.Outcomes)
		}
		if s := r.Status(); s.LastReboot == nil || s.LastReboot.Outcome != rebooted || s.Outcomes[rebooted] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What cannot be remembered is not done.
func TestDiskFails(t *testing.T) {
	t.Run("before prepare", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.remembers = true
			w.failing["remember"] = errors.New("no space left")
			w.setNeed(needed)
			r := w.run()
			time.Sleep(4 * time.Minute)
			want := "aborted: what is about to be done cannot be remembered: no space left"
			if s := r.Status(); s.Held || s.Waiting != want+"; next try at 00:05:00" {
				t.Errorf("%+v", s)
			}
			if w.count("prepare") != 0 || w.count("restore") != 0 || w.count("release: "+want) != 1 {
				t.Errorf("%q", w.done())
			}
			w.change(func() { delete(w.failing, "remember") })
			w.reboots(r)
			if m := w.memory(); len(m.Reboots) != 1 || m.Outcomes["aborted"] != 1 || m.NeededSince.IsZero() {
				t.Errorf("remembers %+v", m)
			}
		})
	})
	t.Run("before the reboot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.remembers = true
			open := w.gate("prepare")
			w.setNeed(needed)
			r := w.run()
			synctest.Wait()
			w.change(func() { w.failing["remember"] = errors.New("no space left") })
			open()
			synctest.Wait()
			if s := r.Status(); s.Held || w.count(" reboot") != 0 || w.count("restore") != 1 || w.count("advance to rebooting") != 0 {
				t.Errorf("%+v %q", s, w.done())
			}
			w.change(func() { delete(w.failing, "remember") })
			w.reboots(r)
			if m := w.memory(); len(m.Reboots) != 1 {
				t.Errorf("remembers reboots %v", m.Reboots)
			}
		})
	})
	t.Run("at the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.remembers = true
			w.setNeed(needed)
			w.reboots(w.run())
			w.change(func() { w.failing["remember"] = errors.New("no space left") })
			r := w.run()
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil {
				t.Errorf("%+v", s)
			}
			r.stop()
			w.change(func() { delete(w.failing, "remember") })
			r = w.run() // sees the cycle once more, and ends it once more
			synctest.Wait()
			if m := w.memory(); r.Status().Phase != locksmith.PhaseIdle || m.Cycle != nil || m.Outcomes[rebooted] != 1 || w.count("release: rebooted") != 1 {
				t.Errorf("remembers %+v, did %q", m, w.done())
			}
		})
	})
}

// A change while the disk is being written to is written too.
func TestNeedGoesWhileItIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.run()
		synctest.Wait()
		open := w.gate("remember")
		w.setNeed(needed)
		synctest.Wait()
		w.setNeed(Need{})
		synctest.Wait()
		open()
		synctest.Wait()
		if m := w.memory(); !m.NeededSince.IsZero() {
			t.Errorf("remembers %+v", m)
		}
	})
}

// An administrator unlocks a machine that is down: it checks itself and undoes what
// was prepared all the same, and gives back nothing.
func TestUnlockedWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.setNeed(needed)
		w.reboots(w.run())
		w.change(func() { w.holder = nil })
		time.Sleep(time.Minute)
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.count("verify") != 1 || w.count("restore") != 1 || w.count("release: rebooted") != 0 {
			t.Errorf("%+v %q", s, w.done())
		}
		if m := w.memory(); m.Cycle != nil || m.Last == nil || m.Last.Outcome != rebooted || m.Last.Down != time.Minute || len(m.Reboots) != 1 {
			t.Errorf("remembers %+v", m)
		}
	})
}

// The slot is taken away while the agent is not running: it undoes what was prepared.
func TestUnlockedWhileStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		r.stop()
		w.change(func() { w.holder = nil })
		r = w.run()
		synctest.Wait()
		if s := r.Status(); s.Held || w.owed || w.count("restore") != 1 || s.LastReboot.Outcome != "aborted: the slot was taken away" {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

func TestAbortedCycleIsNoReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.rebootErrs = []error{errBoom, errBoom, errBoom}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		m := w.memory()
		if len(m.Reboots) != 0 || m.Cycle != nil || m.Outcomes["aborted"] != 1 || m.Last == nil || m.Last.Outcome != "aborted: the reboot call failed: errBoom" {
			t.Errorf("remembers %+v, %+v", m, m.Last)
		}
		if m.NeededSince.IsZero() || r.Status().NeededSince.IsZero() {
			t.Error("forgot since when a reboot is needed")
		}
	})
}

// A cycle of an earlier boot that could not be closed on the disk says nothing of
// the next one.
func TestStaleCycleIsNotContinued(t *testing.T) {
	r := testRules()
	r.remembers = true
	asked := open.Add(-time.Hour)
	s := in(locksmith.PhaseAcquired, func(s *state) {
		s.reasons = []string{"update"}
		s.mem.Cycle = &Cycle{Boot: "before", Asked: asked, Method: locksmith.MethodSoftReboot, Prepared: true}
	})
	s, effects := r.step(s, evTick{}, open)
	if len(effects) != 1 || effects[0].kind != effectRemember {
		t.Fatalf("%+v", effects)
	}
	if c := effects[0].memory.Cycle; c.Boot != "now" || !c.Asked.IsZero() || c.Method != "" || !c.Prepared {
		t.Errorf("remembers %+v", c)
	}
	if s.mem.Cycle.Boot != "now" {
		t.Errorf("%+v", s.mem.Cycle)
	}
}

// A reboot that was asked for, where only a soft one happened, was none.
func TestSoftRebootByAccident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers, w.accident, w.after = true, true, needed
		w.setNeed(needed)
		w.reboots(w.run())
		if w.bootID() != "boot-1+1" {
			t.Fatal(w.bootID())
		}
		w.change(func() { w.accident, w.after = false, Need{} })
		w.holder.BootID = "boot-1+1" // what reboot() of the world compares
		r := w.run()
		w.reboots(r)
		if w.count("verify") != 0 || w.count("release: rebooted") != 0 || w.count(" prepare") != 2 {
			t.Errorf("%q", w.done())
		}
		w.run()
		synctest.Wait()
		m := w.memory()
		if w.holds() != nil || w.owed || m.Cycle != nil || len(m.Reboots) != 1 || m.Outcomes[rebooted] != 1 || len(w.methods) != 2 {
			t.Errorf("remembers %+v, did %q", m, w.done())
		}
	})
}

// Without a memory, the configured method tells whether a soft reboot was it.
func TestSoftRebootWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		soft := func(c *Config) { c.Method = locksmith.MethodSoftReboot }
		w.setNeed(needed)
		w.reboots(w.run(soft))
		r := w.run(soft)
		synctest.Wait()
		if s := r.Status(); s.BootID != "boot-1+1" || s.Phase != locksmith.PhaseIdle || s.Held || w.count("release: rebooted") != 1 {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

// What the memory and the store say together at a start.
func TestRecovery(t *testing.T) {
	const (
		lock, alone = locksmith.StrategyEtcdLock, locksmith.StrategyReboot
		best        = locksmith.StrategyBestEffort
	)
	cycle := func(boot string, method locksmith.Method, asked bool) *Cycle {
		c := &Cycle{Boot: boot, Method: method, Prepared: true}
		if asked {
			c.Asked = open.Add(-time.Minute)
		}
		return c
	}
	own := func(boot string, phase locksmith.Phase) *locksmith.Slots {
		s := held(locksmith.ByAgent, boot, phase)
		return &s
	}
	byHand := held(locksmith.ByLock, "before", locksmith.PhaseAcquired)
	const reboot, soft = locksmith.MethodReboot, locksmith.MethodSoftReboot
	for _, tt := range []struct {
		name     string
		strategy locksmith.Strategy
		cycle    *Cycle
		found    *locksmith.Slots // nil: none
		boot     string
		phase    locksmith.Phase
		effect   effectKind
		outcome  string
	}{
		{"rebooted, slots held", lock, cycle("before", reboot, true), own("before", locksmith.PhaseRebooting), "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"rebooted, unlocked", lock, cycle("before", reboot, true), nil, "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"rebooted, held by hand meanwhile", lock, cycle("before", reboot, true), &byHand, "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"rebooted without a lock", alone, cycle("before", reboot, true), nil, "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"rebooted, etcd gone", best, cycle("before", reboot, true), nil, "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"power lost while preparing", lock, cycle("before", "", false), own("before", locksmith.PhaseAcquired), "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"power lost while preparing, no lock", alone, cycle("before", "", false), nil, "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"asked, no boot yet", lock, cycle("now", reboot, true), own("now", locksmith.PhaseRebooting), "now", locksmith.PhaseAcquired, effectDown, ""},
		{"asked, no boot yet, no lock", alone, cycle("now", reboot, true), nil, "now", locksmith.PhaseAcquired, effectDown, ""},
		{"asked, unlocked, no boot yet", lock, cycle("now", reboot, true), nil, "now", locksmith.PhaseRestoring, effectDown, "aborted: the slot was taken away"},
		{"prepared, unlocked", lock, cycle("now", "", false), nil, "now", locksmith.PhaseRestoring, effectRestore, "aborted: the slot was taken away"},
		{"prepared, no lock", alone, cycle("now", "", false), nil, "now", locksmith.PhaseAcquired, none, ""},
		{"soft reboot done", lock, cycle("now", soft, true), own("now", locksmith.PhaseRebooting), "now+1", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"second soft reboot of a boot", lock, cycle("now+1", soft, true), own("now", locksmith.PhaseRebooting), "now+2", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"soft reboot asked for in a boot with one, none done", lock, cycle("now+1", soft, true), own("now", locksmith.PhaseRebooting), "now+1", locksmith.PhaseAcquired, effectDown, ""},
		{"soft reboot instead of a reboot", lock, cycle("now", reboot, true), own("now", locksmith.PhaseRebooting), "now+1", locksmith.PhaseAcquired, effectDown, ""},
		{"soft reboot instead of a kexec, no lock", alone, cycle("now", locksmith.MethodKexec, true), nil, "now+1", locksmith.PhaseAcquired, effectDown, ""},
		{"reboot instead of a soft one", lock, cycle("before+1", soft, true), own("before+1", locksmith.PhaseRebooting), "now", locksmith.PhaseVerifying, effectVerify, rebooted},
		{"soft reboot while preparing", lock, cycle("now", "", false), own("now", locksmith.PhaseAcquired), "now+1", locksmith.PhaseAcquired, none, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRules()
			r.strategy, r.bootID, r.remembers = tt.strategy, tt.boot, true
			s, effects := r.step(start(open, Memory{Cycle: tt.cycle}), evTick{}, open)
			if tt.strategy == best {
				s, effects = r.step(s, evDecided{useLock: false}, open)
			}
			if tt.strategy == lock {
				var slots locksmith.Slots
				if tt.found != nil {
					slots = *tt.found
				}
				s, effects = r.step(s, evFound{slots: slots}, open)
			}
			got := none
			if len(effects) > 0 {
				got = effects[0].kind
			}
			if s.phase != tt.phase || got != tt.effect || s.outcome != tt.outcome {
				t.Errorf("got %s, %q, %q, want %s, %q, %q", s.phase, got, s.outcome, tt.phase, tt.effect, tt.outcome)
			}
			if s.phase != locksmith.PhaseAcquired && !s.prepared {
				t.Error("what was prepared would stay")
			}
		})
	}
}

func TestWay(t *testing.T) {
	for _, tt := range []struct{ configured, enough, atLeast, want locksmith.Method }{
		{"", "", "", "reboot"},
		{"", "soft-reboot", "soft-reboot", "soft-reboot"},
		{"", "", "soft-reboot", "reboot"}, // another trigger says nothing
		{"", "kexec", "kexec", "kexec"},
		{"soft-reboot", "", "", "soft-reboot"},
		{"soft-reboot", "kexec", "kexec", "kexec"},
		{"soft-reboot", "", "reboot", "reboot"},
		{"kexec", "soft-reboot", "soft-reboot", "kexec"},
		{"reboot", "soft-reboot", "soft-reboot", "reboot"},
		{"command", "reboot", "reboot", "command"},
	} {
		if got := (rules{method: tt.configured}).way(state{method: tt.enough, atLeast: tt.atLeast}); got != tt.want {
			t.Errorf("configured %q, enough %q, at least %q: %q, want %q", tt.configured, tt.enough, tt.atLeast, got, tt.want)
		}
	}
}

// The need grows between the intent and the call: the method is chosen anew, and
// remembered, before the call.
func TestMethodGrowsBeforeTheCall(t *testing.T) {
	r := testRules()
	r.remembers = true
	s := in(locksmith.PhaseRebooting, op(effectConfirm), func(s *state) {
		s.checked, s.noted, s.since, s.reasons = true, true, open, []string{"a"}
		s.mem.Cycle = &Cycle{Boot: "now", Method: locksmith.MethodSoftReboot, Asked: open, Prepared: true}
		s.mem.Reboots = []time.Time{open}
	})
	s, effects := r.step(s, evNeed{known: true, needed: true, reason: "a; b", reasons: []string{"a", "b"}, atLeast: locksmith.MethodKexec}, open)
	if len(effects) != 0 {
		t.Fatal(effects)
	}
	s, effects = r.step(s, evAdvanced{slots: s.slots}, open.Add(time.Second))
	if len(effects) != 1 || effects[0].kind != effectRemember {
		t.Fatalf("%+v", effects)
	}
	m := effects[0].memory
	if m.Cycle.Method != locksmith.MethodReboot || len(m.Cycle.Reasons) != 2 || len(m.Reboots) != 1 || !m.Reboots[0].Equal(m.Cycle.Asked) {
		t.Errorf("remembers %+v, %v", m.Cycle, m.Reboots)
	}
	if _, effects = r.step(s, evDone{}, open.Add(time.Second)); len(effects) != 1 || effects[0].method != locksmith.MethodReboot {
		t.Errorf("%+v", effects)
	}
}

// What the triggers say together about the method.
func TestCombinedMethods(t *testing.T) {
	l := &loop{Agent: &Agent{cfg: Config{Triggers: make([]Trigger, 2)}}}
	for _, tt := range []struct{ a, b, enough, atLeast locksmith.Method }{
		{"soft-reboot", "soft-reboot", "soft-reboot", "soft-reboot"},
		{"soft-reboot", "kexec", "kexec", "kexec"},
		{"soft-reboot", "", "", "soft-reboot"},
		{"", "", "", ""},
	} {
		l.needs = map[string]Need{"a": {Trigger: "a", Needed: true, Method: tt.a}, "b": {Trigger: "b", Needed: true, Method: tt.b}}
		if got := l.combine(); got.method != tt.enough || got.atLeast != tt.atLeast {
			t.Errorf("%q and %q: enough %q, at least %q", tt.a, tt.b, got.method, got.atLeast)
		}
	}
	l.needs = map[string]Need{"a": {Trigger: "a", Err: errBoom, Needed: true, Method: "kexec"}, "b": {Trigger: "b", Needed: true, Method: "soft-reboot"}}
	if got := l.combine(); got.method != "soft-reboot" || len(got.triggers) != 1 || len(got.sure) != 1 {
		t.Errorf("%+v", got)
	}
}
