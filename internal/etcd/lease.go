package etcd

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is a lease that is kept alive, until lost is closed.
type lease struct {
	id   clientv3.LeaseID
	life time.Duration // as etcd granted it
	lost chan struct{}
	stop context.CancelFunc

	// fence is the ModRevision of the lease's fence, as far as known; 0: there is none, as
	// long as every join had its reply. A Batcher's joins compare it: to write it makes void
	// what was sent before and may yet be carried out, and leaves the entries of all others
	// alone who wait under the same lease.
	fence atomic.Int64
}

// raise takes in what the fence was at some time: it only ever goes up.
func (l *lease) raise(fence int64) {
	for known := l.fence.Load(); fence > known && !l.fence.CompareAndSwap(known, fence); known = l.fence.Load() {
	}
}

// gone says whether the lease is lost.
func (l *lease) gone() bool {
	select {
	case <-l.lost:
		return true
	default:
		return false
	}
}

// leaseKeeper has the one lease of a Store, for its queue entries and its
// presence alike: an idle agent sends nothing but its keep-alives.
type leaseKeeper struct {
	store *Store
	mu    gate
	cur   *lease    // nil: none yet, or lost
	next  time.Time // when it is this machine's turn to ask for another; zero: at once
}

// gate is a mutex for what may take as long as a request: those who wait for it
// give up with their contexts.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g gate) leave() { <-g }

func (k *leaseKeeper) ttl() time.Duration { return max(time.Second, k.store.cfg.LeaseTTL) }

// get returns the lease, and asks for one where there is none.
func (k *leaseKeeper) get(ctx context.Context) (*lease, error) {
	if err := k.mu.enter(ctx); err != nil {
		return nil, err
	}
	defer k.mu.leave()
	if k.stands() {
		return k.cur, nil
	}
	l, err := k.grant(ctx)
	if err == nil {
		k.cur, k.next = l, time.Time{}
	}
	return l, err
}

// getInTurn is get for one of many machines. A lease that was lost is not made up for at
// once: where etcd was away or too busy, all of a fleet have lost theirs in the same
// moment, and with it what hung on it. Ten thousand that come back together keep etcd
// from the keep-alives of those that are back already, which then lose theirs again,
// without end. So they come back over as long as a lease lasts.
func (k *leaseKeeper) getInTurn(ctx context.Context) (*lease, error) {
	if err := k.mu.enter(ctx); err != nil {
		return nil, err
	}
	var wait time.Duration
	if !k.stands() {
		wait = time.Until(k.next)
	}
	k.mu.leave() // for who wants to drop it
	if wait > 0 && !pause(ctx, wait) {
		return nil, context.Cause(ctx)
	}
	return k.get(ctx)
}

// stands says whether there is a lease, and notes when the next may be asked for where it
// was lost. The caller is in the gate.
func (k *leaseKeeper) stands() bool {
	if k.cur == nil {
		return false
	}
	if k.cur.gone() {
		k.cur, k.next = nil, time.Now().Add(rand.N(k.cur.life))
		return false
	}
	return true
}

// grant asks for a lease and keeps it alive.
func (k *leaseKeeper) grant(ctx context.Context) (*lease, error) {
	limited, cancel := k.store.limit(ctx)
	defer cancel()
	cl, err := k.store.client()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	granted, err := cl.Grant(limited, int64(k.ttl()/time.Second))
	if err != nil {
		return nil, err
	}
	keepCtx, stop := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	l := &lease{id: granted.ID, life: time.Duration(granted.TTL) * time.Second, lost: make(chan struct{}), stop: stop}
	go func() {
		defer close(l.lost)
		defer stop()
		l.keep(keepCtx, pb.NewLeaseClient(cl.ActiveConnection()), began)
	}()
	return l, nil
}

// keep renews the lease, which was granted at began, until ctx ends, or the lease has expired or was revoked. It does so a little more often than at every
// third of its time: with the default of 30 s also before the connection's own keep-alive,
// which sends no ping where something has just come.
//
// The client's own KeepAlive looks three times a second whether there is something to
// do, which was most of what an idle daemon did.
func (l *lease) keep(ctx context.Context, client pb.LeaseClient, began time.Time) {
	every, until := l.life*3/10, began.Add(l.life)
	// There is time for more tries after a failed one, and no use for haste: an etcd that
	// is too busy for the keep-alives of a fleet must not get ten times as many.
	retrying := func() *retry { return &retry{next: every / 10} }
	back := retrying()
	for wait := every; pause(ctx, min(wait, time.Until(until))) && time.Now().Before(until); wait = back.delay() {
		renewed, err := l.renew(ctx, client, until, every)
		if err == nil { // gone, as etcd says
			return
		}
		if renewed.After(until) { // before the stream broke
			until, back = renewed, retrying()
		}
	}
}

// renew renews the lease, which is good until the time given, in one stream and every so
// often, until an answer takes as long or the stream breaks, which is the error; it is
// nil once etcd says that the lease is gone. It returns until when the lease is good.
func (l *lease) renew(ctx context.Context, client pb.LeaseClient, until time.Time, every time.Duration) (time.Time, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.AfterFunc(every, cancel)
	defer limit.Stop()
	stream, err := client.LeaseKeepAlive(ctx)
	if err != nil {
		return until, err
	}
	for {
		asked := time.Now()
		limit.Reset(min(every, time.Until(until)))
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)}); err != nil {
			return until, err
		}
		res, err := stream.Recv()
		switch {
		case err != nil:
			return until, err
		case res.TTL <= 0:
			return until, nil
		}
		limit.Stop()
		until = asked.Add(time.Duration(res.TTL) * time.Second)
		if !pause(ctx, every) {
			return until, context.Cause(ctx)
		}
	}
}

// bind is a context that also ends, with cause errLeaseLost, when the lease does.
func (l *lease) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-l.lost:
			cancel(errLeaseLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// drop ends the lease and with it all that hangs on it: at once where revoke is
// set and etcd answers, else when it expires.
func (k *leaseKeeper) drop(revoke bool) {
	if k.mu.enter(context.Background()) != nil {
		return
	}
	l := k.cur
	k.cur = nil
	k.mu.leave()
	if l == nil {
		return
	}
	l.stop()
	<-l.lost
	if !revoke {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(k.store.cfg.Timeout, 3*time.Second))
	defer cancel()
	if cl, err := k.store.client(); err == nil {
		if _, err := cl.Revoke(ctx, l.id); err != nil {
			k.store.log.Debug("lease not revoked, it will expire", "error", err)
		}
	}
}
