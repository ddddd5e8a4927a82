package model

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// What exploring the model has found in the store, each as a test of the store.

var (
	server *etcdtest.Server
	serial atomic.Int64
	walks  servers
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "locksmith-model-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if server, err = etcdtest.New(etcdtest.Embedded, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	walks.dir = dir
	defer walks.stop()
	return m.Run()
}

// newGroups are groups that no other test uses.
func newGroups(t *testing.T, n int) []locksmith.Group {
	groups := make([]locksmith.Group, n)
	for i := range groups {
		groups[i] = locksmith.Group(fmt.Sprintf("%s %d", t.Name(), serial.Add(1)))
	}
	return groups
}

// dial is a store with a connection of its own, as a process has.
func dial(t *testing.T, change ...func(*etcd.Config)) *etcd.Store {
	t.Helper()
	cfg := etcd.Config{Endpoints: []string{server.Endpoint}, Timeout: patience}
	for _, f := range change {
		f(&cfg)
	}
	s, err := etcd.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func request(machine string, groups ...locksmith.Group) locksmith.Request {
	return locksmith.Request{Groups: groups, MachineID: machine, By: locksmith.ByAgent, BootID: "boot-0",
		Priority: locksmith.DefaultPriority, Resume: true}
}

// wait is one Acquire under way.
type wait struct {
	cancel context.CancelFunc
	done   chan struct{}
	slots  locksmith.Slots
	err    error
}

func acquire(t *testing.T, s *etcd.Store, req locksmith.Request) *wait {
	ctx, cancel := context.WithCancel(context.Background())
	w := &wait{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slots, w.err = s.Acquire(ctx, req, nil)
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// ended waits until the Acquire has returned.
func (w *wait) ended(t *testing.T) error {
	t.Helper()
	select {
	case <-w.done:
		return w.err
	case <-time.After(patience):
		t.Fatal("still waiting")
		return nil
	}
}

// late carries a change out that its sender does not wait for any more. It says whether
// its comparisons held.
func late(t *testing.T, s *sent) bool {
	t.Helper()
	resp, err := pb.NewKVClient(server.Client(t).ActiveConnection()).Txn(t.Context(), s.req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Succeeded
}

// A machine whose grant was carried out, and who has no reply, must not queue behind
// somebody who waits for the slot that it holds.
func TestGrantWithoutReplyBeforeOthers(t *testing.T) {
	grantWithoutReply(t, func(*gate) {})
}

// The same where the reply to the join after that is lost as well: it must not stop at
// finding its own entry.
func TestGrantAndJoinWithoutReply(t *testing.T) {
	grantWithoutReply(t, func(gate *gate) {
		if !gate.next(t).let(muted) {
			t.Fatal("it has not joined again")
		}
	})
}

// grantWithoutReply grants machine a its slot without telling it, while machine b waits.
// Both have to get through, whether a looks for what an earlier process left or, as
// a command does, not. then is what becomes of a's next requests.
func grantWithoutReply(t *testing.T, then func(*gate)) {
	t.Helper()
	for _, resume := range []bool{true, false} {
		g := newGroups(t, 1)[0]
		gate := newGate(t)
		req := request("a", g)
		req.Resume = resume
		a := acquire(t, dial(t, gate.option), req)
		gate.next(t).let(carried) // its join
		grant := gate.next(t)
		b := acquire(t, dial(t), request("b", g))
		status := dial(t)
		awaitQueue(t, status, g, 2)
		grant.let(muted)
		then(gate)
		gate.open()
		if err := a.ended(t); err != nil {
			t.Fatalf("resume %v: %v", resume, err)
		}
		awaitQueue(t, status, g, 1)
		if err := status.Release(t.Context(), a.slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		if err := b.ended(t); err != nil {
			t.Fatal(err)
		}
	}
}

// A machine that holds a slot which it does not know of, granted late to its earlier
// process, must not wait for it in the queue.
func TestGrantToAnEarlierProcess(t *testing.T) {
	g := newGroups(t, 1)[0]
	gate := newGate(t)
	first := dial(t, gate.option)
	a := acquire(t, first, request("a", g))
	gate.next(t).let(carried)
	grant := gate.next(t)
	second := dial(t)
	if slots, err := second.Find(t.Context(), "a", []locksmith.Group{g}); err != nil || len(slots.Groups) > 0 {
		t.Fatal(slots, err)
	}
	b := acquire(t, dial(t), request("b", g))
	awaitQueue(t, second, g, 2)
	if !late(t, grant) {
		t.Fatal("the grant had become void")
	}
	again := acquire(t, second, request("a", g))
	if err := again.ended(t); err != locksmith.ErrHolderExists {
		t.Fatalf("%v, want %v", err, locksmith.ErrHolderExists)
	}
	awaitQueue(t, second, g, 1)
	select {
	case <-b.done:
		t.Fatal("two have the only slot")
	default:
	}
	a.cancel()
	grant.let(held)
	gate.open()
}

// A release that an earlier process asked for must not be carried out once the machine
// has written that it reboots.
func TestReleaseOfAnEarlierProcess(t *testing.T) {
	g := newGroups(t, 1)[0]
	gate := newGate(t)
	first := dial(t, gate.option)
	a := acquire(t, first, request("a", g))
	gate.next(t).let(carried)
	gate.next(t).let(carried)
	if err := a.ended(t); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = first.Release(ctx, a.slots, locksmith.Result{Outcome: "aborted"}) // killed before it knows
	}()
	release := gate.next(t)
	second := dial(t)
	slots, err := second.Find(t.Context(), "a", []locksmith.Group{g})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Advance(t.Context(), slots, locksmith.PhaseRebooting, "reboot"); err != nil {
		t.Fatal(err)
	}
	if late(t, release) {
		t.Error("the slot of a machine that is about to go down was given back")
	}
	sem, _, err := second.Semaphore(t.Context(), g)
	if err != nil || !sem.Holds("a") {
		t.Errorf("%v, %v, want it held", sem, err)
	}
	cancel()
	release.let(held)
	gate.open()
	<-done
}

// awaitQueue returns when n entries wait in the group.
func awaitQueue(t *testing.T, s *etcd.Store, g locksmith.Group, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := fmt.Errorf("found")
	err := s.WatchStatus(ctx, g, func(st locksmith.GroupStatus) error {
		if len(st.Queue) == n {
			return found
		}
		return nil
	})
	if err != found {
		t.Fatalf("waited for %d in the queue: %v", n, err)
	}
}
