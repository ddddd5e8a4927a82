package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// fleet is two servers on one real etcd, and the machines that ask them.
type fleet struct {
	t     *testing.T
	etcd  *etcdtest.Server
	store *etcd.Store
	addrs [2]string
	http  *http.Client
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, etcd: etcdtest.Start(t, etcdtest.Embedded), http: &http.Client{Timeout: time.Minute}}
	for i := range f.addrs {
		store, err := etcd.Dial(etcd.Config{Endpoints: []string{f.etcd.Endpoint}, Timeout: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		batcher := store.NewBatcher(etcd.BatcherConfig{})
		t.Cleanup(batcher.Close)
		f.store = store
		f.addrs[i], _, _ = serveFleetLock(t, batcher)
	}
	return f
}

// ask is one machine's call to one of the servers.
func (f *fleet) ask(ctx context.Context, server int, call, machine, group string) (told, error) {
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":%q}}`, machine, group)
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+f.addrs[server%2]+"/v1/"+call, strings.NewReader(body))
	if err != nil {
		return told{}, err
	}
	req.Header.Set("fleet-lock-protocol", "true")
	resp, err := f.http.Do(req)
	if err != nil {
		return told{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return told{}, err
	}
	var doc struct{ Kind, Value string }
	err = json.Unmarshal(text, &doc)
	return told{resp.StatusCode, doc.Kind, doc.Value}, err
}

func (f *fleet) must(server int, call, machine, group string, status int) told {
	f.t.Helper()
	a, err := f.ask(f.t.Context(), server, call, machine, group)
	if err != nil || a.status != status {
		f.t.Fatalf("%s of %s: %+v, %v; want %d", call, machine, a, err, status)
	}
	return a
}

func (f *fleet) setMax(group locksmith.Group, n int) {
	f.t.Helper()
	if _, err := f.store.SetMax(f.t.Context(), group, n, "test"); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) status(group locksmith.Group) locksmith.GroupStatus {
	f.t.Helper()
	s, err := f.store.Status(f.t.Context(), group)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// awaitQueue waits until so many wait in a group's queue.
func (f *fleet) awaitQueue(group locksmith.Group, n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	changed := make(chan struct{}, 1)
	go f.store.Follow(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for len(f.status(group).Queue) != n {
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("the queue has %d, want %d", len(f.status(group).Queue), n)
		}
	}
}

func TestFleetLockOnEtcd(t *testing.T) {
	f := newFleet(t)
	t.Run("unknown group", func(t *testing.T) {
		before := f.status("").Revision
		if a := f.must(0, "pre-reboot", "m1", "web", 404); a.kind != "unknown_group" {
			t.Errorf("%+v", a)
		}
		f.must(1, "steady-state", "m1", "web", 404)
		if after := f.status("").Revision; after != before {
			t.Errorf("the store went from revision %d to %d", before, after)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		const n = 300
		f.setMax("web", n)
		for _, call := range []string{"pre-reboot", "pre-reboot", "steady-state", "steady-state"} {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if a, err := f.ask(t.Context(), i, call, fmt.Sprint("m", i), "web"); err != nil || a.status != 200 {
						t.Errorf("%s: %+v, %v", call, a, err)
					}
				})
			}
			wg.Wait()
			want := n
			if call == "steady-state" {
				want = 0
			}
			if held := len(f.status("web").Holders); held != want {
				t.Errorf("after %s %d slots are held, want %d", call, held, want)
			}
		}
	})
	t.Run("a record of it", func(t *testing.T) {
		f.setMax("", 1)
		f.must(0, "pre-reboot", "m1", "default", 200)
		h := f.status("").Holders
		if len(h) != 1 || h[0].MachineID != "m1" || h[0].By != locksmith.ByFleetLock || h[0].Address != "127.0.0.1" || h[0].StartTime == 0 {
			t.Errorf("holders %+v", h)
		}
		f.must(1, "steady-state", "m1", "default", 200)
		entries, err := f.store.History(t.Context(), "", 1)
		if err != nil || len(entries) != 1 || entries[0].Actor != "fleetlock@127.0.0.1" || entries[0].Action != locksmith.ActionUnlock {
			t.Errorf("history %+v, %v", entries, err)
		}
	})
	t.Run("waiting", func(t *testing.T) {
		f.setMax("db", 1)
		f.must(0, "pre-reboot", "first", "db", 200)
		granted := make(chan error, 1)
		go func() {
			a, err := f.ask(t.Context(), 0, "pre-reboot", "second", "db")
			if err == nil && a.status != 200 {
				err = fmt.Errorf("%+v", a)
			}
			granted <- err
		}()
		f.awaitQueue("db", 1)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := f.ask(ctx, 1, "pre-reboot", "third", "db")
			left <- err
		}()
		f.awaitQueue("db", 2)
		leave()
		if err := <-left; err == nil {
			t.Error("who leaves got an answer")
		}
		f.awaitQueue("db", 1)
		began := time.Now()
		f.must(1, "steady-state", "first", "db", 200)
		if err := <-granted; err != nil {
			t.Error(err)
		}
		t.Logf("handed over within %v", time.Since(began))
		if h := f.status("db").Holders; len(h) != 1 || h[0].MachineID != "second" {
			t.Errorf("holders %+v", h)
		}
	})
	t.Run("etcd away", func(t *testing.T) {
		f.etcd.Stop()
		for _, call := range []string{"pre-reboot", "steady-state"} {
			began := time.Now()
			if a := f.must(0, call, "m1", "web", 503); a.kind != "store_unavailable" {
				t.Errorf("%+v", a)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("answered after %v", took)
			}
		}
		if err := f.etcd.Restart(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for {
			a, err := f.ask(t.Context(), 0, "steady-state", "m1", "web")
			if err == nil && a.status == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("still %+v, %v", a, err)
			}
		}
	})
}
