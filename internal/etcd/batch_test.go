package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// long is a wait that no test sees the end of.
const long = time.Hour

func newBatcher(t testing.TB, s *Store, change ...func(*BatcherConfig)) *Batcher {
	t.Helper()
	var cfg BatcherConfig
	for _, f := range change {
		f(&cfg)
	}
	b := s.NewBatcher(cfg)
	t.Cleanup(b.Close)
	return b
}

func createGroups(cfg *BatcherConfig) { cfg.CreateGroups = true }

// asks is a machine's request over FleetLock.
func asks(machine string, g locksmith.Group) locksmith.Request {
	return locksmith.Request{Groups: []locksmith.Group{g}, MachineID: machine, By: locksmith.ByFleetLock,
		Actor: "client@192.0.2.7", Address: "192.0.2.7", Reason: "asked over FleetLock", Priority: locksmith.DefaultPriority}
}

// asking is an Acquire of a Batcher under way.
type asking struct {
	machine string
	cancel  context.CancelCauseFunc
	done    chan struct{}
	err     error
}

func ask(t testing.TB, b *Batcher, req locksmith.Request, wait time.Duration) *asking {
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &asking{machine: req.MachineID, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = b.Acquire(ctx, req, wait)
	}()
	t.Cleanup(func() { cancel(errStopped); <-a.done })
	return a
}

// ended is what the request ended with.
func (a *asking) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: no answer after 30 s", a.machine)
	}
	return a.err
}

func (a *asking) granted(t testing.TB) {
	t.Helper()
	if err := a.ended(t); err != nil {
		t.Fatalf("%s: %v", a.machine, err)
	}
}

func (a *asking) isWaiting() bool {
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// get takes a slot, or fails.
func (b *Batcher) get(t testing.TB, g locksmith.Group, machine string) {
	t.Helper()
	if err := b.Acquire(t.Context(), asks(machine, g), 0); err != nil {
		t.Fatalf("%s: %v", machine, err)
	}
}

// put gives a slot back, or fails.
func (b *Batcher) put(t testing.TB, g locksmith.Group, machine string) {
	t.Helper()
	if err := b.Release(t.Context(), g, machine, locksmith.Result{Actor: "client@192.0.2.7", Outcome: "steady"}); err != nil {
		t.Fatalf("%s: %v", machine, err)
	}
}

// revision is the store's.
func revision(t testing.TB, s *Store) int64 {
	t.Helper()
	resp, err := s.get(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// unchanged fails if do writes anything at all.
func unchanged(t testing.TB, srv *etcdtest.Server, what string, do func()) {
	t.Helper()
	s := New(srv.Client(t), Config{})
	before := revision(t, s)
	do()
	if after := revision(t, s); after != before {
		t.Errorf("%s: the store's revision went from %d to %d", what, before, after)
	}
}

// What a grant and a release leave behind is what an agent's would.
func TestBatchRecords(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		setMax(t, s, g, 2)
		req := asks("m", g)
		req.Hostname = "host"
		if err := b.Acquire(t.Context(), req, 0); err != nil {
			t.Fatal(err)
		}
		st := checkGroup(t, s, g, 1, 2)
		h := st.Holders[0].Holder
		want := locksmith.Holder{MachineID: "m", StartTime: h.StartTime, Hostname: "host", Groups: []locksmith.Group{g},
			Phase: locksmith.PhaseAcquired, PhaseTime: h.StartTime, Reason: "asked over FleetLock",
			By: locksmith.ByFleetLock, Nonce: h.Nonce, Address: "192.0.2.7"}
		if diff := cmp.Diff(want, h); diff != "" || len(h.Nonce) != 32 || time.Since(h.Since()).Abs() > time.Minute {
			t.Errorf("record: %s", diff)
		}
		if got := rawGet(t, srv, semaphoreKey(g)); got != `{"semaphore":1,"max":2,"holders":["m"]}` {
			t.Errorf("semaphore %s", got)
		}
		if err := b.Release(t.Context(), g, "m", locksmith.Result{Outcome: "steady", Down: time.Minute}); err != nil {
			t.Fatal(err)
		}
		checkGroup(t, s, g, 0, 2)
		if got := rawGet(t, srv, holderKey(g, "m")); got != "" {
			t.Errorf("record left: %s", got)
		}
		history := must(s.History(t.Context(), g, 10))(t)
		for i := range history {
			history[i].Time, history[i].Revision, history[i].Held = time.Time{}, 0, 0
		}
		wantHistory := []locksmith.HistoryEntry{
			{Actor: locksmith.ByFleetLock, Action: locksmith.ActionUnlock, Machine: "m", Hostname: "host", Outcome: "steady", Down: time.Minute},
			{Actor: "client@192.0.2.7", Action: locksmith.ActionLock, Machine: "m", Hostname: "host", Outcome: "asked over FleetLock"},
			{Actor: "test", Action: locksmith.ActionSetMax, Outcome: "max 2"},
		}
		if diff := cmp.Diff(wantHistory, history); diff != "" {
			t.Errorf("history: %s", diff)
		}
	})
}

// Repeated requests and releases of what is not held are answered, and write nothing.
func TestBatchRepeats(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b, other := newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))
		setMax(t, s, g, 3)
		b.get(t, g, "m")
		must(s.TryAcquire(t.Context(), request("agent", g)))(t)
		unchanged(t, srv, "repeats", func() {
			for range 3 {
				b.get(t, g, "m")
				other.get(t, g, "m")
				if err := b.Acquire(t.Context(), asks("m", g), long); err != nil {
					t.Error(err)
				}
				b.put(t, g, "stranger")
				b.put(t, g, "agent")
			}
		})
	})
}

// A slot that somebody else holds in the machine's name is not given to its client, nor
// given back by it.
func TestBatchHeldByOthers(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		setMax(t, s, g, 4)
		for _, by := range []string{locksmith.ByAgent, locksmith.ByLock, locksmith.ByReboot, "stranger"} {
			req := request(fmt.Sprint("m", len(by)), g)
			req.By = by
			must(s.TryAcquire(t.Context(), req))(t)
			unchanged(t, srv, by, func() {
				for _, wait := range []time.Duration{0, long} {
					err := b.Acquire(t.Context(), asks(req.MachineID, g), wait)
					var held *locksmith.HeldError
					if !errors.As(err, &held) || *held != (locksmith.HeldError{Group: g, By: by}) {
						t.Errorf("by %s: %v", by, err)
					}
				}
				b.put(t, g, req.MachineID)
			})
		}
		checkGroup(t, s, g, 4, 4)
	})
}

// Holders that old clients left have no record, or one that says nothing of them: they are
// FleetLock's as well.
func TestBatchHolderWithoutRecord(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		rawPut(t, srv, semaphoreKey(g), `{"semaphore":0,"max":1,"holders":["old"]}`)
		unchanged(t, srv, "a repeated request", func() { b.get(t, g, "old") })
		b.put(t, g, "old")
		checkGroup(t, s, g, 0, 1)

		rawPut(t, srv, semaphoreKey(g), `{"semaphore":0,"max":1,"holders":["older"]}`)
		rawPut(t, srv, holderKey(g, "older"), `{"machineID":"older","startTime":1397496396}`)
		unchanged(t, srv, "a repeated request", func() { b.get(t, g, "older") })
		b.put(t, g, "older")
		checkGroup(t, s, g, 0, 1)
	})
}

// A group that was never written is unknown, and stays so, but where they are made.
func TestBatchUnknownGroup(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		unchanged(t, srv, "unknown groups", func() {
			for i := range 20 {
				name := locksmith.Group(fmt.Sprint(g, i))
				for _, wait := range []time.Duration{0, long} {
					if err := b.Acquire(t.Context(), asks("m", name), wait); !errors.Is(err, locksmith.ErrUnknownGroup) {
						t.Errorf("acquire: %v", err)
					}
				}
				if err := b.Release(t.Context(), name, "m", locksmith.Result{}); !errors.Is(err, locksmith.ErrUnknownGroup) {
					t.Errorf("release: %v", err)
				}
			}
		})
		if len(b.desks) != 0 {
			t.Errorf("%d desks for unknown groups", len(b.desks))
		}
		c := newBatcher(t, s, createGroups)
		if err := c.Release(t.Context(), g, "m", locksmith.Result{}); !errors.Is(err, locksmith.ErrUnknownGroup) {
			t.Errorf("release: %v", err)
		}
		c.get(t, g, "m")
		checkGroup(t, s, g, 1, 1)
		b.get(t, g, "m")

		// One that goes while it is in use.
		waits := ask(t, b, asks("w", g), long)
		awaitQueue(t, s, g, 1)
		rawDelete(t, srv, semaphoreKey(g))
		if err := waits.ended(t); !errors.Is(err, locksmith.ErrUnknownGroup) {
			t.Errorf("a deleted group: %v", err)
		}
		if err := b.Acquire(t.Context(), asks("m", g), 0); !errors.Is(err, locksmith.ErrUnknownGroup) {
			t.Errorf("a deleted group: %v", err)
		}
		awaitQueue(t, s, g, 0)
	})
}

// Without a slot there is an answer at once, or at the end of the wait; the machine is in
// nobody's way after either.
func TestBatchFull(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, s)
		setMax(t, s, g, 2)
		b.get(t, g, "b")
		b.get(t, g, "a")
		for _, wait := range []time.Duration{0, 1, 200 * time.Millisecond} {
			began := time.Now()
			err := b.Acquire(t.Context(), asks("m", g), wait)
			var full *locksmith.FullError
			if !errors.As(err, &full) {
				t.Fatalf("wait %v: %v", wait, err)
			}
			if diff := cmp.Diff(locksmith.FullError{Group: g, Holders: []string{"a", "b"}}, *full); diff != "" {
				t.Errorf("wait %v: %s", wait, diff)
			}
			if took := time.Since(began); took < wait || took > wait+5*time.Second {
				t.Errorf("wait %v took %v", wait, took)
			}
			if q := must(s.Status(t.Context(), g))(t).Queue; len(q) != 0 {
				t.Errorf("wait %v: still in the queue", wait)
			}
		}
		setMax(t, s, g, 1)
		var full *locksmith.FullError
		if err := b.Acquire(t.Context(), asks("m", g), 0); !errors.As(err, &full) || full.Semaphore != -1 {
			t.Errorf("max lowered: %v", err)
		}
	})
}

// What cannot be a request is refused before etcd is asked.
func TestBatchBadRequests(t *testing.T) {
	b := newBatcher(t, dial(t, "http://127.0.0.1:1"))
	bad := map[string]func(*locksmith.Request){
		"no group":   func(r *locksmith.Request) { r.Groups = nil },
		"two groups": func(r *locksmith.Request) { r.Groups = []locksmith.Group{"a", "b"} },
		"no id":      func(r *locksmith.Request) { r.MachineID = "" },
		"spaces":     func(r *locksmith.Request) { r.MachineID = "a b" },
		"by":         func(r *locksmith.Request) { r.By = locksmith.ByAgent },
		"priority":   func(r *locksmith.Request) { r.Priority = 10 },
	}
	for name, change := range bad {
		req := asks("m", "g")
		change(&req)
		var mine *Error
		if err := b.Acquire(t.Context(), req, 0); err == nil || errors.As(err, &mine) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Release(t.Context(), "g", "", locksmith.Result{}); err == nil {
		t.Error("a release without a machine")
	}
}

// Documents that cannot be understood are errors, and stay as they are.
func TestBatchUnreadable(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 2)
	b.get(t, g, "m")
	rawPut(t, srv, holderKey(g, "m"), `{`)
	fresh := newBatcher(t, s)
	var unreadable *locksmith.UnreadableError
	if err := fresh.Acquire(t.Context(), asks("m", g), 0); !errors.As(err, &unreadable) {
		t.Errorf("record: %v", err)
	}
	for _, b := range []*Batcher{b, fresh} {
		if err := b.Release(t.Context(), g, "m", locksmith.Result{}); !errors.As(err, &unreadable) {
			t.Errorf("record: %v", err)
		}
	}
	setMax(t, s, g, 1)
	waits := ask(t, b, asks("w", g), long)
	awaitQueue(t, s, g, 1)
	rawPut(t, srv, semaphoreKey(g), `{"semaphore":0}`)
	for _, err := range []error{waits.ended(t), b.Acquire(t.Context(), asks("m", g), long), b.Release(t.Context(), g, "m", locksmith.Result{})} {
		if !errors.As(err, &unreadable) {
			t.Errorf("semaphore: %v", err)
		}
	}
	if got := rawGet(t, srv, semaphoreKey(g)); got != `{"semaphore":0}` {
		t.Errorf("overwritten: %s", got)
	}
}

// Fifty and three hundred at once: everybody has an answer, and it is the right one.
func TestBatchManyAtOnce(t *testing.T) {
	for _, n := range []int{50, 300} {
		for _, slots := range []int{n, n / 3} {
			t.Run(fmt.Sprintf("%d for %d", n, slots), func(t *testing.T) {
				srv := server(t, etcdtest.Embedded)
				s, g := dial(t, srv.Endpoint), newGroup(t)
				batchers := []*Batcher{newBatcher(t, s), newBatcher(t, dial(t, srv.Endpoint))}
				setMax(t, s, g, slots)
				a := newAudit(t, srv, g)
				var wg sync.WaitGroup
				errs := make([]error, n)
				for i := range n {
					wg.Go(func() { errs[i] = batchers[i%2].Acquire(t.Context(), asks(fmt.Sprintf("m%03d", i), g), 0) })
				}
				wg.Wait()
				granted := 0
				for i, err := range errs {
					var full *locksmith.FullError
					switch {
					case err == nil:
						granted++
					case !errors.As(err, &full) || len(full.Holders) != slots:
						t.Errorf("m%03d: %v", i, err)
					}
				}
				if granted != slots {
					t.Errorf("%d granted, want %d", granted, slots)
				}
				checkGroup(t, s, g, slots, slots)
				for i := range n {
					wg.Go(func() { errs[i] = batchers[i/2%2].Release(t.Context(), g, fmt.Sprintf("m%03d", i), locksmith.Result{}) })
				}
				wg.Wait()
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
				}
				checkGroup(t, s, g, 0, slots)
				a.check(t)
				changes := must(s.History(t.Context(), g, 10000))(t)
				if len(changes) != 1+2*slots {
					t.Errorf("%d changes in the history, want %d", len(changes), 1+2*slots)
				}
				if !slices.IsSortedFunc(changes, func(a, b locksmith.HistoryEntry) int { return int(b.Revision - a.Revision) }) {
					t.Error("the history is not in order")
				}
			})
		}
	}
}

// Two requests of one machine at the same time have one outcome and one place.
func TestBatchTwiceTheSame(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	b.get(t, g, "holder")
	one, two := ask(t, b, asks("m", g), long), ask(t, b, asks("m", g), long)
	awaitWaiting(t, b, g, 2)
	awaitQueue(t, s, g, 1)
	one.cancel(errStopped)
	if err := one.ended(t); !errors.Is(err, errStopped) {
		t.Error(err)
	}
	three := ask(t, b, asks("m", g), long)
	awaitWaiting(t, b, g, 2)
	if q := must(s.Status(t.Context(), g))(t).Queue; len(q) != 1 {
		t.Errorf("%d entries", len(q))
	}
	b.put(t, g, "holder")
	two.granted(t)
	three.granted(t)
	checkGroup(t, s, g, 1, 1)
	if n := len(must(s.History(t.Context(), g, 100))(t)); n != 4 {
		t.Errorf("%d changes, want 4", n)
	}
}

// awaitWaiting returns when n requests wait.
func awaitWaiting(t testing.TB, b *Batcher, g locksmith.Group, n int) {
	t.Helper()
	awaitThat(t, func() bool { return b.Waiting()[g] == n }, func() string {
		return fmt.Sprintf("%d requests wait, want %d", b.Waiting()[g], n)
	})
}

// awaitThat returns when ok does. What it looks at has no events.
func awaitThat(t testing.TB, ok func() bool, what func() string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(what())
		}
	}
}
