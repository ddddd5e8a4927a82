package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// view is where the machines are, as somebody sees it who stands beside them.
type view struct {
	reboots       int
	down, granted []string // who is down, and who is up and in a slot
	notifying     []string // of these, who gives its users time
	dark          []string // of those that are down, those that stay down
	idle          []string // who wants nothing, or has given up
}

// view looks at all machines.
func (f *Fleet) view() (v view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	phases := make(map[string]locksmith.Phase)
	for _, l := range f.lines {
		switch l.Kind {
		case KindPhase:
			phases[l.Machine] = locksmith.Phase(l.Note)
		case KindDown:
			v.reboots++
		}
	}
	for _, m := range f.machines {
		switch p := phases[m.ID]; {
		case m.down:
			if m.dark {
				v.dark = append(v.dark, m.ID)
			}
			v.down = append(v.down, m.ID)
		case p == locksmith.PhaseNotifying:
			v.notifying = append(v.notifying, m.ID)
			v.granted = append(v.granted, m.ID)
		case p == locksmith.PhaseAcquired, p == locksmith.PhasePreparing, p == locksmith.PhaseRebooting:
			v.granted = append(v.granted, m.ID)
		case m.idle:
			v.idle = append(v.idle, m.ID)
		}
	}
	return v
}

// Darken has the next machine that is in a group alone and goes down stay down, until Light.
// The group needs a slot more: a machine that waits for this one's and for others would
// keep all behind it from going on.
func (f *Fleet) Darken(g locksmith.Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dark = &g
}

// Light brings up all machines that are down.
func (f *Fleet) Light() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dark = nil
	for _, m := range f.machines {
		if m.dark { // any other that is down comes up by itself
			m.dark = false
			f.bootLocked(m)
		}
	}
}

func without(list, these []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(these, s) })
}

// await returns when the machines are somewhere.
func (r *restoration) await(ctx context.Context, what string, there func(view) bool) error {
	for !there(r.fleet.view()) {
		if !until(ctx, time.Now().Add(10*time.Millisecond)) {
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

func (r *restoration) nodes() (list []*Node) {
	for _, m := range r.fleet.machines {
		list = append(list, m.Node)
	}
	return list
}

// program runs locksmith-server for one of its other purposes.
func (r *restoration) program(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, r.Server, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("locksmith-server %s: %w: %s", args[0], err, out)
	}
	return nil
}

// followAgain begins the history of the restored store, with all that stands in it.
func (r *restoration) followAgain(ctx context.Context) (*History, error) {
	var resp *clientv3.GetResponse
	err := r.insist(ctx, func() (err error) {
		resp, err = r.client.Get(ctx, prefix, clientv3.WithPrefix())
		return err
	})()
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		r.started = append(r.started, Change{At: monotonic(), Revision: resp.Header.Revision, Key: string(kv.Key), Value: kv.Value})
	}
	return followFrom(r.client, resp.Header.Revision+1), nil
}

// compare holds the restored store against the machines, and puts it right: who is up
// needs no slot of then, and who is down and is not among the holders gets one.
func (r *restoration) compare(ctx context.Context) error {
	now := r.fleet.view()
	var missing []*Machine // who comes last: there is room when all others are put right
	for _, m := range r.fleet.machines {
		slots, err := r.admin.Find(ctx, m.ID, m.Groups)
		if err != nil {
			return err
		}
		switch down, held := slices.Contains(now.down, m.ID), len(slots.Groups) > 0; {
		case !down && held: // also one that has won a slot since: whose is whose cannot be seen
			err = r.unlock(ctx, m)
			if slices.Contains(r.granted, m.ID) {
				r.unlocked = append(r.unlocked, m.ID)
			}
		case down && !held:
			r.judged.Unknown = append(r.judged.Unknown, m.ID)
			missing = append(missing, m)
		case !held && slices.Contains(r.granted, m.ID):
			r.judged.Robbed = append(r.judged.Robbed, m.ID)
		}
		if err != nil {
			return fmt.Errorf("putting right the slots of %s: %w", m.ID, err)
		}
	}
	for _, m := range missing {
		r.touched[m.ID] = true
		if _, err := r.admin.TryAcquire(ctx, locksmith.Request{Groups: m.Groups, MachineID: m.ID, By: locksmith.ByLock, Actor: adminName}); err != nil {
			return fmt.Errorf("a slot for %s, which is down: %w", m.ID, err)
		}
	}
	return nil
}

// unlock takes all slots of a machine away.
func (r *restoration) unlock(ctx context.Context, m *Machine) error {
	r.touched[m.ID] = true
	var errs []error
	for _, g := range m.Groups {
		err := r.admin.Unlock(ctx, g, m.ID, locksmith.Result{Actor: adminName})
		if !errors.Is(err, locksmith.ErrNotHolder) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// end brings up who is down, gives back the slots that were taken by hand, and returns
// once all machines have rebooted again.
func (r *restoration) end(ctx context.Context) error {
	r.fleet.Light()
	if err := r.await(ctx, "the machines to be up", func(v view) bool { return len(without(r.judged.Unknown, without(r.judged.Unknown, v.down))) == 0 }); err != nil {
		return err
	}
	for _, m := range r.fleet.machines {
		if slices.Contains(r.judged.Unknown, m.ID) {
			if err := r.unlock(ctx, m); err != nil {
				return err
			}
		}
		if !slices.Contains(slices.Concat(r.unlocked, r.judged.Robbed), m.ID) {
			continue
		}
		// Who speaks FleetLock asks the server again right before its reboot, and is granted
		// another slot in its turn; it gives up only if that was during the pause.
		if m.Server == nil {
			if err := r.await(ctx, m.ID+" to give up", func(v view) bool { return slices.Contains(v.idle, m.ID) }); err != nil {
				return err
			}
		}
		if slices.Contains(r.fleet.view().idle, m.ID) {
			r.fleet.Kill(m) // it would try again after some minutes
		}
	}
	return r.settle(ctx)
}

// judge judges both stores, and what the machines did with which.
func (r *restoration) judge(before, after []Change) {
	rules := Rules{Groups: make(map[string][]locksmith.Group), Max: r.Max}
	all := Rules{Groups: make(map[string][]locksmith.Group), Max: r.Max}
	for _, m := range r.fleet.machines {
		if all.Groups[m.ID] = m.Groups; !r.touched[m.ID] { // by hand the groups go one after the other
			rules.Groups[m.ID] = m.Groups
		}
	}
	lines, _ := r.fleet.Lines()
	at := func(note string) int { return slices.IndexFunc(lines, func(l Line) bool { return l.Note == note }) }
	restored, resumed := at(noteRestored), at(noteResumed)
	violations := CheckDown(lines, all)
	first, second := slices.Clone(lines), slices.Clone(lines)
	for i, l := range lines {
		switch {
		case l.Kind != KindDown:
		case i < restored: // a reboot on the lost store
			second[i].Kind = KindFault
			r.judged.Reboots++
		case i < resumed:
			violations = append(violations, fmt.Sprintf("reboots are paused, and %s went down: %v", l.Machine, l))
			fallthrough
		default:
			first[i].Kind = KindFault
			r.judged.Reboots++
		}
	}
	held, wrong := CheckStore(before, all)
	violations = append(append(violations, wrong...), CheckHeld(first, held, all)...)
	held, wrong = CheckStore(append(r.started, after...), rules)
	begin := fmt.Sprintf("revision %d: ", r.started[0].Revision) // which no history of changes leads to
	wrong = slices.DeleteFunc(wrong, func(v string) bool { return len(v) > len(begin) && v[:len(begin)] == begin })
	violations = append(append(violations, wrong...), CheckHeld(second, held, all)...)
	r.judged.Violations = append(violations, CheckEnd(held)...)
}
