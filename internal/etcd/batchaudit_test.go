package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// atOnce is the reason of requests that do not wait, and so do not regard the queue.
const atOnce = "an answer at once"

// audit follows everything that is stored of a group, revision by revision, and notes what
// must not be: more holders than max after a grant, a grant to somebody who was not first,
// a holder without a record.
type audit struct {
	group  locksmith.Group
	client *clientv3.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	faults   []string
	revision int64
	moved    chan struct{}

	sem     locksmith.Semaphore
	queue   map[string]int64 // entries, by the key below the prefix; CreateRevision
	records map[string]string
	grants  int
}

func newAudit(t testing.TB, srv *etcdtest.Server, g locksmith.Group) *audit {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &audit{group: g, client: srv.Client(t), stop: cancel, done: make(chan struct{}), moved: make(chan struct{}, 1),
		queue: make(map[string]int64), records: make(map[string]string)}
	resp, err := a.client.Get(ctx, base(g)+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		a.apply(mvccpb.PUT, kv)
	}
	a.revision = resp.Header.Revision
	events := a.client.Watch(ctx, base(g)+"/", clientv3.WithPrefix(), clientv3.WithRev(a.revision+1))
	go func() {
		defer close(a.done)
		var together []*clientv3.Event
		for resp := range events {
			for _, ev := range resp.Events {
				if len(together) > 0 && together[0].Kv.ModRevision != ev.Kv.ModRevision {
					a.step(together)
					together = nil
				}
				together = append(together, ev)
			}
			a.step(together) // a revision is not split between responses
			together = nil
		}
	}()
	t.Cleanup(func() { cancel(); <-a.done })
	return a
}

func (a *audit) below(kv *mvccpb.KeyValue) string {
	return strings.TrimPrefix(string(kv.Key), base(a.group)+"/")
}

func (a *audit) apply(typ mvccpb.Event_EventType, kv *mvccpb.KeyValue) {
	name := a.below(kv)
	switch {
	case name == "semaphore" && typ == mvccpb.PUT:
		sem, faults, err := locksmith.ParseSemaphore(kv.Value)
		if err != nil || len(faults) > 0 {
			a.fault(kv, "%s: %v %v", kv.Value, faults, err)
		}
		a.sem = sem
	case strings.HasPrefix(name, "queue/") && typ == mvccpb.PUT:
		a.queue[name] = kv.CreateRevision
	case strings.HasPrefix(name, "queue/"):
		delete(a.queue, name)
	case strings.HasPrefix(name, "holders/") && typ == mvccpb.PUT:
		a.records[name] = string(kv.Value)
	case strings.HasPrefix(name, "holders/"):
		delete(a.records, name)
	}
}

func (a *audit) fault(kv *mvccpb.KeyValue, format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf("revision %d: ", kv.ModRevision)+fmt.Sprintf(format, args...))
}

// step takes in the events of one revision.
func (a *audit) step(events []*clientv3.Event) {
	if len(events) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	last := events[len(events)-1].Kv
	before := len(a.sem.Holders)
	stood := make(map[string]int64)
	for _, ev := range events {
		name := a.below(ev.Kv)
		if created, ok := a.queue[name]; ok && ev.Type == mvccpb.DELETE {
			stood[strings.TrimPrefix(name[len("queue/"):], name[len("queue/"):len("queue/")+2])] = created
		}
	}
	for _, ev := range events {
		a.apply(ev.Type, ev.Kv)
	}
	for _, ev := range events {
		name := a.below(ev.Kv)
		if !strings.HasPrefix(name, "holders/") || !ev.IsCreate() {
			continue
		}
		a.grants++
		created, queued := stood[name[len("holders/"):]]
		if !queued && (!strings.Contains(string(ev.Kv.Value), `"by":"fleetlock"`) || strings.Contains(string(ev.Kv.Value), atOnce)) {
			continue // without regard to the queue
		}
		for key, other := range a.queue { // of level 5, as all in these tests
			if !queued || other < created {
				a.fault(ev.Kv, "%s was granted (entry %d) while %s stood (%d)", name, created, key, other)
			}
		}
	}
	if len(a.sem.Holders) > before && a.sem.Semaphore < 0 {
		a.fault(last, "granted beyond max: %s", a.sem.Document())
	}
	if len(a.sem.Holders) != len(a.records) {
		a.fault(last, "%d holders, %d records", len(a.sem.Holders), len(a.records))
	}
	a.revision = last.ModRevision
	select {
	case a.moved <- struct{}{}:
	default:
	}
}

// check waits until all that was written is looked at, and reports.
func (a *audit) check(t testing.TB) (grants int) {
	t.Helper()
	resp, err := a.client.Get(t.Context(), base(a.group)+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	if err != nil {
		t.Fatal(err)
	}
	newest := resp.Kvs[0].ModRevision
	for {
		a.mu.Lock()
		revision, faults, grants := a.revision, a.faults, a.grants
		a.mu.Unlock()
		if revision >= newest || len(faults) > 0 {
			for _, f := range faults[:min(len(faults), 10)] {
				t.Error(f)
			}
			return grants
		}
		select {
		case <-a.moved:
		case <-a.done:
			t.Fatal("the audit's watch has ended")
		}
	}
}
