package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Follow calls changed at once and after each change of anything that locksmith keeps,
// and when etcd goes away or comes back, until ctx ends, whose cause it returns. It
// costs one watch however much is kept; several changes may come as one. changed may be
// called by two at the same time.
func (s *Store) Follow(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// For all the time: a watch only falls silent when etcd goes, and one that is made
	// while it is away is silent until it is back.
	go s.followConnection(ctx, func(bool) { changed() })
	back := newRetry()
	for {
		err := s.followAll(ctx, changed, func() { back = newRetry() })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = s.explain(ctx, err); !transient(err) {
			return err
		}
		s.log.Warn("changes not followed, trying again", "error", err)
		changed() // to nobody knows what: the member may stand and have lost its leader
		if !back.sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

func (s *Store) followAll(ctx context.Context, changed, healthy func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := s.watch(ctx, prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	healthy()
	changed()
	for {
		resp, open := <-events
		if err := watchErr(ctx, resp, open); err != nil {
			return err
		}
		changed()
	}
}
