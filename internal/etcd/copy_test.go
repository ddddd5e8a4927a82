package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// filled is a store with some of everything in it, and with a history that has gone
// round more than once.
func filled(t *testing.T) (*etcdtest.Server, *Store) {
	t.Helper()
	srv := etcdtest.Start(t, etcdtest.Embedded)
	s := dial(t, srv.Endpoint)
	ctx := t.Context()
	setMax(t, s, "", 2)
	for i := range historySize + 10 {
		setMax(t, s, "web", 3+i%2)
	}
	for _, m := range []string{"w1", "w2", "a b", "w%2F"} {
		if _, err := s.TryAcquire(ctx, request(strings.ReplaceAll(m, " ", "_"), "web", "")); m == "w1" && err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		g := locksmith.Group("web")
		if err := s.Refuse(ctx, locksmith.HistoryEntry{Group: &g, Time: time.Now(), Actor: "eve", Action: locksmith.ActionRefuse, Outcome: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Pause(ctx, locksmith.Pause{Scope: locksmith.PauseScope{All: true}, By: "test", At: time.Now().Unix(), Reason: "moving"}); err != nil {
		t.Fatal(err)
	}
	cl := srv.Client(t)
	lease, err := cl.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	for key, opts := range map[string][]clientv3.OpOption{
		prefix + "/machines/w1":            {clientv3.WithLease(lease.ID)},
		queueKey("web", 5, "w9"):           {clientv3.WithLease(lease.ID)},
		tailKey("web", 5):                  nil,
		prefix + "/seen/w1":                nil,
		prefix + "/groups/web/of-tomorrow": nil,
	} {
		if _, err := cl.Put(ctx, key, "{}", opts...); err != nil {
			t.Fatal(err)
		}
	}
	return srv, s
}

func nothing(context.Context) error { return nil }

// said is a history without its revisions.
func said(t *testing.T, s *Store, g locksmith.Group) []locksmith.HistoryEntry {
	t.Helper()
	entries, err := s.History(t.Context(), g, 2*historySize)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		entries[i].Revision = 0
	}
	return entries
}

func TestCopy(t *testing.T) {
	_, from := filled(t)
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			srv := etcdtest.Start(t, kind)
			to := dial(t, srv.Endpoint)
			done, err := from.CopyTo(t.Context(), to, "one", func(ctx context.Context) error {
				_, err := from.CopyTo(ctx, to, "two", nothing)
				if err == nil || !strings.Contains(err.Error(), "another restore into this etcd was not finished") {
					t.Errorf("another copy meanwhile: %v", err)
				}
				return nil
			})
			if err != nil || done.Resumed != 0 || done.Keys < historySize+10 {
				t.Fatalf("%+v, %v", done, err)
			}
			for _, g := range []locksmith.Group{"", "web"} {
				a, b := checkStatus(t, from, g), checkStatus(t, to, g)
				if diff := cmp.Diff(a, b); diff != "" {
					t.Errorf("group %q: %s", g, diff)
				}
				if diff := cmp.Diff(said(t, from, g), said(t, to, g)); diff != "" {
					t.Errorf("history of %q: %s", g, diff)
				}
			}
			cl := srv.Client(t)
			for key, want := range map[string]int64{prefix + "/machines/": 0, prefix + "/groups/web/queue/": 0, prefix + "/groups/web/tail/": 0,
				prefix + "/seen/w1": 1, prefix + "/groups/web/of-tomorrow": 1, copyMarker: 0} {
				if resp, err := cl.Get(t.Context(), key, clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || resp.Count != want {
					t.Errorf("%s: %d keys, %v; want %d", key, resp.Count, err, want)
				}
			}

			// The next change takes the place of the oldest entry, and of no other.
			before := said(t, to, "web")
			setMax(t, to, "web", 9)
			after := said(t, to, "web")
			if diff := cmp.Diff(before[:len(before)-1], after[1:]); diff != "" {
				t.Errorf("after a change: %s", diff)
			}
			refusals, err := to.Refusals(t.Context(), 10)
			if err != nil || len(refusals) != 5 || refusals[0].Outcome != "4" {
				t.Errorf("refusals %+v, %v", refusals, err)
			}
			if _, err := from.CopyTo(t.Context(), to, "one", nothing); err == nil || !strings.Contains(err.Error(), "locksmith has data in that etcd already (coreos.com/") {
				t.Errorf("a second copy: %v", err)
			}
		})
	}
}

func checkStatus(t *testing.T, s *Store, g locksmith.Group) locksmith.GroupStatus {
	t.Helper()
	st, err := s.Status(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	st.Revision, st.Queue = 0, nil
	for i := range st.Holders {
		st.Holders[i].Present, st.Holders[i].Seen = false, time.Time{} // presences stay behind
	}
	return st
}

// What was cut off anywhere goes on where it was, and ends the same.
func TestCopyGoesOn(t *testing.T) {
	_, from := filled(t)
	srv := etcdtest.Start(t, etcdtest.Embedded)
	to := dial(t, srv.Endpoint)
	broken := errors.New("broken")
	if _, err := from.CopyTo(t.Context(), to, "one", func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	var whole [sha256.Size]byte
	sum := func() [sha256.Size]byte {
		var all strings.Builder
		if _, err := to.pages(t.Context(), prefix+"/", 0, func(kv *mvccpb.KeyValue) {
			if string(kv.Key) != copyMarker {
				fmt.Fprintf(&all, "%s=%s\n", kv.Key, kv.Value)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256([]byte(all.String()))
	}
	whole = sum()
	for _, writes := range []int{0, 1, 2, 7} {
		if _, err := srv.Client(t).Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		plan, err := from.copyPlan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := &copying{store: to, plan: plan, doc: markerDoc{Source: "one", Nonce: "first"}}
		if err := c.claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range writes {
			if err := c.next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		done, err := from.CopyTo(t.Context(), to, "one", nothing)
		if err != nil || done.Resumed != c.doc.Done || (writes > 0) != (done.Resumed > 0) {
			t.Errorf("after %d writes: %+v, %v; %d were done", writes, done, err, c.doc.Done)
		}
		if sum() != whole {
			t.Errorf("after %d writes the copy is another one", writes)
		}
		if err := c.next(t.Context()); err == nil {
			t.Error("the first one still writes")
		}
	}
}

func TestCopyMeetsSomebodyElse(t *testing.T) {
	_, from := filled(t)
	srv := etcdtest.Start(t, etcdtest.Embedded)
	to := dial(t, srv.Endpoint)
	plan, err := from.copyPlan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &copying{store: to, plan: plan, doc: markerDoc{Source: "one", Nonce: "n"}}
	if err := c.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	setMax(t, to, "web", 7) // an agent or a server that came too early
	if _, err := from.CopyTo(t.Context(), to, "one", nothing); err == nil || !strings.Contains(err.Error(), "somebody else has written coreos.com/updateengine/rebootlock/groups/web/semaphore meanwhile") {
		t.Errorf("%v", err)
	}
	if st := checkStatus(t, to, "web"); st.Sem.Max != 7 {
		t.Error("what somebody else wrote was overwritten")
	}
}

func TestCopyOverLostReplies(t *testing.T) {
	_, from := filled(t)
	srv := etcdtest.Start(t, etcdtest.Embedded)
	proxy := etcdtest.NewProxy(t, srv.Address())
	to := dial(t, proxy.Endpoint, func(c *Config) { c.Timeout = 10 * time.Second })
	plan, err := from.copyPlan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &copying{store: to, plan: plan, doc: markerDoc{Source: "one", Nonce: "n"}}
	if err := c.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	cl := srv.Client(t)
	watch := cl.Watch(t.Context(), copyMarker, clientv3.WithCreatedNotify())
	<-watch
	proxy.SwallowReplies()
	result := make(chan error, 1)
	go func() { result <- c.next(t.Context()) }()
	<-watch // it was carried out, and nobody heard
	proxy.Cut()
	if err := <-result; err != nil || c.doc.Done == 0 {
		t.Errorf("%v after %d keys", err, c.doc.Done)
	}
	for c.doc.Done < len(plan) {
		if err := c.next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.verify(t.Context()); err != nil {
		t.Error(err)
	}
}
