package agent

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

// screen is conditions in lines of "name state text since..until", times in seconds
// from open.
func screen(conditions []locksmith.Condition) string {
	at := func(t int64) string {
		if t == 0 {
			return ""
		}
		return fmt.Sprint(t - open.Unix())
	}
	var b strings.Builder
	for _, c := range conditions {
		line := fmt.Sprintf("%s %s", c.Name, c.State)
		if c.Text != "" {
			line += ": " + c.Text
		}
		if c.Since != 0 || c.Until != 0 {
			line += fmt.Sprintf(" [%s..%s]", at(c.Since), at(c.Until))
		}
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// What the conditions say in each phase.
func TestConditions(t *testing.T) {
	since := func(s *state) {
		s.mem.NeededSince = open.Add(-time.Hour)
		s.slots.Record.StartTime = open.Add(-2 * time.Minute).Unix()
	}
	const (
		need    = "need met: update [-3600..]\n"
		window  = "window met: window closes Tue 2026-03-10 04:00 UTC [-1800..1800]\n"
		pause   = "pause met: nobody paused it\n"
		breaker = "breaker met\n"
		fine    = "checks met: nothing blocks\n"
		slot    = "slot met: held [-120..]\n"
	)
	heard := func(s *state) { s.heard = true }
	for _, tt := range []struct {
		name   string
		state  state
		rules  func(*rules)
		report string
		want   string
	}{
		{"recovering", start(open, Memory{}), nil, "",
			"need unknown: not every trigger can tell whether a reboot is needed\n" + window + "pause pending\n" + breaker + "checks pending\nslot pending\nusers pending\n"},
		{"recovering, and etcd is away", in(locksmith.PhaseRecovering, since, func(s *state) {
			s.recovered, s.waiting = false, "what this machine holds is not known: etcd is away"
		}), nil, "",
			need + window + "pause pending\n" + breaker + "checks pending\nslot unknown: what this machine holds is not known: etcd is away\nusers pending\n"},
		{"idle", in(locksmith.PhaseIdle), nil, "",
			"need waiting: no reboot is needed\n" + window + "pause pending\n" + breaker + "checks pending\nslot pending\nusers pending\n"},
		{"needed, no lock", in(locksmith.PhaseNeeded, since), func(r *rules) { r.strategy, r.window = locksmith.StrategyReboot, nil }, "",
			need + "window met: always open\n" + breaker + "checks pending\nslot met: strategy reboot takes none here\nusers pending\n"},
		{"needed, best-effort without etcd", in(locksmith.PhaseNeeded, since, func(s *state) { s.decided, s.useLock = true, false }), func(r *rules) { r.strategy = locksmith.StrategyBestEffort }, "",
			need + window + "pause pending\n" + breaker + "checks pending\nslot met: strategy best-effort takes none here\nusers pending\n"},
		{"in doubt", in(locksmith.PhaseWindow, since, heard, func(s *state) { s.doubt = open.Add(-time.Second) }), nil, "",
			"need unknown: the trigger that said so cannot tell any more: update [-1..]\n" + window + pause + breaker + "checks pending\nslot pending\nusers pending\n"},
		{"blocked", in(locksmith.PhaseWindow, since, heard, func(s *state) { s.vetoes = []Veto{{"20-backup", "until 04:00"}, {"apt", "at work"}} }), nil, "",
			need + window + pause + breaker + "20-backup blocked: until 04:00\napt blocked: at work\nslot pending\nusers pending\n"},
		{"not cured", in(locksmith.PhaseWindow, since, heard, func(s *state) { s.reasons, s.mem.InVain = []string{"update"}, []string{"update"} }), nil, "",
			need + window + pause + "breaker blocked: the last reboot did not cure this need; a reboot for another reason is not kept back " +
				"(locksmithctl send-need-reboot -reason …)\nchecks pending\nslot pending\nusers pending\n"},
		{"too often", in(locksmith.PhaseWindow, since, heard, func(s *state) { s.mem.Reboots = []time.Time{open.Add(-time.Hour)} }), func(r *rules) { r.maxPerDay = 1 }, "",
			need + window + pause + "breaker waiting: 1 reboots in 24 h, at most 1 are allowed [..82800]\nchecks pending\nslot pending\nusers pending\n"},
		{"paused until", in(locksmith.PhaseQueued, since, heard, func(s *state) {
			s.pauses = []locksmith.Pause{{Scope: locksmith.PauseScope{Group: "a"}, At: open.Unix() - 60, Until: open.Unix() + 60}, {Scope: locksmith.PauseScope{Group: "b"}, At: open.Unix() - 30, Until: open.Unix() + 90}}
		}), nil, "",
			need + window + "pause blocked: group a paused until " + time.Unix(open.Unix()+60, 0).Format("2006-01-02 15:04 MST") + "; group b paused until " +
				time.Unix(open.Unix()+90, 0).Format("2006-01-02 15:04 MST") + " [-60..90]\n" + breaker + fine + "slot waiting: queues [-60..]\nusers pending\n"},
		{"paused", in(locksmith.PhaseQueued, since, heard, func(s *state) {
			s.pauses = []locksmith.Pause{{Scope: locksmith.PauseScope{All: true}, At: open.Unix() - 60}, {Scope: locksmith.PauseScope{Group: "b"}, Until: open.Unix() + 90}}
		}), nil, "etcd is away",
			need + window + "pause blocked: all groups paused; group b paused until " + time.Unix(open.Unix()+90, 0).Format("2006-01-02 15:04 MST") + " [-60..]\n" +
				breaker + fine + "slot unknown: etcd is away [-60..]\nusers pending\n"},
		{"no permission", in(locksmith.PhaseWindow, since, heard, func(s *state) { s.refusals, s.waiting = 1, "no slot: no permission" }), nil, "",
			need + window + pause + breaker + "checks pending\nslot unknown: no slot: no permission\nusers pending\n"},
		{"dry run", in(locksmith.PhasePreparing, since, heard, func(s *state) { s.held = false }), func(r *rules) { r.dryRun = true }, "",
			need + window + pause + breaker + fine + "slot pending: a dry run takes none\nusers pending\n"},
		{"needed, since when is not known", in(locksmith.PhaseNeeded), nil, "",
			"need met: update\n" + window + "pause pending\n" + breaker + "checks pending\nslot pending\nusers pending\n"},
		{"acquired", in(locksmith.PhaseAcquired, since, heard), nil, "", need + window + pause + breaker + fine + slot + "users pending\n"},
		{"preparing", in(locksmith.PhasePreparing, since, heard), nil, "", need + window + pause + breaker + fine + slot + "users pending\n"},
		{"notifying", in(locksmith.PhaseNotifying, since, heard, func(s *state) { s.delayUntil = open.Add(time.Minute) }), nil, "",
			need + window + pause + breaker + fine + slot + "users waiting: logged-in users were told [..60]\n"},
		{"rebooting", in(locksmith.PhaseRebooting, since, heard), nil, "", need + window + pause + breaker + fine + slot + "users met\n"},
		{"rebooting without a delay", in(locksmith.PhaseRebooting, since, heard), func(r *rules) { r.loginDelay = 0 }, "",
			need + window + pause + breaker + fine + slot + "users met: nobody is given a delay\n"},
		{"verifying", in(locksmith.PhaseVerifying, func(s *state) { s.waiting = "checks after the reboot do not pass yet: x" }), nil, "",
			"need waiting: no reboot is needed\nverify waiting: checks after the reboot do not pass yet: x [-60..]\n"},
		{"soaking", in(locksmith.PhaseVerifying, func(s *state) { s.waiting, s.soakUntil = "watched", open.Add(time.Minute) }), nil, "",
			"need waiting: no reboot is needed\nverify waiting: watched [-60..60]\n"},
		{"failed", in(locksmith.PhaseFailed, func(s *state) { s.vetoes = []Veto{{"nginx.service", "failed"}} }), nil, "",
			"need waiting: no reboot is needed\nnginx.service blocked: failed\n"},
		{"failed, still needed", in(locksmith.PhaseFailed, since, func(s *state) { s.needed, s.failure = true, "still needed" }), nil, "",
			need + "verify blocked: still needed [-60..]\n"},
		{"restoring", in(locksmith.PhaseRestoring), nil, "", "need waiting: no reboot is needed\nverify met: checks after the reboot pass\n"},
		{"releasing", in(locksmith.PhaseReleasing), nil, "", "need waiting: no reboot is needed\nverify met: checks after the reboot pass\n"},
		{"restoring after an abort", in(locksmith.PhaseRestoring, since, func(s *state) { s.outcome, s.needed = "aborted: x", true }), nil, "",
			need + window + "pause pending\n" + breaker + "checks pending\n" + slot + "users pending\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRules()
			if tt.rules != nil {
				tt.rules(&r)
			}
			if diff := cmp.Diff(tt.want, screen(r.conditions(tt.state, tt.report, open))); diff != "" {
				t.Error(diff)
			}
		})
	}
	seen := map[locksmith.Phase]bool{}
	for _, p := range locksmith.Phases { // none has no conditions
		c := testRules().conditions(in(p), "", open)
		seen[p] = len(c) > 0 && c[0].Name == locksmith.CondNeed
		if !seen[p] {
			t.Errorf("phase %s: %v", p, c)
		}
	}
	closed := rules{window: never{}}.windowCondition(open)
	if closed.State != locksmith.CondBlocked || closed.Text != "no window ever opens again" {
		t.Errorf("%+v", closed)
	}
}

// never is a window that is over for good.
type never struct{}

func (never) Contains(time.Time) bool               { return false }
func (never) Next(time.Time) (start, end time.Time) { return }

// An idle agent does not look at the clock, but whoever asks it does.
func TestStatusIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = daily{3, 1}
		r := w.run()
		window := func() locksmith.Condition {
			s := r.Status()
			if start, end := w.window.Next(time.Now()); !s.WindowStart.Equal(start) || !s.WindowEnd.Equal(end) {
				t.Errorf("%v to %v", s.WindowStart, s.WindowEnd)
			}
			return s.Conditions[1]
		}
		untilClock(2, 0)
		before := window()
		untilClock(3, 30)
		during := window()
		untilClock(5, 0)
		after := window()
		if before.State != locksmith.CondWaiting || during.State != locksmith.CondMet || after.State != locksmith.CondWaiting || after.Until != before.Until+24*3600 {
			t.Errorf("%+v, %+v, %+v", before, during, after)
		}
	})
}

// No window opens any more: the machine waits, says so, and costs nothing.
func TestNoWindowAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = never{}
		w.setNeed(needed)
		var changes atomic.Int32
		r := w.run(func(c *Config) { c.OnChange = func(Status) { changes.Add(1) } })
		time.Sleep(24 * time.Hour)
		if s := r.Status(); s.Phase != locksmith.PhaseWindow || s.Waiting != "no window ever opens again" || changes.Load() > 24*6+5 { // the clock is looked at every ten minutes
			t.Errorf("%+v after %d changes", s, changes.Load())
		}
	})
}

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.remembers = true
		w.setNeed(needed)
		w.reboots(w.run())
		r := w.run()
		synctest.Wait()
		idle := r.Status().Presence()
		if idle.Phase != locksmith.PhaseIdle || idle.LastReboot != w.began.Unix() || idle.LastOutcome != rebooted || idle.NeededSince != 0 || idle.BootID != "boot-2" {
			t.Errorf("%+v", idle)
		}
		time.Sleep(time.Minute)
		w.setFree(false)
		w.setNeed(needed)
		synctest.Wait()
		got := r.Status().Presence()
		if got.MachineID != "m" || got.Phase != locksmith.PhaseQueued || got.NeededSince != time.Now().Unix() || got.PhaseTime != time.Now().Unix() ||
			got.Reason != "new version" || len(got.Conditions) != 7 || got.Strategy != locksmith.StrategyEtcdLock || len(got.Groups) != 1 {
			t.Errorf("%+v", got)
		}
		// What is given away does not change any more.
		conditions := r.Status().Conditions
		conditions[0].Text = "x"
		if r.Status().Conditions[0].Text == "x" {
			t.Error("the status is shared")
		}
	})
}

// While it waits for an instant, the agent looks at the clock now and then: somebody
// may have set it.
func TestClockIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.window = daily{3, 1}
		w.setNeed(needed)
		var looks atomic.Int32
		w.run(func(c *Config) { c.OnChange = func(Status) { looks.Add(1) } })
		synctest.Wait()
		looks.Store(0)
		time.Sleep(2 * time.Hour)
		if n := looks.Load(); n < 10 || n > 20 {
			t.Errorf("looked %d times", n)
		}
	})
}

func TestAnswers(t *testing.T) {
	no, unsure := Need{}, Need{Err: errors.New("no bus")}
	for want, needs := range map[string]map[string]Need{
		"no reboot is needed (control, kernel)":                                          {"kernel": no, "control": no},
		"whether a reboot is needed is not known; no: control; update-engine: no bus":    {"control": no, "update-engine": unsure},
		"whether a reboot is needed is not known; kernel: no bus; update-engine: no bus": {"kernel": unsure, "update-engine": unsure},
	} {
		if got := answers(needs); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
