package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

const forever = `{"pause":{"by":"alice","at":1,"reason":"incident 42"}}`

func ofGroup(g locksmith.Group) locksmith.PauseScope { return locksmith.PauseScope{Group: g} }

func pauseGroup(t testing.TB, s *Store, g locksmith.Group) {
	t.Helper()
	if err := s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), By: "alice", Reason: "incident 42"}); err != nil {
		t.Fatal(err)
	}
}

func resume(t testing.TB, s *Store, scope locksmith.PauseScope) {
	t.Helper()
	if err := s.Resume(t.Context(), scope, "bob"); err != nil {
		t.Fatal(err)
	}
}

// isPaused says whether err reports pauses of exactly these scopes.
func isPaused(err error, scopes ...locksmith.PauseScope) bool {
	var paused *locksmith.PausedError
	if !errors.As(err, &paused) || len(paused.Pauses) != len(scopes) {
		return false
	}
	for i, p := range paused.Pauses {
		if p.Scope != scopes[i] {
			return false
		}
	}
	return true
}

// withHook is a store that calls hook right before each decision is sent.
func withHook(t testing.TB, srv *etcdtest.Server, hook func()) *Store {
	return dial(t, srv.Endpoint, func(c *Config) {
		c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(onDecision(hook))}
	})
}

// Each of the policies that hold for a machine, set between its look and its
// decision, keeps it from going: nothing else changes in between, so it is the
// comparison of that very key that does so.
func TestPauseBetweenLookAndDecision(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, which := range []string{"group", "second group", "all groups", "machine"} {
			t.Run(which, func(t *testing.T) {
				g, g2 := newGroup(t), newGroup(t)
				machine := strings.ReplaceAll(which, " ", "-")
				scope := map[string]locksmith.PauseScope{"group": ofGroup(g), "second group": ofGroup(g2),
					"all groups": {All: true}, "machine": {Machine: machine}}[which]
				key := policyKey(scope)
				var armed atomic.Bool
				s := withHook(t, srv, func() {
					if armed.CompareAndSwap(true, false) {
						rawPut(t, srv, key, forever)
					}
				})
				t.Cleanup(func() { // t.Context has ended by then
					_, _ = s.change(context.Background(), nil, []clientv3.Op{clientv3.OpDelete(key)}, nil)
				})
				req := request(machine, g, g2)
				armed.Store(true)
				if slots, err := s.TryAcquire(t.Context(), req); !isPaused(err, scope) {
					t.Errorf("TryAcquire: %+v, %v", slots, err)
				}
				rawDelete(t, srv, key)
				armed.Store(true)
				ctx, cancel := context.WithCancelCause(t.Context())
				report := func(string) { cancel(errStopped) } // it stays where everybody is paused
				if slots, err := s.Acquire(ctx, req, report); !isPaused(err, scope) && !(scope.All && errors.Is(err, errStopped)) {
					t.Errorf("Acquire: %+v, %v", slots, err)
				}
				checkGroup(t, s, g, 0, 1)
				rawDelete(t, srv, key)

				slots := must(s.TryAcquire(t.Context(), req))(t)
				armed.Store(true)
				if _, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); !isPaused(err, scope) {
					t.Errorf("Advance: %v", err)
				}
				if h := must(s.Find(t.Context(), machine, req.Groups))(t); h.Record.Phase != locksmith.PhaseAcquired {
					t.Errorf("refused, and the record says %s", h.Record.Phase)
				}
				slots = must(s.Advance(t.Context(), slots, locksmith.PhaseRestoring, "paused"))(t)
				if _, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); !isPaused(err, scope) {
					t.Errorf("Advance, known to be paused: %v", err)
				}
				rawDelete(t, srv, key)
				slots = must(s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""))(t)
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// Machines try, wait and reboot without end while pauses come and go: etcd's own
// order of events says that none was granted a slot, or allowed to reboot, while there
// was one.
func TestNoGrantDuringAPause(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	cl := srv.Client(t)
	g := newGroup(t)
	admin := New(cl, Config{})
	setMax(t, admin, g, 3)
	ctx, stop := context.WithCancelCause(t.Context())
	var reboots atomic.Int64
	done := make(chan struct{})
	for i := range 6 {
		s := New(cl, Config{})
		req := request(fmt.Sprintf("m%d", i), g)
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				take := s.TryAcquire
				if i%2 == 0 { // and not both: what the first took would be nobody's
					take = func(ctx context.Context, req locksmith.Request) (locksmith.Slots, error) {
						return s.Acquire(ctx, req, nil)
					}
				}
				slots, err := take(ctx, req)
				if err != nil {
					continue
				}
				if advanced, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); err == nil {
					slots = advanced
					reboots.Add(1)
				}
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	begin := must(cl.Get(t.Context(), semaphoreKey(g)))(t).Header.Revision
	for range 50 {
		before := reboots.Load()
		for pause(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond); reboots.Load() < before+2; {
			pause(t.Context(), 100*time.Microsecond)
		}
		rawPut(t, srv, policyKey(ofGroup(g)), forever) // alone, so that no semaphore tells of it
		pause(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
		rawDelete(t, srv, policyKey(ofGroup(g)))
	}
	stop(errStopped)
	for range 6 {
		<-done
	}
	checkHistoryOf(t, srv, g, begin)
}

// checkHistoryOf replays what was written to a group since a revision.
func checkHistoryOf(t *testing.T, srv *etcdtest.Server, g locksmith.Group, begin int64) {
	t.Helper()
	cl := srv.Client(t)
	end := must(cl.Put(t.Context(), base(g)+"/end", ""))(t).Header.Revision
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	paused, pauses, reboots := false, 0, 0
	for resp := range cl.Watch(ctx, base(g)+"/", clientv3.WithPrefix(), clientv3.WithRev(begin)) {
		for _, ev := range resp.Events {
			key, put := strings.TrimPrefix(string(ev.Kv.Key), base(g)+"/"), ev.Type == clientv3.EventTypePut
			switch {
			case ev.Kv.ModRevision == end:
				if pauses < 50 || reboots < 100 {
					t.Errorf("only %d pauses and %d reboots", pauses, reboots)
				}
				return
			case key == "policy":
				if paused = put; put {
					pauses++
				}
			case put && strings.HasPrefix(key, "holders/"):
				if paused {
					t.Fatalf("written during a pause: %s", ev.Kv.Value)
				}
				if strings.Contains(string(ev.Kv.Value), string(locksmith.PhaseRebooting)) {
					reboots++
				}
			}
		}
	}
	t.Fatal("the watch ended")
}

// What is not held for a reboot is not paused, but no reboot starts on it.
func TestHoldsByHandDuringAPause(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		pauseGroup(t, s, g)
		for _, by := range []string{locksmith.ByLock, locksmith.ByWithLock} {
			req := request("m", g)
			req.By = by
			slots := must(s.TryAcquire(t.Context(), req))(t)
			slots = must(s.Advance(t.Context(), slots, locksmith.PhasePreparing, ""))(t)
			if _, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); !isPaused(err, ofGroup(g)) {
				t.Errorf("a reboot on a slot held by %s: %v", by, err)
			}
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
			slots = must(s.Acquire(t.Context(), req, nil))(t)
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, by := range []string{locksmith.ByReboot, "fleetlock"} {
			req := request("m", g)
			req.By = by
			if _, err := s.TryAcquire(t.Context(), req); !isPaused(err, ofGroup(g)) {
				t.Errorf("%s: %v", by, err)
			}
		}
	})
}

// Fifty wait in a paused group, go in their order once it is resumed, and cost
// nothing meanwhile.
func TestFiftyWaitForAResume(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		cl := srv.Client(t)
		pauseGroup(t, s, g)
		first := dial(t, srv.Endpoint)
		w, r := acquireReporting(t, first, request("m00", g))
		waiters := []*waiter{w}
		awaitQueue(t, s, g, 1)
		for i := 1; i < 50; i++ {
			waiters = append(waiters, acquire(t, New(cl, Config{}), request(fmt.Sprintf("m%02d", i), g)))
			awaitQueue(t, s, g, i+1)
		}
		r.await(t, "group "+string(g)+" paused by alice: incident 42")
		before := first.Stats().Requests
		pause(t.Context(), 300*time.Millisecond)
		if n := first.Stats().Requests - before; n > 0 {
			t.Errorf("%d requests in 300 ms of waiting", n)
		}
		resume(t, s, ofGroup(g))
		for i, w := range waiters {
			slots := w.granted(t)
			for _, later := range waiters[i+1:] {
				if !later.isWaiting() {
					t.Fatalf("%s went before %s: %v", later.machine, w.machine, later.err)
				}
			}
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.last(); got != "" {
			t.Errorf("granted, and still reported: %q", got)
		}
	})
}

// A machine that a pause keeps from going leaves the queue where others could go.
func TestPausedMachineHoldsUpNobody(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s := dial(t, srv.Endpoint)
		for _, tt := range []struct {
			name  string
			ahead bool // somebody stands before it in b
			scope func(b locksmith.Group) locksmith.PauseScope
		}{
			{"one of its groups", false, ofGroup},
			{"one of its groups, in which it is not first", true, ofGroup},
			{"itself", false, func(locksmith.Group) locksmith.PauseScope { return locksmith.PauseScope{Machine: "both"} }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a, b := newGroup(t), newGroup(t)
				holder := must(s.TryAcquire(t.Context(), request("holder", a)))(t)
				other := request("other", b)
				if tt.ahead {
					other.By = locksmith.ByLock
					must(s.TryAcquire(t.Context(), other))(t)
					acquire(t, dial(t, srv.Endpoint), request("ahead", b))
					awaitQueue(t, s, b, 1)
				}
				both := acquire(t, dial(t, srv.Endpoint), request("both", a, b))
				awaitQueue(t, s, a, 1)
				only := acquire(t, dial(t, srv.Endpoint), request("only", a))
				awaitQueue(t, s, a, 2)
				scope := tt.scope(b)
				if err := s.Pause(t.Context(), locksmith.Pause{Scope: scope, Reason: "no"}); err != nil {
					t.Fatal(err)
				}
				defer resume(t, s, scope)
				if err := both.ended(t); !isPaused(err, scope) { // although a is full as well
					t.Errorf("it left with %v", err)
				}
				if err := s.Release(t.Context(), holder, locksmith.Result{}); err != nil {
					t.Fatal(err)
				}
				only.granted(t)
			})
		}
	})
}

// While all of its groups are paused it stays, and leaves when only one is.
func TestPausedEverywhereThenInOne(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, a, b := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		pauseGroup(t, s, a)
		pauseGroup(t, s, b)
		both, r := acquireReporting(t, dial(t, srv.Endpoint), request("both", a, b))
		r.await(t, "paused by alice")
		only := acquire(t, dial(t, srv.Endpoint), request("only", a))
		awaitQueue(t, s, a, 2)
		if !both.isWaiting() {
			t.Fatalf("it left: %v", both.err)
		}
		resume(t, s, ofGroup(a))
		only.granted(t)
		if err := both.ended(t); !isPaused(err, ofGroup(b)) {
			t.Errorf("it left with %v", err)
		}
	})
}

// While everybody is paused nobody leaves the queue, whichever of the watches tells its
// change first: neither who is first in line, nor who is so only in one of its groups.
func TestPausesSeenInAnyOrder(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Embedded) // a pause of all is everybody's
	s, a, b := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
	must(s.TryAcquire(t.Context(), request("a", a)))(t)
	must(s.TryAcquire(t.Context(), request("b", b)))(t)
	acquire(t, dial(t, srv.Endpoint), request("ahead", b))
	awaitQueue(t, s, b, 1)
	waiters := map[string]*waiter{
		"first": acquire(t, dial(t, srv.Endpoint), request("first", a)),
		"both":  acquire(t, dial(t, srv.Endpoint), request("both", newGroup(t), b)),
	}
	awaitQueue(t, s, a, 1)
	served := ask(t, newBatcher(t, dial(t, srv.Endpoint)), asks("served", a), long)
	awaitQueue(t, s, a, 2)
	awaitQueue(t, s, b, 2)
	all := locksmith.PauseScope{All: true}
	for range 50 {
		for _, scope := range []locksmith.PauseScope{all, {Machine: "first"}, {Machine: "both"}, {Machine: "served"}} {
			if err := s.Pause(t.Context(), locksmith.Pause{Scope: scope, Reason: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, scope := range []locksmith.PauseScope{{Machine: "first"}, {Machine: "both"}, {Machine: "served"}, all} {
			resume(t, s, scope)
		}
	}
	for name, w := range waiters {
		if !w.isWaiting() {
			t.Errorf("%s has left: %v", name, w.err)
		}
	}
	select {
	case <-served.done:
		t.Errorf("who waits at a server has left: %v", served.err)
	default:
	}
}

// A pause ends by itself, and the first in line goes without anybody telling it.
func TestPauseExpires(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		until := time.Now().Add(2 * time.Second).Truncate(time.Second)
		p := locksmith.Pause{Scope: ofGroup(g), Reason: "short", Until: until.Unix()}
		if err := s.Pause(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		watched := make(chan error, 1)
		idle := p // where nobody waits, and so nothing else happens
		idle.Scope = ofGroup(newGroup(t))
		if err := s.Pause(t.Context(), idle); err != nil {
			t.Fatal(err)
		}
		go func() {
			watched <- s.WatchStatus(t.Context(), idle.Scope.Group, func(st locksmith.GroupStatus) error {
				if len(st.Pauses) == 0 {
					return errStopped
				}
				return nil
			})
		}()
		policy := rawGet(t, srv, policyKey(p.Scope))
		slots := acquire(t, dial(t, srv.Endpoint), request("m", g)).granted(t)
		if now := time.Now(); now.Before(until) || now.Sub(until) > time.Second {
			t.Errorf("granted %v after the pause was over", now.Sub(until))
		}
		if got := rawGet(t, srv, policyKey(p.Scope)); got != policy {
			t.Errorf("somebody touched the policy: %s", got)
		}
		must(s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""))(t)
		select {
		case err := <-watched:
			if !errors.Is(err, errStopped) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("who watches does not see that the pause is over")
		}
		if err := s.Resume(t.Context(), p.Scope, "bob"); !errors.Is(err, locksmith.ErrNotPaused) {
			t.Errorf("resume of what is over: %v", err)
		}
		for _, got := range must(s.Pauses(t.Context()))(t) {
			if got.Scope == p.Scope {
				t.Errorf("what is over is listed: %v", got)
			}
		}
	})
}

// The step to rebooting costs one request, also where policies exist.
func TestAdvanceIsOneRequest(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		for _, doc := range []string{"", `{"windows":["always"]}`, `{"pause":{"at":1,"until":2}}`} {
			if doc != "" {
				rawPut(t, srv, policyKey(ofGroup(g)), doc)
			}
			slots := must(s.TryAcquire(t.Context(), request("m", g)))(t)
			before := s.Stats().Requests
			slots = must(s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""))(t)
			if n := s.Stats().Requests - before; n != 1 {
				t.Errorf("policy %q: %d requests", doc, n)
			}
			// Another process knows nothing of the policy, and finds out.
			found := must(dial(t, srv.Endpoint).Advance(t.Context(), slots, locksmith.PhaseRebooting, "again"))(t)
			if err := s.Release(t.Context(), found, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
