package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// KeepPresence shows that p's agent runs, for as long as ctx lasts and the process
// lives: the key hangs on the store's lease, so a machine that went away is seen
// to be gone when that expires, 30 s later by default. It returns ctx's cause.
func (s *Store) KeepPresence(ctx context.Context, p locksmith.Presence) error {
	back := newRetry()
	for {
		l, err := s.announce(ctx, p)
		if err == nil {
			back = newRetry()
			select {
			case <-l.lost:
				s.log.Debug("presence lapsed, announcing it again", "machine", p.MachineID)
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s.log.Debug("presence not announced", "machine", p.MachineID, "error", s.explain(ctx, err))
		if !back.sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

func (s *Store) announce(ctx context.Context, p locksmith.Presence) (*lease, error) {
	l, err := s.keep.get(ctx)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, nil, []clientv3.Op{
		clientv3.OpPut(presenceKey(p.MachineID), mustJSON(p), clientv3.WithLease(l.id)),
	}, nil)
	if err != nil {
		return nil, err
	}
	return l, nil
}
