package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Everything at once, over two servers, with agents and administrators between: never more
// than max, nobody overtakes, nobody is told what is not so, and in the end nothing is left.
func TestBatchRandom(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runRandom(t, seed) })
	}
}

func runRandom(t *testing.T, seed uint64) {
	srv := server(t, etcdtest.Embedded)
	admin, g := dial(t, srv.Endpoint), newGroup(t)
	stores := []*Store{dial(t, srv.Endpoint), dial(t, srv.Endpoint)}
	batchers := []*Batcher{newBatcher(t, stores[0]), newBatcher(t, stores[1])}
	setMax(t, admin, g, 2)
	a := newAudit(t, srv, g)

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var machines, others sync.WaitGroup
	for i := range 24 {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		machine := fmt.Sprintf("m%02d", i)
		if i%6 == 5 {
			machines.Go(func() { runAgent(t, stores[i%2], rnd, request(machine, g)) })
		} else {
			machines.Go(func() { runClient(t, batchers, rnd, g, machine) })
		}
	}
	rnd := rand.New(rand.NewPCG(seed, 1000))
	others.Go(func() { runAdmin(ctx, t, admin, rnd, g) })
	machines.Wait()
	cancel(errStopped)
	others.Wait()
	awaitQueue(t, admin, g, 0)
	grants := a.check(t)
	st := must(admin.Status(t.Context(), g))(t)
	for _, h := range st.Holders { // what was given up at the wrong moment
		if h.By != locksmith.ByFleetLock || len(st.Faults) > 0 {
			t.Errorf("left: %+v %v", h, st.Faults)
		}
	}
	if len(st.Holders) > 0 {
		t.Errorf("%d slots are held by nobody: %v", len(st.Holders), st.Sem.Holders)
	}
	if grants < 50 {
		t.Errorf("only %d grants", grants)
	}
}

// runClient asks, repeats, gives back and goes away.
func runClient(t *testing.T, batchers []*Batcher, rnd *rand.Rand, g locksmith.Group, machine string) {
	for range 25 {
		ctx, cancel := context.WithCancelCause(t.Context())
		if rnd.IntN(3) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(20_000))*time.Microsecond, func() { cancel(errStopped) })
		}
		wait := []time.Duration{long, long, 0, 5 * time.Millisecond}[rnd.IntN(4)]
		req := asks(machine, g)
		if wait == 0 {
			req.Reason = atOnce
		}
		err := batchers[rnd.IntN(2)].Acquire(ctx, req, wait)
		cancel(nil)
		var full *locksmith.FullError
		var paused *locksmith.PausedError
		switch {
		case err == nil:
			if rnd.IntN(2) == 0 {
				req.Reason = atOnce // for it may have been unlocked
				if err := batchers[rnd.IntN(2)].Acquire(t.Context(), req, 0); err != nil && !errors.As(err, &full) && !errors.As(err, &paused) {
					t.Errorf("%s repeats: %v", machine, err)
				}
			}
			pause(t.Context(), time.Duration(rnd.IntN(2000))*time.Microsecond)
			if err := batchers[rnd.IntN(2)].Release(t.Context(), g, machine, locksmith.Result{}); err != nil {
				t.Errorf("%s gives back: %v", machine, err)
			}
		case !errors.Is(err, errStopped) && !errors.As(err, &full) && !errors.As(err, &paused):
			t.Errorf("%s: %v", machine, err)
		}
	}
}

func runAgent(t *testing.T, s *Store, rnd *rand.Rand, req locksmith.Request) {
	for range 10 {
		slots, err := s.Acquire(t.Context(), req, nil)
		var paused *locksmith.PausedError
		if errors.As(err, &paused) {
			continue
		}
		if err != nil {
			t.Errorf("agent %s: %v", req.MachineID, err)
			return
		}
		pause(t.Context(), time.Duration(rnd.IntN(2000))*time.Microsecond)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Errorf("agent %s: %v", req.MachineID, err)
		}
	}
}

// runAdmin changes max, pauses and unlocks until ctx ends, and leaves things in order.
func runAdmin(ctx context.Context, t *testing.T, s *Store, rnd *rand.Rand, g locksmith.Group) {
	for pause(ctx, time.Duration(rnd.IntN(20))*time.Millisecond) {
		switch rnd.IntN(3) {
		case 0:
			setMax(t, s, g, rnd.IntN(5))
		case 1:
			if err := s.Pause(t.Context(), locksmith.Pause{Scope: ofGroup(g), Reason: "test"}); err != nil {
				t.Error(err)
			}
			pause(ctx, time.Duration(rnd.IntN(10))*time.Millisecond)
			if err := s.Resume(t.Context(), ofGroup(g), "test"); err != nil {
				t.Error(err)
			}
		case 2:
			machine := fmt.Sprintf("m%02d", rnd.IntN(24))
			if err := s.Unlock(t.Context(), g, machine, locksmith.Result{Actor: "admin"}); err != nil && !errors.Is(err, locksmith.ErrNotHolder) {
				t.Error(err)
			}
		}
		setMax(t, s, g, 2+rnd.IntN(2))
	}
	setMax(t, s, g, 2)
}
