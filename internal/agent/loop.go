package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// longestSleep is after how long the loop looks at the clock in any case while it
// waits for an instant: the clock may have been set, or the machine suspended.
const longestSleep = 10 * time.Minute

// Agent is the loop around step: it feeds it events and carries out effects, one
// at a time.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	events chan event
	wg     sync.WaitGroup // what runs for the loop

	mu     sync.Mutex
	status Status
}

// New checks cfg and returns an agent that Run sets going.
func New(cfg Config) (*Agent, error) {
	if cfg.RebootGrace == 0 {
		cfg.RebootGrace = DefaultRebootGrace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CheckTimeout == 0 {
		cfg.CheckTimeout = DefaultCheckTimeout
	}
	if cfg.DryRun {
		cfg.Remember = nil
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if !cfg.Booted.IsZero() { // by a clock that nobody sets
		now := time.Now()
		cfg.Booted = now.Add(cfg.Booted.Sub(now))
	}
	a := &Agent{cfg: cfg, log: cfg.Log.With("machine", cfg.MachineID), events: make(chan event)}
	l := &loop{Agent: a, rules: a.rules(), state: start(time.Now(), cfg.Memory)}
	a.status = l.describe()
	return a, nil
}

// Status is what the agent says of itself at this moment.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.Triggers, s.TriggerErrs = maps.Clone(s.Triggers), maps.Clone(s.TriggerErrs)
	// An idle agent does not look at the clock by itself.
	window := a.rules().windowCondition(time.Now())
	s.Conditions = slices.Clone(s.Conditions)
	for i, c := range s.Conditions {
		if c.Name == locksmith.CondWindow {
			s.Conditions[i] = window
		}
	}
	s.Pauses = state{pauses: s.Pauses}.paused(time.Now())
	s.setWindow(a.cfg.Window, time.Now())
	return s
}

// Run goes through the machine's cycles until ctx ends, and returns its cause
// once everything it started has stopped. A queue it waits in is left; slots it
// holds stay held, for the next Run to find.
func (a *Agent) Run(ctx context.Context) error {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer a.wg.Wait()
	defer cancel(context.Canceled)
	l := &loop{Agent: a, ctx: runCtx, needs: make(map[string]Need), errs: make(map[string]int), rules: a.rules()}
	for _, t := range a.cfg.Triggers {
		a.wg.Go(func() { l.watchTrigger(runCtx, t) })
	}
	return l.run()
}

func (a *Agent) rules() rules {
	c := a.cfg
	return rules{
		bootID: c.BootID, booted: c.Booted, groups: c.Groups, strategy: c.Strategy, window: c.Window, method: c.Method,
		loginDelay: c.LoginDelay, rebootGrace: c.RebootGrace, proceed: c.Proceed, verifyTime: c.VerifyTimeout, verifySoak: c.VerifySoak,
		maxPerDay: c.MaxRebootsPerDay, minUptime: c.MinUptime, remembers: c.Remember != nil, dryRun: c.DryRun,
		jitter: func(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) },
	}
}

// loop is what one Run has at hand. Only its own goroutine touches it, but for
// post and what effects read.
type loop struct {
	*Agent
	ctx   context.Context
	rules rules
	state state
	needs map[string]Need
	errs  map[string]int // by trigger, answers with an error

	endWait      context.CancelCauseFunc // of the wait in the queue
	endSessions  context.CancelFunc      // of following log-ins; nil: not followed
	endPauses    context.CancelFunc      // of following pauses; nil: not followed
	followers    int                     // of pauses, so far
	wake         *time.Timer
	reportedWait string // what the wait in the queue reports, "" if all is well
	coordinator  string // as last published
}

// evReport is what a wait in the queue says of itself.
type evReport struct{ text string }

// evAnswer is a trigger's answer.
type evAnswer struct{ need Need }

// evFollowed is what a follower of pauses reports. One that has been ended since
// would bring back pauses that are over.
type evFollowed struct {
	follower int
	evPauses
}

func (l *loop) run() error {
	l.state = start(time.Now(), l.cfg.Memory)
	l.wake = time.NewTimer(time.Hour)
	defer l.wake.Stop()
	l.handle(evTick{})
	for {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-l.wake.C:
			l.handle(evTick{})
		case ev := <-l.events:
			l.handle(ev)
		}
	}
}

// post hands an event to the loop, or drops it when the loop has ended.
func (l *loop) post(ev event) {
	select {
	case l.events <- ev:
	case <-l.ctx.Done():
	}
}

func (l *loop) handle(ev event) {
	switch e := ev.(type) {
	case evReport:
		l.reportedWait = e.text
		ev = evTick{}
	case evAnswer:
		l.noteAnswer(e.need)
		ev = l.combine()
	case evFollowed:
		if ev = e.evPauses; e.follower != l.followers || l.endPauses == nil {
			ev = evTick{}
		}
	}
	before := l.state
	now := time.Now()
	var effects []effect
	l.state, effects = l.rules.step(l.state, ev, now)
	if l.state.phase != locksmith.PhaseQueued {
		l.reportedWait = ""
	}
	l.followSessions()
	l.followPauses()
	l.tellCoordinator()
	l.publish(before)
	for _, e := range effects {
		l.carryOut(e)
	}
	l.wake.Stop()
	if at := l.state.wakeAt; !at.IsZero() {
		l.wake.Reset(min(time.Until(at), longestSleep))
	}
}

// watchTrigger follows one trigger. Whatever makes it return is an answer with an
// error, and it is started again.
func (l *loop) watchTrigger(ctx context.Context, t Trigger) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := t.Watch(ctx, func(n Need) {
			n.Trigger = t.Name()
			l.post(evAnswer{n})
		})
		if ctx.Err() != nil {
			return
		}
		l.post(evAnswer{Need{Trigger: t.Name(), Err: fmt.Errorf("the trigger ended: %v", err)}})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// followSessions is told of log-ins and log-outs while users are given time.
func (l *loop) followSessions() {
	notifying := l.state.phase == locksmith.PhaseNotifying
	switch {
	case notifying && l.endSessions == nil:
		ctx, cancel := context.WithCancel(l.ctx)
		l.endSessions = cancel
		l.wg.Go(func() {
			if err := l.cfg.Machine.SessionChanges(ctx, func() { l.post(evSessionsChanged{}) }); err != nil && ctx.Err() == nil {
				l.log.Warn("log-ins are not followed", "error", err)
			}
		})
	case !notifying && l.endSessions != nil:
		l.endSessions()
		l.endSessions = nil
	}
}

// followPauses is told of pauses while they matter.
func (l *loop) followPauses() {
	follow := l.state.followsPauses()
	switch {
	case follow && l.endPauses == nil:
		ctx, cancel := context.WithCancel(l.ctx)
		l.endPauses = cancel
		l.followers++
		follower := l.followers
		l.wg.Go(func() {
			l.watchPauses(ctx, func(ev evPauses) { l.post(evFollowed{follower, ev}) })
		})
	case !follow && l.endPauses != nil:
		l.endPauses()
		l.endPauses = nil
	}
}

// watchPauses follows pauses until ctx ends. Whatever else makes that return, a
// pause that is over must not keep the machine waiting, so what was heard is
// forgotten, and it is started again.
func (l *loop) watchPauses(ctx context.Context, report func(evPauses)) {
	said := ""
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := l.cfg.Lock.FollowPauses(ctx, l.cfg.MachineID, l.cfg.Groups, func(p []locksmith.Pause) { report(evPauses{pauses: p}) })
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != said {
			said = text
			l.log.Warn("pauses are not followed", "error", err)
		}
		report(evPauses{unknown: true})
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// tellCoordinator keeps coordinator.conf true.
func (l *loop) tellCoordinator() {
	if l.cfg.Coordinator == nil {
		return
	}
	state := CoordinatorRunning
	switch l.state.phase {
	case locksmith.PhaseRecovering:
		if state = CoordinatorStarting; l.coordinator != "" { // it only looks into the store once more
			state = l.coordinator
		}
	case locksmith.PhaseAcquired, locksmith.PhasePreparing, locksmith.PhaseNotifying:
		state = CoordinatorPlanned
	case locksmith.PhaseRebooting:
		state = CoordinatorRebooting
	}
	if state == l.coordinator {
		return
	}
	if err := l.cfg.Coordinator.SetState(state); err != nil {
		l.log.Warn("the update engine was not told", "state", state, "error", err)
		return
	}
	l.coordinator = state
}

// carryOut starts an effect. Its event comes when it has ended.
func (l *loop) carryOut(e effect) {
	s := l.state
	run := func(do func(context.Context) event) {
		l.wg.Go(func() { l.post(do(l.ctx)) })
	}
	about := About{Phase: s.phase, Reason: s.reason, Outcome: s.outcome}
	step := func(do func(Steps) func(context.Context, About) error) {
		run(func(ctx context.Context) event {
			if l.cfg.DryRun {
				l.log.Info("dry run: would run a step", EventKey, EventDryRun, "step", e.kind)
				if r, can := l.cfg.Steps.(Rehearser); can {
					return evDone{r.Rehearse(ctx, about)}
				}
				return evDone{}
			}
			if l.cfg.Steps == nil {
				return evDone{}
			}
			return evDone{do(l.cfg.Steps)(ctx, about)}
		})
	}
	switch e.kind {
	case effectFind:
		run(func(ctx context.Context) event {
			return l.find(ctx, l.cfg.Lock.Find)
		})
	case effectWithdraw:
		run(func(ctx context.Context) event {
			return l.find(ctx, l.cfg.Lock.Withdraw)
		})
	case effectDecide:
		run(func(ctx context.Context) event {
			use, err := l.cfg.UseLock(ctx)
			return evDecided{use, err}
		})
	case effectAcquire:
		ctx, cancel := context.WithCancelCause(l.ctx)
		l.endWait = cancel
		l.wg.Go(func() { l.post(l.acquire(ctx, s.reason)) })
	case effectAbandon:
		l.endWait(errAbandoned)
	case effectCheck:
		run(func(ctx context.Context) event {
			return evDone{runChecks(ctx, l.cfg.Blockers, about, l.cfg.CheckTimeout)}
		})
	case effectPrepare:
		step(func(st Steps) func(context.Context, About) error { return st.Prepare })
	case effectVerify:
		run(func(ctx context.Context) event {
			return evDone{runChecks(ctx, l.cfg.Verifiers, about, l.cfg.CheckTimeout)}
		})
	case effectRestore:
		step(func(st Steps) func(context.Context, About) error { return st.Restore })
	case effectSessions:
		run(func(ctx context.Context) event {
			sessions, err := l.cfg.Machine.Sessions(ctx)
			return evListed{sessions, err}
		})
	case effectRemember:
		run(func(context.Context) event {
			err := l.cfg.Remember(e.memory)
			if err != nil {
				l.log.Error("what this machine does cannot be remembered", "error", err)
			}
			return evDone{err}
		})
	case effectTell:
		run(func(ctx context.Context) event {
			if l.cfg.DryRun {
				l.log.Info("dry run: would tell logged-in users", EventKey, EventDryRun, "sessions", len(e.sessions), "message", e.message)
				return evDone{}
			}
			l.log.Info("logged-in users are told", EventKey, EventUsersTold, "sessions", len(e.sessions), "message", e.message)
			if err := l.cfg.Machine.Tell(ctx, e.sessions, e.message); err != nil {
				l.log.Warn("not everybody could be told", "error", err)
			}
			return evDone{}
		})
	case effectPublish, effectConfirm:
		run(func(ctx context.Context) event {
			slots, err := l.cfg.Lock.Advance(ctx, s.slots, e.phase, e.message)
			return evAdvanced{slots, err}
		})
	case effectReboot:
		run(func(ctx context.Context) event { return evDone{l.reboot(ctx, e.method)} })
	case effectDown:
		run(func(ctx context.Context) event {
			yes, err := l.cfg.Machine.GoingDown(ctx)
			return evGoingDown{yes, err}
		})
	case effectRelease:
		run(func(ctx context.Context) event {
			e.result.Actor = locksmith.ByAgent
			return evDone{l.cfg.Lock.Release(ctx, s.slots, e.result)}
		})
	default:
		panic(fmt.Sprintf("agent: no way to carry out %q", e.kind))
	}
}

func (l *loop) acquire(ctx context.Context, reason string) event {
	slots, err := l.cfg.Lock.Acquire(ctx, locksmith.Request{
		Groups: l.cfg.Groups, MachineID: l.cfg.MachineID, Hostname: l.cfg.Hostname, BootID: l.cfg.BootID,
		By: locksmith.ByAgent, Reason: reason, Priority: l.cfg.Priority, Resume: true,
	}, func(text string) { l.post(evReport{text}) })
	if err == nil {
		return evGranted{slots}
	}
	if errors.Is(context.Cause(ctx), errAbandoned) {
		err = fmt.Errorf("%w: %w", errAbandoned, err)
	}
	return evDone{err}
}

// reboot makes the call. The window is looked at once more: between the decision
// and this goroutine a suspended machine may have slept.
func (l *loop) reboot(ctx context.Context, method locksmith.Method) error {
	if err := l.rules.closed(time.Now()); err != nil {
		return err
	}
	if l.cfg.DryRun {
		l.log.Info("dry run: would reboot now", EventKey, EventDryRun, "method", method)
		return nil
	}
	l.log.Info("asking for the reboot", EventKey, EventRebooting, "method", method)
	return l.cfg.Machine.Reboot(ctx, method)
}
