package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

const keeper = "the FleetLock server https://f"

func fleetLock(c *Config) {
	c.Strategy, c.Keeper = locksmith.StrategyFleetLock, func() string { return keeper }
}

// The strategy fleet-lock takes and keeps slots like etcd-lock does.
func TestFleetLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.free = false
		r := w.run(fleetLock)
		w.setNeed(needed)
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseQueued || s.Held {
			t.Fatalf("without a slot: %+v", s)
		}
		if c := r.Status().Conditions; c[4].Text != "queues at "+keeper {
			t.Errorf("conditions are %+v", c)
		}
		w.setFree(true)
		w.reboots(r)
		if h := w.holds(); h == nil || h.Phase != locksmith.PhaseRebooting {
			t.Fatalf("rebooted with the record %+v", h)
		}
		r = w.run(fleetLock)
		synctest.Wait()
		if s := r.Status(); s.Phase != locksmith.PhaseIdle || w.holds() != nil || w.count("release: rebooted") != 1 {
			t.Errorf("after the reboot: %+v, %q", s, w.done())
		}
	})
}

// What the condition of the slot says with the strategy fleet-lock, and that nothing is
// said of pauses, which nobody tells of there, and of etcd.
func TestFleetLockConditions(t *testing.T) {
	r := testRules()
	r.strategy, r.keeper = locksmith.StrategyFleetLock, keeper
	queued := state{phase: locksmith.PhaseQueued, since: open, useLock: true, needed: true, needKnown: true, reason: "update", recovered: true}
	holding := queued
	holding.phase, holding.held = locksmith.PhaseAcquired, true
	lost := queued
	lost.phase, lost.recovered, lost.waiting = locksmith.PhaseRecovering, false, "what this machine holds is not known: away"
	window := queued
	window.phase = locksmith.PhaseWindow
	for _, tt := range []struct {
		name   string
		state  state
		report string
		want   string
	}{
		{"waits there", queued, "", "slot waiting: queues at " + keeper + " [0..]"},
		{"full", queued, locksmith.NoSlot + "is free: a, b", "slot waiting: no slot is free: a, b [0..]"},
		{"paused", queued, locksmith.ServerPaused + ": by alice", "slot blocked: the FleetLock server says that reboots are paused: by alice [0..]"},
		{"away", queued, "the server is away", "slot unknown: the server is away [0..]"},
		{"held", holding, "", "slot met: held, kept by " + keeper},
		{"before", window, "", "slot pending: asked for at " + keeper},
		{"not found out", lost, "", "slot unknown: what this machine holds is not known: away"},
	} {
		text := screen(r.conditions(tt.state, tt.report, open))
		var slot []string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "slot ") {
				slot = append(slot, strings.TrimSpace(line))
			}
		}
		if diff := cmp.Diff([]string{tt.want}, slot); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if strings.Contains(text, "etcd") || strings.Contains(text, "pause ") {
			t.Errorf("%s: %s", tt.name, text)
		}
	}
}
