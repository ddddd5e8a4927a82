package etcd

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// leaseOf is the lease of a new Store that lives for two seconds, over a connection that
// can be cut.
func leaseOf(t *testing.T, srv *etcdtest.Server) (*lease, *etcdtest.Proxy) {
	t.Helper()
	proxy := etcdtest.NewProxy(t, srv.Address())
	s := dial(t, proxy.Endpoint, func(c *Config) { c.LeaseTTL, c.Timeout = 2*time.Second, time.Second })
	return must(s.keep.get(t.Context()))(t), proxy
}

// lives fails if the lease is lost within d, or etcd does not have it after that.
func lives(t *testing.T, srv *etcdtest.Server, l *lease, d time.Duration) {
	t.Helper()
	select {
	case <-l.lost:
		t.Fatal("the lease is lost")
	case <-time.After(d):
	}
	// etcd tells whole seconds: of one that has less, the next renewal makes more.
	renewed := time.After(l.life)
	for {
		left := must(srv.Client(t).TimeToLive(t.Context(), l.id))(t).TTL
		if left > 0 {
			return
		}
		select {
		case <-l.lost:
			t.Fatal("the lease is lost")
		case <-renewed:
			t.Fatalf("etcd gives the lease %d s", left)
		case <-time.After(20 * time.Millisecond):
		}
		if left < 0 {
			t.Fatal("etcd has no such lease")
		}
	}
}

// dies fails if the lease is lost before the first time or not by the second.
func dies(t *testing.T, l *lease, from, to time.Duration) {
	t.Helper()
	began := time.Now()
	select {
	case <-l.lost:
	case <-time.After(to):
		t.Fatalf("the lease is not lost after %v", to)
	}
	if took := time.Since(began); took < from {
		t.Errorf("the lease was lost after %v, want at least %v", took, from)
	}
}

func TestLeaseIsKept(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		l, _ := leaseOf(t, srv)
		lives(t, srv, l, 5*time.Second)
		l.stop()
		dies(t, l, 0, time.Second)
	})
}

// Whoever revokes it, the next renewal tells.
func TestLeaseIsRevoked(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		l, _ := leaseOf(t, srv)
		must(srv.Client(t).Revoke(t.Context(), l.id))(t)
		dies(t, l, 0, 1500*time.Millisecond)
	})
}

// A connection that breaks, or answers nothing, is replaced while the lease lasts.
func TestLeaseOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		l, proxy := leaseOf(t, srv)
		lives(t, srv, l, time.Second) // renewed once
		for range 3 {
			proxy.Cut()
			lives(t, srv, l, 1500*time.Millisecond)
		}
	})
}

// It is lost when it may have expired, not before and not long after.
func TestLeaseWithoutAnswers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for name, fail := range map[string]func(*etcdtest.Proxy){
			"down": (*etcdtest.Proxy).Down, "silent": (*etcdtest.Proxy).SwallowReplies,
		} {
			t.Run(name, func(t *testing.T) {
				l, proxy := leaseOf(t, srv)
				lives(t, srv, l, time.Second)
				fail(proxy)
				dies(t, l, time.Second/2, 2500*time.Millisecond)
			})
		}
	})
}

// Machines that lost their leases in the same moment come back one after the other, over
// as long as a lease lasts. Who is not one of many, or gave its lease up, does not wait.
func TestLostLeasesComeBackInTurn(t *testing.T) {
	t.Parallel()
	const n, ttl = 40, 4 * time.Second
	srv := etcdtest.Start(t, etcdtest.Embedded)
	stores, leases := make([]*Store, n), make([]*lease, n)
	for i := range stores {
		stores[i] = dial(t, srv.Endpoint, func(c *Config) { c.LeaseTTL = ttl })
		leases[i] = must(stores[i].keep.getInTurn(t.Context()))(t)
	}
	for _, l := range leases {
		must(srv.Client(t).Revoke(t.Context(), l.id))(t)
	}
	for _, l := range leases {
		dies(t, l, 0, ttl)
	}
	var early atomic.Int64
	var turns sync.WaitGroup
	for _, s := range stores[1:] {
		turns.Go(func() {
			limited, cancel := context.WithTimeout(t.Context(), ttl/2)
			defer cancel()
			if _, err := s.keep.getInTurn(limited); err == nil {
				early.Add(1)
			}
		})
	}
	if _, err := stores[0].keep.get(t.Context()); err != nil {
		t.Error(err)
	}
	turns.Wait()
	// Half of them on average; a binomial of 39 is outside with a chance of 1 in 10,000.
	if got := early.Load(); got > 32 {
		t.Errorf("in half the time %d of %d came back", got, n-1)
	}
	for _, s := range stores[1:] {
		turns.Go(func() {
			if _, err := s.keep.getInTurn(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	turns.Wait()
	stores[1].keep.drop(true)
	if left := time.Until(stores[1].keep.next); left > 0 {
		t.Errorf("who gave its lease up waits for %v", left)
	}
}
