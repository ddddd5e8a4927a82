package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Fifty clients, each with a connection of its own, lock at once.
func TestFiftyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, max := range []int{50, 2} {
			t.Run(fmt.Sprint(max), func(t *testing.T) {
				g := newGroup(t)
				admin := dial(t, srv.Endpoint)
				setMax(t, admin, g, max)
				errs := make([]error, 50)
				var wg sync.WaitGroup
				start := make(chan struct{})
				for i := range errs {
					s := dial(t, srv.Endpoint)
					wg.Go(func() {
						<-start
						_, errs[i] = s.TryAcquire(t.Context(), request(fmt.Sprintf("m%02d", i), g))
					})
				}
				close(start)
				wg.Wait()
				granted := 0
				for _, err := range errs {
					var full *locksmith.FullError
					switch {
					case err == nil:
						granted++
					case !errors.As(err, &full) || full.Semaphore != 0:
						t.Error(err)
					}
				}
				if granted != max {
					t.Errorf("%d granted, want %d", granted, max)
				}
				checkGroup(t, admin, g, max, max)
			})
		}
	})
}

func TestStoredDocuments(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		rawDelete(t, srv, prefix)
		s := dial(t, srv.Endpoint)
		read := func() locksmith.Semaphore {
			sem, faults, err := s.Semaphore(t.Context(), "")
			if err != nil || len(faults) > 0 {
				t.Fatal(err, faults)
			}
			return sem
		}
		if diff := cmp.Diff(locksmith.NewSemaphore(), read()); diff != "" {
			t.Error(diff)
		}
		if got := rawGet(t, srv, prefix+"/semaphore"); got != "" {
			t.Errorf("reading created %s", got)
		}
		req := request("b", "")
		req.Hostname, req.BootID, req.Reason = "host", "boot", "because"
		slots := must(s.TryAcquire(t.Context(), req))(t)
		if got, want := rawGet(t, srv, prefix+"/semaphore"), `{"semaphore":0,"max":1,"holders":["b"]}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		record := rawGet(t, srv, prefix+"/holders/b")
		if !strings.HasPrefix(record, `{"machineID":"b","startTime":`) {
			t.Errorf("record %s", record)
		}
		if _, err := s.TryAcquire(t.Context(), req); !errors.Is(err, locksmith.ErrHolderExists) {
			t.Errorf("second lock of a full semaphore's holder: %v, want %v", err, locksmith.ErrHolderExists)
		}
		if _, err := s.TryAcquire(t.Context(), request("c", "")); err == nil || err.Error() != "semaphore is at 0" {
			t.Errorf("lock of a full semaphore: %v", err)
		}
		setMax(t, s, "", 3)
		if err := s.Release(t.Context(), slots, locksmith.Result{Outcome: "rebooted", Down: 1500 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if got, want := rawGet(t, srv, prefix+"/semaphore"), `{"semaphore":3,"max":3,"holders":[]}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		if got := rawGet(t, srv, prefix+"/holders/b"); got != "" {
			t.Errorf("record left: %s", got)
		}
		h := must(s.History(t.Context(), "", 10))(t)
		var actions []string
		for _, e := range h {
			actions = append(actions, fmt.Sprintf("%s %s %q", e.Action, e.Machine, e.Outcome))
		}
		if diff := cmp.Diff([]string{`unlock b "rebooted"`, `set-max  "max 1 -> 3"`, `lock b "because"`}, actions); diff != "" {
			t.Error(diff)
		}
		if h[0].Down != 1500*time.Millisecond || h[0].Hostname != "host" || h[0].Actor != locksmith.ByAgent {
			t.Errorf("history: %+v", h[0])
		}
	})
}

func TestHistoryIsARing(t *testing.T) {
	s := dial(t, server(t, etcdtest.Embedded).Endpoint)
	g := newGroup(t)
	for i := range historySize + 10 {
		setMax(t, s, g, i)
	}
	h := must(s.History(t.Context(), g, 5000))(t)
	if len(h) != historySize {
		t.Fatalf("%d entries, want %d", len(h), historySize)
	}
	for i, e := range h {
		if want := fmt.Sprintf("max %d -> %d", historySize+8-i, historySize+9-i); e.Outcome != want {
			t.Fatalf("entry %d is %q, want %q", i, e.Outcome, want)
		}
	}
}

func TestDamagedDocuments(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s := dial(t, srv.Endpoint)
		unreadable := []string{``, `x`, `[]`, `{}`, `{"max":1}`, `{"semaphore":1,"max":"1","holders":[]}`, `{"semaphore":1,"max":1,"holders":[1]}`,
			`{"semaphore":1,"max":1,"holders":[]} x`, `{"semaphore":1,"max":1,"holders":[],"new":1}`, `{"semaphore":0,"max":1,"holders":[""]}`}
		for _, doc := range unreadable {
			g := newGroup(t)
			rawPut(t, srv, semaphoreKey(g), doc)
			var unreadable *locksmith.UnreadableError
			check := func(what string, err error) {
				if !errors.As(err, &unreadable) || unreadable.Key != semaphoreKey(g) {
					t.Errorf("%s of %q: %v", what, doc, err)
				}
			}
			_, _, err := s.Semaphore(t.Context(), g)
			check("read", err)
			_, err = s.TryAcquire(t.Context(), request("a", g))
			check("lock", err)
			_, err = s.Acquire(t.Context(), request("a", g), nil)
			check("acquire", err)
			check("unlock", s.Unlock(t.Context(), g, "a", locksmith.Result{}))
			_, err = s.SetMax(t.Context(), g, 4, "test")
			check("set-max", err)
			if got := rawGet(t, srv, semaphoreKey(g)); got != doc {
				t.Errorf("%q was overwritten with %q", doc, got)
			}
		}
		for _, tt := range []struct{ doc, after, fault string }{
			{`{"semaphore":1,"max":1,"holders":null}`, `{"semaphore":0,"max":1,"holders":["m"]}`, ""},
			{`{"semaphore":7,"max":3,"holders":["a"]}`, `{"semaphore":1,"max":3,"holders":["a","m"]}`, "semaphore is 7, but max 3 less 1 holders is 2"},
			{`{"semaphore":1,"max":4,"holders":["z","a","k"]}`, `{"semaphore":0,"max":4,"holders":["a","k","m","z"]}`, "holders are not sorted"},
			{`{"semaphore":0,"max":3,"holders":["a","a","z"]}`, `{"semaphore":0,"max":3,"holders":["a","m","z"]}`, "a holder is listed twice"},
		} {
			g := newGroup(t)
			rawPut(t, srv, semaphoreKey(g), tt.doc)
			_, faults, err := s.Semaphore(t.Context(), g)
			if err != nil || (tt.fault != "") != (len(faults) > 0) || (len(faults) > 0 && faults[0] != tt.fault) {
				t.Errorf("%s: faults %q, %v", tt.doc, faults, err)
			}
			must(s.TryAcquire(t.Context(), request("m", g)))(t)
			if got := rawGet(t, srv, semaphoreKey(g)); got != tt.after {
				t.Errorf("%s became %s, want %s", tt.doc, got, tt.after)
			}
		}
	})
}

func TestMaxLoweredBelowTheHoldersThenRaised(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		setMax(t, s, g, 3)
		held := make(map[string]locksmith.Slots)
		for _, m := range []string{"a", "b", "c"} {
			held[m] = must(s.TryAcquire(t.Context(), request(m, g)))(t)
		}
		if old := must(s.SetMax(t.Context(), g, 1, "test"))(t); old != 3 {
			t.Errorf("old max %d, want 3", old)
		}
		checkGroup(t, s, g, 3, 1)
		if _, err := s.TryAcquire(t.Context(), request("d", g)); err == nil || err.Error() != "semaphore is at -2" {
			t.Errorf("lock below zero: %v", err)
		}
		w := acquire(t, dial(t, srv.Endpoint), request("d", g))
		awaitQueue(t, s, g, 1)
		for i, m := range []string{"a", "b"} {
			if err := s.Release(t.Context(), held[m], locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
			checkGroup(t, s, g, 2-i, 1)
			if !w.isWaiting() {
				t.Fatal("granted although max holders are left")
			}
		}
		setMax(t, s, g, 2)
		w.granted(t)
		checkGroup(t, s, g, 2, 2)
	})
}

func TestKeyDeletedWhileHeldAndWhileWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("a", g)))(t)
		w := acquire(t, dial(t, srv.Endpoint), request("b", g))
		awaitQueue(t, s, g, 1)
		rawDelete(t, srv, semaphoreKey(g))
		w.granted(t) // the semaphore is new: one slot, free
		st := must(s.Status(t.Context(), g))(t)
		if got := st.Sem.Document(); got != `{"semaphore":0,"max":1,"holders":["b"]}` {
			t.Error(got)
		}
		if _, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); !errors.Is(err, locksmith.ErrSlotLost) {
			t.Errorf("the first holder may reboot: %v", err)
		}
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Errorf("giving back what is gone: %v", err)
		}
	})
}

func TestAdvance(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g, g2 := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("a", g, g2)))(t)
		slots = must(s.Advance(t.Context(), slots, locksmith.PhaseNotifying, "two users"))(t)
		slots = must(s.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""))(t)
		for _, g := range []locksmith.Group{g, g2} {
			if h := must(s.Status(t.Context(), g))(t).Holders[0]; h.Phase != locksmith.PhaseRebooting {
				t.Errorf("%s: phase %s", g, h.Phase)
			}
		}
		if err := s.Unlock(t.Context(), g2, "a", locksmith.Result{Actor: "admin"}); err != nil {
			t.Fatal(err)
		}
		left, err := s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
		if !errors.Is(err, locksmith.ErrSlotLost) || !slices.Equal(left.Groups, []locksmith.Group{g}) {
			t.Errorf("one of two slots is gone: %v, %v is left", err, left.Groups)
		}
		must(s.TryAcquire(t.Context(), request("a", g2)))(t) // a deliberate hold, not ours
		left, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
		if !errors.Is(err, locksmith.ErrSlotLost) || !slices.Equal(left.Groups, []locksmith.Group{g}) {
			t.Errorf("one of two slots is somebody else's: %v, %v is left", err, left.Groups)
		}
		left = must(s.Advance(t.Context(), left, locksmith.PhaseFailed, "unit x is down"))(t)
		if err := s.Release(t.Context(), left, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		checkGroup(t, s, g, 0, 1)
		left, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
		if !errors.Is(err, locksmith.ErrSlotLost) || len(left.Groups) != 0 || left.Record.MachineID != "a" {
			t.Errorf("nothing is held any more: %v, %+v is left", err, left)
		}
		checkGroup(t, s, g2, 1, 1) // not given back: it was not ours
	})
}

func TestUnlock(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		if err := s.Unlock(t.Context(), g, "a", locksmith.Result{}); !errors.Is(err, locksmith.ErrNotHolder) {
			t.Errorf("unlock of nothing: %v", err)
		}
		if got := rawGet(t, srv, semaphoreKey(g)); got != "" {
			t.Errorf("a refused unlock created %s", got)
		}
		// A holder of an old client has no record; one it forgot has no slot.
		rawPut(t, srv, semaphoreKey(g), `{"semaphore":0,"max":1,"holders":["old"]}`)
		rawPut(t, srv, holderKey(g, "gone"), `{"machineID":"gone","startTime":1397496396}`)
		if st := must(s.Status(t.Context(), g))(t); len(st.Faults) != 1 || st.Holders[0].Recorded {
			t.Errorf("%+v", st)
		}
		for _, m := range []string{"old", "gone"} {
			if err := s.Unlock(t.Context(), g, m, locksmith.Result{}); err != nil {
				t.Errorf("unlock %s: %v", m, err)
			}
		}
		checkGroup(t, s, g, 0, 1)
	})
}

func TestFind(t *testing.T) {
	s := dial(t, server(t, etcdtest.Embedded).Endpoint)
	srv := server(t, etcdtest.Embedded)
	a, b, c := newGroup(t), newGroup(t), newGroup(t)
	if slots := must(s.Find(t.Context(), "m", []locksmith.Group{a, b}))(t); len(slots.Groups) != 0 || slots.Record.MachineID != "m" || slots.Record.Nonce != "" {
		t.Errorf("found %+v", slots)
	}
	req := request("m", a, b)
	req.BootID = "boot"
	taken := must(s.TryAcquire(t.Context(), req))(t)
	found := must(s.Find(t.Context(), "m", []locksmith.Group{a, b, c}))(t)
	if diff := cmp.Diff([]locksmith.Group{a, b}, found.Groups); diff != "" || found.Record.Nonce != taken.Record.Nonce || found.Record.BootID != "boot" {
		t.Errorf("found %+v", found)
	}
	// What was found can be advanced and released, as after a restart.
	found = must(s.Advance(t.Context(), found, locksmith.PhaseRebooting, ""))(t)
	if err := s.Release(t.Context(), found, locksmith.Result{}); err != nil {
		t.Fatal(err)
	}
	checkGroup(t, s, a, 0, 1)
	// An administrator took one of two slots away, and holds the machine there since.
	taken = must(s.TryAcquire(t.Context(), request("m", a, b)))(t)
	for _, g := range []locksmith.Group{a, b} {
		if err := s.Unlock(t.Context(), g, "m", locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		hold := request("m", g)
		hold.By = locksmith.ByLock
		must(s.TryAcquire(t.Context(), hold))(t)
		want, by := []locksmith.Group{b}, locksmith.ByAgent
		if g == b { // the other one, too
			want, by = []locksmith.Group{a, b}, locksmith.ByLock
		}
		found = must(s.Find(t.Context(), "m", []locksmith.Group{a, b}))(t)
		if !slices.Equal(found.Groups, want) || found.Record.By != by || (found.Record.Nonce == taken.Record.Nonce) != (g == a) {
			t.Errorf("after the unlock in %s found %+v", g, found)
		}
	}
	rawPut(t, srv, semaphoreKey(c), `{"semaphore":0,"max":1,"holders":["m"]}`)
	old := must(s.Find(t.Context(), "m", []locksmith.Group{c}))(t)
	if len(old.Groups) != 1 || old.Record.Nonce != "" || old.Record.MachineID != "m" {
		t.Errorf("found %+v", old)
	}
	if _, err := s.Advance(t.Context(), old, locksmith.PhaseVerifying, ""); err != nil {
		t.Error(err)
	}
	if err := s.Release(t.Context(), old, locksmith.Result{}); err != nil {
		t.Error(err)
	}
	checkGroup(t, s, c, 0, 1)
}

func TestGroups(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		rawDelete(t, srv, prefix)
		s := dial(t, srv.Endpoint)
		setMax(t, s, "", 2)
		setMax(t, s, "prod/database", 3)
		setMax(t, s, "a b", 1)
		setMax(t, s, "a", 0)
		for i := range 20 { // more keys than one look reads
			must(s.TryAcquire(t.Context(), request(fmt.Sprintf("m%d", i), locksmith.Group("many"))))
			setMax(t, s, "many", i+2)
		}
		must(s.TryAcquire(t.Context(), request("m", "", "prod/database")))(t)
		acquire(t, dial(t, srv.Endpoint), request("w", "a"))
		awaitQueue(t, s, "a", 1)
		rawPut(t, srv, semaphoreKey("broken"), "x")
		var got []string
		for _, g := range must(s.Groups(t.Context()))(t) {
			got = append(got, fmt.Sprintf("%s %d %d %d %v", g.Group, g.Held, g.Max, g.Waiting, g.Err != nil))
		}
		want := []string{"default group 1 2 0 false", "a 0 0 1 false", "a b 0 1 0 false", "broken 0 0 0 true", "many 20 21 0 false", "prod/database 1 3 0 false"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := rawGet(t, srv, prefix+"/groups/prod%2Fdatabase/semaphore"); got != `{"semaphore":2,"max":3,"holders":["m"]}` {
			t.Errorf("key of prod/database: %s", got)
		}
	})
}
