package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// daily is a window that opens every day at an hour, UTC.
type daily struct{ hour, length int }

func (d daily) Contains(t time.Time) bool {
	start, end := d.Next(t)
	return !t.Before(start) && t.Before(end)
}

func (d daily) Next(t time.Time) (start, end time.Time) {
	t = t.UTC()
	start = time.Date(t.Year(), t.Month(), t.Day()-1, d.hour, 0, 0, 0, time.UTC)
	for !start.Add(time.Duration(d.length) * time.Hour).After(t) {
		start = start.AddDate(0, 0, 1)
	}
	return start, start.Add(time.Duration(d.length) * time.Hour)
}

var (
	open    = time.Date(2026, 3, 10, 3, 30, 0, 0, time.UTC) // inside daily{3, 1}
	shut    = time.Date(2026, 3, 10, 5, 0, 0, 0, time.UTC)  // outside
	opens   = time.Date(2026, 3, 11, 3, 0, 0, 0, time.UTC)
	closes  = time.Date(2026, 3, 10, 4, 0, 0, 0, time.UTC)
	errBoom = errors.New("errBoom")
)

func testRules() rules {
	return rules{bootID: "now", groups: []locksmith.Group{"a", "b"}, strategy: locksmith.StrategyEtcdLock,
		window: daily{3, 1}, loginDelay: 5 * time.Minute, rebootGrace: 5 * time.Minute}
}

func held(by, bootID string, phase locksmith.Phase, groups ...locksmith.Group) locksmith.Slots {
	if groups == nil {
		groups = []locksmith.Group{"a", "b"}
	}
	return locksmith.Slots{Groups: groups, Revision: 7, Record: locksmith.Holder{
		MachineID: "m", By: by, BootID: bootID, Phase: phase, PhaseTime: open.Add(-90 * time.Second).Unix(), Nonce: "n"}}
}

// in is a state in a phase, with what normally belongs to it.
func in(phase locksmith.Phase, change ...func(*state)) state {
	s := state{phase: phase, since: open.Add(-time.Minute), needed: true, needKnown: true, reason: "update", recovered: true, useLock: true}
	switch phase {
	case locksmith.PhaseIdle:
		s.needed = false
	case locksmith.PhaseQueued:
		s.op = effectAcquire
	case locksmith.PhaseAcquired, locksmith.PhasePreparing, locksmith.PhaseNotifying, locksmith.PhaseRebooting:
		s.held, s.slots = true, held(locksmith.ByAgent, "now", phase)
		s.prepared = phase != locksmith.PhaseAcquired
	case locksmith.PhaseVerifying, locksmith.PhaseFailed, locksmith.PhaseRestoring, locksmith.PhaseReleasing:
		s.held, s.slots, s.needed = true, held(locksmith.ByAgent, "before", locksmith.PhaseRebooting), false
		s.prepared, s.outcome = phase != locksmith.PhaseReleasing, "rebooted"
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func op(k effectKind) func(*state) { return func(s *state) { s.op = k } }

func TestTransitions(t *testing.T) {
	user := []Session{{ID: "1", User: "core", TTY: "pts/0"}}
	need := evNeed{known: true, needed: true, reason: "update", reasons: []string{"update"}}
	noNeed := evNeed{known: true}
	unknown := evNeed{}
	const (
		recovering = locksmith.PhaseRecovering
		idle       = locksmith.PhaseIdle
		window     = locksmith.PhaseWindow
		queued     = locksmith.PhaseQueued
		acquired   = locksmith.PhaseAcquired
		preparing  = locksmith.PhasePreparing
		notifying  = locksmith.PhaseNotifying
		rebooting  = locksmith.PhaseRebooting
		verifying  = locksmith.PhaseVerifying
		restoring  = locksmith.PhaseRestoring
		releasing  = locksmith.PhaseReleasing
		failed     = locksmith.PhaseFailed
	)
	waiting := func(d time.Duration) func(*state) {
		return func(s *state) {
			s.listed, s.sessions, s.told, s.published, s.delayUntil = true, user, []string{"1"}, true, open.Add(d)
		}
	}
	// doubt is since when the need is in doubt, by when that ends.
	doubt := func(left time.Duration) func(*state) { return func(s *state) { s.doubt = open.Add(left - needWait) } }
	asked := func(s *state) { s.asked = true }
	queuedOnce := func(s *state) { s.queued = true }
	waits := locksmith.Slots{Record: locksmith.Holder{MachineID: "m"}, Queued: true}
	confirmed := func(s *state) { s.checked, s.confirmed = true, true }
	strategy := func(st locksmith.Strategy) func(*rules) { return func(r *rules) { r.strategy = st } }
	for _, tt := range []struct {
		name    string
		from    state
		event   event
		at      time.Time
		rules   func(*rules)
		phase   locksmith.Phase
		effects string
		wake    time.Time
	}{
		// At start: what the store says of this machine.
		{"start", start(open, Memory{}), evTick{}, open, nil, recovering, "find", time.Time{}},
		{"start without a lock", start(open, Memory{}), evTick{}, open, strategy(locksmith.StrategyReboot), idle, "", time.Time{}},
		{"start, perhaps a lock", start(open, Memory{}), evTick{}, open, strategy(locksmith.StrategyBestEffort), recovering, "decide", time.Time{}},
		{"no etcd at start", in(recovering, op(effectDecide), func(s *state) { s.needed, s.recovered = false, false }), evDecided{false, nil}, open, strategy(locksmith.StrategyBestEffort), idle, "", open.Add(recheckLock)},
		{"etcd at start", in(recovering, op(effectDecide)), evDecided{true, nil}, open, strategy(locksmith.StrategyBestEffort), recovering, "find", time.Time{}},
		{"whether etcd runs is not known", in(recovering, op(effectDecide)), evDecided{false, errBoom}, open, strategy(locksmith.StrategyBestEffort), recovering, "", open.Add(retryFirst)},
		{"find fails", in(recovering, op(effectFind)), evFound{err: errBoom}, open, nil, recovering, "", open.Add(retryFirst)},
		{"find again", in(recovering, func(s *state) { s.retryAt = open }), evTick{}, open, nil, recovering, "find", time.Time{}},
		{"nothing held", in(recovering, op(effectFind), func(s *state) { s.needed = false }), evFound{}, open, nil, idle, "", time.Time{}},
		{"nothing held, needed", in(recovering, op(effectFind)), evFound{}, open, nil, window, "check", time.Time{}},
		{"own, same boot, need not known", in(recovering, op(effectFind), func(s *state) { s.needed, s.needKnown = false, false }), evFound{slots: held(locksmith.ByAgent, "now", notifying)}, open, nil, acquired, "", open.Add(needWait)},
		{"own, same boot, a reboot was asked for", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByAgent, "now", rebooting)}, shut, nil, acquired, "down", time.Time{}},
		{"own, same boot, going down already", in(acquired, op(effectDown), asked), evGoingDown{yes: true}, shut, nil, rebooting, "", shut.Add(5 * time.Minute)},
		{"own, same boot, not going down", in(acquired, op(effectDown), asked), evGoingDown{}, open, nil, preparing, "prepare", time.Time{}},
		{"own, same boot, not going down, outside the window", in(acquired, op(effectDown), asked), evGoingDown{}, shut, nil, releasing, "release", time.Time{}},
		{"own, same boot, whether it goes down is not known", in(acquired, op(effectDown), asked), evGoingDown{err: errBoom}, open, nil, acquired, "", open.Add(retryFirst)},
		{"own, same boot, still needed", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByAgent, "now", notifying)}, open, nil, preparing, "prepare", time.Time{}},
		{"own, same boot, not needed", in(recovering, op(effectFind), func(s *state) { s.needed = false }), evFound{slots: held(locksmith.ByAgent, "now", acquired)}, open, nil, restoring, "restore", time.Time{}},
		{"own, same boot, other groups", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByAgent, "now", acquired, "a")}, open, nil, restoring, "restore", time.Time{}},
		{"own, other boot", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByAgent, "before", rebooting)}, open, nil, verifying, "verify", time.Time{}},
		{"own, other boot, outside the window", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByAgent, "before", rebooting)}, shut, nil, verifying, "verify", time.Time{}},
		{"holder without record", in(recovering, op(effectFind)), evFound{slots: locksmith.Slots{Groups: []locksmith.Group{"a"}, Record: locksmith.Holder{MachineID: "m"}}}, open, nil, verifying, "verify", time.Time{}},
		{"an administrator's hold", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByLock, "now", acquired)}, open, nil, idle, "", open.Add(recheckLock)},
		{"an administrator's hold of an earlier boot", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByWithLock, "before", acquired)}, open, nil, idle, "", open.Add(recheckLock)},
		{"locksmithctl reboot under way", in(recovering, op(effectFind), func(s *state) { s.needed = false }), evFound{slots: held(locksmith.ByReboot, "now", rebooting)}, open, nil, idle, "", time.Time{}},
		{"locksmithctl reboot done", in(recovering, op(effectFind)), evFound{slots: held(locksmith.ByReboot, "before", rebooting)}, open, nil, verifying, "verify", time.Time{}},

		// What an earlier process left in the queues.
		{"queued once, need not known", in(recovering, op(effectFind), func(s *state) { s.needed, s.needKnown = false, false }), evFound{slots: waits}, open, nil, idle, "", open.Add(needWait)},
		{"queued once, not needed", in(recovering, op(effectFind), func(s *state) { s.needed = false }), evFound{slots: waits}, open, nil, recovering, "withdraw", time.Time{}},
		{"queued once, the trigger answers no", in(idle, queuedOnce, func(s *state) { s.needKnown = false }), noNeed, open, nil, recovering, "withdraw", time.Time{}},
		{"queued once, triggers stay silent", in(idle, queuedOnce, func(s *state) { s.needKnown, s.since = false, open.Add(-needWait) }), evTick{}, open, nil, recovering, "withdraw", time.Time{}},
		{"queued once, needed", in(recovering, op(effectFind)), evFound{slots: waits}, open, nil, window, "check", time.Time{}},
		{"queued once, needed outside the window", in(recovering, op(effectFind)), evFound{slots: waits}, shut, nil, recovering, "withdraw", time.Time{}},
		{"queued once, blocked", in(window, queuedOnce, op(effectCheck)), evDone{errBoom}, open, nil, recovering, "withdraw", time.Time{}},
		{"queued once, takes the place over", in(window, queuedOnce, op(effectCheck)), evDone{}, open, nil, queued, "acquire", closes},
		{"withdrawn", in(recovering, queuedOnce, op(effectWithdraw), func(s *state) { s.needed = false }), evFound{}, open, nil, idle, "", time.Time{}},
		{"withdrawn, queued all the same", in(recovering, queuedOnce, op(effectWithdraw), func(s *state) { s.needed = false }), evFound{slots: waits}, open, nil, idle, "", time.Time{}},
		{"withdrawn, and a grant came late", in(recovering, queuedOnce, op(effectWithdraw), func(s *state) { s.needed = false }), evFound{slots: held(locksmith.ByAgent, "now", acquired)}, open, nil, restoring, "restore", time.Time{}},
		{"cannot be withdrawn", in(recovering, queuedOnce, op(effectWithdraw), func(s *state) { s.needed = false }), evFound{err: errBoom}, open, nil, recovering, "", open.Add(retryFirst)},
		{"withdrawn again", in(recovering, queuedOnce, func(s *state) { s.needed, s.retryAt = false, open }), evTick{}, open, nil, recovering, "withdraw", time.Time{}},
		{"whether the wait was granted is not known", in(queued, func(s *state) { s.abandoning, s.needed = true, false }), evDone{fmt.Errorf("%w: %w", errAbandoned, locksmith.ErrMayHold)}, open, nil, recovering, "withdraw", time.Time{}},

		// A need, its window, its checks.
		{"need inside the window", in(idle), need, open, nil, window, "check", time.Time{}},
		{"need outside the window", in(idle), need, shut, nil, window, "", opens},
		{"a failing trigger is no need", in(idle), unknown, open, nil, idle, "", time.Time{}},
		{"need, perhaps a lock", in(idle), need, open, strategy(locksmith.StrategyBestEffort), locksmith.PhaseNeeded, "decide", time.Time{}},
		{"need, etcd appeared since the start", in(locksmith.PhaseNeeded, op(effectDecide), func(s *state) { s.recovered = false }), evDecided{true, nil}, open, strategy(locksmith.StrategyBestEffort), recovering, "find", time.Time{}},
		{"need, no etcd", in(locksmith.PhaseNeeded, op(effectDecide), func(s *state) { s.recovered = false }), evDecided{false, nil}, open, strategy(locksmith.StrategyBestEffort), window, "check", time.Time{}},
		{"need, whether etcd runs is not known", in(locksmith.PhaseNeeded, op(effectDecide)), evDecided{false, errBoom}, open, strategy(locksmith.StrategyBestEffort), locksmith.PhaseNeeded, "", open.Add(retryFirst)},
		{"need, nobody needs a lock", in(idle), need, open, strategy(locksmith.StrategyReboot), window, "check", time.Time{}},
		{"need right after an abort", in(idle, func(s *state) { s.retryAt = open.Add(time.Minute) }), need, open, nil, idle, "", open.Add(time.Minute)},
		{"need withdrawn", in(window), noNeed, shut, nil, idle, "", time.Time{}},
		{"need in doubt as the window opens", in(window, doubt(30*time.Second)), evTick{}, opens, nil, idle, "", time.Time{}},
		{"need in doubt inside the window", in(window), unknown, open, nil, window, "", open.Add(needWait)},
		{"the window opens", in(window), evTick{}, opens, nil, window, "check", time.Time{}},
		{"blocked", in(window, op(effectCheck)), evDone{errBoom}, open, nil, window, "", open.Add(retryFirst)},
		{"blocked until the window closes", in(window, op(effectCheck), func(s *state) { s.failures = 20 }), evDone{errBoom}, closes.Add(-time.Minute), nil, window, "", closes},
		{"check passes after the window closed", in(window, op(effectCheck)), evDone{}, closes, nil, window, "", opens},
		{"check passes", in(window, op(effectCheck)), evDone{}, open, nil, queued, "acquire", closes},
		{"check passes, no lock", in(window, op(effectCheck), func(s *state) { s.useLock = false }), evDone{}, open, strategy(locksmith.StrategyReboot), preparing, "prepare", time.Time{}},

		// Waiting for the slots.
		{"the window closes while queued", in(queued), evTick{}, closes, nil, queued, "abandon", time.Time{}},
		{"need in doubt while queued", in(queued), unknown, open, nil, queued, "", open.Add(needWait)},
		{"need in doubt while queued for too long", in(queued, doubt(0)), evTick{}, open, nil, queued, "abandon", time.Time{}},
		{"need withdrawn while queued", in(queued), noNeed, open, nil, queued, "abandon", time.Time{}},
		{"asked to end once is enough", in(queued, func(s *state) { s.abandoning = true }), evTick{}, closes, nil, queued, "", time.Time{}},
		{"the queue is left", in(queued, func(s *state) { s.abandoning = true }), evDone{errAbandoned}, closes, nil, window, "", opens},
		{"granted", in(queued), evGranted{held(locksmith.ByAgent, "now", acquired)}, open, nil, preparing, "prepare", time.Time{}},
		{"granted just before the window closes", in(queued), evGranted{held(locksmith.ByAgent, "now", acquired)}, closes, nil, releasing, "release", time.Time{}},
		{"granted while leaving", in(queued, func(s *state) { s.abandoning, s.needed = true, false }), evGranted{held(locksmith.ByAgent, "now", acquired)}, open, nil, releasing, "release", time.Time{}},
		{"granted in one of two groups", in(queued), evGranted{held(locksmith.ByAgent, "now", acquired, "a")}, open, nil, releasing, "release", time.Time{}},
		{"somebody holds this machine's slot", in(queued), evDone{locksmith.ErrHolderExists}, open, nil, recovering, "find", time.Time{}},
		{"no permission", in(queued), evDone{errBoom}, open, nil, window, "", open.Add(retryFirst)},

		// Slots of an earlier run.
		{"resumed, trigger answers yes", in(acquired, func(s *state) { s.resumed, s.needed, s.needKnown = open, false, false }), need, open, nil, preparing, "prepare", time.Time{}},
		{"resumed, trigger answers no", in(acquired, func(s *state) { s.resumed, s.needKnown, s.needed, s.prepared = open, false, false, true }), noNeed, open, nil, restoring, "restore", time.Time{}},
		{"resumed, triggers stay silent", in(acquired, func(s *state) { s.resumed, s.needKnown, s.needed, s.prepared = open, false, false, true }), evTick{}, open.Add(needWait), nil, restoring, "restore", time.Time{}},
		{"resumed outside the window", in(acquired, func(s *state) { s.resumed, s.prepared = shut, true }), evTick{}, shut, nil, restoring, "restore", time.Time{}},

		// Preparing, users.
		{"prepare fails", in(preparing, op(effectPrepare)), evDone{errBoom}, open, nil, restoring, "restore", time.Time{}},
		{"prepared", in(preparing, op(effectPrepare)), evDone{}, open, nil, notifying, "sessions", time.Time{}},
		{"prepared, window closed meanwhile", in(preparing, op(effectPrepare)), evDone{}, closes, nil, restoring, "restore", time.Time{}},
		{"prepared, no delay wanted", in(preparing, op(effectPrepare)), evDone{}, open, func(r *rules) { r.loginDelay = 0 }, rebooting, "check", time.Time{}},
		{"nobody is logged in", in(notifying, op(effectSessions)), evListed{}, open, nil, rebooting, "check", time.Time{}},
		{"somebody is logged in", in(notifying, op(effectSessions)), evListed{sessions: user}, open, nil, notifying, "tell", time.Time{}},
		{"told", in(notifying, op(effectTell), waiting(5*time.Minute), func(s *state) { s.published = false }), evDone{}, open, nil, notifying, "publish", time.Time{}},
		{"waits for users", in(notifying, op(effectPublish), waiting(5*time.Minute)), evAdvanced{slots: held(locksmith.ByAgent, "now", notifying)}, open, nil, notifying, "", open.Add(4 * time.Minute)},
		{"etcd away while telling people", in(notifying, op(effectPublish), waiting(5*time.Minute)), evAdvanced{err: errBoom}, open, nil, notifying, "", open.Add(4 * time.Minute)},
		{"unlocked while waiting for users", in(notifying, op(effectPublish), waiting(5*time.Minute)), evAdvanced{err: locksmith.ErrSlotLost}, open, nil, restoring, "restore", time.Time{}},
		{"who is logged in is not known", in(notifying, op(effectSessions)), evListed{err: errBoom}, open, nil, notifying, "tell", time.Time{}},
		{"somebody logs in", in(notifying, waiting(time.Minute)), evSessionsChanged{}, open, nil, notifying, "sessions", time.Time{}},
		{"the one who logged in is told", in(notifying, op(effectSessions), waiting(time.Minute)), evListed{sessions: append(user, Session{ID: "2"})}, open, nil, notifying, "tell", time.Time{}},
		{"everybody has logged out", in(notifying, op(effectSessions), waiting(time.Minute)), evListed{}, open, nil, rebooting, "check", time.Time{}},
		{"the delay is over", in(notifying, waiting(0)), evTick{}, open, nil, rebooting, "check", time.Time{}},
		{"the window ends before the delay", in(notifying, waiting(time.Hour)), evTick{}, open, nil, notifying, "", closes},
		{"the window closes during the delay", in(notifying, waiting(time.Hour)), evTick{}, closes, nil, restoring, "restore", time.Time{}},
		{"need withdrawn during the delay", in(notifying, waiting(time.Minute)), noNeed, open, nil, restoring, "restore", time.Time{}},
		{"need in doubt during the delay", in(notifying, waiting(2*time.Minute)), unknown, open, nil, notifying, "", open.Add(needWait)},
		{"need in doubt when the delay is over", in(notifying, waiting(0), doubt(30*time.Second)), evTick{}, open, nil, rebooting, "", open.Add(30 * time.Second)},
		{"need in doubt for too long", in(notifying, waiting(time.Minute), doubt(0)), evTick{}, open, nil, restoring, "restore", time.Time{}},
		{"need in doubt, then not", in(rebooting, doubt(30*time.Second)), need, open, nil, rebooting, "check", time.Time{}},
		{"need in doubt, then withdrawn", in(rebooting, doubt(30*time.Second)), noNeed, open, nil, restoring, "restore", time.Time{}},
		{"need in doubt right before the call", in(rebooting, op(effectConfirm), doubt(30*time.Second), func(s *state) { s.checked = true }), evAdvanced{slots: held(locksmith.ByAgent, "now", rebooting)}, open, nil, rebooting, "", open.Add(30 * time.Second)},

		// The reboot.
		{"blocked right before the reboot", in(rebooting, op(effectCheck)), evDone{errBoom}, open, nil, restoring, "restore", time.Time{}},
		{"checked right before the reboot", in(rebooting, op(effectCheck)), evDone{}, open, nil, rebooting, "confirm", time.Time{}},
		{"checked, no lock", in(rebooting, op(effectCheck), func(s *state) { s.useLock, s.held = false, false }), evDone{}, open, strategy(locksmith.StrategyReboot), rebooting, "reboot", time.Time{}},
		{"confirmed", in(rebooting, op(effectConfirm), func(s *state) { s.checked = true }), evAdvanced{slots: held(locksmith.ByAgent, "now", rebooting)}, open, nil, rebooting, "reboot", time.Time{}},
		{"confirmed as the window closes", in(rebooting, op(effectConfirm), func(s *state) { s.checked = true }), evAdvanced{slots: held(locksmith.ByAgent, "now", rebooting)}, closes, nil, restoring, "restore", time.Time{}},
		{"unlocked right before the reboot", in(rebooting, op(effectConfirm), func(s *state) { s.checked = true }), evAdvanced{err: locksmith.ErrSlotLost}, open, nil, restoring, "restore", time.Time{}},
		{"etcd away right before the reboot", in(rebooting, op(effectConfirm), func(s *state) { s.checked = true }), evAdvanced{err: errBoom}, open, nil, rebooting, "", open.Add(retryFirst)},
		{"etcd away until the window closes", in(rebooting, func(s *state) { s.checked, s.retryAt = true, closes.Add(time.Minute) }), evTick{}, closes, nil, restoring, "restore", time.Time{}},
		{"the call fails", in(rebooting, op(effectReboot), confirmed), evDone{errBoom}, open, nil, rebooting, "", open.Add(rebootPause)},
		{"the call is made again, all checked anew", in(rebooting, func(s *state) { s.attempts, s.retryAt = 1, open }), evTick{}, open, nil, rebooting, "check", time.Time{}},
		{"the call fails for good", in(rebooting, op(effectReboot), confirmed, func(s *state) { s.attempts = rebootAttempts - 1 }), evDone{errBoom}, open, nil, restoring, "restore", time.Time{}},
		{"accepted", in(rebooting, op(effectReboot), confirmed), evDone{}, open, nil, rebooting, "", open.Add(5 * time.Minute)},
		{"accepted, and need withdrawn", in(rebooting, confirmed, func(s *state) { s.accepted = open }), noNeed, open, nil, rebooting, "", open.Add(5 * time.Minute)},
		{"accepted, but it does not happen", in(rebooting, confirmed, func(s *state) { s.accepted = open }), evTick{}, open.Add(5 * time.Minute), nil, rebooting, "", open.Add(5*time.Minute + rebootPause)},

		{"the call fails for good, but perhaps was heard", in(rebooting, op(effectReboot), confirmed, asked, func(s *state) { s.attempts = rebootAttempts - 1 }), evDone{errBoom}, open, nil, restoring, "down", time.Time{}},
		{"it was heard", in(restoring, op(effectDown), asked), evGoingDown{yes: true}, shut, nil, rebooting, "", shut.Add(5 * time.Minute)},
		{"whether it was heard is not known", in(restoring, op(effectDown), asked), evGoingDown{err: errBoom}, open, nil, restoring, "", open.Add(retryFirst)},
		{"it was not heard", in(restoring, op(effectDown), asked), evGoingDown{}, open, nil, restoring, "restore", time.Time{}},

		// After the boot, and after an abort.
		{"verified", in(verifying, op(effectVerify)), evDone{}, open, nil, restoring, "restore", time.Time{}},
		{"verify fails", in(verifying, op(effectVerify)), evDone{errBoom}, open, nil, failed, "publish", time.Time{}},
		{"failed, published", in(failed, op(effectPublish), func(s *state) { s.published, s.retryAt = true, open.Add(time.Minute) }), evAdvanced{}, open, nil, failed, "", open.Add(time.Minute)},
		{"failed, tried again", in(failed, func(s *state) { s.published, s.retryAt = true, open }), evTick{}, open, nil, failed, "verify", time.Time{}},
		{"failed, a new need changes nothing", in(failed, func(s *state) { s.published, s.retryAt = true, open.Add(time.Minute) }), need, open, nil, failed, "", open.Add(time.Minute)},
		{"failed, then passes", in(failed, op(effectVerify), func(s *state) { s.published = true }), evDone{}, open, nil, restoring, "restore", time.Time{}},
		{"restore fails", in(restoring, op(effectRestore)), evDone{errBoom}, open, nil, restoring, "", open.Add(retryFirst)},
		{"restored", in(restoring, op(effectRestore)), evDone{}, open, nil, releasing, "release", time.Time{}},
		{"release fails", in(releasing, op(effectRelease)), evDone{errBoom}, open, nil, releasing, "", open.Add(retryFirst)},
		{"released", in(releasing, op(effectRelease)), evDone{}, open, nil, idle, "", time.Time{}},
		{"released, and needed once more", in(releasing, op(effectRelease), func(s *state) { s.needed = true }), evDone{}, open, nil, window, "check", time.Time{}},
		{"released after an abort", in(releasing, op(effectRelease), func(s *state) { s.needed, s.outcome, s.rest = true, "aborted: x", afterAbort }), evDone{}, open, nil, idle, "", open.Add(afterAbort)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRules()
			if tt.rules != nil {
				tt.rules(&r)
			}
			s, effects := r.step(tt.from, tt.event, tt.at)
			var kinds []string
			for _, e := range effects {
				kinds = append(kinds, string(e.kind))
			}
			if s.phase != tt.phase || strings.Join(kinds, " ") != tt.effects {
				t.Errorf("got %s and %q, want %s and %q", s.phase, kinds, tt.phase, tt.effects)
			}
			if !s.wakeAt.Equal(tt.wake) {
				t.Errorf("wakes at %v, want %v", s.wakeAt, tt.wake)
			}
		})
	}
}
