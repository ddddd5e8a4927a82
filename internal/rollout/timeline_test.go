package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/rollout"
)

// line is a bar, told shortly: minutes of slot and down time, -1 for none.
type line struct {
	machine              string
	from, to, down0, up0 float64
	state                rollout.State
	outcome, by          string
}

func lines(r rollout.Rollout) []line {
	minute := func(t time.Time) float64 {
		if t.IsZero() {
			return -1
		}
		return t.Sub(t0).Minutes()
	}
	var list []line
	for _, b := range r.Bars {
		list = append(list, line{b.Machine, minute(b.From), minute(b.To), minute(b.DownFrom), minute(b.DownTo), b.State, b.Outcome, b.By})
	}
	return list
}

func TestBars(t *testing.T) {
	const agent, alice = locksmith.ByAgent, "locksmithctl (alice@jump-1)"
	for _, tt := range []struct {
		name string
		s    *story
		now  float64
		want []line
	}{
		{"a reboot", tell(1).reboots(0, 5, "m"), 9, []line{{"m", 0, 5, 4, 5, rollout.Rebooted, "rebooted", agent}}},
		{"the same machine twice", tell(1).reboots(0, 5, "m").reboots(6, 8, "m"), 9, []line{
			{"m", 0, 5, 4, 5, rollout.Rebooted, "rebooted", agent}, {"m", 6, 8, 7, 8, rollout.Rebooted, "rebooted", agent}}},
		{"given up", tell(1).lock(0, "m", agent, "").unlock(2, "m", agent, "aborted: the window closed", 2, 0), 9, []line{
			{"m", 0, 2, -1, -1, rollout.Aborted, "aborted: the window closed", agent}}},
		{"unlocked", tell(1).lock(0, "m", agent, "").unlock(2, "m", alice, "unlocked: gone", 2, 0), 9, []line{
			{"m", 0, 2, -1, -1, rollout.Unlocked, "unlocked: gone", agent}}},
		{"unlocked through the server", tell(1).lock(0, "m", "m@10.0.0.7", "asked over FleetLock").unlock(2, "m", "alice@10.0.0.1", "", 2, 0), 9, []line{
			{"m", 0, 2, -1, -1, rollout.Unlocked, "", "m@10.0.0.7"}}},
		{"an administrator's reboot", tell(1).lock(0, "m", alice, "").unlock(5, "m", locksmith.ByReboot, "rebooted", 5, 2), 9, []line{
			{"m", 0, 5, 3, 5, rollout.Rebooted, "rebooted", alice}}},
		{"and one that failed", tell(1).lock(0, "m", alice, "").unlock(5, "m", alice, "reboot failed: no", 5, 0), 9, []line{
			{"m", 0, 5, -1, -1, rollout.Aborted, "reboot failed: no", alice}}},
		{"by hand, by a command, through the server", tell(3).lock(0, "a", alice, "").unlock(5, "a", alice, "unlocked", 5, 0).
			lock(0, "b", alice, "backup").unlock(5, "b", alice, "command ended with status 0", 5, 0).
			lock(0, "c", "alice@10.0.0.1", "").unlock(5, "c", "alice@10.0.0.1", "", 5, 0), 9, nil},
		{"held by hand", tell(2).lock(0, "a", alice, "").change("a", func(h *locksmith.HolderStatus) { h.By = locksmith.ByLock }).
			lock(0, "b", alice, "").change("b", func(h *locksmith.HolderStatus) { h.By = locksmith.ByReboot }), 9, []line{
			{"b", 0, -1, -1, -1, rollout.Held, "acquired", alice}}},
		{"held, in every state", tell(9).lock(0, "a", agent, "").change("a", phase(locksmith.PhaseRebooting, 2)).
			lock(0, "b", agent, "").change("b", func(h *locksmith.HolderStatus) {
			h.Phase, h.PhaseTime, h.Reason = locksmith.PhaseFailed, at(3).Unix(), "unit nginx failed"
		}).
			lock(0, "c", agent, "").change("c", silent).
			lock(0, "d", agent, "").change("d", phase(locksmith.PhaseVerifying, 4)), 9, []line{
			{"a", 0, -1, 2, -1, rollout.Held, "rebooting", agent}, {"b", 0, -1, -1, -1, rollout.Failed, "failed: unit nginx failed", agent},
			{"c", 0, -1, -1, -1, rollout.Stale, "acquired", agent}, {"d", 0, -1, -1, -1, rollout.Held, "verifying", agent}}},
		{"its agent knows better than its record", tell(9).lock(0, "a", agent, "").change("a", phase(locksmith.PhaseRebooting, 2)).
			machine("a", func(m *locksmith.MachineStatus) { m.Phase, m.PhaseTime = locksmith.PhaseVerifying, at(4).Unix() }), 9, []line{
			{"a", 0, -1, -1, -1, rollout.Held, "verifying", agent}}},
		{"holders without a history", tell(3).holds("a", locksmith.Holder{StartTime: at(1).Unix(), By: "old"}).
			holds("b", locksmith.Holder{}), 9, []line{
			{"a", 1, -1, -1, -1, rollout.Held, "acquired", "old"}, {"b", 9, -1, -1, -1, rollout.Held, "acquired", ""}}},
		{"the ring lost the beginning", tell(1).unlock(5, "m", agent, "rebooted", 3, 1).unlock(6, "n", agent, "aborted: x", 1, 0).
			unlock(7, "o", alice, "unlocked", 1, 0).unlock(8, "p", "x@10.0.0.1", locksmith.OutcomeSteady, 1, 0), 9, []line{
			{"m", 2, 5, 4, 5, rollout.Rebooted, "rebooted", ""}, {"n", 5, 6, -1, -1, rollout.Aborted, "aborted: x", ""},
			{"p", 7, 8, -1, -1, rollout.Rebooted, locksmith.OutcomeSteady, ""}}},
		{"the end is lost", tell(2).lock(0, "m", agent, "").reboots(2, 3, "n").lost("m").lock(4, "m", agent, "").lost("m"), 9, []line{
			{"m", 0, 4, -1, -1, rollout.Unknown, "", agent}, {"n", 2, 3, 2, 3, rollout.Rebooted, "rebooted", agent},
			{"m", 4, 4, -1, -1, rollout.Unknown, "", agent}}},
		{"granted after the status was read", tell(2).lock(0, "m", agent, "").lost("m").readAt(0), 9, []line{
			{"m", 0, -1, -1, -1, rollout.Held, "", agent}}},
		{"down for longer than the slot was held", tell(1).lock(0, "m", agent, "").unlock(5, "m", agent, "rebooted", 5, 50), 9, []line{
			{"m", 0, 5, 0, 5, rollout.Rebooted, "rebooted", agent}}},
		{"clocks that go backwards", tell(1).lock(5, "m", agent, "").unlock(2, "m", agent, "rebooted", 5, 1), 9, []line{
			{"m", 5, 5, 5, 5, rollout.Rebooted, "rebooted", agent}}},
		{"what is no slot", tell(1).pause(1).resume(2).max(3), 9, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []line
			for _, r := range rollout.Timeline(tt.s.f, at(tt.now), 9) {
				got = append(got, lines(r)...)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(line{}), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// lost is a holder that is none any more without an entry of the history.
func (s *story) lost(machine string) *story {
	history := slices.Clone(s.f.History)
	s.unlock(0, machine, "", "", 0, 0)
	s.f.History = history
	return s
}

func (s *story) readAt(revision int64) *story {
	s.f.Status.Revision = revision
	return s
}

func (s *story) max(minute float64) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: "alice", Action: locksmith.ActionSetMax, Outcome: "max 1 -> 2"})
	s.entry(minute, locksmith.HistoryEntry{Actor: "bob", Action: locksmith.ActionRefuse, Machine: "m", Outcome: "no"})
	return s
}

// What is one rollout, told by the minutes of its beginning and end.
func TestRollouts(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    *story
		now  float64
		want [][2]float64 // newest first; -1: still running
	}{
		{"none", tell(1), 9, nil},
		{"a rest of an hour, and of more", tell(1).reboots(0, 5, "a").reboots(65, 70, "b").reboots(130.1, 135, "c"), 200, [][2]float64{{130.1, 135}, {0, 70}}},
		{"the last is over, although it ended just now", tell(1).reboots(0, 5, "a"), 5, [][2]float64{{0, 5}}},
		{"a slot is held", tell(1).reboots(0, 5, "a").lock(6, "b", locksmith.ByAgent, ""), 500, [][2]float64{{0, -1}}},
		{"a long hold bridges what happens beside it", tell(2).lock(0, "a", locksmith.ByAgent, "").reboots(1, 2, "b").reboots(150, 151, "c").
			unlock(200, "a", locksmith.ByAgent, "rebooted", 200, 1), 500, [][2]float64{{0, 200}}},
		{"somebody waits, with all slots in other hands", tell(1).reboots(0, 5, "a").waits(30, "b", locksmith.ByAgent), 500, [][2]float64{{0, -1}}},
		{"somebody began to wait long after", tell(1).reboots(0, 5, "a").waits(130, "b", locksmith.ByAgent), 500, [][2]float64{{0, 5}}},
		{"a command that waits is no rollout", tell(1).reboots(0, 5, "a").waits(30, "b", locksmith.ByWithLock), 500, [][2]float64{{0, 5}}},
		{"paused over the night", tell(1).reboots(0, 5, "a").pause(6).resume(600).reboots(601, 605, "b"), 700, [][2]float64{{0, 605}}},
		{"paused until a time", tell(1).reboots(0, 5, "a").pause(6).reboots(600, 605, "b"), 700, [][2]float64{{0, 605}}},
		{"paused and never taken up", tell(1).reboots(0, 5, "a").pause(6).resume(600), 700, [][2]float64{{0, 5}}},
		{"paused for four days", tell(1).reboots(0, 5, "a").pause(6).resume(4*1440).reboots(4*1440+1, 4*1440+2, "b"), 9000, [][2]float64{{4*1440 + 1, 4*1440 + 2}, {0, 5}}},
		{"a pause of one machine is none of the group", tell(1).reboots(0, 5, "a").pauseOf("x", 6).reboots(600, 605, "b"), 700, [][2]float64{{600, 605}, {0, 5}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got [][2]float64
			for _, r := range rollout.Timeline(tt.s.f, at(tt.now), 9) {
				end := -1.0
				if !r.End.IsZero() {
					end = r.End.Sub(t0).Minutes()
				}
				got = append(got, [2]float64{r.Start.Sub(t0).Minutes(), end})
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func (s *story) pauseOf(machine string, minute float64) *story {
	s.entry(minute, locksmith.HistoryEntry{Actor: "alice", Action: locksmith.ActionPause, Machine: machine})
	return s
}

func TestTimelineIsBounded(t *testing.T) {
	s := tell(1)
	for i := range 5 {
		s.reboots(float64(i)*200, float64(i)*200+5, "a")
	}
	for _, most := range []int{-1, 0, 1, 3} {
		if n := len(rollout.Timeline(s.f, at(2000), most)); n != max(0, most) {
			t.Errorf("most %d: got %d", most, n)
		}
	}
	if r := rollout.Timeline(s.f, at(2000), 1)[0]; !r.Start.Equal(at(800)) || r.Machines() != 1 {
		t.Errorf("the newest is %v", r)
	}
}
