package dashboard

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/locksmith-reboot/locksmith"
)

// counts are how often each kind of read was made, and what it is to fail with.
type counts struct {
	all  atomic.Int64
	mu   sync.Mutex
	fail error
}

func (c *counts) failing(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *counts) count() error {
	c.all.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fail
}

func (s *countingStore) Groups(ctx context.Context) ([]locksmith.GroupSummary, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	return s.Store.Groups(ctx)
}

func (s *countingStore) Status(ctx context.Context, g locksmith.Group) (locksmith.GroupStatus, error) {
	if err := s.count(); err != nil {
		return locksmith.GroupStatus{}, err
	}
	return s.Store.Status(ctx, g)
}

func (s *countingStore) Machines(ctx context.Context) ([]locksmith.MachineStatus, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	return s.Store.Machines(ctx)
}

func (s *countingStore) History(ctx context.Context, g locksmith.Group, n int) ([]locksmith.HistoryEntry, error) {
	if err := s.count(); err != nil {
		return nil, err
	}
	return s.Store.History(ctx, g, n)
}
