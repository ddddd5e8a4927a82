package etcd

import (
	"context"
	"errors"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// predecessor is the queue entry right before ours, by key and CreateRevision.
type predecessor struct {
	key []byte // nil: look for it
	rev int64
}

// reachFront returns when nobody of our priority is before us in group. It
// watches one key: the entry right before ours.
func (a *attempt) reachFront(ctx context.Context, group locksmith.Group, ahead predecessor) error {
	for {
		if ahead.key == nil {
			var err error
			if ahead, err = a.look(ctx, group); err != nil || ahead.key == nil {
				return err
			}
		}
		gone, err := a.awaitGone(ctx, ahead)
		if err != nil {
			return err
		}
		if served, err := a.wasServed(ctx, group, ahead.key, gone); err != nil || served {
			return err
		}
		ahead = predecessor{}
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
// group and nobody more urgent waits, and takes the slots. It alone watches
// semaphores, so that a release wakes one machine however many wait.
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
	for {
		if slots, granted := a.granted(v); granted {
			return slots, nil
		}
		for _, g := range v.groups {
			if g.entryRev != a.place {
				return locksmith.Slots{}, errEntryLost
			}
		}
		err := a.admits(v)
		var full *locksmith.FullError
		switch {
		case err == nil && !v.urgent():
			var slots locksmith.Slots
			var granted bool
			if v, slots, granted, err = a.commit(ctx, v); err != nil || granted {
				return slots, err
			}
			continue
		case err != nil && !errors.As(err, &full):
			return locksmith.Slots{}, err
		}
		if v, err = a.next(ctx, v, changes); err != nil {
			return locksmith.Slots{}, err
		}
	}
}

func (v view) urgent() bool {
	return slices.ContainsFunc(v.groups, func(g groupView) bool { return g.urgent })
}

// change is what the first in line is woken by.
type change struct {
	group     int
	semaphore *clientv3.Event // nil: an entry of a more urgent level went
	err       error
}

// watchChanges follows the semaphores of all groups, and the departures from the
// levels more urgent than ours, from now on.
func (a *attempt) watchChanges(ctx context.Context) (chan change, error) {
	changes := make(chan change)
	forward := func(i int, events clientv3.WatchChan, semaphore bool) {
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
				c := change{group: i}
				if semaphore {
					c.semaphore = ev
				}
				if !send(c) {
					return
				}
			}
		}
	}
	for i, g := range a.groups {
		events, err := a.store.watch(ctx, semaphoreKey(g))
		if err != nil {
			return nil, err
		}
		go forward(i, events, true)
		if a.priority == locksmith.MinPriority {
			continue
		}
		from, to := urgent(g, a.priority)
		if events, err = a.store.watch(ctx, from, clientv3.WithRange(to), clientv3.WithFilterPut()); err != nil {
			return nil, err
		}
		go forward(i, events, false)
	}
	return changes, nil
}

// next is the view after the next change. A semaphore's event carries all that is
// needed, so that a handoff costs no read; a departure of somebody more urgent
// does not say who else is there.
func (a *attempt) next(ctx context.Context, v view, changes chan change) (view, error) {
	select {
	case <-ctx.Done():
		return v, context.Cause(ctx)
	case c := <-changes:
		if c.err != nil {
			return v, c.err
		}
		if c.semaphore == nil {
			v, _, err := a.read(ctx)
			return v, err
		}
		kv := c.semaphore.Kv
		g := &v.groups[c.group]
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
