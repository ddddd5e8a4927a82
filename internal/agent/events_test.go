package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // texts have local times
	os.Exit(m.Run())
}

// recorder keeps the events of a log, at the levels an administrator sees.
type recorder struct {
	mu    sync.Mutex
	lines []string // "event: status or reason"
}

func (r *recorder) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler               { return r }
func (r *recorder) WithGroup(string) slog.Handler                    { return r }
func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	attrs := map[string]string{}
	record.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	line := attrs[EventKey]
	switch {
	case line == "":
		return nil // a remark
	case line == EventPhase:
		line += " " + attrs["phase"]
	case attrs["status"] != "":
		line += ": " + attrs["status"]
	case attrs["outcome"] != "":
		line += ": " + attrs["outcome"]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// take is what was recorded since the last time.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// answered runs an agent whose triggers answer before the store does.
func (w *world) answered() *running {
	open := w.gate("find")
	r := w.run()
	synctest.Wait()
	open()
	return r
}

// stories are the tests of what is logged, each in a world of its own.
var stories = []struct {
	name string
	run  func(*world, *recorder)
	want []string
}{
	{"a cycle", func(w *world, _ *recorder) {
		w.remembers = true
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		w.reboots(w.answered())
		w.answered()
		synctest.Wait()
	}, []string{
		"reboot-needed", "phase window", "phase queued", "slot-granted", "phase preparing", "phase notifying", "users-told",
		"waiting: users are logged in, reboot at 00:05:00", "users-told", "phase rebooting", "rebooting",
		"returned: rebooted", "phase restoring", "phase releasing", "released: rebooted", "phase idle",
	}},
	{"a bad update", func(w *world, _ *recorder) {
		w.remembers = true
		w.setNeed(needed)
		w.reboots(w.answered())
		w.failing["verify"] = errDown
		w.answered()
		time.Sleep(24 * time.Hour)
		w.change(func() { w.failing["verify"] = errBoom })
		time.Sleep(24 * time.Hour)
		w.well()
		time.Sleep(time.Hour)
	}, []string{
		"reboot-needed", "phase window", "phase queued", "slot-granted", "phase preparing", "phase notifying", "phase rebooting", "rebooting",
		"returned: rebooted", "failed: checks after the reboot fail: verify: unit x is down", "failed: checks after the reboot fail: verify: errBoom",
		"phase restoring", "phase releasing", "released: rebooted", "phase idle",
	}},
	{"an update that does not help", func(w *world, r *recorder) {
		w.remembers, w.after = true, needed
		w.setNeed(needed)
		w.reboots(w.answered())
		r.take()
		w.answered()
		time.Sleep(24 * time.Hour)
	}, []string{"reboot-needed", "returned: rebooted", "failed: " + notCured}},
	{"a trigger that is late", func(w *world, r *recorder) {
		w.remembers, w.after = true, Need{Err: errors.New("no bus")}
		w.setNeed(needed)
		w.reboots(w.answered())
		r.take()
		w.answered()
		time.Sleep(time.Minute)
		w.setNeed(needed)
		time.Sleep(24 * time.Hour)
	}, []string{"trigger-error", "returned: rebooted", "waiting: for the triggers to say whether the reboot helped", "phase restoring", "phase releasing",
		"released: rebooted", "phase idle", "reboot-needed", "phase window", "breaker: the last reboot did not cure this need; a reboot for another reason is not kept back " +
			"(locksmithctl send-need-reboot -reason …)"}},
	{"blocked, paused, withdrawn", func(w *world, _ *recorder) {
		w.setFree(false)
		w.failing["check"] = &Veto{"20-backup", "running"}
		w.setNeed(needed)
		w.answered()
		time.Sleep(24 * time.Hour)
		w.change(func() { delete(w.failing, "check") })
		time.Sleep(time.Hour)
		w.pause(pausedMachine)
		time.Sleep(24 * time.Hour)
		w.pause()
		synctest.Wait()
		w.setNeed(Need{})
		time.Sleep(24 * time.Hour)
	}, []string{"reboot-needed", "phase window", "blocked: blocked by 20-backup: running", "phase queued",
		"paused", "phase window", "waiting: machine m paused by alice: disk is replaced", "resumed", "phase queued", "not-needed", "phase idle"}},
	{"aborted", func(w *world, _ *recorder) {
		w.failing["prepare"] = errBoom
		w.setNeed(needed)
		w.answered()
		time.Sleep(4 * time.Minute)
	}, []string{"reboot-needed", "phase window", "phase queued", "slot-granted", "aborted: aborted: prepare failed: errBoom",
		"phase releasing", "released: aborted: prepare failed: errBoom", "waiting: aborted: prepare failed: errBoom; next try at 00:05:00"}},
	{"paused, and no longer needed", func(w *world, r *recorder) {
		w.setFree(false)
		w.setNeed(needed)
		w.answered()
		synctest.Wait()
		w.pause(pausedAll)
		synctest.Wait()
		r.take()
		w.setNeed(Need{}) // which does not mean that nobody paused it any more
	}, []string{"not-needed", "phase idle"}},
	{"checks that need their time", func(w *world, r *recorder) {
		w.setNeed(needed)
		w.reboots(w.answered())
		r.take()
		w.failing["verify"] = errDown
		w.run(func(c *Config) { c.VerifyTimeout = time.Hour })
		time.Sleep(time.Minute)
	}, []string{"returned: rebooted", "waiting: checks after the reboot do not pass yet: verify: unit x is down"}},
	{"best-effort without etcd, idle", func(w *world, _ *recorder) {
		w.run(func(c *Config) { c.Strategy, c.UseLock = locksmith.StrategyBestEffort, w.useLock(false) })
		time.Sleep(24 * time.Hour)
	}, nil},
	{"a dry run", func(w *world, _ *recorder) {
		w.sessions = []Session{{ID: "1"}}
		w.setNeed(needed)
		w.run(dry, func(c *Config) { c.LoginDelay = time.Minute })
		time.Sleep(24 * time.Hour)
	}, []string{"reboot-needed", "phase window", "phase preparing", "dry-run", "phase notifying", "dry-run", "waiting: users are logged in, reboot at 00:01:00",
		"phase rebooting", "dry-run", "aborted: aborted: dry run", "dry-run", "phase idle", "waiting: " + dryWaits}},
}

// Everything is said, once, however long it takes; and all events that the agent
// knows are among it.
func TestEvents(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range stories {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newWorld(t), &recorder{}
				w.logs = r
				tt.run(w, r)
				synctest.Wait()
				got := r.take()
				for _, line := range got {
					event, _, _ := strings.Cut(line, ":")
					event, _, _ = strings.Cut(event, " ")
					seen[event] = true
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s\n%q", diff, w.done())
				}
			})
		})
	}
	if t.Failed() {
		return
	}
	for _, event := range []string{EventNeeded, EventNotNeeded, EventTriggerError, EventWaiting, EventBlocked, EventPaused, EventResumed, EventPhase,
		EventGranted, EventUsersTold, EventRebooting, EventReturned, EventFailed, EventAborted, EventReleased, EventBreaker, EventDryRun} {
		if !seen[event] {
			t.Errorf("no test has the event %q", event)
		}
	}
}

// A step that goes through several phases says all that happened.
func TestEventsOfOneStep(t *testing.T) {
	queued := in(locksmith.PhaseQueued)
	s, _ := testRules().step(queued, evGranted{held(locksmith.ByAgent, "now", locksmith.PhaseAcquired)}, closes)
	if got := happened(queued, s); !slices.Equal(got, []string{EventGranted, EventAborted}) {
		t.Errorf("%q", got)
	}
}
