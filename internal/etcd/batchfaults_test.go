package etcd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// While etcd is away, refusing or silent, everybody is told within the time limit, who asks
// and who waits; when it is back, it goes on.
func TestBatchEtcdAway(t *testing.T) {
	for name, fail := range map[string]func(*etcdtest.Proxy){
		"refuses": (*etcdtest.Proxy).Down, "silent": (*etcdtest.Proxy).SwallowReplies,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := server(t, etcdtest.Embedded)
			proxy := etcdtest.NewProxy(t, srv.Address())
			s, g := dial(t, srv.Endpoint), newGroup(t)
			const limit = 4 * time.Second
			b := newBatcher(t, dial(t, proxy.Endpoint, func(c *Config) { c.Timeout = limit }))
			setMax(t, s, g, 1)
			b.get(t, g, "holder")
			var waits []*asking
			for i := range 3 {
				waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
				awaitQueue(t, s, g, i+1)
			}
			began := time.Now()
			fail(proxy)
			inLimit := func(what string, err error, began time.Time, margin time.Duration) {
				t.Helper()
				var away *Error
				if !errors.As(err, &away) || !away.Transient() || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", what, err)
				}
				if took := time.Since(began); took > limit+margin {
					t.Errorf("%s took %v, the limit is %v", what, took, limit)
				}
			}
			for _, w := range waits {
				inLimit(w.machine, w.ended(t), began, limit/40)
			}
			var calls sync.WaitGroup
			for i := range 4 {
				pause(t.Context(), time.Duration(i)*200*time.Millisecond)
				calls.Go(func() {
					asked := time.Now()
					inLimit("acquire", b.Acquire(t.Context(), asks("holder", g), long), asked, limit/4)
				})
				calls.Go(func() {
					asked := time.Now()
					inLimit("release", b.Release(t.Context(), g, "holder", locksmith.Result{}), asked, limit/4)
				})
				calls.Go(func() {
					asked := time.Now()
					inLimit("other group", b.Acquire(t.Context(), asks("m", "other"), long), asked, limit/4)
				})
			}
			calls.Wait()
			proxy.Cut()
			proxy.Up()
			// Whatever etcd did of it: none of those who were turned away is in the way.
			awaitQueue(t, s, g, 0)
			awaitThat(t, func() bool { return b.Acquire(t.Context(), asks("holder", g), 0) == nil }, func() string { return "it does not recover" })
			b.put(t, g, "holder")
			b.get(t, g, "m1")
			b.put(t, g, "m1")
			checkGroup(t, s, g, 0, 1)
		})
	}
}

// A short absence is nobody's business: who waits keeps its place, who asks is answered.
func TestBatchEtcdRestarts(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv := etcdtest.Start(t, kind)
			s, g := dial(t, srv.Endpoint), newGroup(t)
			b := newBatcher(t, dial(t, srv.Endpoint, func(c *Config) { c.Timeout = 30 * time.Second }))
			setMax(t, s, g, 1)
			b.get(t, g, "holder")
			var waits []*asking
			for i := range 20 {
				waits = append(waits, ask(t, b, asks(fmt.Sprintf("m%02d", i), g), long))
				awaitQueue(t, s, g, i+1)
			}
			srv.Stop()
			repeat := ask(t, b, asks("holder", g), long)
			if err := srv.Restart(); err != nil {
				t.Fatal(err)
			}
			repeat.granted(t)
			awaitQueue(t, s, g, 20)
			holder := "holder"
			for _, w := range waits { // in the old order
				b.put(t, g, holder)
				w.granted(t)
				holder = w.machine
			}
			checkGroup(t, s, g, 1, 1)
		})
	}
}

// A change that is carried out, but whose reply is lost, is made once.
func TestBatchReplyLost(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		proxy := etcdtest.NewProxy(t, srv.Address())
		cl := srv.Client(t)
		direct := New(cl, Config{})
		var armed atomic.Bool
		sent := make(chan struct{}, 10)
		s := dial(t, proxy.Endpoint, func(c *Config) {
			c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onDecision(func() {
				if armed.CompareAndSwap(true, false) {
					proxy.SwallowReplies()
					sent <- struct{}{}
				}
			}))}
		})
		g := newGroup(t)
		b := newBatcher(t, s)
		setMax(t, direct, g, 1)
		cutAfter := func(what string, do func() error) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events := cl.Watch(ctx, semaphoreKey(g), clientv3.WithCreatedNotify())
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
		cutAfter("grant", func() error { return b.Acquire(t.Context(), asks("a", g), 0) })
		checkGroup(t, direct, g, 1, 1)
		next := ask(t, b, asks("b", g), long)
		awaitQueue(t, direct, g, 1)
		cutAfter("handoff", func() error { return b.Release(t.Context(), g, "a", locksmith.Result{}) })
		next.granted(t)
		checkGroup(t, direct, g, 1, 1)
		cutAfter("release", func() error { return b.Release(t.Context(), g, "b", locksmith.Result{}) })
		checkGroup(t, direct, g, 0, 1)
		if h := must(direct.History(t.Context(), g, 100))(t); len(h) != 5 {
			t.Errorf("%d changes, want each once: %+v", len(h), h)
		}
		// Neither was it for a client that has gone meanwhile.
		cutAfter("grant to nobody", func() error {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			for range 3 { // the changes before this one
				<-sent
			}
			go func() {
				<-sent
				cancel(errStopped)
			}()
			if err := b.Acquire(ctx, asks("c", g), 0); !errors.Is(err, errStopped) {
				return fmt.Errorf("ended with %v", err)
			}
			return nil
		})
		awaitStatus(t, direct, g, "nobody to hold it", func(st locksmith.GroupStatus) bool { return len(st.Holders) == 0 })
		if q := must(direct.Status(t.Context(), g))(t).Queue; len(q) != 0 {
			t.Errorf("%d in the queue", len(q))
		}
	})
}

// A join that is carried out, but whose reply is lost, has one place; and none if its
// client goes away.
func TestBatchJoinReplyLost(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprint("leaves ", leaves), func(t *testing.T) {
			proxy := etcdtest.NewProxy(t, srv.Address())
			direct, g := dial(t, srv.Endpoint), newGroup(t)
			var armed atomic.Bool
			b := newBatcher(t, dial(t, proxy.Endpoint, func(c *Config) {
				c.Timeout = 5 * time.Second
				c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onJoin(func() {
					if armed.CompareAndSwap(true, false) {
						proxy.SwallowReplies()
					}
				}))}
			}))
			setMax(t, direct, g, 1)
			b.get(t, g, "holder")
			first := ask(t, b, asks("first", g), long)
			awaitQueue(t, direct, g, 1)
			armed.Store(true)
			second := ask(t, b, asks("second", g), long)
			awaitQueue(t, direct, g, 2)
			if armed.Load() {
				t.Error("no reply was lost")
			}
			if leaves {
				second.cancel(errStopped)
			}
			proxy.Cut()
			if leaves {
				if err := second.ended(t); !errors.Is(err, errStopped) {
					t.Error(err)
				}
				awaitStatus(t, direct, g, "the other alone", func(st locksmith.GroupStatus) bool {
					return len(st.Queue) == 1 && st.Queue[0].MachineID == "first"
				})
			}
			b.put(t, g, "holder")
			first.granted(t)
			if !leaves {
				b.put(t, g, "first")
				second.granted(t)
			}
			checkGroup(t, direct, g, 1, 1)
			awaitQueue(t, direct, g, 0)
		})
	}
}

// onJoin calls before just before a transaction is sent that puts a queue entry.
func onJoin(before func()) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*pb.TxnRequest); ok && joins(txn) {
			before()
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// Groups that are not used any more, and connections that go, leave nothing behind.
func TestBatchLeavesNothingBehind(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	setMax(t, s, g, 0)
	b := s.NewBatcher(BatcherConfig{})
	before := runtime.NumGoroutine()
	var waits []*asking
	for i := range 200 {
		waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
	}
	awaitQueue(t, s, g, 200)
	for _, w := range waits {
		w.cancel(errStopped)
	}
	for _, w := range waits {
		w.ended(t)
	}
	awaitQueue(t, s, g, 0)
	if n := b.Waiting(); len(n) != 0 {
		t.Errorf("waiting: %v", n)
	}
	b.Close()
	awaitThat(t, func() bool { return runtime.NumGoroutine() <= before+8 }, func() string {
		return fmt.Sprintf("%d goroutines, before %d", runtime.NumGoroutine(), before)
	})
}

// A desk that nobody asks goes away, and is set up again.
func TestBatchDeskGoes(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	b.idle = 20 * time.Millisecond
	desks := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.desks)
	}
	setMax(t, s, g, 1)
	for range 3 {
		b.get(t, g, "m")
		waits := ask(t, b, asks("w", g), long)
		awaitQueue(t, s, g, 1)
		if n := desks(); n != 1 {
			t.Errorf("%d desks while somebody waits", n)
		}
		b.put(t, g, "m")
		waits.granted(t)
		b.put(t, g, "w")
		awaitThat(t, func() bool { return desks() == 0 }, func() string { return "the desk stays" })
	}
}

// What it costs to wait, beside the goroutine that calls.
func TestBatchMemoryOfWaiting(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Debian) // whose memory is not ours
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 0)
	const n = 5000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%032d", i)
	}
	use := func() (heap, stacks uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	warm := ask(t, b, asks("warm", g), long)
	awaitQueue(t, s, g, 1)
	heap, stacks := use()
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { b.Acquire(ctx, asks(id, g), long) })
	}
	awaitWaiting(t, b, g, n+1)
	awaitThat(t, func() bool {
		resp, err := s.get(t.Context(), queuePrefix(g), clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == n+1
	}, func() string { return "not all have joined" })
	heapAfter, stacksAfter := use()
	each := (heapAfter - heap) / n
	t.Logf("%d bytes of heap and %d of stacks each", each, (stacksAfter-stacks)/n)
	if each > 2048 {
		t.Errorf("a waiting request takes %d bytes, more than 2048", each)
	}
	cancel(errStopped)
	wg.Wait()
	warm.cancel(errStopped)
	warm.ended(t)
	awaitQueue(t, s, g, 0)
}
