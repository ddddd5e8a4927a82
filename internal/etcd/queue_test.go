package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// A hundred waiters of three priorities are served by priority, then in the order
// in which they came.
func TestOrderIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		cl := srv.Client(t)
		setMax(t, s, g, 0)
		waiters := make(map[string]*waiter)
		var want []string
		byPriority := make(map[int][]string)
		for i := range 100 {
			req := request(fmt.Sprintf("m%02d", i), g)
			req.Priority = []int{0, 5, 9}[rand.IntN(3)]
			waiters[req.MachineID] = acquire(t, New(cl, Config{}), req)
			awaitQueue(t, s, g, i+1)
			byPriority[req.Priority] = append(byPriority[req.Priority], req.MachineID)
		}
		for _, p := range []int{0, 5, 9} {
			want = append(want, byPriority[p]...)
		}
		var shown []string
		for _, w := range must(s.Status(t.Context(), g))(t).Queue {
			shown = append(shown, w.MachineID)
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("shown queue: %s", diff)
		}
		setMax(t, s, g, 1)
		for i, m := range want {
			slots := waiters[m].granted(t)
			for _, later := range want[i+1:] {
				if !waiters[later].isWaiting() {
					t.Fatalf("%s went before %s", later, m)
				}
			}
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		}
		checkGroup(t, s, g, 0, 1)
	})
}

// Somebody more urgent who comes later goes first, and only he.
func TestUrgentGoesFirst(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		normal := acquire(t, dial(t, srv.Endpoint), request("normal", g))
		awaitQueue(t, s, g, 1)
		req := request("urgent", g)
		req.Priority = 0
		urgent := acquire(t, dial(t, srv.Endpoint), req)
		awaitQueue(t, s, g, 2)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = urgent.granted(t)
		if !normal.isWaiting() {
			t.Fatal("the normal one went too")
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		normal.granted(t)
	})
}

// The urgent one gives up while a slot is free: whoever waits behind must notice,
// although no semaphore changes.
func TestUrgentGivesUp(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g, other := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		setMax(t, s, other, 0) // keeps the urgent one, who wants both, from its slot
		req := request("urgent", g, other)
		req.Priority = 0
		urgent := acquire(t, dial(t, srv.Endpoint), req)
		awaitQueue(t, s, g, 1)
		normal := acquire(t, dial(t, srv.Endpoint), request("normal", g))
		awaitQueue(t, s, g, 2)
		urgent.cancel(errStopped)
		normal.granted(t)
		<-urgent.done
		if !errors.Is(urgent.err, errStopped) {
			t.Errorf("urgent: %v", urgent.err)
		}
	})
}

// A waiter whose process dies leaves the queue with its lease; one that stops
// leaves at once; nobody behind either is stuck.
func TestWaiterDies(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		proxy := etcdtest.NewProxy(t, srv.Address())
		short := func(c *Config) { c.LeaseTTL = 2 * time.Second; c.Timeout = time.Second }
		dead := acquire(t, dial(t, proxy.Endpoint, short), request("dead", g))
		awaitQueue(t, s, g, 1)
		stopped := acquire(t, dial(t, srv.Endpoint), request("stopped", g))
		awaitQueue(t, s, g, 2)
		third := acquire(t, dial(t, srv.Endpoint), request("third", g))
		awaitQueue(t, s, g, 3)
		fourth := acquire(t, dial(t, srv.Endpoint), request("fourth", g))
		awaitQueue(t, s, g, 4)
		proxy.Down() // as a machine that lost power
		stopped.cancel(errStopped)
		awaitQueue(t, s, g, 2)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = third.granted(t)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = fourth.granted(t)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		proxy.Up() // it comes back, and queues again
		dead.granted(t)
	})
}

// Waiters of one and of two groups mixed: never more than max, never stuck.
func TestMixedGroups(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, max := range []int{1, 2} {
			t.Run(fmt.Sprint("max ", max), func(t *testing.T) {
				cl := srv.Client(t)
				admin := New(cl, Config{})
				a, b := newGroup(t), newGroup(t)
				setMax(t, admin, a, max)
				setMax(t, admin, b, max)
				var mu sync.Mutex
				down := make(map[locksmith.Group]int)
				count := func(groups []locksmith.Group, by int) {
					mu.Lock()
					defer mu.Unlock()
					for _, g := range groups {
						if down[g] += by; down[g] > max {
							t.Errorf("%d at once in %s, max %d", down[g], g, max)
						}
					}
				}
				var wg sync.WaitGroup
				for i := range 24 {
					groups := [][]locksmith.Group{{a}, {b}, {a, b}, {b, a}}[i%4]
					req := request(fmt.Sprintf("m%02d", i), groups...)
					req.Priority = rand.IntN(2) * 5
					s := New(cl, Config{})
					wg.Go(func() {
						for range 4 {
							slots, err := s.Acquire(t.Context(), req, nil)
							if err != nil {
								t.Error(err)
								return
							}
							count(groups, 1)
							if slots, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); err != nil {
								t.Error(err)
							}
							count(groups, -1)
							if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				checkGroup(t, admin, a, 0, max)
				checkGroup(t, admin, b, 0, max)
			})
		}
	})
}

// The connection is cut after a change was carried out and before its reply
// arrived.
func TestReplyLost(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		proxy := etcdtest.NewProxy(t, srv.Address())
		cl := srv.Client(t)
		direct := New(cl, Config{})
		var armed atomic.Bool
		s := dial(t, proxy.Endpoint, func(c *Config) {
			c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onDecision(func() {
				if armed.CompareAndSwap(true, false) {
					proxy.SwallowReplies()
				}
			}))}
		})
		g := newGroup(t)
		// cutAfter lets do's request through, and cuts when its effect is there.
		cutAfter := func(what, key string, do func() error) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events := cl.Watch(ctx, key, clientv3.WithCreatedNotify())
			<-events
			armed.Store(true)
			done := make(chan error, 1)
			go func() { done <- do() }()
			<-events
			if armed.Load() {
				t.Errorf("%s: no reply was lost", what)
			}
			proxy.Cut()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		var slots locksmith.Slots
		cutAfter("lock", semaphoreKey(g), func() (err error) { slots, err = s.TryAcquire(t.Context(), request("a", g)); return })
		checkGroup(t, direct, g, 1, 1)
		cutAfter("advance", holderKey(g, "a"), func() (err error) {
			slots, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
			return
		})
		cutAfter("release", semaphoreKey(g), func() error { return s.Release(t.Context(), slots, locksmith.Result{}) })
		checkGroup(t, direct, g, 0, 1)
		cutAfter("set-max", semaphoreKey(g), func() error {
			old, err := s.SetMax(t.Context(), g, 4, "test")
			if old != 1 {
				t.Errorf("old max %d, want 1", old)
			}
			return err
		})
		must(direct.TryAcquire(t.Context(), request("a", g)))(t)
		cutAfter("unlock", semaphoreKey(g), func() error { return s.Unlock(t.Context(), g, "a", locksmith.Result{}) })
		cutAfter("acquire", semaphoreKey(g), func() (err error) { slots, err = s.Acquire(t.Context(), request("b", g), nil); return })
		p := locksmith.Pause{Scope: ofGroup(g), Reason: "test"}
		cutAfter("pause", policyKey(p.Scope), func() error { return s.Pause(t.Context(), p) })
		cutAfter("resume", policyKey(p.Scope), func() error { return s.Resume(t.Context(), p.Scope, "test") })
		checkGroup(t, direct, g, 1, 4)
		h := must(direct.History(t.Context(), g, 100))(t)
		if len(h) != 8 {
			t.Errorf("%d changes, want each once: %+v", len(h), h)
		}
	})
}

// onDecision calls before just before a transaction is sent that changes a
// semaphore or a holder record.
func onDecision(before func()) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*pb.TxnRequest); ok {
			for _, op := range txn.Success {
				if key := string(op.GetRequestPut().GetKey()); strings.HasSuffix(key, "/semaphore") || strings.Contains(key, "/holders/") {
					before()
					break
				}
			}
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// A lease that expires while its machine waits (here: revoked): it queues again.
func TestLeaseExpiresWhileWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		first := acquire(t, dial(t, srv.Endpoint, func(c *Config) { c.LeaseTTL = 3 * time.Second }), request("first", g))
		awaitQueue(t, s, g, 1)
		second := acquire(t, dial(t, srv.Endpoint), request("second", g))
		awaitQueue(t, s, g, 2)
		before := must(s.Status(t.Context(), g))(t).Queue
		cl := srv.Client(t)
		resp := must(cl.Get(t.Context(), queueKey(g, 5, "first")))(t)
		must(cl.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)))(t)
		awaitStatus(t, s, g, "first to queue again", func(st locksmith.GroupStatus) bool {
			return len(st.Queue) == 2 && st.Queue[1].MachineID == "first" && st.Queue[1].Revision > before[1].Revision
		})
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = second.granted(t) // first lost its place
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		first.granted(t)
	})
}

func TestEtcdRestartsWhileTwentyWait(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv := etcdtest.Start(t, kind)
			s, g := dial(t, srv.Endpoint), newGroup(t)
			slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
			var waiters []*waiter
			for i := range 20 {
				waiters = append(waiters, acquire(t, dial(t, srv.Endpoint), request(fmt.Sprintf("m%02d", i), g)))
				awaitQueue(t, s, g, i+1)
			}
			srv.Stop()
			if _, _, err := s.Semaphore(t.Context(), g); err == nil || !strings.Contains(err.Error(), srv.Endpoint+" refused the connection") {
				t.Errorf("etcd is stopped: %v", err)
			}
			if err := srv.Restart(); err != nil {
				t.Fatal(err)
			}
			awaitQueue(t, s, g, 20)
			for _, w := range waiters {
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Fatal(err)
				}
				slots = w.granted(t) // in the old order
			}
			checkGroup(t, s, g, 1, 1)
		})
	}
}

// A process that was restarted takes over the entry its predecessor left; a
// different one on the same machine waits behind it.
func TestEntryOfAnEarlierProcess(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		crashed := dial(t, srv.Endpoint)
		a := must(crashed.newAttempt(request("m", g), true, nil))(t)
		l := must(crashed.keep.get(t.Context()))(t)
		if _, _, err := a.join(t.Context(), l.id); err != nil {
			t.Fatal(err)
		}
		behind := acquire(t, dial(t, srv.Endpoint), request("behind", g))
		awaitQueue(t, s, g, 2)
		other := request("m", g)
		other.By = locksmith.ByLock
		otherWaiter := acquire(t, dial(t, srv.Endpoint), other)
		again := request("m", g)
		again.Resume = true
		resumed := acquire(t, dial(t, srv.Endpoint), again)
		awaitStatus(t, s, g, "the entry to be taken over", func(st locksmith.GroupStatus) bool {
			return st.Queue[0].Revision == a.place && st.Queue[0].Nonce != a.nonce
		})
		crashed.Close() // its lease goes, the entry must not
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = resumed.granted(t)
		if !behind.isWaiting() {
			t.Fatal("behind went before it")
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = behind.granted(t)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		otherWaiter.granted(t)
	})
}

// When the caller's patience ends, nothing is held and nobody is in the queue,
// whatever the moment.
func TestCancelAtAnyMoment(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	cl := srv.Client(t)
	s, g := New(cl, Config{}), newGroup(t)
	for range 200 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(rand.IntN(6000))*time.Microsecond, errStopped)
		slots, err := s.Acquire(ctx, request("m", g), nil)
		cancel()
		st := must(s.Status(t.Context(), g))(t)
		if len(st.Queue) != 0 {
			t.Fatalf("left in the queue after %v", err)
		}
		switch {
		case err == nil && st.Sem.Holds("m"):
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		case !errors.Is(err, errStopped), slices.Contains(st.Sem.Holders, "m"):
			t.Fatalf("%v, and the store says %s", err, st.Sem.Document())
		}
	}
}

// The one in the middle gives up: whoever stands behind it is not first, although
// a slot is free and the first one cannot take it yet.
func TestMiddleGivesUp(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g, other := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		setMax(t, s, other, 0) // keeps the first, who wants both, from its slot
		first := acquire(t, dial(t, srv.Endpoint), request("first", g, other))
		awaitQueue(t, s, g, 1)
		middle := acquire(t, dial(t, srv.Endpoint), request("middle", g))
		awaitQueue(t, s, g, 2)
		looked := make(chan struct{}, 10)
		last := acquire(t, dial(t, srv.Endpoint, func(c *Config) {
			c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(afterLook(looked))}
		}), request("last", g))
		awaitQueue(t, s, g, 3)
		middle.cancel(errStopped)
		<-middle.done
		select {
		case <-looked: // who is before it now
		case <-time.After(30 * time.Second):
			t.Fatal("the last did not look who is before it")
		}
		setMax(t, s, other, 1)
		slots := first.granted(t)
		if !last.isWaiting() {
			t.Fatal("the last went before the first")
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		last.granted(t)
	})
}

// afterLook signals when the youngest older entry of a queue was asked for.
func afterLook(looked chan<- struct{}) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if r, ok := req.(*pb.RangeRequest); ok && r.MaxCreateRevision > 0 {
			looked <- struct{}{}
		}
		return err
	}
}

// A grant that is carried out after its machine left the queue must not succeed,
// however much room there is.
func TestNoGrantWithoutQueueEntry(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		a := must(s.newAttempt(request("m", g), true, nil))(t)
		l := must(s.keep.get(t.Context()))(t)
		if _, _, err := a.join(t.Context(), l.id); err != nil {
			t.Fatal(err)
		}
		v, _, err := a.read(t.Context())
		if err != nil || a.admits(v) != nil {
			t.Fatal(err, a.admits(v))
		}
		a.leave(t.Context())
		if _, _, granted, err := a.commit(t.Context(), v); granted || err != nil {
			t.Errorf("granted %v, %v", granted, err)
		}
		checkGroup(t, s, g, 0, 1)
	})
}
