package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// adminName is whom the history names for what the administrator does.
const adminName = "soak"

// meddled are the groups that the administrator changes, and pausable the machines that
// he pauses: few, because what is kept of a pause stays.
var (
	meddled  = []locksmith.Group{"", "rack", "web", "db", "fl"}
	pausable = []string{"r1-01", "r1-02", "r2-01", "r2-02", "s01"}
)

// administration is what an administrator can do, on etcd or through the server.
type administration interface {
	SetMax(ctx context.Context, group locksmith.Group, n int, actor string) (old int, err error)
	Pause(ctx context.Context, p locksmith.Pause) error
	Resume(ctx context.Context, scope locksmith.PauseScope, actor string) error
	TryAcquire(ctx context.Context, req locksmith.Request) (locksmith.Slots, error)
	Unlock(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error
}

// referee is how the ledger comes to know how many may be down: never less than the
// lock may have granted. It has mu while max changes and while it looks.
type referee struct {
	mu     sync.Mutex
	said   map[locksmith.Group]int       // what the ledger was told last, and may yet have to read
	unsure map[locksmith.Group]time.Time // until then max may still be raised
}

func newReferee() referee {
	return referee{said: make(map[locksmith.Group]int), unsure: make(map[locksmith.Group]time.Time)}
}

// unsureFor is longer than a request that was given up can be on its way.
const unsureFor = 30 * time.Second

// prepareGroups makes the groups, and everything that a first pause or hold leaves
// behind, so that later ones leave nothing new.
func (s *soak) prepareGroups(ctx context.Context) error {
	for _, g := range groups {
		if err := s.setMax(ctx, s.store, g, steady[g]); err != nil {
			return err
		}
	}
	scopes := []locksmith.PauseScope{{All: true}}
	for _, g := range meddled {
		scopes = append(scopes, locksmith.PauseScope{Group: g})
		if err := s.hold(ctx, s.store, g); err != nil {
			return err
		}
		if err := s.unhold(ctx, s.store, g); err != nil {
			return err
		}
	}
	for _, m := range pausable {
		scopes = append(scopes, locksmith.PauseScope{Machine: m})
	}
	for _, scope := range scopes {
		if err := s.store.Pause(ctx, s.pause(scope)); err != nil {
			return err
		}
		if err := s.store.Resume(ctx, scope, adminName); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) pause(scope locksmith.PauseScope) locksmith.Pause {
	return locksmith.Pause{Scope: scope, By: adminName, At: time.Now().Unix(), Reason: "a soak"}
}

func holdName(g locksmith.Group) string { return "hold-" + string(g) }

// hold takes a slot as locksmithctl lock does.
func (s *soak) hold(ctx context.Context, by administration, g locksmith.Group) error {
	_, err := by.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{g}, MachineID: holdName(g), By: locksmith.ByLock, Actor: adminName})
	return err
}

func (s *soak) unhold(ctx context.Context, by administration, g locksmith.Group) error {
	return by.Unlock(ctx, g, holdName(g), locksmith.Result{Actor: adminName})
}

// setMax changes max. Where it goes up, more may be down from before it is asked for;
// where it goes down, the referee says later from when on.
func (s *soak) setMax(ctx context.Context, by administration, g locksmith.Group, n int) error {
	s.referee.mu.Lock()
	defer s.referee.mu.Unlock()
	if n > s.referee.said[g] {
		if err := s.allow(g, n); err != nil {
			return err
		}
	}
	_, err := by.SetMax(ctx, g, n, adminName)
	if err != nil {
		s.referee.unsure[g] = time.Now().Add(unsureFor)
	}
	return err
}

// allow tells the ledger in the order of what happens. The caller has the referee's mu.
func (s *soak) allow(g locksmith.Group, n int) error {
	s.referee.said[g] = n
	return writeLine(s.lines, line{Kind: lineAllow, Group: g, Max: n})
}

// settle looks at the semaphores: once there are no more holders than max, nobody is
// down, and nobody goes down, but who holds one of so many slots.
func (s *soak) settle(ctx context.Context) error {
	for _, g := range meddled {
		if err := s.settleGroup(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) settleGroup(ctx context.Context, g locksmith.Group) error {
	s.referee.mu.Lock()
	defer s.referee.mu.Unlock()
	if time.Now().Before(s.referee.unsure[g]) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	sem, _, err := s.store.Semaphore(ctx, g)
	if err != nil || len(sem.Holders) > sem.Max {
		return nil // later
	}
	return s.allow(g, sem.Max)
}

// administer gets in the way until over ends, and puts everything right then.
func (s *soak) administer(ctx, over context.Context) error {
	web, err := api.NewClient(api.ClientConfig{URL: "http://" + s.server.listen})
	if err != nil {
		return err
	}
	defer web.Close()
	choices := []administration{s.store, web}
	for n := 0; pass(over, s.scaled(12*time.Second, 2*time.Second)) == nil; n++ {
		if err := s.settle(ctx); err != nil {
			return err
		}
		by := choices[n%len(choices)]
		undo, what := s.meddle(ctx, by)
		s.rec.event("%s", what)
		_ = pass(over, s.scaled(15*time.Second, time.Second)) // or it is over: undo it now
		if err := s.insist(ctx, func(ctx context.Context) error { return undo(ctx, s.store) }); err != nil {
			return fmt.Errorf("undoing %q: %w", what, err)
		}
	}
	return s.putRight(ctx)
}

// putRight undoes whatever an administrator may have done, be it by a request that was
// given up and carried out later.
func (s *soak) putRight(ctx context.Context) error {
	var undo []func(context.Context) error
	for _, g := range meddled {
		undo = append(undo,
			func(ctx context.Context) error { return s.setMax(ctx, s.store, g, steady[g]) },
			func(ctx context.Context) error { return s.unhold(ctx, s.store, g) },
			func(ctx context.Context) error { return s.store.Resume(ctx, locksmith.PauseScope{Group: g}, adminName) })
	}
	for _, m := range pausable {
		undo = append(undo, func(ctx context.Context) error {
			return s.store.Resume(ctx, locksmith.PauseScope{Machine: m}, adminName)
		})
	}
	for _, u := range undo {
		if err := s.insist(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// choose draws a number from 0 to n-1 for the administrator.
func (s *soak) choose(n int) int { return s.whims.IntN(n) }

// meddle does one thing, and returns how to undo it. What fails while the server is
// away may have been done all the same.
func (s *soak) meddle(ctx context.Context, by administration) (undo func(context.Context, administration) error, what string) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	g := meddled[s.choose(len(meddled))]
	var err error
	switch s.choose(4) {
	case 0:
		n := 1 + s.choose(6)
		what = fmt.Sprintf("max of %q is set to %d", g, n)
		err = s.setMax(ctx, by, g, n)
		undo = func(ctx context.Context, by administration) error { return s.setMax(ctx, by, g, steady[g]) }
	case 1:
		what = fmt.Sprintf("a slot of %q is held", g)
		err = s.hold(ctx, by, g)
		undo = func(ctx context.Context, by administration) error { return s.unhold(ctx, by, g) }
	default:
		scope := locksmith.PauseScope{Group: g}
		if s.choose(2) == 0 {
			scope = locksmith.PauseScope{Machine: pausable[s.choose(len(pausable))]}
		}
		what = fmt.Sprintf("%s is paused", scope)
		err = by.Pause(ctx, s.pause(scope))
		undo = func(ctx context.Context, by administration) error { return by.Resume(ctx, scope, adminName) }
	}
	if err != nil {
		what += ": " + err.Error()
	}
	return undo, what
}

// insist repeats do until it succeeds, or fails because there is nothing to undo. The
// server is back within a minute.
func (s *soak) insist(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	good := []error{nil, locksmith.ErrNotHolder, locksmith.ErrNotPaused}
	var last error
	err := until(ctx, time.Second, func() bool {
		limited, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		last = do(limited)
		return slices.ContainsFunc(good, func(g error) bool { return errors.Is(last, g) })
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// thaw lets the machines go that have waited since the beginning.
func (s *soak) thaw(ctx context.Context) error {
	p := s.standing
	ended := s.ledger.begin(p.name, p.wave, p.members[p.going:])
	if err := s.setMax(ctx, s.store, frozen, 5); err != nil {
		return err
	}
	return s.finish(ctx, p, ended)
}
