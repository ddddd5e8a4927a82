package machines

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often Poll looks.
const pollEvery = 20 * time.Millisecond

// Poll waits until cond says true, for what nobody announces: a process in a
// control group, a session in logind. An error of cond is not the end of the
// wait; the last one is part of the error that tells of the ended ctx.
func Poll(ctx context.Context, what string, cond func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		ok, err := cond()
		if ok && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil { // after it, errors tell of ctx only
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("waiting for %s: %w (last: %v)", what, context.Cause(ctx), last)
			}
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}
