package lockclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

const (
	// answerSoon is what a request has for its answer although nobody wants it any more:
	// a server that answers at once is then not left while it grants a slot.
	answerSoon = 2 * time.Second

	// queuedAfter is after how long a request without an answer is taken to wait for a
	// slot at the server.
	queuedAfter = 5 * time.Second
)

// Acquire asks for a slot until it is granted, however long that takes, and whatever the
// server answers: an administrator may create a group, or correct a password, at any
// time. report, if not nil, is told what it waits for, each change once; "" says that the
// request waits at the server.
//
// It returns ctx's cause once ctx has ended and the slot was not granted, or may have been
// and was given back. Where the server does not take it back within ten seconds, Run goes
// on with that.
func (l *Lock) Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error) {
	if err := l.only(req.Groups); err != nil {
		return locksmith.Slots{}, err
	}
	if err := l.begin(ctx); err != nil {
		return locksmith.Slots{}, err
	}
	defer l.end()
	l.setLoose(false)
	a := attempt{Lock: l, tell: report, client: l.cfg.Client}
	if err := a.clear(ctx); err != nil {
		return locksmith.Slots{}, err
	}
	a.record = record{place: l.here, State: asking, Holder: locksmith.Holder{
		MachineID: req.MachineID, BootID: req.BootID, Hostname: req.Hostname, Groups: req.Groups,
		Reason: req.Reason, By: req.By, Nonce: locksmith.NewNonce(),
		StartTime: time.Now().Unix(),
	}}
	if err := a.record.check(); err != nil {
		return locksmith.Slots{}, err
	}
	if err := l.keep(a.record); err != nil {
		return locksmith.Slots{}, err
	}
	if err := a.wait(ctx); err != nil {
		return locksmith.Slots{}, err
	}
	now := time.Now().Unix()
	a.State, a.Holder.StartTime = held, now
	a.Holder.Phase, a.Holder.PhaseTime = locksmith.PhaseAcquired, now
	if err := l.keep(a.record); err != nil {
		l.leave(ctx, l.here)
		return locksmith.Slots{}, err
	}
	return a.slots(), nil
}

// attempt is one Acquire.
type attempt struct {
	*Lock
	record
	client *fleetlock.Client
	tell   func(string)
	told   string
	stale  bool // what was told is no longer so once a request waits at the server
	back   backoff
}

func (a *attempt) report(text string) {
	if a.tell != nil && text != a.told {
		a.told = text
		a.tell(text)
	}
}

// clear gives back what stands from earlier settings, before something else is asked for.
func (a *attempt) clear(ctx context.Context) error {
	for {
		r := a.standing()
		if r == nil || r.place == a.here {
			return nil
		}
		err := a.giveBack(ctx, r.place, steadyTime)
		if err == nil {
			return nil
		}
		a.report(err.Error())
		if !sleep(ctx, a.back.next(err, 0)) {
			a.setLoose(true)
			return context.Cause(ctx)
		}
	}
}

// wait asks until the slot is granted, or ctx ends. Its error is ctx's cause.
func (a *attempt) wait(ctx context.Context) error {
	known := false // that nothing is held
	for {
		took, err := a.ask(ctx)
		if err == nil {
			return nil
		}
		v := verdictOf(err)
		known = v.nothingHeld() || known && v == refused
		a.stale = !v.nothingHeld()
		if ctx.Err() == nil {
			a.report(explain(ctx, err).Error())
			if sleep(ctx, a.back.next(err, took)) {
				continue
			}
		}
		if known {
			if err := a.forget(); err != nil { // the next start gives back what is not held
				a.log.Warn("what was asked for is not forgotten", "error", err)
			}
		} else {
			a.leave(ctx, a.place)
		}
		return context.Cause(ctx)
	}
}

// ask makes one request, and says how long its answer took.
func (a *attempt) ask(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	asked, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	answer := make(chan error, 1)
	go func() { answer <- a.client.PreReboot(asked, a.request()) }()
	queued := time.NewTimer(queuedAfter)
	defer queued.Stop()
	ended := ctx.Done()
	for {
		select {
		case err := <-answer:
			return time.Since(began), err
		case <-queued.C:
			if a.stale {
				a.report("")
			}
		case <-ended:
			ended = nil
			soon := time.AfterFunc(answerSoon-time.Since(began), func() { cancel(context.Cause(ctx)) })
			defer soon.Stop()
		}
	}
}

// Advance writes a new phase and reason. It fails with locksmith.ErrSlotLost unless the
// slot is the one that stands in the file, with no slots, and to locksmith.PhaseRebooting also unless the
// server says that the machine holds it: with a *locksmith.PausedError where it says that
// reboots are paused. A server that gives no such answer is any other error.
func (l *Lock) Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error) {
	if err := l.begin(ctx); err != nil {
		return slots, err
	}
	defer l.end()
	r := l.standing()
	if r == nil || r.State != held || r.Holder.Nonce != slots.Record.Nonce {
		return locksmith.Slots{Record: slots.Record}, locksmith.ErrSlotLost
	}
	if phase == locksmith.PhaseRebooting {
		switch err := l.confirm(ctx, *r); {
		case errors.Is(err, locksmith.ErrSlotLost):
			return locksmith.Slots{Record: slots.Record}, err
		case err != nil:
			return slots, err
		}
	}
	r.Holder.Phase, r.Holder.PhaseTime, r.Holder.Reason = phase, time.Now().Unix(), reason
	if err := l.keep(*r); err != nil {
		return slots, err
	}
	return r.slots(), nil
}

// confirm asks the server whether the machine holds its slot still.
func (l *Lock) confirm(ctx context.Context, r record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmTime, fmt.Errorf("no answer within %v", confirmTime))
	defer cancel()
	began := time.Now()
	err := l.client(r.place).PreReboot(ctx, r.request())
	took := time.Since(began)
	if err == nil {
		if took > confirmSoon {
			return fmt.Errorf("the FleetLock server took %v to confirm it; everything is looked at once more", took.Round(time.Second))
		}
		return nil
	}
	switch v := verdictOf(err); {
	case v == paused:
		scope := locksmith.PauseScope{Group: r.Holder.Groups[0]}
		reason := strings.TrimPrefix(oneLine(err.Error()), scope.String()+" paused ") // as locksmith-server says it
		return &locksmith.PausedError{Pauses: []locksmith.Pause{{Scope: scope, Reason: reason}}}
	case v.nothingHeld(), r.place != l.here:
		// Should the server think otherwise, it learns that nobody wants the slot.
		l.log.Warn("the FleetLock server does not confirm the slot", "error", explain(ctx, err))
		r.State = asking
		if err := l.keep(r); err != nil {
			return err
		}
		l.setLoose(true)
		return locksmith.ErrSlotLost
	}
	return explain(ctx, err)
}
