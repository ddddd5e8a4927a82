package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

func TestPolicyDocuments(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		key := policyKey(ofGroup(g))
		pauseGroup(t, s, g)
		resume(t, s, ofGroup(g))
		if got := rawGet(t, srv, key); got != "" {
			t.Errorf("an empty policy is left: %s", got)
		}
		rawPut(t, srv, key, `{"windows":["Sat 23:00 4h"],"n":12345678901234567890,"pause":{"by":"x","at":1,"reason":"y"}}`)
		p := locksmith.Pause{Scope: ofGroup(g), By: "alice", At: 7, Until: 4000000000, Reason: "new"}
		if err := s.Pause(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		want := `{"n":12345678901234567890,"pause":{"by":"alice","at":7,"until":4000000000,"reason":"new"},"windows":["Sat 23:00 4h"]}`
		if got := rawGet(t, srv, key); got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		if diff := cmp.Diff([]locksmith.Pause{p}, must(s.Status(t.Context(), g))(t).Pauses); diff != "" {
			t.Error(diff)
		}
		resume(t, s, ofGroup(g))
		if got, want := rawGet(t, srv, key), `{"n":12345678901234567890,"windows":["Sat 23:00 4h"]}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		for _, doc := range []string{``, `x`, `null`, `[]`, `{"pause":1}`, `{"pause":{"until":"tomorrow"}}`, `{"pause":{"until":-1}}`, `{} x`} {
			rawPut(t, srv, key, doc)
			var unreadable *locksmith.UnreadableError
			if err := s.Pause(t.Context(), p); !errors.As(err, &unreadable) || unreadable.Key != key {
				t.Errorf("pause over %q: %v", doc, err)
			}
			if err := s.Resume(t.Context(), ofGroup(g), "bob"); !errors.As(err, &unreadable) {
				t.Errorf("resume of %q: %v", doc, err)
			}
			if _, err := s.TryAcquire(t.Context(), request("m", g)); !isPaused(err, ofGroup(g)) || !strings.Contains(err.Error(), key) {
				t.Errorf("lock with %q: %v", doc, err)
			}
			if got := rawGet(t, srv, key); got != doc {
				t.Errorf("%q was overwritten with %q", doc, got)
			}
		}
		rawPut(t, srv, key, `{"pause":null}`)
		must(s.TryAcquire(t.Context(), request("m", g)))(t)
	})
}

func TestPauseIsChecked(t *testing.T) {
	s := dial(t, refusing(t)) // refused before etcd is called
	long := strings.Repeat("x", maxReason+1)
	for want, p := range map[string]locksmith.Pause{
		"needs a reason":             {},
		"501 bytes long":             {Reason: long},
		"one line":                   {Reason: "a\nb"},
		"would be over already":      {Reason: "a", Until: time.Now().Unix()},
		"would be over":              {Reason: "a", Until: -1},
		"one group or one machine":   {Reason: "a", Scope: locksmith.PauseScope{All: true, Machine: "m"}},
		"choose one of them":         {Reason: "a", Scope: locksmith.PauseScope{Group: "g", Machine: "m"}},
		"invalid machine id":         {Reason: "a", Scope: locksmith.PauseScope{Machine: "a b"}},
		"choose a name other than .": {Reason: "a", Scope: locksmith.PauseScope{Group: ".."}},
	} {
		if err := s.Pause(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", p, err, want)
		}
	}
}

// Who paused and resumed what stands in the history, and where pauses are listed.
func TestPausesAreListedAndRecorded(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		rawDelete(t, srv, prefix)
		s := dial(t, srv.Endpoint)
		setMax(t, s, "old", 3)
		setMax(t, s, "machine's", 2)
		rawPut(t, srv, semaphoreKey("broken"), "x")
		rawPut(t, srv, seenKey("m1"), `{"machineID":"m1","hostname":"web-1","groups":["machine's","never written"]}`)
		for _, scope := range []locksmith.PauseScope{{Group: "new"}, {Group: "broken"}, {All: true}, {Machine: "m1"}, {Machine: "nobody"}} {
			if err := s.Pause(t.Context(), locksmith.Pause{Scope: scope, By: "alice", At: 5, Reason: "of " + scope.String()}); err != nil {
				t.Errorf("%s: %v", scope, err)
			}
		}
		var listed []string
		for _, p := range must(s.Pauses(t.Context()))(t) {
			listed = append(listed, p.String())
		}
		want := []string{"all groups paused by alice: of all groups", "group broken paused by alice: of group broken", "group new paused by alice: of group new",
			"machine m1 paused by alice: of machine m1", "machine nobody paused by alice: of machine nobody"}
		if diff := cmp.Diff(want, listed); diff != "" {
			t.Error(diff)
		}
		for _, g := range must(s.Groups(t.Context()))(t) {
			if !g.Paused {
				t.Errorf("%s is not paused", g.Group)
			}
		}
		resume(t, s, locksmith.PauseScope{All: true})
		var paused []string
		for _, g := range must(s.Groups(t.Context()))(t) {
			if g.Paused {
				paused = append(paused, string(g.Group))
			}
		}
		if diff := cmp.Diff([]string{"broken", "new"}, paused); diff != "" {
			t.Error(diff)
		}
		resume(t, s, locksmith.PauseScope{Machine: "m1"})
		resume(t, s, ofGroup("new"))
		for g, want := range map[locksmith.Group][]string{
			"old":       {`resume  by bob "of all groups"`, `pause  by alice "of all groups"`, `set-max  by test "max 3"`},
			"machine's": {`resume m1 by bob "of machine m1"`, `resume  by bob "of all groups"`, `pause m1 by alice "of machine m1"`, `pause  by alice "of all groups"`, `set-max  by test "max 2"`},
			"new":       {`resume  by bob "of group new"`, `resume  by bob "of all groups"`, `pause  by alice "of all groups"`, `pause  by alice "of group new"`},
			"broken":    nil, "never written": nil, "": nil,
		} {
			var got []string
			for _, e := range must(s.History(t.Context(), g, 10))(t) {
				got = append(got, fmt.Sprintf("%s %s by %s %q", e.Action, e.Machine, e.Actor, e.Outcome))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("group %q: %s", g, diff)
			}
		}
		if got, want := rawGet(t, srv, semaphoreKey("new")), `{"semaphore":1,"max":1,"holders":[]}`; got != want {
			t.Errorf("semaphore of a group that was paused first: %s", got)
		}
		if got := rawGet(t, srv, semaphoreKey("old")); got != `{"semaphore":3,"max":3,"holders":[]}` {
			t.Errorf("a pause changed the semaphore: %s", got)
		}
		if err := s.Resume(t.Context(), ofGroup("new"), "bob"); !errors.Is(err, locksmith.ErrNotPaused) || err.Error() != "group new: not paused" {
			t.Errorf("resumed twice: %v", err)
		}
	})
}

// Whoever follows pauses is told at once, then of each change, also of those while
// etcd was away.
func TestFollowPauses(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv := etcdtest.Start(t, kind)
			s, g := dial(t, srv.Endpoint), newGroup(t)
			heard := make(chan []locksmith.Pause, 100)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- dial(t, srv.Endpoint).FollowPauses(ctx, "m", []locksmith.Group{g}, func(p []locksmith.Pause) { heard <- p })
			}()
			expect := func(scopes ...locksmith.PauseScope) {
				t.Helper()
				select {
				case pauses := <-heard:
					if err := (&locksmith.PausedError{Pauses: pauses}); !isPaused(err, scopes...) {
						t.Fatalf("heard %v, want %v", err, scopes)
					}
				case <-time.After(30 * time.Second):
					t.Fatalf("nothing heard, want %v", scopes)
				}
			}
			all, machine := locksmith.PauseScope{All: true}, locksmith.PauseScope{Machine: "m"}
			expect()
			pauseGroup(t, s, g)
			expect(ofGroup(g))
			for _, scope := range []locksmith.PauseScope{machine, {Machine: "other"}, {Group: "other"}} {
				if err := s.Pause(t.Context(), locksmith.Pause{Scope: scope, Reason: "no"}); err != nil {
					t.Fatal(err)
				}
			}
			expect(ofGroup(g), machine)
			resume(t, s, machine)
			expect(ofGroup(g))
			srv.Stop()
			if err := srv.Restart(); err != nil {
				t.Fatal(err)
			}
			// Finding the server again may take longer than a short pause lasts.
			for _, ends := range []bool{false, true} {
				p := locksmith.Pause{Scope: all, Reason: "no"}
				if ends {
					p.Until = time.Now().Unix() + 3
				}
				if err := s.Pause(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				expect(ofGroup(g), all)
			}
			expect(ofGroup(g)) // by itself
			rawPut(t, srv, policyKey(all), "x")
			expect(ofGroup(g), all)
			cancel(errStopped)
			if err := <-done; !errors.Is(err, errStopped) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
