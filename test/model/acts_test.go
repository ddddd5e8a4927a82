package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/locksmith-reboot/locksmith"
)

// carryOut does in the store what a step does in the model, which is there already;
// before is the model before the step.
func (r *replay) carryOut(p Step, before State) (err error) {
	r.t.Helper()
	ctx, m, group := r.t.Context(), int(p.M), r.groups[p.G%Groups]
	pr := r.procs[m]
	switch p.Act {
	case Join, LoseJoin:
		return r.join(m, p.Act == LoseJoin)
	case HoldJoin:
		return r.holdJoin(m)
	case LateJoin:
		return r.lateJoin(m, before)
	case Leave:
		pr.cancel()
	case Find:
		return r.find(m)
	case Write:
		r.write(m)
	case Recall:
		r.recall(m)
	case Stop:
		return r.stop(m, before)
	case Return:
		r.giveBack(m)
	case Carry:
		return r.carry(m, before)
	case Late:
		return r.late(m)
	case LoseReply:
		r.loseReply(m, p.N == 1, before)
	case Expire, LoseLease:
		lease, err := r.lease(m)
		if p.Act == Expire && p.N == 1 {
			lease = r.joins[m].under()
		}
		if err == nil {
			r.revoke(lease)
		}
		return err
	case Crash, GoDown:
		r.crash(m, p.N == 1, before)
	case Boot:
		r.boots[m]++
	case Pause:
		err = r.admin.Pause(ctx, locksmith.Pause{Scope: r.scope(int(p.G)), By: "test", Reason: "test"})
	case Resume:
		err = r.admin.Resume(ctx, r.scope(int(p.G)), "test")
	case SetMax:
		_, err = r.admin.SetMax(ctx, group, int(p.N), "test")
	case Unlock:
		err = r.admin.Unlock(ctx, group, name(m), locksmith.Result{Actor: "test"})
	case Lock:
		_, err = r.admin.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{group}, MachineID: name(m), By: locksmith.ByLock})
	}
	return err
}

// scope is what a pause is of.
func (r *replay) scope(scope int) locksmith.PauseScope {
	switch {
	case scope == ofAll:
		return locksmith.PauseScope{All: true}
	case scope > ofAll:
		return locksmith.PauseScope{Machine: name(scope - ofMachine(0))}
	}
	return locksmith.PauseScope{Group: r.groups[scope]}
}

// join lets machine m into the queue; mute is without a reply.
func (r *replay) join(m int, mute bool) error {
	pr := r.procs[m]
	earlier, err := r.lease(m)
	if err != nil {
		return err
	}
	for range 50 {
		if pr.ended() {
			r.acquire(m)
		}
		s := pr.look(r.t, true)
		switch {
		case r.t.Failed():
			return errors.New("it does not join")
		case s == nil: // a wait that had lost its place has ended with a pause
			var paused *locksmith.PausedError
			if !errors.As(pr.job.err, &paused) {
				return fmt.Errorf("instead of joining it returned %v", pr.job.err)
			}
			continue
		}
		f := carried
		if mute && kindOf(s) == join && r.would(s) {
			f = muted
		}
		if joined := kindOf(s) == join; joined && (pr.let(f) || r.stands(m, s)) {
			return r.expire(m, earlier)
		} else if !joined {
			pr.let(f)
		}
	}
	return errors.New("it tries again and again to join")
}

// acquire has machine m's process wait for its slots.
func (r *replay) acquire(m int) {
	pr, req := r.procs[m], request(name(m), r.of(m)...)
	req.BootID = r.boot(m)
	pr.begin(Grant, func(ctx context.Context) (locksmith.Slots, error) { return pr.store.Acquire(ctx, req, nil) })
}

// find is machine m's look at what it holds. If it is not going to queue, nothing of it may
// stay there.
func (r *replay) find(m int) (err error) {
	pr := r.procs[m]
	if r.slots[m], err = pr.store.Find(r.t.Context(), name(m), r.of(m)); err != nil {
		return err
	}
	var own []locksmith.Group
	for g, group := range r.groups {
		if r.state.Record[g][m]&ByAgent != 0 {
			own = append(own, group)
		}
	}
	if !slices.Equal(r.slots[m].Groups, own) {
		return fmt.Errorf("it finds that it holds %q, want %q", r.slots[m].Groups, own)
	}
	if r.slots[m].Queued && r.state.Machine[m].PC == Done {
		return r.withdraw(m)
	}
	return nil
}

// withdraw takes what an earlier process of machine m left out of the queues.
func (r *replay) withdraw(m int) error {
	pr := r.procs[m]
	pr.begin(leave, func(ctx context.Context) (locksmith.Slots, error) {
		return pr.store.Withdraw(ctx, name(m), r.of(m))
	})
	for !pr.ended() {
		if pr.look(r.t, true) != nil && !pr.let(carried) {
			return errors.New("its entry has changed")
		}
		if r.t.Failed() {
			return errors.New("the call goes on")
		}
	}
	w := pr.job
	pr.job, r.slots[m] = nil, w.slots
	return w.err
}

// giveUp waits for the end of machine m's wait, which was told to end and has not come to
// take over what an earlier process left.
func (r *replay) giveUp(m int) error {
	pr := r.procs[m]
	for !pr.ended() {
		switch s := pr.look(r.t, true); {
		case s == nil:
		case kindOf(s) == join:
			pr.let(held)
		default:
			pr.let(carried)
		}
		if r.t.Failed() {
			return errors.New("the call goes on")
		}
	}
	if pr.job != nil && pr.job.err == nil {
		return errors.New("it was granted what it does not wait for")
	}
	pr.job = nil
	return nil
}

// write has it written that machine m reboots; where a call without a reply has asked for
// that again, this is that.
func (r *replay) write(m int) {
	pr := r.procs[m]
	pr.told = false
	if pr.job != nil {
		return
	}
	slots, reason := r.slots[m], fmt.Sprintf("reboot, step %d", len(r.done))
	pr.begin(Confirm, func(ctx context.Context) (locksmith.Slots, error) {
		return pr.store.Advance(ctx, slots, locksmith.PhaseRebooting, reason)
	})
}

// recall lets a call see that its change was carried out although it had no reply.
func (r *replay) recall(m int) {
	pr := r.procs[m]
	if pr.told = false; pr.job == nil {
		return
	}
	if pr.look(r.t, true) != nil {
		pr.let(carried)
	}
}

// stop ends machine m's way to its reboot. Where neither the need has gone nor a pause is in
// the way, it is the store that says so.
func (r *replay) stop(m int, before State) error {
	pr, mm := r.procs[m], before.Machine[m]
	paused, _ := r.model.paused(before, m)
	if mm.PC != Held || mm.Cured || paused || pr.lost {
		pr.told, pr.lost = false, false
		pr.cancel()
		if mm.PC != Needing || before.Queue.place(m) < 0 || pr.job != nil && mm.Owns {
			return nil
		}
		if err := r.giveUp(m); err != nil {
			return err
		}
		return r.withdraw(m)
	}
	r.write(m)
	for !pr.ended() {
		if s := pr.look(r.t, true); s != nil && pr.let(carried) {
			return errors.New("a machine that has lost a slot has written that it reboots")
		}
		if r.t.Failed() {
			return errors.New("the call goes on")
		}
	}
	w := pr.job
	pr.job = nil
	r.slots[m] = w.slots
	// Two processes that write the same within a second are one to a call that had no reply.
	if !errors.Is(w.err, locksmith.ErrSlotLost) && !(pr.repeats && w.err == nil && mm.Newer == Earlier) {
		return fmt.Errorf("the store says %v, want %v", w.err, locksmith.ErrSlotLost)
	}
	return nil
}

func (r *replay) giveBack(m int) {
	pr := r.procs[m]
	if pr.job != nil {
		return
	}
	slots := r.slots[m]
	pr.begin(Release, func(ctx context.Context) (locksmith.Slots, error) {
		return slots, pr.store.Release(ctx, slots, locksmith.Result{Outcome: "over"})
	})
}

// carry lets machine m's request through, which must succeed just where the model says so.
func (r *replay) carry(m int, before State) error {
	want := r.model.holds(before, m, before.Machine[m].Flight)
	if got := r.procs[m].let(carried); got != want {
		return fmt.Errorf("carried out %v, want %v", got, want)
	}
	r.procs[m].answered = true
	if mm := r.state.Machine[m]; mm.PC == Held && mm.Newer == Itself && r.model.granted(r.state, m) && !r.procs[m].repeats {
		paused, _ := r.model.paused(r.state, m)
		r.procs[m].answered = paused || mm.Cured
	}
	return nil
}

// late carries out what machine m does not wait for any more.
func (r *replay) late(m int) error {
	s := r.ghosts[m]
	r.ghosts[m], r.void = nil, append(r.void, s)
	return r.carryLate(s)
}

// loseReply ends the patience of the call of machine m's process, or of one try of it.
func (r *replay) loseReply(m int, newer bool, before State) {
	pr := r.procs[m]
	if newer || before.Machine[m].Ghost.Request == NoRequest {
		r.ghosts[m] = pr.parked
	}
	if pr.kind != Grant {
		if pr.repeats = r.random.IntN(2) == 0; !pr.repeats {
			pr.cancel()
		}
	}
	pr.let(held)
}

// crash ends machine m's process, and has the next one ready.
func (r *replay) crash(m int, newer bool, before State) {
	pr, mm := r.procs[m], before.Machine[m]
	if mm.Flight.Request != NoRequest && mm.Flight.Fresh && (newer || mm.Ghost.Request == NoRequest) {
		r.ghosts[m] = pr.parked
	}
	if lease, err := r.lease(m); err == nil && lease != 0 {
		r.hung[m] = lease
	}
	pr.kill()
	r.procs[m] = r.newProcess()
}
