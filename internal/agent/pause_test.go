package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

var (
	pausedMachine = locksmith.Pause{Scope: locksmith.PauseScope{Machine: "m"}, By: "alice", Reason: "disk is replaced"}
	pausedLB      = locksmith.Pause{Scope: locksmith.PauseScope{Group: "lb"}}
	pausedAll     = locksmith.Pause{Scope: locksmith.PauseScope{All: true}}
)

func inGroups(groups ...locksmith.Group) func(*Config) {
	return func(c *Config) { c.Groups = groups }
}

// followed is how often pauses were followed.
func (w *world) followed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.follows
}

// A paused machine does not even queue where that would hold up
// others, and goes on once it may.
func TestPausedBeforeTheQueue(t *testing.T) {
	for name, pause := range map[string]locksmith.Pause{"machine m": pausedMachine, "group lb": pausedLB} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				check := w.gate("check")
				w.pause(pause)
				w.setNeed(needed)
				r := w.run(inGroups("", "lb"))
				synctest.Wait()
				check()
				time.Sleep(24 * time.Hour)
				s := r.Status()
				if s.Phase != locksmith.PhaseWindow || !strings.HasPrefix(s.Waiting, name+" paused") || w.count("queue") != 0 || len(s.Pauses) != 1 {
					t.Errorf("%+v %q", s, w.done())
				}
				if w.count("check") > 1 {
					t.Errorf("asks its blockers all the time: %q", w.done())
				}
				before := time.Now()
				w.pause()
				w.reboots(r)
				if took := time.Since(before); took != 0 {
					t.Errorf("resumed after %v", took)
				}
			})
		})
	}
}

func TestPausedInTheQueue(t *testing.T) {
	for _, tt := range []struct {
		name   string
		groups []locksmith.Group
		pauses []locksmith.Pause
		stays  bool
	}{
		{"machine", []locksmith.Group{""}, []locksmith.Pause{pausedMachine}, false},
		{"one group of two", []locksmith.Group{"", "lb"}, []locksmith.Pause{pausedLB}, false},
		{"its only group", []locksmith.Group{"lb"}, []locksmith.Pause{pausedLB}, true},
		{"both groups", []locksmith.Group{"", "lb"}, []locksmith.Pause{pausedLB, {}}, true},
		{"all groups", []locksmith.Group{"", "lb"}, []locksmith.Pause{pausedAll}, true},
		{"one group, and all", []locksmith.Group{"", "lb"}, []locksmith.Pause{pausedLB, pausedAll}, true},
		{"all groups and the machine", []locksmith.Group{"", "lb"}, []locksmith.Pause{pausedAll, pausedMachine}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setFree(false)
				w.setNeed(needed)
				r := w.run(inGroups(tt.groups...))
				synctest.Wait()
				w.pause(tt.pauses...)
				time.Sleep(time.Hour)
				s := r.Status()
				if stays := w.waits() == 1; stays != tt.stays || (s.Phase == locksmith.PhaseQueued) != tt.stays || len(s.Pauses) != len(tt.pauses) {
					t.Errorf("%+v", s)
				}
				if w.count("queue") > 2 {
					t.Errorf("%q", w.done())
				}
				w.pause()
				synctest.Wait()
				if s := r.Status(); w.waits() != 1 || s.Phase != locksmith.PhaseQueued || len(s.Pauses) != 0 {
					t.Errorf("resumed: %+v", s)
				}
				w.setFree(true)
				w.reboots(r)
			})
		})
	}
}

// A pause stops what is under way at the next chance, and everything is undone.
func TestPausedUnderWay(t *testing.T) {
	gone := func(w *world, r *running, why string) {
		t.Helper()
		synctest.Wait()
		if s := r.Status(); s.Held || w.holds() != nil || w.count(" reboot") != 0 || w.count("restore") != 1 || w.count("release: aborted: "+why) != 1 {
			t.Errorf("%+v %q", s, w.done())
		}
		time.Sleep(time.Hour)
		if w.count(" reboot") != 0 || w.count("granted") != 1 {
			t.Errorf("%q", w.done())
		}
		w.change(func() { w.unheard = nil })
		w.pause()
		w.reboots(r)
	}
	const why = "machine m paused by alice: disk is replaced"
	t.Run("preparing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			open := w.gate("prepare")
			w.setNeed(needed)
			r := w.run()
			synctest.Wait()
			w.pause(pausedMachine)
			synctest.Wait()
			open()
			gone(w, r, why)
		})
	})
	t.Run("notifying", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.sessions = []Session{{ID: "1"}}
			w.setNeed(needed)
			r := w.run()
			time.Sleep(time.Minute)
			w.pause(pausedMachine)
			gone(w, r, why)
		})
	})
	t.Run("confirming", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.failing["advance to rebooting"] = errors.New("etcd is away")
			w.setNeed(needed)
			r := w.run()
			synctest.Wait()
			w.pause(pausedMachine)
			synctest.Wait()
			w.change(func() { delete(w.failing, "advance to rebooting") })
			gone(w, r, why)
		})
	})
	t.Run("and only the store has heard of it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			open := w.gate("prepare")
			w.setNeed(needed)
			r := w.run()
			synctest.Wait()
			w.change(func() { w.unheard = []locksmith.Pause{pausedMachine} })
			open()
			synctest.Wait()
			w.pause(pausedMachine)
			gone(w, r, why)
		})
	})
}

// A short pause costs no more than its own time: the machine asks again when it is
// over, and a little later where only the store knows.
func TestShortPauseUnderWay(t *testing.T) {
	for name, unheard := range map[string]bool{"heard of": false, "not heard of": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				open := w.gate("prepare")
				w.setNeed(needed)
				r := w.run()
				synctest.Wait()
				pauses, most := []locksmith.Pause{pausedMachine}, time.Duration(0)
				if unheard {
					w.change(func() { w.unheard = pauses })
					most = recheckBlocked
				} else {
					w.pause(pauses...)
					synctest.Wait()
				}
				open()
				time.Sleep(time.Second)
				if w.holds() != nil || w.count("restore") != 1 {
					t.Fatalf("%+v %q", r.Status(), w.done())
				}
				w.change(func() { w.unheard = nil })
				w.pause()
				resumed := time.Now()
				w.reboots(r)
				if took := time.Since(resumed); took > most {
					t.Errorf("rebooted %v after the end of the pause: %q", took, w.done())
				}
			})
		})
	}
}

func TestPauseEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, last := pausedMachine, pausedLB
		first.Until, last.Until = w.began.Add(time.Hour).Unix(), w.began.Add(2*time.Hour).Unix()
		w.pause(first, last)
		w.setNeed(needed)
		check := w.gate("check")
		r := w.run(inGroups("", "lb"))
		synctest.Wait()
		check()
		time.Sleep(90 * time.Minute)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || s.Waiting != "group lb paused until 2000-01-01 02:00 UTC" || len(s.Pauses) != 1 {
			t.Errorf("%+v", s)
		}
		w.reboots(r)
		if at := time.Since(w.began); at != 2*time.Hour {
			t.Errorf("rebooted after %v", at)
		}
	})
}

// Nothing wakes an agent that prepares when a pause is over, but its status knows.
func TestPauseEndsWhilePreparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.gate("prepare")
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		p := pausedAll
		p.Until = w.began.Add(time.Hour).Unix()
		w.pause(p)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhasePreparing || len(s.Pauses) != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhasePreparing || len(s.Pauses) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// In the queue, too, the status says when a pause is over.
func TestPauseEndsInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setFree(false)
		p := pausedAll
		p.Until = w.began.Add(time.Hour).Unix()
		w.pause(p)
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseQueued || len(s.Pauses) != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseQueued || len(s.Pauses) != 0 || s.Conditions[2].State != locksmith.CondMet {
			t.Errorf("%+v", s)
		}
	})
}

// The store refuses the wait although the machine has not heard of a pause: it comes
// back now and then, and at once when it hears that something has changed.
func TestRefusedForAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failing["queue"] = &locksmith.PausedError{Pauses: []locksmith.Pause{pausedMachine}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || s.Waiting != "machine m paused by alice: disk is replaced" || w.count("queue") > 30 {
			t.Errorf("%+v: %d tries", s, w.count("queue"))
		}
		w.change(func() { delete(w.failing, "queue") })
		before := time.Now()
		w.pause()
		w.reboots(r)
		if took := time.Since(before); took != 0 {
			t.Errorf("resumed after %v", took)
		}
	})
}

func TestNoLockNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pause(pausedMachine, pausedAll)
		w.setNeed(needed)
		w.reboots(w.run(func(c *Config) { c.Strategy, c.Machine = locksmith.StrategyReboot, &unlockedMachine{w} }))
		if w.followed() != 0 {
			t.Error("asks a store that it does not use")
		}
	})
}

// What was heard of pauses is forgotten with the need for it.
func TestPauseOfAnEarlierNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pause(pausedMachine)
		w.setNeed(needed)
		check := w.gate("check")
		r := w.run()
		synctest.Wait()
		check()
		w.setNeed(Need{})
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || len(s.Pauses) != 0 {
			t.Errorf("%+v", s)
		}
		w.pause() // nobody listens
		w.setNeed(needed)
		w.reboots(r)
	})
}

// Pauses that cannot be followed any more keep nobody waiting for ever; and they are
// followed again.
func TestPausesCannotBeFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		check := w.gate("check") // until the pause is heard of
		w.pause(pausedMachine)
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		check()
		synctest.Wait()
		w.change(func() { w.failing["follow"] = errors.New("no permission") })
		w.pause()
		w.reboots(r)

		w.change(func() { w.failing["queue"] = &locksmith.PausedError{Pauses: []locksmith.Pause{pausedMachine}} })
		w.setNeed(needed)
		before := w.followed()
		r = w.run()
		time.Sleep(10 * time.Minute)
		if n := w.followed() - before; n < 5 || n > 20 {
			t.Errorf("followed %d times", n)
		}
		w.change(func() { delete(w.failing, "follow"); delete(w.failing, "queue") })
		w.reboots(r)
	})
}

// A follower that was ended, and whose last words come late, is not listened to.
func TestLateFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setFree(false)
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		w.setNeed(Need{})
		synctest.Wait()
		w.setNeed(needed)
		synctest.Wait()
		r.events <- evFollowed{1, evPauses{pauses: []locksmith.Pause{pausedMachine}}}
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseQueued || len(s.Pauses) != 0 {
			t.Errorf("%+v", s)
		}
		r.events <- evFollowed{2, evPauses{pauses: []locksmith.Pause{pausedMachine}}}
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || len(s.Pauses) != 1 {
			t.Errorf("%+v", s)
		}
	})
}
