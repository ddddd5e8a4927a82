package rollout_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/rollout"
)

func phase(p locksmith.Phase, since float64) func(*locksmith.HolderStatus) {
	return func(h *locksmith.HolderStatus) { h.Phase, h.PhaseTime = p, at(since).Unix() }
}

func silent(h *locksmith.HolderStatus) { h.Present = false }

func TestReckon(t *testing.T) {
	agent := locksmith.ByAgent
	for _, tt := range []struct {
		name string
		s    *story
		now  float64
		want rollout.Progress
	}{
		{"nothing was ever done", tell(1), 10, rollout.Progress{
			Reckoning: "No rollout is running."}},
		{"the example of the documentation", tell(1).oneByOne(12).lock(63, "m12", agent, "").queue(27), 63, rollout.Progress{
			Running: true, Start: at(0), Done: 12, Remaining: 28, Total: 40, Pace: minutes(5.25), Ends: at(63 + 147),
			Reckoning: "12 of 40 machines rebooted in 1 h 3 min, one every 5 min 15 s; the 28 left take about 2 h 27 min at this pace."}},
		{"the next takes longer than those before", tell(1).oneByOne(12).lock(63, "m12", agent, "").queue(27), 83, rollout.Progress{
			Running: true, Start: at(0), Done: 12, Remaining: 28, Total: 40, Pace: minutes(83) / 13, Ends: at(83).Add(28 * (minutes(83) / 13)),
			Reckoning: "12 of 40 machines rebooted in 1 h 3 min and none in the 20 min since, one every 6 min 23 s; the 28 left take about 2 h 58 min at this pace."}},
		{"more than twenty: the last twenty count", tell(1).reboots(0, 100, "slow").reboots(100, 103, "n1").
			then(20, 103, 3).lock(163, "x", agent, "").queue(1), 163, rollout.Progress{
			Running: true, Start: at(0), Done: 22, Remaining: 2, Total: 24, Pace: minutes(3), Ends: at(169),
			Reckoning: "22 of 24 machines rebooted, the last 20 of them in 1 h, one every 3 min; the 2 left take about 6 min at this pace."}},
		{"the first one is under way", tell(1).lock(0, "m0", agent, "").queue(3), 4, rollout.Progress{
			Running: true, Start: at(0), Remaining: 4, Total: 4,
			Reckoning: "0 of 4 machines rebooted, 4 min after the start.",
			Why:       "No machine has rebooted yet, so there is no pace."}},
		{"one tells only roughly", tell(1).reboots(0, 5, "m0").lock(5, "m1", agent, "").queue(1), 5, rollout.Progress{
			Running: true, Start: at(0), Done: 1, Remaining: 2, Total: 3, Pace: minutes(5), Ends: at(15),
			Reckoning: "1 of 3 machines rebooted in 5 min, one every 5 min; the 2 left take about 10 min at this pace. So few tell the pace only roughly."}},
		{"ten at a time: the last one takes as long as any", tell(10).parallel(10, 0, 20).lock(20, "last", agent, ""), 25, rollout.Progress{
			Running: true, Start: at(0), Done: 10, Remaining: 1, Total: 11, Pace: minutes(25) / 11, Ends: at(40),
			Reckoning: "10 of 11 machines rebooted in 20 min and none in the 5 min since, one every 2 min 16 s; the one left takes about 15 min more, as one machine takes 20 min from slot to slot."}},
		{"paused", tell(1).oneByOne(4).pause(21).queue(2), 40, rollout.Progress{
			Running: true, Start: at(0), Done: 4, Remaining: 2, Total: 6, Pace: minutes(5.25),
			Reckoning: "4 of 6 machines rebooted in 21 min, one every 5 min 15 s.",
			Why:       "Group web paused by alice: moving racks."}},
		{"a pause is no part of the pace, and does not end the rollout", tell(1).oneByOne(4).pause(21).resume(21+600).
			reboots(621, 621+5.25, "m4").queue(2), 626.25, rollout.Progress{
			Running: true, Start: at(0), Done: 5, Remaining: 2, Total: 7, Pace: minutes(5.25), Ends: at(626.25 + 10.5),
			Reckoning: "5 of 7 machines rebooted in 26 min 15 s, one every 5 min 15 s; the 2 left take about 10 min at this pace."}},
		{"pauses told by clocks that differ are left out once", tell(1).oneByOne(4).pause(21).resume(50).pause(30).resume(60).
			reboots(60, 65.25, "m4").queue(1), 65.25, rollout.Progress{
			Running: true, Start: at(0), Done: 5, Remaining: 1, Total: 6, Pace: minutes(5.25), Ends: at(65.25 + 5.25),
			Reckoning: "5 of 6 machines rebooted in 26 min 15 s, one every 5 min 15 s; the one left takes about 5 min at this pace."}},
		{"who waits takes as long as any, once it begins", tell(10).parallel(10, 0, 20).lock(20, "next", agent, "").queue(1), 21, rollout.Progress{
			Running: true, Start: at(0), Done: 10, Remaining: 2, Total: 12, Pace: minutes(2), Ends: at(41),
			Reckoning: "10 of 12 machines rebooted in 20 min, one every 2 min; the 2 left take about 20 min more, as one machine takes 20 min from slot to slot."}},
		{"max 0", tell(0).waits(0, "m0", agent), 4, rollout.Progress{
			Running: true, Start: at(0), Remaining: 1, Total: 1,
			Reckoning: "0 of 1 machine rebooted, 4 min after the start.",
			Why:       "Max is 0: no slot is granted until it is raised."}},
		{"behind a failed machine", tell(1).oneByOne(2).lock(10.5, "bad", agent, "").change("bad", phase(locksmith.PhaseFailed, 14)).queue(3), 60, rollout.Progress{
			Running: true, Start: at(0), Done: 2, Remaining: 4, Total: 6, Failed: 1, Pace: minutes(20),
			Reckoning: "2 of 6 machines rebooted in 10 min 30 s, one every 20 min.",
			Why:       "No slot comes free before somebody has looked: bad (failed checks after the reboot)."}},
		{"a failed machine beside a free slot", tell(2).oneByOne(4).lock(21, "bad", agent, "").change("bad", phase(locksmith.PhaseFailed, 22)).queue(3), 21, rollout.Progress{
			Running: true, Start: at(0), Done: 4, Remaining: 4, Total: 8, Failed: 1, Pace: minutes(5.25), Ends: at(21 + 15.75),
			Reckoning: "4 of 8 machines rebooted in 21 min, one every 5 min 15 s; the 3 left take about 15 min at this pace. 1 stuck one is left out."}},
		{"only the failed one is left", tell(2).oneByOne(4).lock(21, "bad", agent, "").change("bad", phase(locksmith.PhaseFailed, 22)), 21, rollout.Progress{
			Running: true, Start: at(0), Done: 4, Remaining: 1, Total: 5, Failed: 1, Pace: minutes(5.25),
			Reckoning: "4 of 5 machines rebooted in 21 min, one every 5 min 15 s.",
			Why:       "What is left is stuck: bad (failed checks after the reboot)."}},
		{"a silent one and an administrator's hold", tell(2).reboots(0, 5, "m0").lock(5, "gone", agent, "").change("gone", silent).
			lock(6, "mine", "locksmithctl (alice@jump-1)", "").change("mine", func(h *locksmith.HolderStatus) { h.By = locksmith.ByLock }).queue(1), 30, rollout.Progress{
			Running: true, Start: at(0), Done: 1, Remaining: 2, Total: 3, Pace: minutes(15),
			Reckoning: "1 of 3 machines rebooted in 5 min, one every 15 min.",
			Why:       "No slot comes free before somebody has looked: gone (silent); mine (held by hand or by a command)."}},
		{"machines that wait for windows", tell(1).oneByOne(4).lock(21, "m4", agent, "").
			needs(0, "w1", locksmith.PhaseWindow).needs(0, "w2", locksmith.PhaseNeeded), 21, rollout.Progress{
			Running: true, Start: at(0), Done: 4, Remaining: 3, Total: 7, Pace: minutes(5.25), Ends: at(21 + 15.75),
			Reckoning: "4 of 7 machines rebooted in 21 min, one every 5 min 15 s; the 3 left take about 15 min at this pace. 2 of them ask for no slot yet, which can make it longer."}},
		{"nobody asks, right after the last", tell(1).oneByOne(4).needs(0, "w1", locksmith.PhaseWindow).needs(0, "w2", locksmith.PhaseNeeded), 30, rollout.Progress{
			Running: true, Start: at(0), Done: 4, Remaining: 2, Total: 6, Pace: minutes(6),
			Reckoning: "4 of 6 machines rebooted in 21 min, one every 6 min.",
			Why:       "2 machines need a reboot and ask for no slot yet; 1 waits for a reboot window."}},
		{"nobody asks, long after the last", tell(1).oneByOne(4).needs(0, "w1", locksmith.PhaseWindow), 21 + 120, rollout.Progress{
			Remaining: 1, Total: 1,
			Reckoning: "No rollout is running. In the last one 4 machines rebooted in 21 min; it ended 2 h ago.",
			Why:       "1 machine needs a reboot and asks for no slot yet; 1 waits for a reboot window."}},
		{"it is over", tell(1).oneByOne(4), 26, rollout.Progress{
			Reckoning: "No rollout is running. In the last one 4 machines rebooted in 21 min; it ended 5 min ago."}},
		{"who is counted once, and who is not counted", tell(1).oneByOne(2).lock(10.5, "m02", agent, "").waits(3, "q1", agent).
			waits(3, "m00", agent). // once more
			needs(0, "m02", locksmith.PhaseRebooting).needs(0, "q1", locksmith.PhaseQueued).
			needs(0, "m01", locksmith.PhaseNeeded). // said before it rebooted
			machine("idle", func(m *locksmith.MachineStatus) {}).
			machine("gone", func(m *locksmith.MachineStatus) { m.NeededSince, m.Present = 1, false }).
			machine("dry", func(m *locksmith.MachineStatus) { m.NeededSince, m.DryRun = 1, true }).
			machine("off", func(m *locksmith.MachineStatus) { m.NeededSince, m.Strategy = 1, locksmith.StrategyOff }).
			machine("alone", func(m *locksmith.MachineStatus) { m.NeededSince, m.Strategy = 1, locksmith.StrategyReboot }).
			waits(3, "hand", locksmith.ByWithLock), 10.5, rollout.Progress{
			Running: true, Start: at(0), Done: 1, Remaining: 3, Total: 4, Pace: minutes(5.25), Ends: at(10.5 + 15.75),
			Reckoning: "1 of 4 machines rebooted, with 2 reboots in 10 min 30 s, one every 5 min 15 s; the 3 left take about 15 min at this pace." +
				" So few tell the pace only roughly; 1 machine that needs a reboot is not connected and not counted."}},
		{"in vain: still needed after the reboot", tell(1).oneByOne(2).machine("m01", func(m *locksmith.MachineStatus) {
			m.NeededSince, m.Seen = at(3).Unix(), at(11).Unix()
		}), 12, rollout.Progress{
			Running: true, Start: at(0), Done: 1, Remaining: 1, Total: 2, Pace: minutes(5.25),
			Reckoning: "1 of 2 machines rebooted, with 2 reboots in 10 min 30 s, one every 5 min 15 s.",
			Why:       "1 machine needs a reboot and asks for no slot yet."}},
		{"a clock that is ahead", tell(1).reboots(30, 40, "m0").lock(5, "m1", agent, ""), 6, rollout.Progress{
			Running: true, Start: at(5), Done: 1, Remaining: 1, Total: 2, Pace: minutes(1), Ends: at(7),
			Reckoning: "1 of 2 machines rebooted in 1 min, one every 1 min; the one left takes about 1 min at this pace. So few tell the pace only roughly."}},
		{"machines that speak FleetLock", tell(2).
			lock(0, "f1", "fleetlock@10.0.0.1", "asked over FleetLock").unlock(6, "f1", "fleetlock@10.0.0.1", locksmith.OutcomeSteady, 6, 0).
			lock(0, "f2", "m2@10.0.0.2", "asked over FleetLock").unlock(8, "f2", "m2@10.0.0.9", locksmith.OutcomeSteady, 8, 0).
			lock(8, "f3", "m3@10.0.0.3", "asked over FleetLock").change("f3", func(h *locksmith.HolderStatus) { h.By, h.Present = locksmith.ByFleetLock, false }).
			lock(8, "f4", "m4@10.0.0.4", "asked over FleetLock").unlock(8, "f4", "m4@10.0.0.4", "client went away", 0, 0), 8, rollout.Progress{
			Running: true, Start: at(0), Done: 2, Remaining: 1, Total: 3, Pace: minutes(4), Ends: at(15),
			Reckoning: "2 of 3 machines rebooted in 8 min, one every 4 min; the one left takes about 7 min more, as one machine takes 7 min from slot to slot. So few tell the pace only roughly."}},
		{"in seconds, as the demonstration", tell(1).reboots(0, 0.05, "m0").reboots(0.05, 0.1, "m1").reboots(0.1, 0.15, "m2").lock(0.15, "m3", agent, ""), 0.15, rollout.Progress{
			Running: true, Start: at(0), Done: 3, Remaining: 1, Total: 4, Pace: 3 * time.Second, Ends: at(0.2),
			Reckoning: "3 of 4 machines rebooted in 9 s, one every 3 s; the one left takes about 3 s at this pace."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, rollout.Reckon(tt.s.f, at(tt.now))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// then is n more reboots after a minute, each so long.
func (s *story) then(n int, from, each float64) *story {
	for i := range n {
		s.reboots(from+float64(i)*each, from+float64(i+1)*each, "then"+name(i))
	}
	return s
}

// parallel is n reboots at once.
func (s *story) parallel(n int, from, to float64) *story {
	for i := range n {
		s.lock(from, name(i), locksmith.ByAgent, "")
	}
	for i := range n {
		s.unlock(to, name(i), locksmith.ByAgent, "rebooted", to-from, 1)
	}
	return s
}
