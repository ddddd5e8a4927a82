package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

func start(t *testing.T, cfg fleet.Config) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// onceEach checks that every machine but those named rebooted exactly once.
func onceEach(t *testing.T, r fleet.Report, but ...string) {
	t.Helper()
	for _, m := range r.Machines {
		if got := m.RebootedOnce(); got == slices.Contains(but, m.Machine) {
			t.Errorf("%s: rebooted once and came back is %v: %+v", m.Machine, got, m)
		}
	}
}

func TestOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		began := time.Now()
		f := start(t, fleet.Config{Machines: 5, NewLock: lock.connect, Down: 3 * time.Second})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := f.Report()
		onceEach(t, r)
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("five reboots of 3s, one at a time, took %v", took)
		}
		if got := r.MaxDown(""); got != 1 {
			t.Errorf("%d were down at once", got)
		}
		if got := r.Exceeded(map[locksmith.Group]int{"": 1}); len(got) != 0 {
			t.Errorf("exceeded: %+v", got)
		}
		byGrant := slices.Clone(r.Machines)
		slices.SortFunc(byGrant, func(a, b fleet.Record) int { return a.Granted.Compare(b.Granted) })
		var order []string
		for i, m := range byGrant {
			order = append(order, m.Machine)
			if want := time.Duration(i) * 3 * time.Second; m.Waited(time.Now()) != want {
				t.Errorf("%s waited %v as number %d, want %v", m.Machine, m.Waited(time.Now()), i, want)
			}
			if got := m.Down(time.Now()); got != 3*time.Second {
				t.Errorf("%s was down for %v", m.Machine, got)
			}
		}
		if diff := cmp.Diff(lock.granted, order); diff != "" {
			t.Errorf("order of grants (-lock +observed):\n%s", diff)
		}
		if len(lock.held) != 0 || lock.open != 0 {
			t.Errorf("left behind: held %v, %d connections open", lock.held, lock.open)
		}
	})
}

func TestGroupsOfDifferentSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := map[locksmith.Group]int{"rack": 4, "db": 1, "web": 3}
		lock := newMemory(allowed)
		f := start(t, fleet.Config{
			Machines: 30, NewLock: lock.connect, Down: time.Second, Jitter: time.Second,
			Groups: func(i int) []locksmith.Group {
				if i < 5 {
					return []locksmith.Group{"db", "rack"}
				}
				return []locksmith.Group{"rack", "web"}
			},
		})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := f.Report()
		onceEach(t, r)
		if got := r.Exceeded(allowed); len(got) != 0 {
			t.Errorf("exceeded: %+v", got)
		}
		for g, n := range allowed {
			if got := r.MaxDown(g); got != n {
				t.Errorf("%s: at most %d were down, although %d may be and more want to", g, got, n)
			}
		}
		for _, m := range r.Machines {
			if d := m.Down(time.Now()); d < time.Second || d > 2*time.Second {
				t.Errorf("%s was down for %v, want 1s to 2s", m.Machine, d)
			}
		}
	})
}

func TestManyMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 20})
		f := start(t, fleet.Config{Machines: 400, NewLock: lock.connect, Down: time.Second})
		began := time.Now()
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		onceEach(t, f.Report())
		if got := f.Report().MaxDown(""); got != 20 || time.Since(began) != 20*time.Second {
			t.Errorf("at most %d down, done after %v; want 20 and 20s", got, time.Since(began))
		}
	})
}

func TestBrokenLockIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(nil)
		lock.evil = true
		f := start(t, fleet.Config{Machines: 3, NewLock: lock.connect, Down: time.Second})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := f.Report().Exceeded(map[locksmith.Group]int{"": 2})
		if len(got) != 1 || got[0].Down != 3 || len(got[0].Machines) != 3 {
			t.Errorf("three were down at once, reported is %+v", got)
		}
	})
}

func TestLostMachineKeepsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		ctx, cancel := context.WithCancel(t.Context())
		f := start(t, fleet.Config{
			Machines: 4, NewLock: lock.connect, Down: time.Second,
			Name: func(i int) string { return fmt.Sprintf("host-%d", i) },
			Lost: func(i int) bool { return i == 2 },
		})
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		if got := lock.holders(); !slices.Equal(got, []string{"host-2"}) {
			t.Fatalf("after a day the slot is held by %v", got)
		}
		if lock.isPresent("host-2") {
			t.Error("the lost machine is present")
		}
		lock.unlock("host-2")
		time.Sleep(time.Minute)
		onceEach(t, f.Report(), "host-2")
		if got := f.Report().Machines[2]; got.Boots != 1 || got.Down(time.Now()) < 24*time.Hour {
			t.Errorf("the lost machine: %+v", got)
		}
		if got := lock.holders(); got != nil {
			t.Errorf("held by %v", got)
		}
		// It stays down, so the second one was down together with it. The
		// administrator asked for that.
		if got := f.Report().MaxDown(""); got > 2 {
			t.Errorf("%d down at once", got)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestStopInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		f := start(t, fleet.Config{Machines: 5, NewLock: lock.connect, Down: 10 * time.Second})
		time.AfterFunc(25*time.Second, func() { cancel(stop) })
		if err := f.Run(ctx); !errors.Is(err, stop) {
			t.Fatalf("Run returned %v", err)
		}
		if len(lock.holders()) != 1 || lock.open != 0 || len(lock.waiting) != 0 {
			t.Errorf("held by %v, %d connections open, %d waiting; want one holder and nothing else",
				lock.holders(), lock.open, len(lock.waiting))
		}
		down := 0
		for _, m := range f.Report().Machines {
			if n := len(m.Outages); n > 0 && m.Outages[n-1].To.IsZero() {
				down++
			}
		}
		if down != 1 {
			t.Errorf("%d are down", down)
		}
	})
}

// A slot that was held before the fleet started comes from an earlier one.
func TestSlotOfAnEarlierFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		lock.held["m2"] = locksmith.Slots{Groups: []locksmith.Group{""}, Record: locksmith.Holder{
			MachineID: "m2", BootID: "earlier", By: locksmith.ByAgent, Nonce: "earlier",
		}}
		f := start(t, fleet.Config{Machines: 3, NewLock: lock.connect, Down: time.Second, OnChange: func(s fleet.Status) {
			if s.Agent.Phase == locksmith.PhaseQueued && !s.Granted.IsZero() {
				t.Errorf("%s waits, and counts as granted %v", s.Machine, s.Granted)
			}
		}})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		onceEach(t, f.Report())
		if got := f.Report().MaxDown(""); got != 1 {
			t.Errorf("%d were down at once", got)
		}
		// The grant that counts is the one before the reboot, which follows at once.
		for _, m := range f.Report().Machines {
			if !m.Granted.Equal(m.Outages[0].From) {
				t.Errorf("%s: granted %v, down from %v", m.Machine, m.Granted, m.Outages[0].From)
			}
		}
	})
}

func TestStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 2})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		f := start(t, fleet.Config{Machines: 2, NewLock: lock.connect, Down: time.Second, Stay: true})
		time.AfterFunc(time.Minute, func() {
			if !lock.isPresent("m1") || !lock.isPresent("m2") {
				t.Error("the machines did not stay")
			}
		})
		if err := f.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run returned %v", err)
		}
		onceEach(t, f.Report())
	})
}

// hours is a window that opens an hour after it is made, for an hour.
type hours struct{ opens time.Time }

func (h hours) Contains(t time.Time) bool {
	return !t.Before(h.opens) && t.Before(h.opens.Add(time.Hour))
}

func (h hours) Next(time.Time) (start, end time.Time) { return h.opens, h.opens.Add(time.Hour) }

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		w := hours{time.Now().Add(time.Hour)}
		f := start(t, fleet.Config{Machines: 3, NewLock: lock.connect, Down: time.Second, Window: w})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		onceEach(t, f.Report())
		for _, m := range f.Report().Machines {
			if !w.Contains(m.Outages[0].From) || !w.Contains(m.Granted) {
				t.Errorf("%s: granted %v, down %v, window from %v", m.Machine, m.Granted, m.Outages[0].From, w.opens)
			}
		}
	})
}

func TestEveryChangeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := newMemory(map[locksmith.Group]int{"": 1})
		var seen []string
		boots := map[string]bool{}
		f := start(t, fleet.Config{Machines: 1, NewLock: lock.connect, Down: time.Second, OnChange: func(s fleet.Status) {
			what := "down"
			if s.Up {
				what = string(s.Agent.Phase)
				boots[s.Agent.BootID] = true
			}
			if len(seen) == 0 || seen[len(seen)-1] != what {
				seen = append(seen, what)
			}
		}})
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(seen, " ")
		const want = "queued preparing rebooting down recovering verifying restoring releasing idle"
		if !strings.HasSuffix(got, want) {
			t.Errorf("seen: %s\nwant at the end: %s", got, want)
		}
		if len(boots) != 2 {
			t.Errorf("%d boot ids in two boots", len(boots))
		}
	})
}

func TestUnreachableLockEndsTheFleet(t *testing.T) {
	refused := errors.New("refused")
	f := start(t, fleet.Config{Machines: 3, Down: time.Second,
		NewLock: func(string) (fleet.Lock, error) { return nil, refused }})
	if err := f.Run(t.Context()); !errors.Is(err, refused) || !strings.HasPrefix(err.Error(), "machine m") {
		t.Errorf("Run returned %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	connect := newMemory(nil).connect
	for _, tt := range []struct {
		cfg  fleet.Config
		want string
	}{
		{fleet.Config{NewLock: connect, Down: 1}, "fleet: 0 machines: must be 1 or more"},
		{fleet.Config{Machines: 1, Down: 1}, "fleet: NewLock is required"},
		{fleet.Config{Machines: 1, NewLock: connect}, "fleet: down for 0s and up to 0s more: Down must be more than 0, Jitter 0 or more"},
		{fleet.Config{Machines: 1, NewLock: connect, Down: 1, Name: func(int) string { return "a b" }},
			`fleet: machine 0: invalid machine id "a b": it holds a space`},
		{fleet.Config{Machines: 1, NewLock: connect, Down: 1, Groups: func(int) []locksmith.Group { return nil }},
			"fleet: machine m1 is in no group"},
	} {
		if _, err := fleet.New(tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

var _ agent.Window = hours{}
