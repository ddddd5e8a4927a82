package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Without space etcd takes no writes: who asks is told so at once, who waits goes
// on when there is space again.
func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Debian, "--quota-backend-bytes", "2000000")
	s, g, cl := dial(t, srv.Endpoint), newGroup(t), srv.Client(t)
	setMax(t, s, g, 2)
	slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
	fill(t, cl)

	want := "etcd is out of space and takes no writes (alarm NOSPACE): compact and defragment it, or raise its quota, " +
		"then disarm the alarm (tried " + srv.Endpoint + ")"
	for name, do := range calls(s, g, slots) {
		switch err := inTime(t, name, time.Second, do); {
		case slices.Contains(reads, name):
			if err != nil {
				t.Errorf("%s: %v, want it to work", name, err)
			}
		case err == nil || err.Error() != want:
			t.Errorf("%s: %v, want %s", name, err, want)
		case !transient(err):
			t.Errorf("%s: waiting cures it, but the error does not say so", name)
		}
	}
	w, r := acquireReporting(t, s, request("w", g))
	r.await(t, want)
	makeSpace(t, cl)
	w.granted(t)
	if got := r.last(); got != "" {
		t.Errorf("granted, and still reported: %q", got)
	}
	checkGroup(t, s, g, 2, 2)
}

// A server's clients are told so, too, although the server can read all the while; what
// needs no write goes on.
func TestBatchOutOfSpace(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Debian, "--quota-backend-bytes", "2000000")
	s, g, cl := dial(t, srv.Endpoint), newGroup(t), srv.Client(t)
	// From the second on, changes take as long as anybody waits for them, after what was
	// read between them was answered.
	var full atomic.Bool
	var refusals atomic.Int32
	answered := make(chan struct{})
	slow := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*pb.TxnRequest); ok && full.Load() && len(txn.Success) > 0 && refusals.Add(1) > 1 {
			<-answered
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	b := newBatcher(t, dial(t, srv.Endpoint, func(c *Config) {
		c.Timeout = time.Second
		c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onlyChanges(slow))}
	}))
	setMax(t, s, g, 2)
	b.get(t, g, "holder")
	fill(t, cl)
	full.Store(true)
	b.get(t, g, "holder")
	err := b.Acquire(t.Context(), asks("m", g), 0)
	if err == nil || !strings.HasPrefix(err.Error(), "etcd is out of space and takes no writes (alarm NOSPACE)") {
		t.Error(err)
	}
	if refusals.Load() < 2 {
		t.Error("it was not tried again")
	}
	full.Store(false)
	close(answered)
	makeSpace(t, cl)
	awaitThat(t, func() bool { return b.Acquire(t.Context(), asks("m", g), 0) == nil }, func() string { return "it does not recover" })
	b.put(t, g, "holder")
	b.put(t, g, "m")
	checkGroup(t, s, g, 0, 2)
}

// The change that reaches the quota is carried out, although etcd answers that it has no
// space: it is not told as a failure.
func TestLastChangeThatFits(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		var armed atomic.Bool
		reached := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if _, ok := req.(*pb.TxnRequest); ok && err == nil && armed.CompareAndSwap(true, false) {
				return rpctypes.ErrGRPCNoSpace
			}
			return err
		}
		s, g := dial(t, srv.Endpoint, func(c *Config) {
			c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onlyChanges(reached))}
		}), newGroup(t)
		did := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if armed.Swap(true) {
				t.Errorf("%s: nothing of it was answered that there is no space", what)
			}
		}
		armed.Store(true)
		slots, err := s.TryAcquire(t.Context(), request("a", g))
		did("lock", err)
		slots, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
		did("advance", err)
		did("release", s.Release(t.Context(), slots, locksmith.Result{}))
		_, err = s.Acquire(t.Context(), request("b", g), nil)
		did("acquire", err)
		did("unlock", s.Unlock(t.Context(), g, "b", locksmith.Result{}))
		_, err = s.SetMax(t.Context(), g, 4, "test")
		did("set-max", err)
		did("pause", s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), Reason: "test"}))
		checkGroup(t, s, g, 0, 4)
		if h := must(s.History(t.Context(), g, 100))(t); len(h) != 6 {
			t.Errorf("%d changes, want each once: %+v", len(h), h)
		}
	})
}

// onlyChanges leaves reads alone.
func onlyChanges(i grpc.UnaryClientInterceptor) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*pb.TxnRequest); ok && len(txn.Compare) == 0 {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		return i(ctx, method, req, reply, cc, invoke, opts...)
	}
}

// fill writes until etcd raises its alarm.
func fill(t *testing.T, cl *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("x", 100_000)
	for i := range 1000 {
		_, err := cl.Put(t.Context(), fmt.Sprintf("fill/%d", i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the quota was never reached")
}

func makeSpace(t *testing.T, cl *clientv3.Client) {
	t.Helper()
	resp := must(cl.Delete(t.Context(), "fill/", clientv3.WithPrefix()))(t)
	must(cl.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()))(t)
	must(cl.Defragment(t.Context(), cl.Endpoints()[0]))(t)
	must(cl.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}))(t) // of all kinds, on all members
}
