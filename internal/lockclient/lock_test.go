package lockclient_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

var _ agent.Lock = (*lockclient.Lock)(nil)

// From the first boot over the reboot to the slot given back.
func TestCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		l := m.open(s)
		if slots := m.find(l); len(slots.Groups) != 0 {
			t.Errorf("a new machine holds %+v", slots)
		}
		s.expectRequests("0s steady-state")
		m.find(l) // known since
		s.expectRequests()
		time.Sleep(time.Minute)
		slots := m.acquire(l, "boot-1")
		m.expectFile("held")
		s.expectHeld("web/id")
		want := locksmith.Holder{
			MachineID: "m", StartTime: time.Now().Unix(), BootID: "boot-1", Hostname: "web-1", Groups: groups,
			Phase: locksmith.PhaseAcquired, PhaseTime: time.Now().Unix(), Reason: "new kernel", By: locksmith.ByAgent, Nonce: slots.Record.Nonce,
		}
		if diff := cmp.Diff(locksmith.Slots{Groups: groups, Record: want}, slots); diff != "" || len(want.Nonce) != 32 {
			t.Error(diff)
		}
		time.Sleep(time.Minute)
		slots, err := l.Advance(t.Context(), slots, locksmith.PhaseNotifying, "for people")
		s.expectRequests("1m0s pre-reboot")
		if err != nil || slots.Record.Phase != locksmith.PhaseNotifying || slots.Record.Reason != "for people" || slots.Record.PhaseTime != time.Now().Unix() {
			t.Errorf("%+v, %v", slots, err)
		}
		if slots, err = l.Advance(t.Context(), slots, locksmith.PhaseRebooting, "new kernel"); err != nil {
			t.Fatal(err)
		}
		s.expectRequests("2m0s pre-reboot")

		again := m.open(s) // after the reboot
		found := m.find(again)
		if diff := cmp.Diff(slots, found); diff != "" {
			t.Errorf("after the reboot (-before +found): %s", diff)
		}
		if h := again.Held(); h == nil || !cmp.Equal(*h, found.Record) {
			t.Errorf("held is %+v", h)
		}
		s.expectRequests()
		m.release(again, found)
		s.expectRequests("2m0s steady-state")
		s.expectHeld()
		m.expectFile("")
		if again.Held() != nil {
			t.Error("held after it was given back")
		}
	})
}

// A server that is away, or that has no such group, keeps Find from its answer and
// nothing else.
func TestFindUntilTheServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.take("web/id") // of an installation that is gone
		s.away = errors.New("no route to host")
		l := m.open(s)
		_, err := l.Find(t.Context(), "m", groups)
		if want := `the FleetLock server https://server:1: no route to host`; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		s.away, s.refuse = nil, &fleetlock.Error{Kind: fleetlock.KindNoGroup, Value: "create it"}
		_, err = l.Find(t.Context(), "m", groups)
		if want := "the FleetLock server refuses this machine: 404 unknown_group: create it"; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		s.expectHeld("web/id")
		s.refuse = nil
		m.find(l)
		s.expectHeld()

		s.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		l = m.open(s)
		_, err = l.Find(t.Context(), "m", groups)
		if err == nil || err.Error() != "the FleetLock server https://server:1: no answer within 30s" {
			t.Errorf("got %v", err)
		}
	})
}

// Who else holds the machine's slot has to give it back; that is no reason to wait.
func TestHeldBySomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.refuse = &fleetlock.Error{Kind: fleetlock.KindHeld, Value: "by locksmithctl lock"}
		l := m.open(s)
		if slots := m.find(l); len(slots.Groups) > 0 {
			t.Errorf("found %+v", slots)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var said []string
		_, err := l.Acquire(ctx, request("b"), func(text string) { said = append(said, text) })
		if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(said, []string{"somebody else holds this machine's slot: by locksmithctl lock"}) {
			t.Errorf("%v, said %q", err, said)
		}
		m.expectFile("")
	})
}

// At each moment the process may die. The next one gives back what may have been granted,
// and goes on with what was.
func TestCrashes(t *testing.T) {
	crash := func(t *testing.T, s *server, m *machine, call string, carriedOut bool, do func(*lockclient.Lock)) {
		l := m.open(s)
		var file string
		s.change(func() {
			note := func(c string) {
				if c == call {
					file = m.file()
				}
			}
			if carriedOut {
				s.after = func(c string) bool { note(c); return false }
			} else {
				s.before = note
			}
		})
		do(l)
		s.change(func() { s.before, s.after = nil, nil })
		if file == "" {
			t.Fatalf("no %s", call)
		}
		if err := os.WriteFile(m.path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acquire := func(m *machine) func(l *lockclient.Lock) {
		return func(l *lockclient.Lock) { m.acquire(l, "boot-1") }
	}
	for _, carriedOut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(t), newMachine(t)
			crash(t, s, m, "pre-reboot", carriedOut, acquire(m))
			m.expectFile("asking")
			if slots := m.find(m.open(s)); len(slots.Groups) != 0 {
				t.Errorf("found %+v", slots)
			}
			s.expectHeld()
			m.expectFile("")
		})
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(t), newMachine(t)
			acquire(m)(m.open(s))
			crash(t, s, m, "steady-state", carriedOut, func(l *lockclient.Lock) { m.release(l, m.find(l)) })
			m.expectFile("held")
			l := m.open(s)
			slots := m.find(l)
			if len(slots.Groups) != 1 {
				t.Errorf("found %+v", slots)
			}
			m.release(l, slots)
			s.expectHeld()
			m.expectFile("")
		})
	}
}

// A copy of the disk must not give back the slot of the machine it was copied from.
func TestCopiedDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		m.acquire(m.open(s), "boot-1")
		s.requests()
		l := m.open(s, func(c *lockclient.Config) { c.ID = "copy" })
		slots, err := l.Find(t.Context(), "another", groups)
		if err != nil || len(slots.Groups) != 0 {
			t.Errorf("%+v, %v", slots, err)
		}
		s.expectHeld("web/id")
		s.expectRequests("0s steady-state") // its own
		m.expectFile("")
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet-lock.json")
	good := lockclient.Config{Client: &fleetlock.Client{URL: "https://server"}, ID: "id", Path: path}
	for _, tt := range []struct {
		change func(*lockclient.Config)
		want   string
	}{
		{func(c *lockclient.Config) { c.Client = nil }, "Client and Path are required"},
		{func(c *lockclient.Config) { c.Client = &fleetlock.Client{URL: "server"} }, `invalid URL "server"`},
		{func(c *lockclient.Config) { c.ID = "" }, "id is empty"},
		{func(c *lockclient.Config) { c.Group = "a_b" }, `group "a_b" is no group's name`},
		{func(c *lockclient.Config) { c.Path = filepath.Join(path, "x") }, "making the directory"},
	} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := good
		tt.change(&cfg)
		if _, err := lockclient.Open(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	for _, text := range []string{"", "null", "{}", "[]", "{", "\x00"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := lockclient.Open(good)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%q was touched", text)
		}
	}
}

// A Lock is for one group.
func TestOtherGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		l := m.open(s)
		for _, groups := range [][]locksmith.Group{nil, {"db"}, {"db", "web"}} {
			req := request("b")
			req.Groups = groups
			_, found := l.Find(t.Context(), "m", groups)
			_, acquired := l.Acquire(t.Context(), req, nil)
			if found == nil || acquired == nil {
				t.Errorf("%v: %v, %v", groups, found, acquired)
			}
		}
		s.expectRequests()
	})
}

// The group without a name has one at the server.
func TestDefaultGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, want := range map[string]string{"": "default/id", "all": "all/id"} {
			s, m := newServer(t), newMachine(t)
			l := m.open(s, func(c *lockclient.Config) { c.Group, c.DefaultGroup = "", name })
			req := request("b")
			req.Groups = []locksmith.Group{""}
			if _, err := l.Acquire(t.Context(), req, nil); err != nil {
				t.Fatal(err)
			}
			s.expectHeld(want)
			if got := l.Place(); got != "the FleetLock server https://server:1, in its group "+strings.TrimSuffix(want, "/id")+" as id" {
				t.Errorf("place is %s", got)
			}
		}
	})
}

func TestFollowPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMachine(t).open(newServer(t))
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Hour, func() { cancel(enough) })
		err := l.FollowPauses(ctx, "m", groups, func([]locksmith.Pause) { t.Error("told of pauses") })
		if !errors.Is(err, enough) {
			t.Error(err)
		}
	})
}
