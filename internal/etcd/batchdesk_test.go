package etcd

import (
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// A slot that was granted to nobody is given back, and the history says why.
func TestBatchGrantToNobody(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	setMax(t, s, g, 1)
	b := newBatcher(t, s)
	d := newDesk(b, g) // without its goroutine: each step is this test's
	c := &call{group: g, machine: "m", req: new(asks("m", g)), nonce: "n", desk: d, answer: make(chan error, 1), began: time.Now()}
	d.pending = []*call{c}
	if !d.decide() { // looks
		t.Fatal("no look")
	}
	p := d.newPlan(time.Now())
	p.newcomers()
	c.gone.Store(true) // while the transaction is under way
	d.commit(p)
	checkGroup(t, s, g, 1, 1)
	for d.decide() {
	}
	checkGroup(t, s, g, 0, 1)
	if err := <-c.answer; !errors.Is(err, errGone) {
		t.Error(err)
	}
	if h := must(s.History(t.Context(), g, 1))(t)[0]; h.Action != locksmith.ActionUnlock || h.Outcome != "client went away" {
		t.Errorf("%+v", h)
	}

	// Who asks again before that keeps it.
	c = &call{group: g, machine: "m", req: new(asks("m", g)), nonce: "o", desk: d, answer: make(chan error, 1), began: time.Now()}
	again := &call{group: g, machine: "m", req: new(asks("m", g)), nonce: "p", desk: d, answer: make(chan error, 1), began: time.Now()}
	d.pending = []*call{c}
	p = d.newPlan(time.Now())
	p.newcomers()
	c.gone.Store(true)
	d.commit(p)
	d.pending = append(d.pending, again)
	for d.decide() {
	}
	if err := <-again.answer; err != nil {
		t.Error(err)
	}
	checkGroup(t, s, g, 1, 1)
	if r := must(s.Find(t.Context(), "m", []locksmith.Group{g}))(t).Record; len(d.claims) != 0 || r.Nonce != c.nonce {
		t.Errorf("%d claims left, and the slot was taken anew: %+v", len(d.claims), r)
	}
}

// What was seen of the queue may be over: without its entry nobody is granted, whatever
// the desk believes. It joins again.
func TestBatchNoGrantWithoutEntry(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	setMax(t, s, g, 1)
	d := newDesk(newBatcher(t, s), g) // without its goroutine
	d.line = &line{cancel: func() {}, entries: make(map[placeName]*place)}
	c := &call{group: g, machine: "m", req: new(asks("m", g)), nonce: "n", desk: d, answer: make(chan error, 1), began: time.Now(), wait: long}
	d.look(nil)
	d.queue(c)
	d.join()
	awaitThat(t, func() bool { d.receive(); return d.joining == 0 }, func() string { return "not joined" })
	w := d.turns["m"]
	d.line.add(w.level, "m", w.created)
	p := d.newPlan(time.Now())
	p.fromQueue()
	if len(p.granted) != 1 {
		t.Fatalf("%d grants planned", len(p.granted))
	}
	rawDelete(t, srv, queueKey(g, w.level, "m"))
	d.commit(p)
	checkGroup(t, s, g, 0, 1)
	if w.state != turnNew || w.created != 0 {
		t.Errorf("the turn still believes in its entry: %+v", w)
	}

	// Nor is somebody else's entry for the machine taken out.
	rawPut(t, srv, queueKey(g, w.level, "m"), "{}")
	for _, state := range []turnState{turnQueued, turnNew} {
		w.state, w.created = state, 1
		if d.turns["m"] = w; !d.leaveTogether([]*turn{w}) {
			t.Fatal("not left")
		}
	}
	if rawGet(t, srv, queueKey(g, w.level, "m")) == "" {
		t.Error("somebody else's entry is gone")
	}
}

// What a desk remembers of pauses is compared, also where nothing tells it of changes.
func TestBatchPauseRemembered(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, dial(t, srv.Endpoint))
	setMax(t, s, g, 1)
	m := fmt.Sprintf("m%d", serial.Add(1))
	b.get(t, g, m)
	for _, scope := range []locksmith.PauseScope{{Machine: m}, ofGroup(g), {Machine: m}} {
		if err := s.Pause(t.Context(), locksmith.Pause{Scope: scope, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		var paused *locksmith.PausedError
		if err := b.Acquire(t.Context(), asks(m, g), 0); !errors.As(err, &paused) {
			t.Errorf("%s is paused: %v", scope, err)
		}
		if err := s.Resume(t.Context(), scope, "test"); err != nil {
			t.Fatal(err)
		}
		b.get(t, g, m)
	}
}

// During a pause nobody gets a slot or an answer to go; those who wait keep their places,
// but for a machine that is paused alone.
func TestBatchPause(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		b := newBatcher(t, dial(t, srv.Endpoint))
		setMax(t, s, g, 2)
		b.get(t, g, "holder")
		paused := func(what string, err error) {
			t.Helper()
			var p *locksmith.PausedError
			if !errors.As(err, &p) || len(p.Pauses) == 0 || p.Pauses[0].Reason != "test" {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		unchanged(t, srv, "a pause", func() {
			paused("no wait", b.Acquire(t.Context(), asks("new", g), 0))
			paused("the holder", b.Acquire(t.Context(), asks("holder", g), long))
		})
		paused("a short wait", b.Acquire(t.Context(), asks("new", g), 100*time.Millisecond))
		waits := ask(t, b, asks("new", g), long)
		awaitQueue(t, s, g, 1)
		if err := s.Resume(t.Context(), ofGroup(g), "test"); err != nil {
			t.Fatal(err)
		}
		waits.granted(t)
		b.get(t, g, "holder")
		b.put(t, g, "new")

		// One machine, whose id no other test has.
		m := fmt.Sprintf("m%d", serial.Add(1))
		setMax(t, s, g, 1)
		alone, behind := ask(t, b, asks(m, g), long), (*asking)(nil)
		awaitQueue(t, s, g, 1)
		behind = ask(t, b, asks("behind", g), long)
		awaitQueue(t, s, g, 2)
		if err := s.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{Machine: m}, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		paused("while it waits", alone.ended(t))
		awaitQueue(t, s, g, 1)
		paused("before it waits", b.Acquire(t.Context(), asks(m, g), long))
		b.put(t, g, "holder")
		behind.granted(t)
		b.put(t, g, "behind")
		paused("with a free slot", b.Acquire(t.Context(), asks(m, g), long))
		if err := s.Resume(t.Context(), locksmith.PauseScope{Machine: m}, "test"); err != nil {
			t.Fatal(err)
		}
		b.get(t, g, m)
	})
}

// A pause that is over by itself wakes those who wait for it.
func TestBatchPauseIsOver(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	b := newBatcher(t, s)
	setMax(t, s, g, 1)
	if err := s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), Reason: "test", Until: time.Now().Unix() + 2}); err != nil {
		t.Fatal(err)
	}
	waits := ask(t, b, asks("m", g), long)
	awaitQueue(t, s, g, 1)
	waits.granted(t)
}

// A line whose read was overtaken by a grant of our own may know a policy that the desk
// does not: it looks again.
func TestBatchLineOvertaken(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	setMax(t, s, g, 1)
	d := newDesk(newBatcher(t, s), g) // without its goroutine
	if err := s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	d.look(nil)
	if err := s.Resume(t.Context(), ofGroup(g), "test"); err != nil {
		t.Fatal(err)
	}
	resp, err := s.txn(t.Context(), nil, append(d.basics(), clientv3.OpGet(queuePrefix(g), clientv3.WithPrefix())), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.known.rev = resp.Header.Revision + 1
	d.opened(&lineReply{line: &line{cancel: func() {}, entries: make(map[placeName]*place)}, resp: resp})
	if d.known.fresh {
		t.Error("it goes by what it knew")
	}
	setMax(t, s, g, 2) // the store catches up
	if d.look(nil); d.known.group.pause != nil {
		t.Error("it is still paused")
	}
}
