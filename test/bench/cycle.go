package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
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
		writes, semaphore, policies := false, false, true
		for _, op := range slices.Concat(r.Success, r.Failure) {
			key := op.GetRequestPut().GetKey()
			writes = writes || key != nil || op.GetRequestDeleteRange() != nil
			semaphore = semaphore || strings.HasSuffix(string(key), "/semaphore")
			read := string(op.GetRequestRange().GetKey())
			policies = policies && (strings.HasSuffix(read, "/policy") || strings.Contains(read, "/machine-policy/"))
		}
		switch {
		case writes:
			c.count("writes")
		case policies:
			c.count("reads of policies")
		default:
			c.count("reads")
		}
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
// given back in the next boot. Of three machines, one at a time, two wait: the worst
// counts.
func (b *bench) cycle(ctx context.Context) error {
	b.say("one machine's cycle")
	var mu sync.Mutex
	counters := make(map[string]*counter)
	f, err := fleet.New(fleet.Config{
		Machines: 3, Down: 200 * time.Millisecond,
		Groups: func(int) []locksmith.Group { return []locksmith.Group{"bench-cycle"} },
		NewLock: func(machine string) (fleet.Lock, error) {
			mu.Lock()
			defer mu.Unlock()
			if counters[machine] == nil {
				counters[machine] = &counter{counts: make(map[string]int)}
			}
			return etcd.Dial(etcd.Config{Endpoints: []string{b.endpoint}, DialOptions: counters[machine].options()})
		},
	})
	if err != nil {
		return err
	}
	if err := f.Run(ctx); err != nil {
		return err
	}
	worst := make(map[string]int)
	for _, c := range counters {
		for what, n := range c.counts {
			worst[what] = max(worst[what], n)
		}
	}
	for _, limit := range []struct {
		what string
		n    float64
	}{{"writes", 7}, {"writes of the semaphore", 2}, {"reads", 6}} {
		b.atMost(figure{Name: "one cycle, " + limit.what, Unit: "requests", Measured: float64(worst[limit.what])}, limit.n)
		delete(worst, limit.what)
	}
	// Each start of an agent has its own, whether or not the machine reboots.
	b.add(figure{Name: "one cycle, reads of policies", Unit: "requests", Measured: float64(worst["reads of policies"]),
		Note: "one at each start of the agent; not among the reads"})
	b.add(figure{Name: "one cycle, leases granted and revoked", Unit: "requests", Measured: float64(worst["leases"]),
		Note: "in two boots; not among the writes"})
	delete(worst, "reads of policies")
	delete(worst, "leases")
	for what, n := range worst {
		return fmt.Errorf("unexpected requests: %d of %s", n, what)
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
