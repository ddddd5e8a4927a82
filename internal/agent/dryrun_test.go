package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func dry(c *Config) { c.DryRun = true }

// A dry run goes through everything and does nothing; once for each need.
func TestDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		often := func(c *Config) { c.MaxRebootsPerDay = 1 }
		r := w.run(dry, often)
		time.Sleep(time.Minute)
		if s := r.Status(); s.Phase != locksmith.PhaseNotifying || s.Held || !s.DryRun {
			t.Errorf("%+v", s)
		}
		time.Sleep(24 * time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Waiting != dryWaits {
			t.Errorf("%+v", s)
		}
		w.expect("0s check", "0s sessions", "5m0s check")
		w.expectTold()
		w.setNeed(Need{Needed: true, Reason: "another"})
		time.Sleep(time.Hour)
		w.setNeed(Need{})
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Waiting == dryWaits {
			t.Errorf("%+v", s)
		}
		w.setNeed(needed)
		time.Sleep(time.Hour)
		if w.count("check") != 6 || len(w.disk) != 0 || w.prepared {
			t.Errorf("%q", w.done())
		}
	})
}

// What an earlier run left is left alone: slots, what was prepared, and the memory.
func TestDryRunAfterARealOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		r := w.run()
		time.Sleep(time.Minute)
		r.stop()
		holder, disk := *w.holds(), string(w.disk)
		r = w.run(dry)
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || s.Waiting != dryWaits {
			t.Errorf("%+v", s)
		}
		if h := w.holds(); h == nil || h.Phase != holder.Phase || h.PhaseTime != holder.PhaseTime || string(w.disk) != disk || w.count("restore") != 0 || w.count("prepare") != 1 {
			t.Errorf("%+v, %s", h, w.disk)
		}
		r.stop()
		r = w.run()
		w.reboots(r)
	})
}

// A dry run that is given up for another reason is tried again, as a real one is.
func TestDryRunIsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sessions = []Session{{ID: "1"}}
		w.window = daily{3, 1}
		untilClock(3, 57)
		w.setNeed(needed)
		r := w.run(dry)
		untilClock(4, 30)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow {
			t.Errorf("%+v", s)
		}
		untilClock(3, 30)
		if s := r.Status(); s.Waiting != dryWaits {
			t.Errorf("%+v", s)
		}
	})
}

// A dry run has no queue to wait in while it is paused.
func TestDryRunIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pause(pausedAll)
		check := w.gate("check")
		w.setNeed(needed)
		r := w.run(dry)
		synctest.Wait()
		check()
		time.Sleep(time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || s.Waiting != "all groups paused" || w.count("check") > 1 {
			t.Errorf("%+v %q", s, w.done())
		}
		w.pause()
		synctest.Wait()
		if s := r.Status(); s.Waiting != dryWaits {
			t.Errorf("%+v", s)
		}
	})
}
