package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Machines that wait at two servers and agents stand in one queue, and are served in the
// order in which they came.
func TestBatchOrder(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		batchers := []*Batcher{newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))}
		setMax(t, s, g, 1)
		batchers[0].get(t, g, "holder")
		a := newAudit(t, srv, g)
		var asked [30]*asking
		var agents [30]*waiter
		for i := range asked {
			if i%3 == 2 {
				agents[i] = acquire(t, dial(t, srv.Endpoint), request(fmt.Sprintf("m%02d", i), g))
			} else {
				asked[i] = ask(t, batchers[i%3], asks(fmt.Sprintf("m%02d", i), g), long)
			}
			awaitQueue(t, s, g, i+1)
		}
		batchers[1].put(t, g, "holder")
		for i := range asked {
			for j := i + 1; j < len(asked); j++ {
				if asked[j] != nil && !asked[j].isWaiting() || agents[j] != nil && !agents[j].isWaiting() {
					t.Fatalf("%d went before %d", j, i)
				}
			}
			if agents[i] != nil {
				if err := s.Release(t.Context(), agents[i].granted(t), locksmith.Result{}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			asked[i].granted(t)
			batchers[i%2].put(t, g, asked[i].machine)
		}
		checkGroup(t, s, g, 0, 1)
		if n := a.check(t); n != len(asked) {
			t.Errorf("%d grants, want %d", n, len(asked))
		}
	})
}

// More urgent levels go first, at one server and between two.
func TestBatchPriorities(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b, other := newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	at := func(b *Batcher, machine string, priority int) *asking {
		req := asks(machine, g)
		req.Priority = priority
		return ask(t, b, req, long)
	}
	late := at(b, "late", 9)
	awaitQueue(t, s, g, 1)
	usual := at(b, "usual", 0) // the default
	awaitQueue(t, s, g, 2)
	urgent := at(other, "urgent", 2)
	awaitQueue(t, s, g, 3)
	agent := request("agent", g)
	agent.Priority = 0
	first := acquire(t, dial(t, srv.Endpoint), agent)
	awaitQueue(t, s, g, 4)
	b.put(t, g, "holder")
	if err := s.Release(t.Context(), first.granted(t), locksmith.Result{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*asking{urgent, usual, late} {
		a.granted(t)
		if a != late && !late.isWaiting() {
			t.Fatal("late went early")
		}
		b.put(t, g, a.machine)
	}
}

// Nobody who comes later gets a slot that somebody waits for, although it is free.
func TestBatchNewcomerGoesBehind(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g, other := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		b := newBatcher(t, s)
		setMax(t, s, g, 1)
		setMax(t, s, other, 0) // keeps the first, who wants both, from its slot
		first := acquire(t, dial(t, srv.Endpoint), request("first", g, other))
		awaitQueue(t, s, g, 1)
		second := ask(t, b, asks("second", g), long)
		awaitQueue(t, s, g, 2)
		awaitWaiting(t, b, g, 1)
		setMax(t, s, other, 1)
		slots := first.granted(t)
		if !second.isWaiting() {
			t.Fatal("it overtook")
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		second.granted(t)
	})
}

// A slot that comes back goes on in the same transaction, once the server has heard who is
// next, which nobody is told: so one of several times has to be enough.
func TestBatchHandoffIsOneTransaction(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	b.get(t, g, "a")
	holder, waiter := "a", "b"
	for took := int64(0); took != 1; holder, waiter = waiter, holder {
		next := ask(t, b, asks(waiter, g), long)
		awaitQueue(t, s, g, 1)
		last := ask(t, b, asks("last", g), long)
		awaitQueue(t, s, g, 2)
		before := revision(t, s)
		b.put(t, g, holder)
		next.granted(t)
		took = revision(t, s) - before
		h := must(s.History(t.Context(), g, 2))(t)
		if h[0].Machine != waiter || h[0].Action != locksmith.ActionLock || h[1].Machine != holder || h[1].Action != locksmith.ActionUnlock ||
			(h[0].Revision == h[1].Revision) != (took == 1) {
			t.Fatalf("%d transactions, history %+v", took, h)
		}
		b.put(t, g, waiter)
		last.granted(t)
		b.put(t, g, "last")
		if revision(t, s) > before+100 {
			t.Fatal("never in one transaction")
		}
		b.get(t, g, waiter)
	}
}

// Slots that others free, or that are added, reach those who wait.
func TestBatchWokenByOthers(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, dial(t, srv.Endpoint))
		slots := must(s.TryAcquire(t.Context(), request("agent", g)))(t)
		var waits []*asking
		for i := range 5 {
			waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
			awaitQueue(t, s, g, i+1)
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		waits[0].granted(t)
		if err := s.Unlock(t.Context(), g, "m0", locksmith.Result{Actor: "admin"}); err != nil {
			t.Fatal(err)
		}
		waits[1].granted(t)
		setMax(t, s, g, 3)
		waits[2].granted(t)
		waits[3].granted(t)
		newBatcher(t, s).put(t, g, "m3")
		waits[4].granted(t)
		checkGroup(t, s, g, 3, 3)
	})
}

// A machine that gets its slot in another way, while it waits, has its answer.
func TestBatchGrantedElsewhere(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b, other := newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	one := ask(t, b, asks("m", g), long)
	awaitQueue(t, s, g, 1)
	two := ask(t, other, asks("m", g), long) // behind the other server's entry
	awaitWaiting(t, other, g, 1)
	three := ask(t, b, asks("n", g), long)
	awaitQueue(t, s, g, 2)
	b.put(t, g, "holder")
	one.granted(t)
	two.granted(t)
	if h := must(s.Find(t.Context(), "m", []locksmith.Group{g}))(t); h.Record.By != locksmith.ByFleetLock {
		t.Errorf("%+v", h)
	}
	setMax(t, s, g, 0)
	setMax(t, s, g, 1)
	b.put(t, g, "m")
	three.granted(t)

	held := ask(t, b, asks("x", g), long)
	awaitQueue(t, s, g, 1)
	rawPut(t, srv, holderKey(g, "x"), `{"machineID":"x","by":"locksmithctl lock"}`)
	rawPut(t, srv, semaphoreKey(g), `{"semaphore":-1,"max":1,"holders":["n","x"]}`)
	var by *locksmith.HeldError
	if err := held.ended(t); !errors.As(err, &by) {
		t.Errorf("held by an administrator meanwhile: %v", err)
	}
	awaitQueue(t, s, g, 0)
}

// One whose entry at one server goes without a slot takes its turn at the other.
func TestBatchBehindAnotherServer(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b, other := newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	one := ask(t, b, asks("m", g), long)
	awaitQueue(t, s, g, 1)
	two := ask(t, other, asks("m", g), long)
	awaitWaiting(t, other, g, 1)
	one.cancel(errStopped)
	if err := one.ended(t); !errors.Is(err, errStopped) {
		t.Error(err)
	}
	awaitQueue(t, s, g, 1)
	b.put(t, g, "holder")
	two.granted(t)
	awaitQueue(t, s, g, 0)
}

// Whoever goes away is out of the queue at once, wherever it stands, and nothing is held
// in its name, whatever the moment.
func TestBatchCancel(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		setMax(t, s, g, 1)
		b.get(t, g, "holder")
		var waits []*asking
		for i := range 9 {
			waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
			awaitQueue(t, s, g, i+1)
		}
		for n, i := range []int{0, 8, 4} {
			waits[i].cancel(errStopped)
			if err := waits[i].ended(t); !errors.Is(err, errStopped) {
				t.Error(err)
			}
			if q := must(s.Status(t.Context(), g))(t).Queue; len(q) != 8-n {
				t.Errorf("%d in the queue after m%d has left", len(q), i)
			}
		}
		b.put(t, g, "holder")
		for _, i := range []int{1, 2, 3, 5, 6, 7} {
			waits[i].granted(t)
			b.put(t, g, waits[i].machine)
		}
		checkGroup(t, s, g, 0, 1)
	})
}

func TestBatchCancelAtAnyMoment(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := New(srv.Client(t), Config{}), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	held := 0
	for i := range 300 {
		if i%2 == 0 && held == 0 {
			b.get(t, g, "holder")
			held = 1
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond, errStopped)
		var freed sync.WaitGroup
		if held == 1 && rand.IntN(2) == 0 {
			held = 0
			freed.Go(func() { b.put(t, g, "holder") })
		}
		err := b.Acquire(ctx, asks("m", g), long)
		cancel()
		freed.Wait()
		st := must(s.Status(t.Context(), g))(t)
		if len(st.Queue) != 0 {
			t.Fatalf("left in the queue after %v", err)
		}
		switch {
		case err == nil && st.Sem.Holds("m"):
			b.put(t, g, "m")
		case !errors.Is(err, errStopped), st.Sem.Holds("m"):
			t.Fatalf("%v, and the store says %s", err, st.Sem.Document())
		}
	}
}

// An entry that somebody deletes is made again.
func TestBatchEntryDeleted(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	one := ask(t, b, asks("one", g), long)
	awaitQueue(t, s, g, 1)
	two := ask(t, b, asks("two", g), long)
	awaitQueue(t, s, g, 2)
	rawDelete(t, srv, queueKey(g, locksmith.DefaultPriority, "one"))
	awaitStatus(t, s, g, "it to be the last", func(st locksmith.GroupStatus) bool {
		return len(st.Queue) == 2 && st.Queue[1].MachineID == "one"
	})
	b.put(t, g, "holder")
	two.granted(t)
	b.put(t, g, "two")
	one.granted(t)
}

// A lease that is lost costs a place, and nobody is told.
func TestBatchLeaseExpires(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	far := dial(t, srv.Endpoint, func(c *Config) { c.LeaseTTL = 3 * time.Second })
	b := newBatcher(t, far)
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	var waits []*asking
	for i := range 3 {
		waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
		awaitQueue(t, s, g, i+1)
	}
	before := must(s.Status(t.Context(), g))(t).Queue
	cl := srv.Client(t)
	resp := must(cl.Get(t.Context(), queueKey(g, locksmith.DefaultPriority, "m0")))(t)
	must(cl.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)))(t)
	awaitStatus(t, s, g, "all to queue again", func(st locksmith.GroupStatus) bool {
		return len(st.Queue) == 3 && st.Queue[0].Revision > before[2].Revision
	})
	b.put(t, g, "holder")
	for range waits {
		awaitStatus(t, s, g, "a grant", func(st locksmith.GroupStatus) bool { return len(st.Holders) == 1 })
		st := must(s.Status(t.Context(), g))(t)
		b.put(t, g, st.Holders[0].MachineID)
	}
	for _, w := range waits {
		w.granted(t)
	}
}

// Close ends what waits, and leaves the queue.
func TestBatchClose(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := s.NewBatcher(BatcherConfig{})
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	var waits []*asking
	for i := range 100 {
		waits = append(waits, ask(t, b, asks(fmt.Sprint("m", i), g), long))
	}
	awaitQueue(t, s, g, 100)
	b.Close()
	if q := must(s.Status(t.Context(), g))(t).Queue; len(q) != 0 {
		t.Errorf("%d in the queue", len(q))
	}
	for _, w := range waits {
		if err := w.ended(t); err == nil || err.Error() != "the server is stopping" {
			t.Fatalf("%s: %v", w.machine, err)
		}
	}
	if err := b.Acquire(t.Context(), asks("m", g), 0); err == nil || err.Error() != "the server is stopping" {
		t.Error(err)
	}
	b.Close()
	checkGroup(t, s, g, 1, 1)
}

// An entry that is none stands in the way of everybody, and of nobody when it is gone.
func TestBatchEntryThatIsNone(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	rawPut(t, srv, queuePrefix(g)+"00/none", "{}")
	waits := ask(t, b, asks("m", g), long)
	awaitQueue(t, s, g, 1)
	if !waits.isWaiting() {
		t.Fatal("granted")
	}
	rawDelete(t, srv, queuePrefix(g)+"00/none")
	waits.granted(t)
}
