package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// attempt is one try to get slots, from its first request to its last retry. Its
// nonce marks what it wrote.
type attempt struct {
	viewer
	req   locksmith.Request
	nonce string
	news  news

	place     int64         // CreateRevision of our queue entries; 0: not queued
	ahead     []predecessor // of each group, as last known for that place; nil: not known
	joined    bool          // a join was sent, so that entries may stand
	unsettled bool          // one was sent and had no reply: entries may yet appear
	ambiguous bool          // a grant was sent whose reply has not come
}

func (s *Store) newAttempt(req locksmith.Request, queued bool, report func(string)) (*attempt, error) {
	if err := locksmith.CheckMachineID(req.MachineID); err != nil {
		return nil, err
	}
	if len(req.Groups) == 0 || len(req.Groups) > locksmith.MaxGroups {
		return nil, fmt.Errorf("a slot in %d groups was asked for: must be 1 to %d", len(req.Groups), locksmith.MaxGroups)
	}
	if req.Priority < locksmith.MinPriority || req.Priority > locksmith.MaxPriority {
		return nil, fmt.Errorf("invalid priority %d: must be %d (most urgent) to %d", req.Priority, locksmith.MinPriority, locksmith.MaxPriority)
	}
	if req.Actor == "" {
		req.Actor = req.By
	}
	return &attempt{
		viewer: viewer{store: s, groups: req.Groups, machine: req.MachineID, priority: req.Priority, queued: queued, reboots: req.Reboots()},
		req:    req, nonce: locksmith.NewNonce(), news: news{tell: report},
	}, nil
}

// news tells what a wait is about, each change once: trouble with etcd, or else a
// pause, or else "".
type news struct {
	tell func(string) // nil: nobody listens

	mu             sync.Mutex
	said           string
	trouble, pause string
}

func (n *news) change(apply func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	apply()
	if text := cmp.Or(n.trouble, n.pause); n.tell != nil && text != n.said {
		n.said = text
		n.tell(text)
	}
}

// report is for trouble, "" when it is gone.
func (a *attempt) report(trouble string) { a.news.change(func() { a.news.trouble = trouble }) }

// paused is for what the first in line waits for, nil: nothing of that kind.
func (n *news) paused(err error) {
	n.change(func() {
		if n.pause = ""; err != nil {
			n.pause = err.Error()
		}
	})
}

// TryAcquire takes a slot in every group of req at once or in none, without
// waiting for one to become free and without regard to the queue. A lost
// comparison is tried again until the slots are granted or there is none.
//
// It returns locksmith.ErrHolderExists if the machine holds a slot of one of the
// groups already, *locksmith.PausedError if the slots are for a reboot and there is a
// pause, *locksmith.FullError if a group has no free slot, and
// *locksmith.UnreadableError for a document it cannot understand.
func (s *Store) TryAcquire(ctx context.Context, req locksmith.Request) (locksmith.Slots, error) {
	a, err := s.newAttempt(req, false, nil)
	if err != nil {
		return locksmith.Slots{}, err
	}
	var slots locksmith.Slots
	err = s.insist(ctx, &a.ambiguous, func(ctx context.Context) error {
		slots, err = a.once(ctx)
		return err
	})
	return slots, err
}

// once reads the groups and tries until the outcome is clear.
func (a *attempt) once(ctx context.Context) (locksmith.Slots, error) {
	v, _, err := a.read(ctx)
	for err == nil {
		if slots, granted := a.granted(v); granted {
			return slots, nil
		}
		no := a.admits(v)
		if paused := v.policies.err(time.Now()); paused != nil && !errors.Is(no, locksmith.ErrHolderExists) {
			no = paused
		}
		if no != nil {
			return locksmith.Slots{}, no
		}
		var slots locksmith.Slots
		var granted bool
		if v, slots, granted, err = a.commit(ctx, v); granted {
			return slots, nil
		}
	}
	return locksmith.Slots{}, err
}

// granted finds this attempt's own grant in a view: it was carried out, but its
// reply was lost.
func (a *attempt) granted(v view) (locksmith.Slots, bool) {
	for _, g := range v.groups {
		if !g.ours(a.machine, a.nonce) {
			return locksmith.Slots{}, false
		}
	}
	return locksmith.Slots{Groups: a.groups, Record: *v.groups[0].record, Revision: v.revision}, true
}

// admits says why a view leaves no room for the machine, nil if it does.
func (a *attempt) admits(v view) error {
	for _, g := range v.groups {
		if g.semErr != nil {
			return g.semErr
		}
		if g.sem.Holds(a.machine) {
			return locksmith.ErrHolderExists
		}
	}
	for _, g := range v.groups {
		if _, err := g.sem.Lock(a.machine); err != nil {
			var full *locksmith.FullError
			if errors.As(err, &full) {
				full.Group = g.group
			}
			return err
		}
	}
	return nil
}

// commit is the decision: it takes a slot in every group if each semaphore, and each
// policy that could hold a pause, is still what the view saw (and, for a waiter, if
// its entries stand and nobody more urgent waits), else it returns what it lost to.
func (a *attempt) commit(ctx context.Context, v view) (view, locksmith.Slots, bool, error) {
	now := time.Now()
	record := locksmith.Holder{
		MachineID: a.machine, StartTime: now.Unix(),
		BootID: a.req.BootID, Hostname: a.req.Hostname, Groups: a.groups,
		Phase: locksmith.PhaseAcquired, PhaseTime: now.Unix(),
		Reason: a.req.Reason, By: a.req.By, Nonce: a.nonce,
	}
	cmps := v.policies.unchanged()
	var then []clientv3.Op
	for _, g := range v.groups {
		sem, err := g.sem.Lock(a.machine)
		if err != nil {
			return v, locksmith.Slots{}, false, err
		}
		cmps = append(cmps, g.unchanged())
		then = append(then, g.write(sem, historyDoc{
			Time: now, Actor: a.req.Actor, Action: locksmith.ActionLock,
			Machine: a.machine, Hostname: a.req.Hostname, Outcome: a.req.Reason,
		})...)
		then = append(then, clientv3.OpPut(holderKey(g.group, a.machine), mustJSON(record)))
		if a.queued {
			entry := queueKey(g.group, a.priority, a.machine)
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(entry), "=", a.place))
			if a.priority > locksmith.MinPriority {
				from, to := urgent(g.group, a.priority)
				cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(from).WithRange(to), "=", 0))
			}
			then = append(then, clientv3.OpDelete(entry))
		}
	}
	before := a.ambiguous
	a.ambiguous = true
	resp, err := a.store.change(ctx, cmps, then, a.ops())
	if err != nil {
		a.ambiguous = before || !refused(err)
		return v, locksmith.Slots{}, false, err
	}
	a.ambiguous = false
	if resp.Succeeded {
		a.place = 0
		return v, locksmith.Slots{Groups: a.groups, Record: record, Revision: resp.Header.Revision}, true, nil
	}
	return a.parse(resp.Header.Revision, resp.Responses), locksmith.Slots{}, false, nil
}

// insist repeats do within the store's timeout while a change was sent whose
// reply never came: only the next look tells whether it took place. do keeps
// *sent and finds out by itself.
func (s *Store) insist(ctx context.Context, sent *bool, do func(context.Context) error) error {
	limited, cancel := s.limit(ctx)
	defer cancel()
	back := newRetry()
	lost := false // a reply, at some time
	for {
		err := do(limited)
		if err == nil {
			return nil
		}
		lost = lost || *sent && !refused(err)
		explained := s.explain(ctx, err)
		if !lost || !transient(explained) || !back.sleep(limited) {
			return explained
		}
	}
}

// retry spreads retries: from 50 ms, doubling to 5 s, each anywhere between
// half of that and all of it.
type retry struct{ next time.Duration }

func newRetry() *retry { return &retry{next: 50 * time.Millisecond} }

// delay is how long to wait until the next retry.
func (b *retry) delay() time.Duration {
	d := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, 5*time.Second)
	return d
}

// sleep waits for the next retry; false: ctx ended first.
func (b *retry) sleep(ctx context.Context) bool { return pause(ctx, b.delay()) }

// pause waits; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
