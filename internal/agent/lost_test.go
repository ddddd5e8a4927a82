package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// inRackAndCluster is an agent that needs a slot in two groups.
func inRackAndCluster(c *Config) { c.Groups = []locksmith.Group{"cluster", "rack"} }

// An administrator takes one of two slots away. The machine does not reboot on the
// other one: it undoes what it prepared, and gives that back.
func TestOneOfTwoSlotsIsTakenAway(t *testing.T) {
	const outcome = "aborted: the slot of rack was taken away"
	for name, tt := range map[string]struct {
		prepare func(*world)
		lose    func(*world, *running) // until the slot is gone; may stop the agent
		reboots int                    // calls, that came to nothing
	}{
		"while its users are given time": {lose: func(w *world, _ *running) {
			time.Sleep(time.Minute)
			w.unlock("rack")
		}},
		"while it prepares": {lose: func(w *world, _ *running) {
			open := w.gate("prepare")
			time.Sleep(time.Second)
			w.unlock("rack")
			open()
		}},
		"while it is looked up once more": {lose: func(w *world, _ *running) {
			time.Sleep(DefaultLoginDelay - time.Second)
			open := w.gate("check")
			time.Sleep(2 * time.Second)
			w.unlock("rack")
			open()
		}},
		"after it wrote that it reboots, and the call failed": {
			prepare: func(w *world) { w.rebootErrs = []error{errBoom} },
			lose: func(w *world, _ *running) {
				time.Sleep(DefaultLoginDelay + time.Second)
				w.unlock("rack")
			},
			reboots: 1,
		},
		"after it wrote that it reboots, which did not happen": {
			prepare: func(w *world) { w.hang = true },
			lose: func(w *world, _ *running) {
				time.Sleep(DefaultLoginDelay + time.Second)
				w.unlock("rack")
			},
			reboots: 1,
		},
		"while no agent runs": {lose: func(w *world, r *running) {
			time.Sleep(time.Minute)
			r.stop()
			w.unlock("rack")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.sessions = []Session{{ID: "1"}}
				if tt.prepare != nil {
					tt.prepare(w)
				}
				w.setNeed(needed)
				r := w.run(inRackAndCluster)
				tt.lose(w, r)
				select {
				case <-r.done:
					r = w.run(inRackAndCluster)
				default:
				}
				w.change(func() { w.free = false }) // the next wait tells no more
				time.Sleep(DefaultLoginDelay + DefaultRebootGrace + time.Minute)
				synctest.Wait()
				s := r.Status()
				if w.holds() != nil || s.Held || w.owed || w.count("release: "+outcome) != 1 || w.count(" reboot") != tt.reboots {
					t.Errorf("the record %+v is left, %+v\n%q", w.holds(), s, w.done())
				}
			})
		})
	}
}

// Once a reboot was asked for, logind decides: while the machine goes down, what it has
// left stays held, however long that takes. Should it stay up after all, no other reboot
// is asked for on that.
func TestOneOfTwoSlotsIsTakenAwayFromAMachineThatGoesDown(t *testing.T) {
	for name, stays := range map[string]bool{"it goes": false, "it stays": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.hang, w.shutdown = true, true
				w.setNeed(needed)
				r := w.run(inRackAndCluster)
				time.Sleep(time.Minute)
				w.unlock("rack")
				time.Sleep(3 * DefaultRebootGrace)
				synctest.Wait()
				if s := r.Status(); !s.Held || w.holds() == nil || !w.owed || w.count(" reboot") != 1 {
					t.Fatalf("given up while it goes down: %+v\n%q", s, w.done())
				}
				if stays {
					w.change(func() { w.shutdown, w.free = false, false })
					time.Sleep(3 * DefaultRebootGrace)
					synctest.Wait()
					if s := r.Status(); s.Held || w.holds() != nil || w.owed || w.count(" reboot") != 1 {
						t.Errorf("it stays up: %+v\n%q", s, w.done())
					}
					return
				}
				r.stop()
				w.change(func() { w.need = Need{} })
				w.boot()
				r = w.run(inRackAndCluster)
				synctest.Wait()
				if s := r.Status(); s.Held || w.holds() != nil || w.owed || w.count("release: rebooted") != 1 {
					t.Errorf("after the boot: %+v\n%q", s, w.done())
				}
			})
		})
	}
}

// An administrator unlocks a machine that fails its checks in one of its groups: the
// other one waits for it still, until the checks pass.
func TestOneOfTwoSlotsIsTakenAwayFromAFailedMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setNeed(needed)
		w.reboots(w.run(inRackAndCluster))
		w.change(func() { w.failing["verify"] = errBoom })
		fail := w.gate("verify")
		r := w.run(inRackAndCluster)
		synctest.Wait()
		w.unlock("rack")
		fail()
		time.Sleep(time.Hour)
		if s, h := r.Status(), w.holds(); s.Phase != locksmith.PhaseFailed || !s.Held || h == nil || h.Phase != locksmith.PhaseFailed || w.count("advance to failed") != 2 {
			t.Fatalf("%+v, the record %+v\n%q", s, h, w.done())
		}
		w.change(func() { delete(w.failing, "verify") })
		time.Sleep(recheckBlocked)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil || w.count("release: rebooted") != 1 {
			t.Errorf("%+v, the record %+v\n%q", s, w.holds(), w.done())
		}
	})
}

// An agent is killed while it writes that it reboots, and that is carried out only after
// its successor has looked. Nothing was taken from it: it looks again, and goes on.
func TestWrittenByAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setNeed(needed)
		advance := w.gate("advance to rebooting")
		r := w.run(inRackAndCluster)
		synctest.Wait()
		r.stop()
		advance()
		prepare := w.gate("prepare")
		r = w.run(inRackAndCluster)
		synctest.Wait()
		w.writeLate()
		again := time.Now()
		prepare()
		w.reboots(r)
		if took := time.Since(again); took > time.Minute || w.count("granted") != 1 || w.count("release") != 0 {
			t.Errorf("after %v: %q", took, w.done())
		}
	})
}

// A machine that is put into other groups while it is under way gives back the slots of
// those before, too, which it sees by its presence; also where it is started once more
// before it has done so.
func TestOtherGroupsThanWereTaken(t *testing.T) {
	for name, groups := range map[string][]locksmith.Group{"fewer": {"rack"}, "others": {"web"}} {
		for when, reboots := range map[string]bool{"before the reboot": false, "while it reboots": true} {
			t.Run(name+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.setNeed(needed)
					at := "prepare"
					if reboots {
						at = "reboot"
					}
					open := w.gate(at)
					r := w.run(inRackAndCluster)
					synctest.Wait()
					w.change(func() { w.seen = r.Status().Presence().Groups })
					if reboots {
						open()
						w.reboots(r)
					} else {
						r.stop()
						open()
					}
					w.change(func() { w.need = Need{} })
					if reboots { // and once more, before it is done
						open := w.gate("verify")
						r = w.run(inGroups(groups...))
						synctest.Wait()
						w.change(func() { w.seen = r.Status().Presence().Groups })
						r.stop()
						open()
					}
					r = w.run(inGroups(groups...))
					time.Sleep(2 * needWait)
					synctest.Wait()
					if s := r.Status(); s.Held || w.holds() != nil {
						t.Errorf("%+v\n%q", s, w.done())
					}
					if got := r.Status().Presence().Groups; !slices.Equal(got, groups) {
						t.Errorf("in the end it is in %v", got)
					}
				})
			})
		}
	}
}
