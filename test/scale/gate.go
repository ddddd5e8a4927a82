package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith"
)

// groupNames are the groups that so many machines take turns in.
func groupNames(n int) []locksmith.Group {
	if n <= 1 {
		return []locksmith.Group{""}
	}
	names := make([]locksmith.Group, n)
	for i := range names {
		names[i] = locksmith.Group(fmt.Sprintf("zone-%d", i))
	}
	return names
}

// newClient is a client for what is no Store's to ask.
func newClient(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
}

// root is what all of locksmith's keys begin with.
const root = "coreos.com/updateengine/rebootlock/"

func queuePrefix(g locksmith.Group) string {
	if g == "" {
		return root + "queue/"
	}
	return root + "groups/" + string(g) + "/queue/"
}

// inQueue counts the entries in the queues of groups.
func inQueue(ctx context.Context, client *clientv3.Client, groups []locksmith.Group) (sum int, err error) {
	for _, g := range groups {
		resp, err := client.Get(ctx, queuePrefix(g), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return 0, err
		}
		sum += int(resp.Count)
	}
	return sum, nil
}

// gate lets agents start as fast as those before them find their places in the queue, and
// no faster. What is measured is how they wait: ten thousand that start at once on the
// processors that etcd needs, too, have nothing left for their leases.
type gate struct {
	client  *clientv3.Client
	groups  []locksmith.Group
	abreast int // that may be on their way
	free    chan struct{}
}

const gatePause = 20 * time.Millisecond // between two looks at the queue

// run lets so many in, until ctx ends.
func (g *gate) run(ctx context.Context, machines int) error {
	defer g.client.Close()
	tick := time.NewTicker(gatePause)
	defer tick.Stop()
	for let := 0; let < machines; {
		queued, err := inQueue(ctx, g.client, g.groups)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("counting those in the queue: %w", err)
		}
		for ; let < min(machines, queued+g.abreast); let++ {
			select {
			case g.free <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// links counts connections as their clients see them, and requests that failed.
type links struct{ made, lost, refused atomic.Int64 }

func (l *links) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (l *links) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		l.made.Add(1)
	case *stats.ConnEnd:
		l.lost.Add(1)
	}
}

func (l *links) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (l *links) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok && end.Error != nil && status.Code(end.Error) != codes.Canceled {
		l.refused.Add(1)
	}
}
