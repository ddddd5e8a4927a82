package etcd

import (
	"context"

	"github.com/locksmith-reboot/locksmith"
)

// FollowPauses calls changed with the pauses that hold for machine and groups.
func (s *Store) FollowPauses(ctx context.Context, machine string, groups []locksmith.Group, changed func([]locksmith.Pause)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
