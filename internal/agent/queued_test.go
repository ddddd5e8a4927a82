package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// An agent that starts without a need takes the entry of the process before it out of
// the queue. A grant that was under way comes before that, and is given back, or after
// it, and fails.
func TestEntryOfAnEarlierProcess(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("granted late ", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.ghost = true
				open := w.gate("withdraw")
				r := w.run()
				synctest.Wait()
				if late && !w.grantLate("") {
					t.Fatal("the entry is gone before it is taken out")
				}
				open()
				synctest.Wait()
				if w.grantLate("") {
					t.Error("the entry still stands")
				}
				gaveBack := w.count("release: aborted: no reboot is needed any more") == 1
				if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held || w.holds() != nil || gaveBack != late {
					t.Errorf("%+v\n%q", s, w.done())
				}
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				if w.count("find") != 1 || w.count("withdraw") != 1 {
					t.Errorf("looks again and again: %q", w.done())
				}
			})
		})
	}
}

// An agent whose machine still needs the reboot goes on in the place of the process
// before it, and finds what that one was granted.
func TestPlaceOfAnEarlierProcess(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("granted late ", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.ghost = true
				open := w.gate("queue")
				w.setNeed(needed)
				r := w.run()
				synctest.Wait()
				if late {
					w.grantLate("")
				}
				open()
				w.reboots(r)
				w.change(func() { w.need = Need{} })
				r = w.run()
				synctest.Wait()
				if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil || !late && w.count("withdraw") != 0 {
					t.Errorf("%+v\n%q", s, w.done())
				}
			})
		})
	}
}

// A machine that is kept back, by its window or by a check, is in no queue, and does not
// hold what it was granted there before.
func TestEntryOfAMachineThatIsKeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ghost, w.window = true, daily{3, 1}
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || w.ghost || w.count("withdraw") != 1 {
			t.Errorf("%+v\n%q", s, w.done())
		}
		untilClock(3, 0)
		w.reboots(r)
	})
}

// Where the end of a wait left it open whether slots were granted, the agent looks again
// until it knows, and gives back what it finds.
func TestWaitThatEndedWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failing["queue"], w.failing["withdraw"] = locksmith.ErrMayHold, errors.New("etcd is away")
		w.gate("queue")
		w.setNeed(needed)
		r := w.run()
		synctest.Wait()
		w.change(func() { w.ghost = true })
		w.setNeed(Need{}) // ends the wait
		time.Sleep(time.Minute)
		if s := r.Status(); s.Phase != locksmith.PhaseRecovering || w.count("withdraw") < 2 {
			t.Fatalf("%+v\n%q", s, w.done())
		}
		if !w.grantLate("") {
			t.Fatal("the entry is gone")
		}
		w.change(func() { delete(w.failing, "withdraw") })
		time.Sleep(retryLast)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil {
			t.Errorf("%+v, the record %+v\n%q", s, w.holds(), w.done())
		}
	})
}
