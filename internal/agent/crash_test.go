package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// cycles are the kinds of cycles that are interrupted at every point.
var cycles = map[string]struct {
	prepare func(*world)
	config  func(*world) func(*Config)
}{
	"alone":       {},
	"with a user": {prepare: func(w *world) { w.sessions = []Session{{ID: "1"}} }},
	"checks fail for a while": {
		prepare: func(w *world) {
			w.failing["verify"] = errBoom
			time.AfterFunc(7*time.Minute, func() { w.change(func() { delete(w.failing, "verify") }) })
		},
		config: func(*world) func(*Config) {
			return func(c *Config) { c.VerifyTimeout, c.VerifySoak = time.Minute, 15*time.Second }
		},
	},
	"prepare fails the first time": {prepare: func(w *world) {
		w.failing["prepare"] = errBoom
		time.AfterFunc(time.Minute, func() { w.change(func() { delete(w.failing, "prepare") }) })
	}},
	"the call fails the first time": {prepare: func(w *world) { w.rebootErrs = []error{errBoom, errBoom, errBoom} }},
	"paused in the middle": {prepare: func(w *world) {
		w.sessions = []Session{{ID: "1"}}
		until := time.Now().Add(time.Hour).Unix()
		time.AfterFunc(time.Minute, func() { w.pause(locksmith.Pause{Until: until}) })
	}},
	"soft": {config: func(*world) func(*Config) {
		return func(c *Config) { c.Method = locksmith.MethodSoftReboot }
	}},
	"without a lock": {config: func(w *world) func(*Config) {
		return func(c *Config) { c.Strategy, c.Machine = locksmith.StrategyReboot, &unlockedMachine{w} }
	}},
	"best-effort without etcd": {config: func(w *world) func(*Config) {
		return func(c *Config) {
			c.Strategy, c.Machine, c.UseLock = locksmith.StrategyBestEffort, &unlockedMachine{w}, w.useLock(false)
		}
	}},
}

// interrupted runs the world's machine, with whatever ends its agents, until nothing
// happens any more.
func (w *world) interrupted(config func(*world) func(*Config)) {
	change := func(*Config) {}
	if config != nil {
		change = config(w)
	}
	for range 10 {
		r := w.run(change)
		select {
		case <-time.After(3 * time.Hour):
			r.stop()
			return
		case <-r.done:
		}
		switch {
		case errors.Is(r.err, errMachineDown):
			w.boot()
		case !errors.Is(r.err, errCrashed):
			w.t.Fatal(r.err)
		}
	}
	w.t.Fatal("the machine does not come to rest")
}

// The agent crashes, or the machine loses power, before and after each effect of a
// cycle. Whatever follows: no slot is lost or kept, nothing stays prepared, the
// machine reboots once, and what it remembers is true.
func TestCrashAtEachEffect(t *testing.T) {
	for name, kind := range cycles {
		t.Run(name, func(t *testing.T) {
			begin := func(t *testing.T) *world {
				w := newWorld(t)
				w.remembers = true
				w.setNeed(needed)
				if kind.prepare != nil {
					kind.prepare(w)
				}
				return w
			}
			all := 0
			synctest.Test(t, func(t *testing.T) {
				w := begin(t)
				w.interrupted(kind.config)
				all = w.effects
				w.rests(1)
				if all < 10 {
					t.Errorf("only %d effects: %q", all, w.done())
				}
			})
			for n := 1; n <= all; n++ {
				for _, before := range []bool{true, false} {
					for _, power := range []bool{true, false} {
						t.Run(fmt.Sprintf("effect %d, before %v, power lost %v", n, before, power), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								w := begin(t)
								w.strike(n, before, power)
								w.interrupted(kind.config)
								atLeast := 1
								if power {
									atLeast = 0 // any boot cures
								}
								w.rests(atLeast)
							})
						})
					}
				}
			}
		})
	}
}

// strike ends the agent at the world's nth effect, and with power its machine.
func (w *world) strike(n int, before, power bool) {
	struck := false
	w.strikes = func(b bool) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.effects != n || b != before || struck {
			return false
		}
		struck = true
		if !power {
			w.note("crash")
			w.died(errCrashed)
			return true
		}
		w.note("power lost")
		w.need = Need{}
		w.methods = append(w.methods, "") // a whole one
		w.died(errMachineDown)
		return true
	}
}

// rests says what is wrong with the world after a cycle in which at least so many
// reboots that were asked for happened, and at most one.
func (w *world) rests(atLeast int) {
	w.t.Helper()
	happened := 0
	for _, m := range w.methods {
		if m != "" {
			happened++
		}
	}
	m := w.memory()
	switch {
	case w.holder != nil:
		w.t.Errorf("still held: %+v", w.holder)
	case w.queued != 0:
		w.t.Error("still in the queue")
	case w.owed:
		w.t.Error("still prepared")
	case happened < atLeast || happened > 1:
		w.t.Errorf("%d reboots", happened)
	case m.Cycle != nil || !m.NeededSince.IsZero():
		w.t.Errorf("remembers %+v", m)
	case happened == 1 && (m.Last == nil || m.Last.Outcome != rebooted || m.Outcomes[rebooted] != 1):
		w.t.Errorf("remembers the end as %+v and %v", m.Last, m.Outcomes)
	case len(m.Reboots) > 1 || happened == 1 && len(m.Reboots) != 1:
		w.t.Errorf("remembers as reboots %v", m.Reboots)
	default:
		return
	}
	w.t.Logf("%q", w.done())
}
