package etcd

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Who begins again with a place that it still has knows who is before it, and writes nothing.
// A fleet that comes back to its etcd would otherwise look through the whole queue once for
// each of its machines.
func TestComingBackIsCheap(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Embedded)
	client := srv.Client(t)
	waiter := func(machine string) (*attempt, clientv3.LeaseID) {
		s := dial(t, srv.Endpoint)
		req := locksmith.Request{Groups: []locksmith.Group{"a", "b"}, MachineID: machine, Priority: locksmith.DefaultPriority, By: locksmith.ByAgent}
		return must(s.newAttempt(req, true, nil))(t), must(s.keep.get(t.Context()))(t).id
	}
	join := func(a *attempt, id clientv3.LeaseID) []predecessor {
		t.Helper()
		ahead, _, err := a.join(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return ahead
	}
	before, lease := waiter("m1")
	join(before, lease)
	a, lease := waiter("m2")
	first := join(a, lease)
	place := a.place
	for i, g := range a.groups {
		if want := queueKey(g, a.priority, "m1"); string(first[i].key) != want || first[i].rev != before.place {
			t.Fatalf("before m2 stands %s since %d, want %s since %d", first[i].key, first[i].rev, want, before.place)
		}
	}
	written := func() int64 {
		return must(client.Get(t.Context(), queueKey("a", a.priority, "m2")))(t).Kvs[0].Version
	}
	again := join(a, lease)
	if a.place != place || string(again[0].key) != string(first[0].key) || again[1].rev != first[1].rev {
		t.Errorf("place %d behind %+v, want %d behind %+v", a.place, again, place, first)
	}
	if got := written(); got != 1 {
		t.Errorf("the entry was written %d times", got)
	}
	// Under another lease the entry has to be written, and keeps its place all the same.
	a.store.keep.cur = nil
	other := must(a.store.keep.get(t.Context()))(t).id
	if moved := join(a, other); a.place != place || string(moved[0].key) != string(first[0].key) || written() != 2 {
		t.Errorf("place %d behind %+v, written %d times", a.place, moved, written())
	}
}
