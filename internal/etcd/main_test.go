package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Servers are started once for all tests; each test has groups of its own. Tests
// that stop a server start their own.
var (
	sharedMu sync.Mutex
	shared   = make(map[etcdtest.Kind]*etcdtest.Server)
	serial   atomic.Int64
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range shared {
		s.Stop()
	}
	os.Exit(code)
}

func server(t testing.TB, kind etcdtest.Kind) *etcdtest.Server {
	t.Helper()
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if s := shared[kind]; s != nil {
		return s
	}
	dir, err := os.MkdirTemp("", "locksmith-etcd-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := etcdtest.New(kind, dir)
	if err != nil {
		t.Fatal(err)
	}
	shared[kind] = s
	return s
}

// onEach runs a test against every kind of server.
func onEach(t *testing.T, test func(t *testing.T, srv *etcdtest.Server)) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) { test(t, server(t, kind)) })
	}
}

// newGroup is a group that no other test uses.
func newGroup(t testing.TB) locksmith.Group {
	return locksmith.Group(fmt.Sprintf("%s %d", t.Name(), serial.Add(1)))
}

// dial is a store with a connection of its own, as a process has.
func dial(t testing.TB, endpoint string, change ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{Endpoints: []string{endpoint}, Timeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	s, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func request(machine string, groups ...locksmith.Group) locksmith.Request {
	return locksmith.Request{Groups: groups, MachineID: machine, By: locksmith.ByAgent, Priority: locksmith.DefaultPriority}
}

// checkGroup reads what is stored and holds it against the rules.
func checkGroup(t testing.TB, s *Store, g locksmith.Group, wantHeld, wantMax int) locksmith.GroupStatus {
	t.Helper()
	st, err := s.Status(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Faults) > 0 {
		t.Errorf("group %s: %v", g, st.Faults)
	}
	if st.Sem.Max != wantMax || len(st.Sem.Holders) != wantHeld || st.Sem.Semaphore != wantMax-wantHeld {
		t.Errorf("group %s: %s, want %d of %d held", g, st.Sem.Document(), wantHeld, wantMax)
	}
	for _, h := range st.Holders {
		if !h.Recorded {
			t.Errorf("group %s: holder %s has no record", g, h.MachineID)
		}
	}
	return st
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func setMax(t testing.TB, s *Store, g locksmith.Group, n int) {
	t.Helper()
	if _, err := s.SetMax(t.Context(), g, n, "test"); err != nil {
		t.Fatal(err)
	}
}

// waiter is one Acquire under way.
type waiter struct {
	machine string
	store   *Store
	cancel  context.CancelCauseFunc
	done    chan struct{}
	slots   locksmith.Slots
	err     error
}

var errStopped = errors.New("stopped by the test")

func acquire(t testing.TB, s *Store, req locksmith.Request) *waiter {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &waiter{machine: req.MachineID, store: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slots, w.err = s.Acquire(ctx, req, nil)
	}()
	t.Cleanup(func() { cancel(errStopped); <-w.done })
	return w
}

func (w *waiter) granted(t testing.TB) locksmith.Slots {
	t.Helper()
	if err := w.ended(t); err != nil {
		t.Fatalf("%s: %v", w.machine, err)
	}
	return w.slots
}

// ended is what the wait ended with.
func (w *waiter) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: still waiting after 30 s", w.machine)
	}
	return w.err
}

func (w *waiter) isWaiting() bool {
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

// awaitQueue returns when n entries wait in the group.
func awaitQueue(t testing.TB, s *Store, g locksmith.Group, n int) {
	t.Helper()
	awaitStatus(t, s, g, fmt.Sprintf("%d waiting", n), func(st locksmith.GroupStatus) bool { return len(st.Queue) == n })
}

func awaitStatus(t testing.TB, s *Store, g locksmith.Group, what string, ok func(locksmith.GroupStatus) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	found := errors.New("found")
	var last locksmith.GroupStatus
	err := s.WatchStatus(ctx, g, func(st locksmith.GroupStatus) error {
		if last = st; ok(st) {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("group %s: waited for %s: %v; last seen %s with %d waiting", g, what, err, last.Sem.Document(), len(last.Queue))
	}
}

// rawPut writes a key as another client would.
func rawPut(t testing.TB, srv *etcdtest.Server, key, value string) {
	t.Helper()
	if _, err := srv.Client(t).Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func rawGet(t testing.TB, srv *etcdtest.Server, key string) string {
	t.Helper()
	resp, err := srv.Client(t).Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func rawDelete(t testing.TB, srv *etcdtest.Server, key string) {
	t.Helper()
	if _, err := srv.Client(t).Delete(t.Context(), key, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
}
