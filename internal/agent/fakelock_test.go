package agent

import (
	"context"
	"slices"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// The lock.

func (w *world) Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	defer w.struck()
	if err := w.do(ctx, "find"); err != nil {
		return locksmith.Slots{}, err
	}
	return w.found(machine, groups), nil
}

func (w *world) found(machine string, groups []locksmith.Group) locksmith.Slots {
	w.mu.Lock()
	defer w.mu.Unlock()
	slots := locksmith.Slots{Record: locksmith.Holder{MachineID: machine}}
	if w.holder != nil {
		slots = w.left(groups)
	}
	slots.Queued, slots.Earlier = w.ghost, w.seen
	return slots
}

func (w *world) Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	defer w.struck()
	if err := w.do(ctx, "withdraw"); err != nil {
		return locksmith.Slots{}, err
	}
	w.change(func() { w.ghost = false })
	return w.found(machine, groups), nil
}

// grantLate carries out what an earlier process sent, if its entry stands still, and says
// whether it did.
func (w *world) grantLate(groups ...locksmith.Group) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ghost {
		return false
	}
	w.note("granted late")
	w.ghost, w.taken = false, nil
	w.holder = &locksmith.Holder{MachineID: "m", BootID: w.bootID(), By: locksmith.ByAgent, Nonce: "late", Phase: locksmith.PhaseAcquired, StartTime: time.Now().Unix(), Groups: groups}
	return true
}

// left is what is held of groups, for whoever holds mu.
func (w *world) left(groups []locksmith.Group) locksmith.Slots {
	if w.holder == nil {
		return locksmith.Slots{}
	}
	groups = slices.DeleteFunc(slices.Clone(groups), func(g locksmith.Group) bool {
		return slices.Contains(w.taken, g) || len(w.holder.Groups) > 0 && !slices.Contains(w.holder.Groups, g)
	})
	if len(groups) == 0 {
		return locksmith.Slots{Record: locksmith.Holder{MachineID: w.holder.MachineID}}
	}
	return locksmith.Slots{Groups: groups, Record: *w.holder, Revision: w.written}
}

// writeLate carries out what an earlier process sent: its step to the reboot.
func (w *world) writeLate() {
	w.change(func() {
		w.written++
		w.holder.Phase, w.holder.PhaseTime = locksmith.PhaseRebooting, time.Now().Unix()
	})
}

// unlock takes the slot of a group away, as an administrator does.
func (w *world) unlock(g locksmith.Group) {
	w.change(func() {
		w.note("unlocked in %s", g)
		w.taken = append(w.taken, g)
	})
}

func (w *world) Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error) {
	defer w.struck()
	if err := w.do(ctx, "queue"); err != nil {
		return locksmith.Slots{}, err
	}
	w.mu.Lock()
	if w.holder != nil && w.holder.Nonce == "late" {
		w.mu.Unlock()
		return locksmith.Slots{}, locksmith.ErrHolderExists
	}
	w.ghost = false // this process goes on in its place
	w.queued++
	freed := w.freed
	if w.free {
		freed = make(chan struct{})
		close(freed)
	}
	w.mu.Unlock()
	var err error
	select {
	case <-freed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for err == nil && len(w.pausedLocked()) > 0 { // nothing is granted then
		set := w.pausesSet
		w.mu.Unlock()
		select {
		case <-set:
		case <-time.After(time.Minute): // it may be over
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		w.mu.Lock()
	}
	w.queued--
	if err != nil {
		w.note("left the queue")
		return locksmith.Slots{}, err
	}
	w.note("granted")
	if w.holder != nil {
		w.t.Error("granted twice")
	}
	w.holder = &locksmith.Holder{MachineID: req.MachineID, BootID: req.BootID, By: req.By, Nonce: "n", Phase: locksmith.PhaseAcquired, StartTime: time.Now().Unix(), Groups: req.Groups}
	w.taken = nil
	w.written++
	return locksmith.Slots{Groups: req.Groups, Record: *w.holder, Revision: w.written}, nil
}

func (w *world) Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error) {
	defer w.struck()
	if err := w.do(ctx, "advance to "+string(phase)); err != nil {
		return slots, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if paused := w.pausedLocked(); len(paused) > 0 && phase == locksmith.PhaseRebooting {
		return slots, &locksmith.PausedError{Pauses: paused}
	}
	if w.holder == nil {
		return locksmith.Slots{Record: slots.Record}, locksmith.ErrSlotLost
	}
	if left := w.left(slots.Groups); len(left.Groups) < len(slots.Groups) || slots.Revision != w.written {
		return left, locksmith.ErrSlotLost
	}
	w.written++
	w.holder.Phase, w.holder.PhaseTime, w.holder.Reason = phase, time.Now().Unix(), reason
	slots.Record, slots.Revision = *w.holder, w.written
	return slots, nil
}

func (w *world) Release(ctx context.Context, slots locksmith.Slots, result locksmith.Result) error {
	defer w.struck()
	if err := w.do(ctx, "release: "+result.Outcome); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owed {
		w.t.Error("released before what was prepared is undone")
	}
	if result.Outcome == rebooted && !w.verified {
		w.t.Error("released before the checks passed")
	}
	w.taken = append(w.taken, slots.Groups...)
	if len(w.left(w.holder.Groups).Groups) == 0 {
		w.holder = nil
	}
	return nil
}
