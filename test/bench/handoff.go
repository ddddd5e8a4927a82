package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// line is a queue of machines in a group of one slot.
type line struct {
	bench   *bench
	clients []*clientv3.Client // shared by the machines, each of which has a Store of its own
	group   locksmith.Group
	granted chan grant
	joined  int // machines so far
	stop    context.CancelFunc
	waiting sync.WaitGroup

	troubles atomic.Int64 // how often machines had to try again
	trouble  atomic.Pointer[string]
}

type grant struct {
	at    time.Time
	store *etcd.Store
	slots locksmith.Slots
	err   error
}

// settle is what a machine that has become first is given to watch the semaphore:
// in a fleet, a reboot's time.
const settle = 20 * time.Millisecond

// handoffs measures the time from one machine's call to give its slot back to the
// return of the next machine's call, in queues of growing length.
func (b *bench) handoffs(ctx context.Context) error {
	all := make(map[int][]time.Duration)
	for _, n := range b.lengths {
		b.say("handoff with %d waiting", n)
		took, floor, err := b.handoff(ctx, n)
		if err != nil {
			return err
		}
		all[n] = took
		name := fmt.Sprintf("handoff, %d waiting, ", n)
		b.ratioAtMost(figure{Name: name + "median", Unit: "ms", Measured: ms(quantile(took, 0.5)), Floor: ms(quantile(floor, 0.5)),
			Note: fmt.Sprintf("%d handoffs", len(took))}, 2)
		b.add(figure{Name: name + "p99", Unit: "ms", Measured: ms(quantile(took, 0.99)), Floor: ms(quantile(floor, 0.99))})
	}
	first, last := slices.Min(b.lengths), slices.Max(b.lengths)
	if first == last {
		return nil
	}
	// Once more, so that the short queue is measured before and after the long
	// one: the machine may not be the same all the time.
	b.say("handoff with %d waiting, again", first)
	again, _, err := b.handoff(ctx, first)
	if err != nil {
		return err
	}
	all[first] = append(all[first], again...)
	b.ratioAtMost(figure{Name: fmt.Sprintf("handoff, %d against %d waiting", last, first), Unit: "ms",
		Measured: ms(quantile(all[last], 0.5)), Floor: ms(quantile(all[first], 0.5)), Note: "medians; the short one before and after"}, 1.3)
	return nil
}

func (b *bench) handoff(ctx context.Context, n int) (took, floors []time.Duration, err error) {
	l, err := b.newLine(fmt.Sprintf("bench-%s", locksmith.NewNonce()[:8]), 1+n/1000)
	if err != nil {
		return nil, nil, err
	}
	defer l.close()
	ctx, l.stop = context.WithCancel(ctx)
	f, err := newFloor(ctx, l.clients[0], string(l.group))
	if err != nil {
		return nil, nil, err
	}
	l.join(ctx) // who holds the slot first
	holder := <-l.granted
	start := time.Now()
	for range n {
		l.join(ctx)
	}
	if err := l.awaitQueue(ctx, n, 20*time.Millisecond); err != nil {
		return nil, nil, err
	}
	if n >= 1000 {
		b.add(figure{Name: fmt.Sprintf("join, %d at once", n), Unit: "ms", Measured: ms(time.Since(start)), Note: l.troubled()})
	}
	if err := l.awaitWatches(ctx, n); err != nil {
		return nil, nil, err
	}
	runtime.GC() // what joining left behind is not the handoff's
	for range b.reps(300, 60) {
		if holder.err != nil {
			return nil, nil, holder.err
		}
		released := time.Now()
		if err := holder.store.Release(ctx, holder.slots, locksmith.Result{Outcome: "rebooted"}); err != nil {
			return nil, nil, err
		}
		holder = <-l.granted
		took = append(took, holder.at.Sub(released))
		l.join(ctx) // so that as many wait as before
		floor, err := f.sample(ctx)
		if err != nil {
			return nil, nil, err
		}
		floors = append(floors, floor)
		time.Sleep(settle)
	}
	return took, floors, holder.err
}

func (b *bench) newLine(group string, clients int) (*line, error) {
	l := &line{bench: b, group: locksmith.Group(group), granted: make(chan grant, 1), stop: func() {}}
	for range clients {
		c, err := b.newClient()
		if err != nil {
			l.close()
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

// troubled says how often machines had to try again, and what the last one said.
func (l *line) troubled() string {
	if n := l.troubles.Load(); n > 0 {
		return fmt.Sprintf("%d tries again: %s", n, *l.trouble.Load())
	}
	return ""
}

// join puts one more machine in the queue.
func (l *line) join(ctx context.Context) {
	s := etcd.New(l.clients[l.joined%len(l.clients)], etcd.Config{Timeout: time.Minute})
	machine := fmt.Sprintf("%032d", l.joined)
	l.joined++
	l.waiting.Go(func() {
		slots, err := s.Acquire(ctx, locksmith.Request{Groups: []locksmith.Group{l.group}, MachineID: machine, Hostname: "host-" + machine,
			BootID: "8d1f8f6e-6b1c-4f3a-9a4e-0c7c3c1f2b3a", By: locksmith.ByAgent, Reason: "update engine: new version 1234.0.0",
			Priority: locksmith.DefaultPriority}, func(s string) {
			if s != "" {
				l.troubles.Add(1)
				l.trouble.Store(&s)
			}
		})
		g := grant{time.Now(), s, slots, err}
		select {
		case l.granted <- g:
		case <-ctx.Done():
		}
	})
}

// awaitQueue returns when n wait.
func (l *line) awaitQueue(ctx context.Context, n int, pause time.Duration) error {
	prefix := "coreos.com/updateengine/rebootlock/groups/" + string(l.group) + "/queue/"
	return await(ctx, fmt.Sprintf("%d in the queue", n), pause, func() (bool, error) {
		resp, err := l.clients[0].Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count >= int64(n), err
	})
}

// awaitWatches returns when all who wait watch: one key each, the first one two,
// and the floor's.
func (l *line) awaitWatches(ctx context.Context, n int) error {
	return await(ctx, fmt.Sprintf("%d watches", n+2), 200*time.Millisecond, func() (bool, error) {
		m, err := l.bench.metrics(ctx, func(name, _ string) string {
			if strings.HasSuffix(name, "mvcc_watcher_total") {
				return "watches"
			}
			return ""
		})
		return m["watches"] >= float64(n+2), err
	})
}

// close ends the queue without a farewell from each machine: the leases go with
// their time.
func (l *line) close() {
	l.stop()
	for _, c := range l.clients {
		c.Close()
	}
	l.waiting.Wait()
}

// floor is the least that a handoff can be: a put, the event of it at another
// watcher, and a transaction as large as the one that takes a slot.
type floor struct {
	client *clientv3.Client
	events clientv3.WatchChan
	base   string
	doc    string // of a semaphore's size
	n      int
}

func newFloor(ctx context.Context, client *clientv3.Client, name string) (*floor, error) {
	f := &floor{client: client, base: "bench-floor/" + name + "/",
		doc: locksmith.Semaphore{Max: 1, Holders: []string{strings.Repeat("0", 32)}}.Document()}
	f.events = client.Watch(ctx, f.base+"semaphore", clientv3.WithCreatedNotify())
	resp, ok := <-f.events
	if !ok {
		return nil, ctx.Err()
	}
	return f, resp.Err()
}

func (f *floor) sample(ctx context.Context) (time.Duration, error) {
	f.n++
	entry := fmt.Sprintf("%squeue/5/%032d", f.base, f.n)
	joined, err := f.client.Put(ctx, entry, strings.Repeat("e", 250))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := f.client.Put(ctx, f.base+"semaphore", f.doc); err != nil {
		return 0, err
	}
	ev, ok := <-f.events
	if !ok || ev.Err() != nil {
		return 0, fmt.Errorf("the floor's watch ended: %v", ev.Err())
	}
	holder := fmt.Sprintf("%sholders/%032d", f.base, f.n)
	urgent := clientv3.Compare(clientv3.CreateRevision(f.base+"queue/"), "=", 0).WithRange(f.base + "queue/5/")
	resp, err := f.client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(f.base+"semaphore"), "=", ev.Events[0].Kv.ModRevision),
		clientv3.Compare(clientv3.CreateRevision(entry), "=", joined.Header.Revision), urgent,
	).Then(
		clientv3.OpPut(f.base+"semaphore", f.doc),
		clientv3.OpPut(fmt.Sprintf("%shistory/%04d", f.base, f.n%1024), strings.Repeat("h", 200)),
		clientv3.OpPut(holder, strings.Repeat("r", 350)),
		clientv3.OpDelete(entry),
	).Else(clientv3.OpGet(f.base+"semaphore"), clientv3.OpGet(holder), clientv3.OpGet(entry)).Commit()
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("the floor's transaction lost a comparison: somebody else uses this etcd")
	}
	<-f.events // of the transaction's own put
	return took, nil
}
