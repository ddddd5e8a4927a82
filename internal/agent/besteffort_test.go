package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func TestBestEffortWithoutEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		unlocked := &unlockedMachine{w}
		r := w.run(func(c *Config) {
			c.Strategy = locksmith.StrategyBestEffort
			c.UseLock = w.useLock(false)
			c.Machine = unlocked
		})
		w.setNeed(needed)
		w.reboots(r)
		if w.count("queue") != 0 || w.count("rebooted unlocked") != 1 {
			t.Errorf("%q", w.done())
		}
	})
}

// An etcd that was configured and is down is still running: the machine waits.
func TestBestEffortWithEtcdDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failing["find"] = errors.New("etcd is away")
		w.setNeed(needed)
		r := w.run(func(c *Config) { c.Strategy, c.UseLock = locksmith.StrategyBestEffort, w.useLock(true) })
		time.Sleep(24 * time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseRecovering || s.Waiting != "what this machine holds is not known: etcd is away" {
			t.Errorf("%+v", s)
		}
	})
}

// That an idle agent looks for etcd once a minute concerns nobody.
func TestBestEffortIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run(func(c *Config) {
			c.Strategy, c.UseLock, c.Coordinator = locksmith.StrategyBestEffort, w.useLock(false), w
		})
		time.Sleep(time.Hour)
		w.expect("0s coordinator starting", "0s coordinator running")
	})
}

// Whether etcd runs is asked for each reboot, not only at the start.
func TestBestEffortWhenEtcdIsTurnedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var off atomic.Bool
		r := w.run(func(c *Config) {
			c.Strategy, c.Machine, c.Coordinator = locksmith.StrategyBestEffort, &unlockedMachine{w}, w
			c.UseLock = func(context.Context) (bool, error) { return !off.Load(), nil }
		})
		time.Sleep(time.Hour)
		off.Store(true)
		w.setNeed(needed)
		w.reboots(r)
		if w.count("find") != 1 || w.count("queue") != 0 {
			t.Errorf("%q", w.done())
		}
	})
}
