package agent

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// walk is one machine in a world of random events.
type walk struct {
	t     *testing.T
	rnd   *rand.Rand
	seed  uint64
	r     rules
	s     state
	now   time.Time
	disk  Memory // as last made durable
	trace []string

	writing   Memory // what is being made durable
	unwritten bool   // the last write failed

	prepared bool // and not restored
	asked    bool // a reboot, which may be under way
}

// Whatever happens in whatever order: the reboot comes only with the slots held and
// confirmed, remembered, checked, inside the window, needed, prepared and not paused;
// restore runs before release after a prepare; a dry run leaves everything as it
// is; and the machine never gets stuck without something to wait for.
func TestStepKeepsItsGuarantees(t *testing.T) {
	reboots := 0
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := &walk{t: t, rnd: rnd, seed: seed, r: randomRules(rnd), now: open.Add(time.Duration(rnd.IntN(7200)) * time.Second)}
		w.r.booted = w.now
		w.disk = randomMemory(rnd, w.now)
		w.s = start(w.now, w.disk)
		if c := w.disk.Cycle; c != nil && !w.r.dryRun { // which leaves alone what an earlier run began
			w.prepared, w.asked = c.Prepared, !c.Asked.IsZero() && c.Boot == w.r.bootID
		}
		reboots += w.run(80)
	}
	if reboots < 300 {
		t.Errorf("only %d reboots in all walks", reboots)
	}
}

func randomRules(rnd *rand.Rand) rules {
	r := testRules()
	r.strategy = []locksmith.Strategy{locksmith.StrategyEtcdLock, locksmith.StrategyEtcdLock, locksmith.StrategyBestEffort, locksmith.StrategyReboot}[rnd.IntN(4)]
	r.remembers = rnd.IntN(4) > 0
	r.method = []locksmith.Method{"", "", locksmith.MethodSoftReboot, locksmith.MethodKexec}[rnd.IntN(4)]
	r.maxPerDay = rnd.IntN(3)
	r.minUptime = time.Duration(rnd.IntN(2)) * 10 * time.Minute
	r.verifyTime = time.Duration(rnd.IntN(2)) * 3 * time.Minute
	r.verifySoak = time.Duration(rnd.IntN(2)) * 90 * time.Second
	r.proceed = rnd.IntN(4) == 0
	if r.dryRun = rnd.IntN(6) == 0; r.dryRun {
		r.remembers = false
	}
	if rnd.IntN(3) == 0 {
		r.window = nil
	}
	return r
}

func randomMemory(rnd *rand.Rand, now time.Time) (m Memory) {
	if rnd.IntN(3) > 0 {
		return m
	}
	for range rnd.IntN(3) {
		m.Reboots = append(m.Reboots, now.Add(-time.Duration(rnd.IntN(30*3600))*time.Second))
	}
	if rnd.IntN(2) == 0 {
		m.Cycle = &Cycle{Boot: []string{"now", "before"}[rnd.IntN(2)], Triggers: []string{"t"}, Reasons: []string{"x"}, Prepared: rnd.IntN(2) == 0}
		if rnd.IntN(2) == 0 {
			m.Cycle.Prepared, m.Cycle.Asked, m.Cycle.Method = true, now.Add(-time.Minute), locksmith.MethodReboot
		}
	}
	if rnd.IntN(2) == 0 {
		m.Last = &Past{Time: now.Add(-time.Minute), Reasons: []string{"x"}, Outcome: rebooted}
	}
	if rnd.IntN(3) == 0 {
		m.InVain = []string{"x"}
	}
	return m
}

func (w *walk) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, rules %+v: %s\n%s", w.seed, w.r, fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

// run walks so many steps, and returns how often the machine was rebooted.
func (w *walk) run(steps int) (reboots int) {
	w.t.Helper()
	var ev event = evTick{}
	for range steps {
		before := w.s
		var effects []effect
		w.s, effects = w.r.step(w.s, ev, w.now)
		w.trace = append(w.trace, fmt.Sprintf("%s %T%+v -> %s %q %v", w.now.Format("15:04:05"), ev, ev, w.s.phase, w.s.waiting, effects))
		if before.phase != w.s.phase && w.s.phase == locksmith.PhaseReleasing && w.prepared && !w.r.dryRun {
			w.fail("gives up before restore")
		}
		for _, e := range effects {
			if e.kind == effectReboot {
				reboots++
			}
			w.look(e)
		}
		w.rests()
		w.now = w.now.Add(time.Duration(w.rnd.IntN(240)) * time.Second)
		ev = w.event()
	}
	return reboots
}

// look checks an effect that is about to be carried out.
func (w *walk) look(e effect) {
	w.t.Helper()
	s, r := w.s, w.r
	if r.dryRun {
		if s.mem.Cycle != w.disk.Cycle || len(s.mem.Reboots) != len(w.disk.Reboots) {
			w.fail("a dry run counts: %+v", s.mem)
		}
		switch e.kind {
		case effectAcquire, effectRemember, effectPublish, effectConfirm, effectRelease, effectFind, effectWithdraw, effectVerify:
			w.fail("a dry run does %s", e.kind)
		}
	}
	c := w.disk.Cycle
	switch e.kind {
	case effectRemember:
		w.writing = e.memory
	case effectReboot:
		w.lookAtReboot(e)
		w.asked = !r.dryRun
	case effectPrepare:
		if r.remembers && (c == nil || !c.Prepared || c.Boot != r.bootID) {
			w.fail("prepares, and remembers %+v", c)
		}
		if why := r.mustStop(state{phase: locksmith.PhaseAcquired, needed: s.needed, needKnown: s.needKnown, held: s.held, slots: s.slots, useLock: s.useLock,
			pauses: s.pauses, reasons: s.reasons, mem: s.mem}, w.now); why != "" {
			w.fail("prepares although %s", why)
		}
		w.prepared = true
	case effectRelease:
		if w.prepared {
			w.fail("release before restore")
		}
		if w.asked {
			w.fail("release although the machine may be going down")
		}
	case effectRestore:
		if w.asked {
			w.fail("restore although the machine may be going down")
		}
	case effectAcquire:
		if s.held || r.closed(w.now) != nil || !s.needed || !s.doubt.IsZero() || r.keepsOut(s.paused(w.now)) {
			w.fail("acquire in state %+v", s)
		}
		if why, _ := r.breaker(s, w.now); why != "" {
			w.fail("acquire although %s", why)
		}
	}
}

func (w *walk) lookAtReboot(e effect) {
	w.t.Helper()
	s, r, c := w.s, w.r, w.disk.Cycle
	switch {
	case s.phase != locksmith.PhaseRebooting || !s.checked || !s.needed || !s.doubt.IsZero() || !w.prepared || r.closed(w.now) != nil || s.inVain():
		w.fail("reboot in state %+v", s)
	case s.useLock && len(s.paused(w.now)) > 0:
		w.fail("reboot in a pause")
	case s.useLock && !r.dryRun && (!s.held || !s.confirmed || len(s.slots.Groups) < len(r.groups)):
		w.fail("reboot without slots")
	case !s.useLock && r.strategy == locksmith.StrategyEtcdLock:
		w.fail("reboot without a lock")
	case e.method != r.way(s):
		w.fail("reboot by %s instead of %s", e.method, r.way(s))
	case r.remembers && (!s.noted || c == nil || c.Asked.Before(s.since) || c.Method != e.method || c.Boot != r.bootID):
		w.fail("reboot, and remembers %+v", c)
	}
}

// rests checks that the machine waits for something, and not for what is over.
func (w *walk) rests() {
	w.t.Helper()
	s := w.s
	if s.op != none {
		return
	}
	paused := s.paused(w.now)
	forever := s.inVain() || len(paused) > 0 && resumes(paused).IsZero()
	switch {
	case s.wakeAt.IsZero() && s.phase == locksmith.PhaseIdle && s.needed && !w.r.dryRun:
		w.fail("idle, although a reboot is needed")
	case s.wakeAt.IsZero() && s.phase != locksmith.PhaseIdle && !(s.phase == locksmith.PhaseWindow && forever):
		w.fail("stuck in %s", s.phase)
	case !s.wakeAt.IsZero() && !s.wakeAt.After(w.now):
		w.fail("busy loop in %s", s.phase)
	case s.queued && !s.needed && s.needKnown && s.phase == locksmith.PhaseIdle,
		s.queued && s.phase == locksmith.PhaseWindow && (w.r.closed(w.now) != nil || w.now.Before(s.retryAt)):
		w.fail("may be granted slots that it does not want in %s", s.phase)
	case s.phase == locksmith.PhaseIdle && w.r.remembers && !w.unwritten && !w.disk.NeededSince.Equal(s.mem.NeededSince):
		w.fail("does not write what it remembers")
	}
}

// event is what happens next, and what that means for the world.
func (w *walk) event() event {
	ev := w.random()
	switch e := ev.(type) {
	case evGoingDown:
		w.asked = w.asked && (e.yes || e.err != nil)
	case evDone:
		switch {
		case e.err != nil:
		case w.s.op == effectRestore:
			w.prepared = false
		case w.s.op == effectRemember:
			w.disk = w.writing
		}
		w.unwritten = w.unwritten && w.s.op != effectRemember || e.err != nil && w.s.op == effectRemember
	case evFound:
		// The world of random events knows no boots but that of the record; and the
		// intent to reboot is written after prepare is done.
		rec := e.slots.Record
		w.asked = w.asked && (rec.BootID == "" || rec.BootID == w.r.bootID)
		w.prepared = w.prepared || rec.Phase == locksmith.PhaseRebooting
	}
	return ev
}

func (w *walk) random() event {
	rnd, s := w.rnd, w.s
	need := func(reasons ...string) evNeed {
		return evNeed{known: true, needed: len(reasons) > 0, reason: strings.Join(reasons, "; "), reasons: reasons, triggers: []string{"t"},
			sure: []string{"t"}, atLeast: []locksmith.Method{"", locksmith.MethodKexec}[rnd.IntN(2)]}
	}
	err := []error{nil, nil, errBoom}[rnd.IntN(3)]
	if rnd.IntN(4) == 0 {
		return []event{evTick{}, need("x"), need("x"), need("y"), need("x", "y"), need(), evNeed{}, evSessionsChanged{}, w.pauses(), evPauses{}, evPauses{unknown: true}}[rnd.IntN(11)]
	}
	switch s.op {
	case none:
		return evTick{}
	case effectFind, effectWithdraw:
		if err != nil {
			return evFound{err: err}
		}
		found := []locksmith.Slots{{}, {}, held(locksmith.ByAgent, "now", locksmith.PhaseRebooting), held(locksmith.ByAgent, "before", locksmith.PhaseRebooting),
			held(locksmith.ByAgent, "before", locksmith.PhaseFailed), held(locksmith.ByLock, "now", locksmith.PhaseAcquired)}
		slots := found[rnd.IntN(len(found))]
		slots.Queued = rnd.IntN(3) == 0
		return evFound{slots: slots}
	case effectDecide:
		return evDecided{rnd.IntN(2) == 0, err}
	case effectAcquire:
		if rnd.IntN(3) == 0 {
			return evDone{[]error{errBoom, errAbandoned, locksmith.ErrHolderExists, &locksmith.PausedError{Pauses: w.pauses().pauses},
				fmt.Errorf("%w: %w", errAbandoned, locksmith.ErrMayHold)}[rnd.IntN(5)]}
		}
		return evGranted{held(locksmith.ByAgent, "now", locksmith.PhaseAcquired)}
	case effectSessions:
		return evListed{[]Session{{ID: fmt.Sprint(rnd.IntN(3))}}[:rnd.IntN(2)], err}
	case effectDown:
		return evGoingDown{rnd.IntN(3) == 0, err}
	case effectPublish, effectConfirm:
		switch rnd.IntN(8) {
		case 0: // of none, one or all of them: all are held, but somebody wrote the record
			return evAdvanced{locksmith.Slots{Groups: s.slots.Groups[:rnd.IntN(len(s.slots.Groups)+1)], Record: s.slots.Record}, locksmith.ErrSlotLost}
		case 1:
			err = &locksmith.PausedError{Pauses: w.pauses().pauses}
		}
		return evAdvanced{s.slots, err}
	case effectCheck:
		if err != nil {
			return evDone{vetoed{{By: "b", Reason: "busy"}}}
		}
	}
	return evDone{err}
}

// pauses is one pause of any scope, over soon or only once resumed.
func (w *walk) pauses() evPauses {
	p := locksmith.Pause{Scope: []locksmith.PauseScope{{All: true}, {Machine: "m"}, {Group: "a"}}[w.rnd.IntN(3)], At: w.now.Unix()}
	if w.rnd.IntN(2) == 0 {
		p.Until = w.now.Add(time.Duration(w.rnd.IntN(600)) * time.Second).Unix()
	}
	return evPauses{pauses: []locksmith.Pause{p}}
}
