package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

var errDown = errors.New("unit x is down")

// unwell is a machine that is back from its reboot, whose checks fail.
func unwell(t *testing.T) *world {
	w := newWorld(t)
	w.remembers = true
	w.setNeed(needed)
	w.reboots(w.run())
	w.failing["verify"] = errDown
	w.began = time.Now()
	w.log = nil
	return w
}

func (w *world) well() { w.change(func() { delete(w.failing, "verify") }) }

// Within its time a failure is none yet.
func TestVerifyTimeout(t *testing.T) {
	patient := func(c *Config) { c.VerifyTimeout = 2 * time.Minute }
	t.Run("passes in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := unwell(t)
			r := w.run(patient)
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseVerifying || !s.Held || s.Waiting != "checks after the reboot do not pass yet: verify: unit x is down" {
				t.Errorf("%+v", s)
			}
			if n := w.count("verify"); n < 6 || n > 16 {
				t.Errorf("checked %d times in a minute", n)
			}
			w.well()
			time.Sleep(soakEvery)
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.count("advance to failed") != 0 || w.count("advance to verifying") != 1 {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
	t.Run("does not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := unwell(t)
			r := w.run(patient)
			time.Sleep(2*time.Minute + soakEvery)
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseFailed || !s.Held || w.count("advance to failed") != 1 || w.count("restore") != 0 {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
}

func TestVerifySoak(t *testing.T) {
	soak := func(c *Config) { c.VerifySoak = time.Minute }
	t.Run("keeps passing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := unwell(t)
			w.well()
			r := w.run(soak)
			time.Sleep(59 * time.Second)
			if s := r.Status(); s.Phase != locksmith.PhaseVerifying || !s.Held || s.Waiting != "checks after the reboot pass, watched until 00:01:00" {
				t.Errorf("%+v", s)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil || w.count("verify") != 7 {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
	t.Run("fails, passes, fails, passes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := unwell(t)
			r := w.run(soak)
			phase := func(after time.Duration, want locksmith.Phase) {
				t.Helper()
				time.Sleep(after)
				synctest.Wait()
				if s := r.Status(); s.Phase != want || !s.Held {
					t.Fatalf("in %s after %v: %s", s.Phase, time.Since(w.began), s.Waiting)
				}
			}
			phase(0, locksmith.PhaseFailed)
			w.well()
			phase(retryFirst, locksmith.PhaseVerifying)
			w.change(func() { w.failing["verify"] = errDown })
			phase(soakEvery, locksmith.PhaseFailed)
			w.well()
			phase(20*time.Second, locksmith.PhaseVerifying) // and from the beginning
			phase(35*time.Second, locksmith.PhaseVerifying)
			if w.count("restore") != 0 {
				t.Errorf("%q", w.done())
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held || w.count("advance to failed") != 2 {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
	t.Run("fails in time to start over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := unwell(t)
			w.well()
			r := w.run(soak, func(c *Config) { c.VerifyTimeout = time.Hour })
			time.Sleep(35 * time.Second)
			w.change(func() { w.failing["verify"] = errDown })
			time.Sleep(soakEvery)
			w.well()
			time.Sleep(59 * time.Second)
			if s := r.Status(); s.Phase != locksmith.PhaseVerifying || !s.Held {
				t.Errorf("%+v", s)
			}
			time.Sleep(2 * soakEvery) // it may have failed twice
			synctest.Wait()
			if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.count("advance to failed") != 0 {
				t.Errorf("%+v %q", s, w.done())
			}
		})
	})
}

// Unlocked, the fleet goes on; the machine itself is no better for that.
func TestUnlockedWhileFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unwell(t)
		fail := w.gate("verify")
		r := w.run()
		synctest.Wait()
		w.change(func() { w.holder = nil })
		fail()
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseFailed || s.Held || w.count("restore") != 0 || w.count("advance to failed") != 1 {
			t.Errorf("%+v %q", s, w.done())
		}
		w.well()
		time.Sleep(recheckBlocked)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.count("restore") != 1 || w.count("release: rebooted") != 0 || w.memory().Cycle != nil {
			t.Errorf("%+v %q", s, w.done())
		}
	})
}

// A machine that is known to have failed gets no time once more when its agent is
// restarted.
func TestRestartWhileFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unwell(t)
		patient := func(c *Config) { c.VerifyTimeout = time.Minute }
		r := w.run(patient)
		time.Sleep(2 * time.Minute)
		r.stop()
		w.log = nil
		r = w.run(patient)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseFailed || !s.Held {
			t.Errorf("%+v", s)
		}
		// The store says so already.
		if w.count("advance to failed") != 0 || w.count("advance to verifying") != 0 {
			t.Errorf("%q", w.done())
		}
		w.well()
		time.Sleep(recheckBlocked)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Held || w.count("restore") != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The reason gets into the holder record although the store was away at first, and
// again when it has changed, but not all the time.
func TestFailureIsWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unwell(t)
		w.failing["advance to failed"] = errors.New("etcd is away")
		w.run()
		time.Sleep(5 * time.Minute)
		tries := w.count("advance to failed")
		if tries < 5 || tries > 15 || w.holds().Phase == locksmith.PhaseFailed {
			t.Errorf("%d tries, %+v", tries, w.holds())
		}
		w.change(func() { delete(w.failing, "advance to failed") })
		time.Sleep(time.Hour)
		if h := w.holds(); h.Phase != locksmith.PhaseFailed || h.Reason != "verify: unit x is down" || w.count("advance to failed") != tries+1 {
			t.Errorf("%d tries, %+v", w.count("advance to failed"), h)
		}
		w.change(func() { w.failing["verify"] = errors.New("unit y is down") })
		time.Sleep(time.Hour)
		if h := w.holds(); h.Reason != "verify: unit y is down" || w.count("advance to failed") != tries+2 {
			t.Errorf("%d tries, %+v", w.count("advance to failed"), h)
		}
	})
}

// After it has failed once, a machine gets no time for another failure.
func TestFailsAgainInTheSoak(t *testing.T) {
	r := testRules()
	r.verifySoak = time.Minute
	s := in(locksmith.PhaseFailed, op(effectVerify), func(s *state) { s.verifyUntil, s.published = open.Add(time.Hour), true })
	s, _ = r.step(s, evDone{}, open)
	if s.phase != locksmith.PhaseVerifying || s.soakUntil.IsZero() {
		t.Fatalf("%+v", s)
	}
	s.op = effectVerify
	if s, _ = r.step(s, evDone{errBoom}, open.Add(soakEvery)); s.phase != locksmith.PhaseFailed || !s.soakUntil.IsZero() {
		t.Errorf("%+v", s)
	}
}
