package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// adminName is whom the history names for what the administrator does.
const adminName = "chaos"

// group is the group that a fault of the administrator's hits.
func (r *run) group(f Fault) locksmith.Group {
	groups := slices.Sorted(maps.Keys(r.Max))
	return groups[f.Who%len(groups)]
}

// administer has the administrator get in the way, and returns how to undo it. What
// fails while etcd is away may have been done all the same.
func (r *run) administer(ctx context.Context, f Fault) (what string, heal func() error) {
	g := r.group(f)
	hold := "hold-" + string(g)
	scope := locksmith.PauseScope{Group: g}
	switch f.Act {
	case PauseAll:
		scope = locksmith.PauseScope{All: true}
	case PauseMachine:
		scope = locksmith.PauseScope{Machine: r.fleet.machines[f.Who].ID}
	}
	var err error
	switch f.Act {
	case LowerMax, RaiseMax:
		max := 0
		if f.Act == RaiseMax {
			max = r.Max[g] + 1
		}
		what = fmt.Sprintf("%s of %s to %d", f.Act, g, max)
		_, err = r.admin.SetMax(ctx, g, max, adminName)
		heal = r.insist(ctx, func() error { _, err := r.admin.SetMax(ctx, g, r.Max[g], adminName); return err })
	case HoldSlot:
		what = fmt.Sprintf("%s of %s", f.Act, g)
		_, err = r.admin.TryAcquire(ctx, locksmith.Request{
			Groups: []locksmith.Group{g}, MachineID: hold, By: locksmith.ByLock, Actor: adminName})
		heal = r.insist(ctx, func() error {
			return r.admin.Unlock(ctx, g, hold, locksmith.Result{Actor: adminName})
		}, locksmith.ErrNotHolder)
	default:
		what = fmt.Sprintf("%s %s", f.Act, scope)
		err = r.pause(ctx, scope)
		heal = r.insist(ctx, func() error { return r.resume(ctx, scope) }, locksmith.ErrNotPaused)
	}
	if err != nil { // it may be done yet, and even after it was undone
		what += ": " + err.Error()
		r.mu.Lock()
		r.unclear = append(r.unclear, heal)
		r.mu.Unlock()
	}
	return what, heal
}

// pause pauses a scope, and writes down that it is. One change of the pauses after
// the other: what is written down would not hold where another one ended it.
func (r *run) pause(ctx context.Context, scope locksmith.PauseScope) error {
	r.pausing.Lock()
	defer r.pausing.Unlock()
	err := r.admin.Pause(ctx, locksmith.Pause{Scope: scope, By: adminName, Reason: "a fault"})
	if err == nil {
		r.fleet.Paused(scope)
	}
	return err
}

// resume ends a pause.
func (r *run) resume(ctx context.Context, scope locksmith.PauseScope) error {
	r.pausing.Lock()
	defer r.pausing.Unlock()
	r.fleet.Resuming(scope)
	return r.admin.Resume(ctx, scope, adminName)
}

// insist makes a function that repeats do until it succeeds, or fails with an error
// that is as good. Every other fault is healed meanwhile, so that it can.
func (r *run) insist(ctx context.Context, do func() error, good ...error) func() error {
	return func() error {
		for {
			err := do()
			if err == nil || slices.ContainsFunc(good, func(g error) bool { return errors.Is(err, g) }) {
				return nil
			}
			if !until(ctx, time.Now().Add(100*time.Millisecond)) {
				return err
			}
		}
	}
}
