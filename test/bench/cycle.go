package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// counter counts what a machine's connections ask of etcd.
type counter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *counter) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *counter) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			c.request(method, req)
			return invoke(ctx, method, req, reply, cc, opts...)
		})}
}

// request sorts one request into reads, writes of keys, and leases.
func (c *counter) request(method string, req any) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		c.count("reads")
	case *pb.TxnRequest:
		writes, semaphore := false, false
		for _, op := range slices.Concat(r.Success, r.Failure) {
			key := op.GetRequestPut().GetKey()
			writes = writes || key != nil || op.GetRequestDeleteRange() != nil
			semaphore = semaphore || strings.HasSuffix(string(key), "/semaphore")
		}
		if !writes {
			c.count("reads")
			return
		}
		c.count("writes")
		if semaphore {
			c.count("writes of the semaphore")
		}
	case *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest:
		c.count("leases")
	default:
		c.count(method)
	}
}

// cycle counts what one machine asks of etcd from "a reboot is needed" to its slot
// given back in the next boot.
func (b *bench) cycle(ctx context.Context) error {
	b.say("one machine's cycle")
	c := &counter{counts: make(map[string]int)}
	f, err := fleet.New(fleet.Config{
		Machines: 1, Down: 200 * time.Millisecond, Name: func(int) string { return "bench-cycle" },
		NewLock: func(string) (fleet.Lock, error) {
			return etcd.Dial(etcd.Config{Endpoints: []string{b.endpoint}, DialOptions: c.options()})
		},
	})
	if err != nil {
		return err
	}
	if err := f.Run(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]float64{"writes": 7, "writes of the semaphore": 2, "reads": 6}
	for _, what := range []string{"writes", "writes of the semaphore", "reads"} {
		b.atMost(figure{Name: "one cycle, " + what, Unit: "requests", Measured: float64(c.counts[what])}, known[what])
	}
	b.add(figure{Name: "one cycle, leases granted and revoked", Unit: "requests", Measured: float64(c.counts["leases"]),
		Note: "in two boots; not among the writes"})
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		if _, ok := known[what]; !ok && what != "leases" {
			return fmt.Errorf("unexpected requests: %d of %s", c.counts[what], what)
		}
	}
	return nil
}

// rollout reboots a fleet and compares the time with the ideal: all machines one
// after the other, as many at a time as may be, with nothing in between.
func (b *bench) rollout(ctx context.Context) error {
	machines, at := b.reps(200, 50), 10
	b.say("rollout of %d machines, %d at a time", machines, at)
	admin, err := etcd.Dial(etcd.Config{Endpoints: []string{b.endpoint}})
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := admin.SetMax(ctx, "", at, "bench"); err != nil {
		return err
	}
	f, err := fleet.New(fleet.Config{
		Machines: machines, Down: time.Second,
		NewLock: func(string) (fleet.Lock, error) {
			return etcd.Dial(etcd.Config{Endpoints: []string{b.endpoint}})
		},
	})
	if err != nil {
		return err
	}
	start := time.Now()
	if err := f.Run(ctx); err != nil {
		return err
	}
	// To the last slot given back: what the machines do after that is over is not
	// the rollout's.
	took := time.Duration(0)
	r := f.Report()
	for _, m := range r.Machines {
		took = max(took, m.Released.Sub(start))
	}
	if peak := r.MaxDown(""); peak > at {
		return fmt.Errorf("%d machines were down at once, %d may be", peak, at)
	}
	ideal := time.Duration(machines/at) * time.Second
	b.ratioAtMost(figure{Name: fmt.Sprintf("rollout, %d machines, %d at a time", machines, at), Unit: "ms", Measured: ms(took), Floor: ms(ideal),
		Note: fmt.Sprintf("1 s down each; at most %d down", r.MaxDown(""))}, 1.05)
	return nil
}
