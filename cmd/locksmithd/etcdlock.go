package main

import (
	"context"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// etcdLock is the store as the agent needs it. A *etcd.Store in an interface would do
// too, but libraries in this program call methods by name, so the linker keeps every
// method of a type that is ever in an interface: all of what the server does with the
// store, 0.2 MB of it. Functions keep only themselves.
type etcdLock struct {
	find     func(context.Context, string, []locksmith.Group) (locksmith.Slots, error)
	withdraw func(context.Context, string, []locksmith.Group) (locksmith.Slots, error)
	acquire  func(context.Context, locksmith.Request, func(string)) (locksmith.Slots, error)
	advance  func(context.Context, locksmith.Slots, locksmith.Phase, string) (locksmith.Slots, error)
	release  func(context.Context, locksmith.Slots, locksmith.Result) error
	pauses   func(context.Context, string, []locksmith.Group, func([]locksmith.Pause)) error
}

var _ agent.Lock = etcdLock{}

func newEtcdLock(s *etcd.Store) etcdLock {
	return etcdLock{s.Find, s.Withdraw, s.Acquire, s.Advance, s.Release, s.FollowPauses}
}

func (l etcdLock) Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	return l.find(ctx, machine, groups)
}

func (l etcdLock) Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	return l.withdraw(ctx, machine, groups)
}

func (l etcdLock) Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error) {
	return l.acquire(ctx, req, report)
}

func (l etcdLock) Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error) {
	return l.advance(ctx, slots, phase, reason)
}

func (l etcdLock) Release(ctx context.Context, slots locksmith.Slots, result locksmith.Result) error {
	return l.release(ctx, slots, result)
}

func (l etcdLock) FollowPauses(ctx context.Context, machine string, groups []locksmith.Group, changed func([]locksmith.Pause)) error {
	return l.pauses(ctx, machine, groups, changed)
}
