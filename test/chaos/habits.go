package chaos

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// How long things take that a machine does between its requests: long enough that it
// can be hit in them.
const (
	aMoment    = 5 * time.Millisecond
	loginDelay = 100 * time.Millisecond // that users are given, where somebody is to die meanwhile
)

// habits are a machine's hooks and checks. They only take their time.
type habits struct{ sick atomic.Bool }

// Prepare takes a moment.
func (h *habits) Prepare(ctx context.Context, _ agent.About) error { return moment(ctx) }

// Restore takes a moment, too.
func (h *habits) Restore(ctx context.Context, _ agent.About) error { return moment(ctx) }

// Name is that of the check.
func (h *habits) Name() string { return "chaos" }

// Run passes after a moment, but for the first time on a machine that is sick.
func (h *habits) Run(ctx context.Context, _ agent.About) error {
	if err := moment(ctx); err != nil {
		return err
	}
	if h.sick.Swap(false) {
		return errors.New("not well yet")
	}
	return nil
}

func moment(ctx context.Context) error {
	if !until(ctx, time.Now().Add(aMoment)) {
		return context.Cause(ctx)
	}
	return nil
}
