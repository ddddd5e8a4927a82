package lockclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// giveBack tells the server at p that the machine needs no slot, within limit, and
// forgets it. Whoever calls it has the turn.
func (l *Lock) giveBack(ctx context.Context, p place, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	err := l.client(p).SteadyState(ctx, p.request())
	if e, ok := errors.AsType[*fleetlock.Error](err); ok && e.Kind == fleetlock.KindHeld {
		l.log.Warn("the machine's slot is held by somebody else, who has to give it back", "server", p.URL, "error", e.Value)
		err = nil
	}
	if err != nil {
		err = explain(ctx, err)
		if p == l.here {
			return err
		}
		err = fmt.Errorf("the slot that earlier settings took at %v: %w", p, err)
		if !l.hasGivenUp(time.Now()) {
			return err
		}
		l.log.Error("a slot of earlier settings cannot be given back and is left where it is: unlock it there", "error", err)
	}
	return l.forget()
}

// hasGivenUp says whether it has been tried long enough to give a slot back to a server
// that is not the configured one any more: nobody may be there to take it.
func (l *Lock) hasGivenUp(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failing {
		l.failing, l.failSince = true, now
	}
	return now.Sub(l.failSince) >= formerTime
}

// leave gives back what may have been granted although nobody wants it any more. Where
// that fails, Run goes on with it.
func (l *Lock) leave(ctx context.Context, p place) {
	if err := l.giveBack(context.WithoutCancel(ctx), p, leaveTime); err != nil {
		l.log.Warn("a slot that may have been granted cannot be given back yet", "error", err)
		l.setLoose(true)
	}
}

// setLoose says whether nobody wants what stands.
func (l *Lock) setLoose(loose bool) {
	l.mu.Lock()
	l.loose = loose
	l.mu.Unlock()
	if loose {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Run gives back, until ctx ends, what may have been granted although nobody wants it any
// more: a request whose answer was lost while the agent gave up waiting. What is left of
// that at its end is given back by the next process.
func (l *Lock) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		var b backoff
		for {
			if err := l.tidy(ctx); err == nil || ctx.Err() != nil {
				break
			} else if !sleep(ctx, b.next(err, 0)) {
				return nil
			}
		}
	}
}

// tidy gives back what is loose.
func (l *Lock) tidy(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	defer l.end()
	l.mu.Lock()
	loose := l.loose
	l.mu.Unlock()
	r := l.standing()
	if !loose || r == nil {
		return nil
	}
	return l.giveBack(ctx, r.place, steadyTime)
}
