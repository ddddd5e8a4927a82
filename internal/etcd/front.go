package etcd

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// predecessor is the queue entry right before ours, by key and CreateRevision.
type predecessor struct {
	key []byte // nil: look for it
	rev int64
}

// reachFront returns when nobody of our priority is before us in group. It
// watches one key: the entry right before ours, which ahead keeps: whoever has to begin
// again with a place that it still has need not look for it. Where a whole fleet does so,
// after its etcd was away, each look would be a pass over all of them.
func (a *attempt) reachFront(ctx context.Context, group locksmith.Group, ahead *predecessor) error {
	for {
		if ahead.key == nil {
			var err error
			if *ahead, err = a.look(ctx, group); err != nil || ahead.key == nil {
				return err
			}
		}
		gone, err := a.awaitGone(ctx, *ahead)
		if err != nil {
			return err
		}
		if served, err := a.wasServed(ctx, group, ahead.key, gone); err != nil || served {
			return err
		}
		*ahead = predecessor{}
	}
}

// awaitGone returns once the entry is not there any more, with the revision at
// which it went, 0 if it was gone before.
//
// It watches first and reads then: etcd delivers at once to a watch that starts
// with the present, but only every 100 ms to one that starts in the past, be it
// by one revision.
func (a *attempt) awaitGone(ctx context.Context, p predecessor) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := a.store.watch(ctx, string(p.key), clientv3.WithFilterPut())
	if err != nil {
		return 0, err
	}
	resp, err := a.store.get(ctx, string(p.key), clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	if kv := head(resp.Kvs); kv == nil || kv.CreateRevision != p.rev {
		return 0, nil
	}
	for {
		resp, open := <-events
		if err := watchErr(ctx, resp, open); err != nil {
			return 0, err
		}
		for _, ev := range resp.Events {
			if ev.Type == clientv3.EventTypeDelete {
				return ev.Kv.ModRevision, nil
			}
		}
	}
}

// look finds the youngest entry older than ours. It costs etcd a pass over the
// queue, so it is not the usual way.
func (a *attempt) look(ctx context.Context, group locksmith.Group) (predecessor, error) {
	resp, err := a.store.get(ctx, queueLevelPrefix(group, a.priority), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithMaxCreateRev(a.place-1), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	if err != nil {
		return predecessor{}, err
	}
	kv := head(resp.Kvs)
	if kv == nil {
		return predecessor{}, nil
	}
	return predecessor{key: kv.Key, rev: kv.CreateRevision}, nil
}

// wasServed says whether the entry that went at revision gone went because its
// machine got its slot: then it was first, and now we are.
func (a *attempt) wasServed(ctx context.Context, group locksmith.Group, entry []byte, gone int64) (bool, error) {
	_, machine, ok := waiterAt(group, entry)
	if !ok || gone == 0 {
		return false, nil
	}
	resp, err := a.store.get(ctx, holderKey(group, machine), clientv3.WithKeysOnly())
	if err != nil {
		return false, err
	}
	return len(resp.Kvs) == 1 && resp.Kvs[0].CreateRevision == gone, nil
}

// contend waits, as the first in line everywhere, until there is room in every
// group, nobody more urgent waits and nothing is paused, and takes the slots. It alone
// watches semaphores, so that a release wakes one machine however many wait.
//
// While every group is paused it keeps its place, as nobody behind it could reboot
// either. Where others could, it returns a *locksmith.PausedError.
func (a *attempt) contend(ctx context.Context) (locksmith.Slots, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := a.watchChanges(ctx)
	if err != nil {
		return locksmith.Slots{}, err
	}
	v, _, err := a.read(ctx)
	if err != nil {
		return locksmith.Slots{}, err
	}
	following, read := false, true
	for {
		if slots, granted := a.granted(v); granted {
			return slots, nil
		}
		for _, g := range v.groups {
			if g.entryRev != a.place {
				return locksmith.Slots{}, errEntryLost
			}
		}
		now := time.Now()
		paused := v.policies.err(now)
		if paused != nil && !v.policies.everywhere(now) {
			if read {
				return locksmith.Slots{}, paused
			}
			// Each policy has a watch of its own, and what one tells may be older than
			// what another does: a place is not given up for that.
			if v, _, err = a.read(ctx); err != nil {
				return locksmith.Slots{}, err
			}
			read = true
			continue
		}
		a.news.paused(paused)
		err := a.admits(v)
		var full *locksmith.FullError
		switch {
		case err == nil && paused == nil && !v.urgent():
			var slots locksmith.Slots
			var granted bool
			if v, slots, granted, err = a.commit(ctx, v); err != nil || granted {
				return slots, err
			}
			continue
		case err != nil && !errors.As(err, &full):
			return locksmith.Slots{}, err
		}
		if !following {
			following = true
			a.watchPolicies(ctx, changes, v.revision)
		}
		if v, err = a.next(ctx, v, changes); err != nil {
			return locksmith.Slots{}, err
		}
		read = false
	}
}

func (v view) urgent() bool {
	return slices.ContainsFunc(v.groups, func(g groupView) bool { return g.urgent })
}

// change is what the first in line is woken by: the event of a semaphore or of a
// policy, or else an entry of a more urgent level that went.
type change struct {
	semaphore *clientv3.Event
	policy    *clientv3.Event
	index     int // of the group, or of the policy
	err       error
}

// forward hands on what a watch delivers, until ctx ends or the watch fails.
func forward(ctx context.Context, events clientv3.WatchChan, changes chan<- change, as func(*clientv3.Event) change) {
	send := func(c change) bool {
		select {
		case changes <- c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		resp, open := <-events
		if err := watchErr(ctx, resp, open); err != nil {
			send(change{err: err})
			return
		}
		for _, ev := range resp.Events {
			if !send(as(ev)) {
				return
			}
		}
	}
}

// watchChanges follows the semaphores of all groups, and the departures from the
// levels more urgent than ours, from now on.
func (a *attempt) watchChanges(ctx context.Context) (chan change, error) {
	changes := make(chan change)
	for i, g := range a.groups {
		events, err := a.store.watch(ctx, semaphoreKey(g))
		if err != nil {
			return nil, err
		}
		go forward(ctx, events, changes, func(ev *clientv3.Event) change { return change{semaphore: ev, index: i} })
		if a.priority == locksmith.MinPriority {
			continue
		}
		from, to := urgent(g, a.priority)
		if events, err = a.store.watch(ctx, from, clientv3.WithRange(to), clientv3.WithFilterPut()); err != nil {
			return nil, err
		}
		go forward(ctx, events, changes, func(*clientv3.Event) change { return change{} })
	}
	return changes, nil
}

// watchPolicies follows the policies from what was read at revision on. It is not
// waited for: whoever finds room goes without these watches, and a policy that
// changes may be learnt of a tenth of a second later.
func (a *attempt) watchPolicies(ctx context.Context, changes chan<- change, revision int64) {
	for i, scope := range a.scopes() {
		go func() {
			events, err := a.store.watchFrom(ctx, revision+1, policyKey(scope))
			if err != nil {
				select {
				case changes <- change{err: err}:
				case <-ctx.Done():
				}
				return
			}
			forward(ctx, events, changes, func(ev *clientv3.Event) change { return change{policy: ev, index: i} })
		}()
	}
}

// next is the view after the next change. The event of a semaphore or a policy
// carries all that is needed, so that a handoff costs no read; a departure of somebody
// more urgent does not say who else is there.
func (a *attempt) next(ctx context.Context, v view, changes chan change) (view, error) {
	select {
	case <-ctx.Done():
		return v, context.Cause(ctx)
	case <-v.policies.over(time.Now()):
		return v, nil
	case c := <-changes:
		switch {
		case c.err != nil:
			return v, c.err
		case c.policy != nil:
			v.policies.apply(c, v.revision)
			return v, nil
		case c.semaphore == nil:
			v, _, err := a.read(ctx)
			return v, err
		}
		kv := c.semaphore.Kv
		g := &v.groups[c.index]
		if kv.ModRevision <= g.semRev { // read later than that already
			return v, nil
		}
		if c.semaphore.Type == clientv3.EventTypeDelete {
			kv = nil
		}
		g.setSemaphore(a.store, kv)
		return v, nil
	}
}

// yield is for a machine that is first in some of its groups and waits in others:
// it returns a *locksmith.PausedError when a pause keeps it from going although
// others, behind it, could go. It returns with ctx, too.
func (a *attempt) yield(ctx context.Context) error {
	inTheWay := func(ps policies) error {
		if now := time.Now(); !ps.everywhere(now) {
			return ps.err(now)
		}
		return nil
	}
	return a.store.followPolicies(ctx, a.scopes(), func(ps policies) error {
		if inTheWay(ps) == nil {
			return nil
		}
		resp, err := a.store.read(ctx, policyOps(a.scopes())) // see contend
		if err != nil {
			return err
		}
		return inTheWay(parsePolicies(a.scopes(), resp.Responses))
	})
}
