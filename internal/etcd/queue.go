package etcd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith"
)

// Acquire waits in the queue until it is first in every group of req, and then
// for a free slot in each; it takes all of them in one transaction. Waiting costs
// no requests but the lease's keep-alives. report, if not nil, is told what stands
// in the way ("no answer from etcd: …") and "" when it is gone.
//
// It returns when the slots are granted; with ctx's cause once ctx has ended and
// the queue is left; or with an error that waiting does not cure:
// locksmith.ErrHolderExists, *locksmith.UnreadableError, no permission. If a
// grant was under way when ctx ended, the grant is returned: nothing is held
// without the caller's knowledge as long as etcd answers.
//
// A request for a reboot is not granted during a pause. Where all its groups are
// paused it keeps its place, and report is told of the pause; where others could go
// that wait behind it, it leaves the queue with a *locksmith.PausedError.
func (s *Store) Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error) {
	a, err := s.newAttempt(req, true, report)
	if err != nil {
		return locksmith.Slots{}, err
	}
	back := newRetry()
	for {
		start := time.Now()
		slots, err := a.wait(ctx)
		a.news.paused(nil)
		if err == nil {
			a.settle()
			a.report("")
			return slots, nil
		}
		if ctx.Err() != nil {
			return a.giveUp(ctx, context.Cause(ctx))
		}
		if err = s.explain(ctx, err); !transient(err) {
			return a.giveUp(ctx, err)
		}
		a.report(err.Error())
		if time.Since(start) > time.Minute {
			back = newRetry() // it worked for a while: this is new trouble
		}
		if !back.sleep(ctx) {
			return a.giveUp(ctx, context.Cause(ctx))
		}
	}
}

// wait goes through the queue once: it joins, reaches the front and contends. Any
// error leaves the entries standing; the next wait finds them.
func (a *attempt) wait(ctx context.Context) (locksmith.Slots, error) {
	lease, err := a.store.keep.getInTurn(ctx)
	if err != nil {
		return locksmith.Slots{}, err
	}
	ctx, cancel := lease.bind(ctx)
	defer cancel()
	ahead, joined, err := a.join(ctx, lease.id)
	if err != nil {
		return locksmith.Slots{}, err
	}
	if slots, err := a.already(ctx, joined); err != nil || slots.Groups != nil {
		return slots, err
	}
	a.report("")
	go a.store.followConnection(ctx, func(away bool) {
		why := ""
		if away {
			why, _ = a.store.diagnose(errDisconnected)
		}
		if ctx.Err() == nil {
			a.report(why)
		}
	})
	if err := a.reachFronts(ctx, ahead); err != nil {
		return locksmith.Slots{}, err
	}
	return a.contend(ctx)
}

// reachFronts returns when nobody of our priority is before us in any group. From
// the first front on it watches for a pause that makes us stand in the way.
func (a *attempt) reachFronts(ctx context.Context, ahead []predecessor) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	fronts, frontCtx := errgroup.WithContext(ctx)
	first := make(chan struct{}, len(a.groups))
	for i, g := range a.groups {
		fronts.Go(func() error {
			err := a.reachFront(frontCtx, g, &ahead[i])
			first <- struct{}{}
			return err
		})
	}
	var yielding sync.WaitGroup
	if len(a.groups) > 1 && a.reboots {
		yielding.Go(func() {
			<-first
			// Without it nothing goes wrong but that others may wait: trouble
			// with etcd shows elsewhere, too.
			if err := a.yield(frontCtx); isDomain(err) {
				stop(err)
			}
		})
	}
	err := fronts.Wait() // ends frontCtx
	yielding.Wait()
	if cause := context.Cause(ctx); isDomain(cause) {
		return cause
	}
	return err
}

// join puts this machine's entry into every group's queue in one transaction. The
// swap of the tail names the predecessor, so that the cost does not depend on the
// queue's length. a.place becomes the revision that orders us. joined is what this
// machine held at that revision, or when it took over an entry that stood.
func (a *attempt) join(ctx context.Context, id clientv3.LeaseID) (ahead []predecessor, joined view, err error) {
	for {
		var cmps []clientv3.Cmp
		var then, els []clientv3.Op
		for _, g := range a.groups {
			key := queueKey(g, a.priority, a.machine)
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
			then = append(then,
				clientv3.OpPut(key, a.entry(), clientv3.WithLease(id)),
				clientv3.OpPut(tailKey(g, a.priority), a.machine, clientv3.WithPrevKV()),
				clientv3.OpGet(semaphoreKey(g)), clientv3.OpGet(holderKey(g, a.machine)))
			els = append(els, clientv3.OpGet(key), clientv3.OpGet(semaphoreKey(g)), clientv3.OpGet(holderKey(g, a.machine)))
		}
		resp, err := a.enqueue(ctx, cmps, then, els)
		if err != nil {
			return nil, view{}, err
		}
		if resp.Succeeded {
			ahead = make([]predecessor, len(a.groups))
			a.place = resp.Header.Revision
			for i, g := range a.groups {
				if tail := resp.Responses[4*i+1].GetResponsePut().PrevKv; tail != nil {
					ahead[i] = predecessor{key: []byte(queueKey(g, a.priority, string(tail.Value))), rev: tail.ModRevision}
				}
			}
			a.ahead = ahead
			return ahead, a.holding(resp), nil
		}
		entries := make([]*mvccpb.KeyValue, len(a.groups))
		for i := range a.groups {
			entries[i] = first(resp.Responses[3*i])
		}
		place := a.place
		joined, done, err := a.takeOver(ctx, entries, id)
		if err != nil {
			return nil, view{}, err
		}
		if done {
			if a.place != place || a.ahead == nil {
				a.ahead = make([]predecessor, len(a.groups))
			}
			if joined.groups == nil { // what stood was enough
				joined = a.holding(resp)
			}
			return a.ahead, joined, nil
		}
	}
}

// holding is what this machine holds, by the responses of a change that ends, for each
// group, with reads of the semaphore and of the holder record.
func (a *attempt) holding(resp *clientv3.TxnResponse) view {
	v := view{revision: resp.Header.Revision, groups: make([]groupView, len(a.groups))}
	n := len(resp.Responses) / len(a.groups)
	for i, g := range a.groups {
		r := resp.Responses[(i+1)*n-2 : (i+1)*n]
		v.groups[i].group = g
		v.groups[i].setSemaphore(a.store, first(r[0]))
		v.groups[i].setRecord(first(r[1]))
	}
	return v
}

// already ends a wait for what this attempt, or with Resume an earlier process, was
// granted: those before it in the queue might wait for that very slot. It is this
// attempt's own where the reply to a grant was lost, which took the entries that stood
// before. Those that stand now are newer, so no grant sent earlier can succeed any more.
func (a *attempt) already(ctx context.Context, joined view) (locksmith.Slots, error) {
	if slots, granted := a.granted(joined); granted {
		a.leave(ctx)
		return slots, nil
	}
	for _, g := range joined.groups {
		if a.req.Resume && g.holds(a.machine) && g.record != nil && g.record.By == a.req.By {
			return locksmith.Slots{}, locksmith.ErrHolderExists
		}
	}
	return locksmith.Slots{}, nil
}

// enqueue is a change that makes entries. It is waited for beyond the end of ctx:
// what is carried out after the queue was left would stay in it.
func (a *attempt) enqueue(ctx context.Context, cmps []clientv3.Cmp, then, els []clientv3.Op) (*clientv3.TxnResponse, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	resp, err := a.store.change(context.WithoutCancel(ctx), cmps, then, els)
	a.joined = a.joined || !refused(err)
	a.unsettled = a.unsettled || err != nil && !refused(err)
	return resp, err
}

// settle ends a wait of which a join may yet be carried out, because a member of etcd that
// did not answer still has it: the entry would stand for a machine that does not wait, and
// with it all those behind. Without its lease it is refused.
func (a *attempt) settle() {
	if a.unsettled {
		a.unsettled = false
		a.store.keep.drop(true)
	}
}

func (a *attempt) entry() string {
	return mustJSON(locksmith.Waiter{
		MachineID: a.machine, Hostname: a.req.Hostname, By: a.req.By, Reason: a.req.Reason,
		Groups: a.groups, Since: time.Now().Unix(), Nonce: a.nonce,
	})
}

// takeOver deals with entries of this machine that stand already. Our own (an
// earlier join of this attempt, or with Resume of a process before us) go on
// under our lease and keep their place; where they hang on it already, as after a
// connection that was lost for a while, that takes no write, and joined is nothing.
// Behind those of another process we wait until they are gone; done is false: join again.
// joined is what this machine holds by then: the reply to the join that made the entries
// may have been lost as well.
func (a *attempt) takeOver(ctx context.Context, entries []*mvccpb.KeyValue, id clientv3.LeaseID) (joined view, done bool, err error) {
	ours, whole, kept := true, true, true
	var foreign *mvccpb.KeyValue
	for _, kv := range entries {
		if kv == nil {
			whole, kept = false, false
			continue
		}
		var w locksmith.Waiter
		// An unreadable entry is nobody we know: it goes with its lease.
		err := decode(kv, &w)
		if err != nil || (w.Nonce != a.nonce && (!a.req.Resume || w.By != a.req.By)) {
			ours, foreign = false, kv
			continue
		}
		whole = whole && slices.Equal(w.Groups, a.groups) && (entries[0] == nil || kv.CreateRevision == entries[0].CreateRevision)
		kept = kept && w.Nonce == a.nonce && clientv3.LeaseID(kv.Lease) == id
	}
	if !ours {
		a.report("another process on this machine waits for a slot already: waiting behind it")
		_, err := a.awaitGone(ctx, predecessor{key: foreign.Key, rev: foreign.CreateRevision})
		return view{}, false, err
	}
	if whole && kept {
		a.place = entries[0].CreateRevision
		return view{}, true, nil
	}
	var cmps []clientv3.Cmp
	var then []clientv3.Op
	for i, kv := range entries {
		if kv == nil {
			continue
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
		if whole {
			then = append(then, clientv3.OpPut(string(kv.Key), a.entry(), clientv3.WithLease(id)),
				clientv3.OpGet(semaphoreKey(a.groups[i])), clientv3.OpGet(holderKey(a.groups[i], a.machine)))
		} else { // the groups have changed: a place in some of them is worth nothing
			then = append(then, clientv3.OpDelete(string(kv.Key)))
		}
	}
	resp, err := a.enqueue(ctx, cmps, then, nil)
	if err != nil || !resp.Succeeded || !whole {
		return view{}, false, err
	}
	a.place = entries[0].CreateRevision
	return a.holding(resp), true, nil
}

// giveUp ends an attempt without a grant: it leaves the queue and returns why. If
// a grant turns out to have been carried out after all, that is returned.
func (a *attempt) giveUp(ctx context.Context, why error) (locksmith.Slots, error) {
	if !a.joined {
		return locksmith.Slots{}, why
	}
	// Without its queue entries a grant still under way cannot be carried out
	// any more, so what is read after that is final.
	left := a.leave(ctx)
	limited, cancel := a.store.limit(context.WithoutCancel(ctx))
	defer cancel()
	for back := newRetry(); a.ambiguous; {
		v, _, err := a.read(limited)
		if err == nil {
			if slots, granted := a.granted(v); granted {
				return slots, nil
			}
			if left == nil {
				break
			}
			err = left
		}
		if !back.sleep(limited) {
			return locksmith.Slots{}, fmt.Errorf("%w; %w: %v", why, locksmith.ErrMayHold, a.store.explain(ctx, err))
		}
	}
	return locksmith.Slots{}, why
}

// leave takes our entries out of the queues. Where that fails, or where a join may
// yet be carried out, the lease is given up, so that nobody waits behind us for
// longer than it lasts. It returns why they may stand.
func (a *attempt) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(a.store.cfg.Timeout, 3*time.Second))
	defer cancel()
	resp, err := a.store.read(ctx, opsFor(a.groups, func(g locksmith.Group) clientv3.Op {
		return clientv3.OpGet(queueKey(g, a.priority, a.machine))
	}))
	var cmps []clientv3.Cmp
	var then []clientv3.Op
	for i := range a.groups {
		if err != nil {
			break
		}
		kv := first(resp.Responses[i])
		var w locksmith.Waiter
		if kv == nil || decode(kv, &w) != nil || w.Nonce != a.nonce {
			continue // not ours
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
		then = append(then, clientv3.OpDelete(string(kv.Key)))
	}
	if err == nil && len(then) > 0 {
		_, err = a.store.change(ctx, cmps, then, nil)
	}
	if err != nil {
		a.store.log.Warn("queue not left, giving up its lease", "machine", a.machine, "error", a.store.explain(ctx, err))
		a.store.keep.drop(false)
		a.unsettled = false
		return err
	}
	a.settle()
	return nil
}
