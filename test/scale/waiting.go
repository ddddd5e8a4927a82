package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// bootEvery is the time between the starts of two agents. What is measured is how they
// wait; ten thousand that start at once on two cores have nothing left for their leases.
const bootEvery = 5 * time.Millisecond

// crowd is a fleet that waits for one slot, which an administrator holds.
type crowd struct {
	*scale
	server *etcdtest.Server
	admin  *etcd.Store
	client *clientv3.Client // for what is no Store's to ask
	n      int

	mu     sync.Mutex
	states map[string]fleet.Status
}

// waiting looks at fleets that wait: what they cost, and what one release, a pause and
// a restart of etcd set going.
func (s *scale) waiting(ctx context.Context) error {
	for _, n := range []int{100, 1000, 3000, 10_000} {
		if n > s.largest {
			continue
		}
		if err := s.wait(ctx, n); err != nil {
			return fmt.Errorf("%d machines: %w", n, err)
		}
	}
	return nil
}

func (s *scale) wait(ctx context.Context, n int) error {
	s.say("%d machines wait", n)
	server, err := s.startEtcd()
	if err != nil {
		return err
	}
	defer server.Stop()
	admin, err := dial(server)
	if err != nil {
		return err
	}
	defer admin.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	c := &crowd{scale: s, server: server, admin: admin, client: client, n: n, states: make(map[string]fleet.Status)}
	held, err := admin.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{""}, MachineID: "held", By: locksmith.ByLock})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	pace := time.NewTicker(bootEvery)
	defer pace.Stop()
	f, err := fleet.New(fleet.Config{Machines: n, Down: 24 * time.Hour, OnChange: c.observe,
		NewLock: func(string) (fleet.Lock, error) {
			select {
			case <-pace.C:
			case <-running.Done():
			}
			return dial(server)
		}})
	if err != nil {
		stop()
		return err
	}
	ended := make(chan error, 1)
	memory, err := c.memory(ctx)
	if err != nil {
		stop()
		return err
	}
	start := time.Now()
	go func() { ended <- f.Run(running) }()
	err = c.look(ctx, held, start, memory)
	stop()
	if run := <-ended; !errors.Is(run, context.Canceled) {
		err = errors.Join(err, run)
	}
	return err
}

// look takes the figures of a crowd, one after the other.
func (c *crowd) look(ctx context.Context, held locksmith.Slots, start time.Time, before memory) error {
	if err := c.awaitQueue(ctx, c.n); err != nil {
		return err
	}
	c.add(figure{Name: "until all are in the queue", Machines: c.n, Measured: time.Since(start).Seconds(), Unit: "s",
		Ideal: (time.Duration(c.n) * bootEvery).Seconds(), Note: fmt.Sprintf("an agent starts every %v", bootEvery)})
	if _, err := quiet(ctx, c.server); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{
		func(ctx context.Context) error { return c.cost(ctx, before) },
		func(ctx context.Context) error { return c.release(ctx, held) },
		c.pause,
		c.restart,
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) observe(s fleet.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[s.Machine] = s
}

// are is how many machines are as is says.
func (c *crowd) are(is func(fleet.Status) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.states {
		if is(s) {
			n++
		}
	}
	return n
}

func granted(s fleet.Status) bool { return !s.Granted.IsZero() }

func down(s fleet.Status) bool { return len(s.Outages) > 0 }

func paused(s fleet.Status) bool { return len(s.Agent.Pauses) > 0 }

// awaitQueue returns when so many entries are in the queue.
func (c *crowd) awaitQueue(ctx context.Context, n int) error {
	return await(ctx, fmt.Sprintf("%d in the queue", n), 100*time.Millisecond, func() (bool, error) {
		resp, err := c.client.Get(ctx, "coreos.com/updateengine/rebootlock/queue/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == int64(n), err
	})
}

// memory is what both sides have, in bytes.
type memory struct{ agents, etcd float64 }

func (c *crowd) memory(ctx context.Context) (memory, error) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	counts, err := countsOf(ctx, c.server)
	return memory{float64(m.HeapAlloc + m.StackInuse), counts.resident}, err
}

// cost is what it takes to wait.
func (c *crowd) cost(ctx context.Context, before memory) error {
	now, err := c.memory(ctx)
	if err != nil {
		return err
	}
	each := func(bytes float64) float64 { return bytes / 1024 / float64(c.n) }
	c.add(figure{Name: "memory of a waiting agent", Machines: c.n, Measured: each(now.agents - before.agents), Unit: "kB", Note: "heap and stacks, with its connection"})
	c.add(figure{Name: "memory of etcd for it", Machines: c.n, Measured: each(now.etcd - before.etcd), Unit: "kB", Note: "resident: connection, watches, lease, entry, presence"})
	const long = 10 * time.Second // each agent sends one in that time
	from, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := await(ctx, "time to pass", long, func() (bool, error) { return time.Since(began) >= long, nil }); err != nil {
		return err
	}
	to, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	c.add(figure{Name: "keep-alives while all wait", Machines: c.n, Measured: (to.keepAlives - from.keepAlives) / seconds, Unit: "/s",
		Note: fmt.Sprintf("%.1f %% of a core in etcd; %g other requests in %.0f s", 100*(to.cpu-from.cpu)/seconds, to.requests-from.requests, seconds)})
	return nil
}

// release gives the slot back and counts what that sets going: one machine goes. Nothing
// else does meanwhile: etcd was left alone before.
func (c *crowd) release(ctx context.Context, held locksmith.Slots) error {
	before, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.admin.Release(ctx, held, locksmith.Result{Outcome: "measured"}); err != nil {
		return err
	}
	err = await(ctx, "a machine to go down", 5*time.Millisecond, func() (bool, error) { return c.are(down) > 0, nil })
	if err != nil {
		return err
	}
	took := time.Since(start)
	after, err := quiet(ctx, c.server)
	if err != nil {
		return err
	}
	if n := c.are(granted); n != 1 {
		return fmt.Errorf("one slot was given back, and %d machines were granted one", n)
	}
	c.add(figure{Name: "requests that a release sets going", Machines: c.n, Measured: after.requests - before.requests, Unit: "requests",
		Note: fmt.Sprintf("the release itself, one machine's grant and way down (%d ms), and the next one stepping forward", took.Milliseconds())})
	return nil
}

// pause sets and ends a pause of all groups: until every agent that waits knows of it.
func (c *crowd) pause(ctx context.Context) error {
	before, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	start := time.Now()
	scope := locksmith.PauseScope{All: true}
	if err := c.admin.Pause(ctx, locksmith.Pause{Scope: scope, By: "scale", Reason: "measured"}); err != nil {
		return err
	}
	err = await(ctx, "all to know of the pause", 5*time.Millisecond, func() (bool, error) { return c.are(paused) >= c.n-1, nil })
	if err != nil {
		return err
	}
	c.add(figure{Name: "until all know of a pause", Machines: c.n, Measured: ms(time.Since(start)), Unit: "ms"})
	start = time.Now()
	if err := c.admin.Resume(ctx, scope, "scale"); err != nil {
		return err
	}
	err = await(ctx, "all to know of its end", 5*time.Millisecond, func() (bool, error) { return c.are(paused) == 0, nil })
	if err != nil {
		return err
	}
	took := time.Since(start)
	after, err := quiet(ctx, c.server)
	if err != nil {
		return err
	}
	c.add(figure{Name: "until all know of its end", Machines: c.n, Measured: ms(took), Unit: "ms",
		Note: fmt.Sprintf("%.2f requests by each for both", (after.requests-before.requests)/float64(c.n))})
	return nil
}

// length is d, or less in the short form.
func (s *scale) length(d time.Duration) time.Duration {
	if s.quick {
		return d / 5
	}
	return d
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// restart kills etcd, starts it again, and looks at what comes then.
func (c *crowd) restart(ctx context.Context) error {
	before, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	c.server.Stop()
	away := c.length(5 * time.Second)
	gone := time.Now()
	if err := await(ctx, "time to pass", away, func() (bool, error) { return time.Since(gone) >= away, nil }); err != nil {
		return err
	}
	var last counts
	at, connections, requests := time.Now(), 0.0, 0.0 // whoever comes while it starts counts too
	if err := c.server.Restart(); err != nil {
		return err
	}
	start := time.Now()
	err = await(ctx, fmt.Sprintf("%g watches again", before.watches), 200*time.Millisecond, func() (bool, error) {
		now, err := countsOf(ctx, c.server)
		if err != nil {
			return false, err
		}
		seconds := max(time.Since(at), 200*time.Millisecond).Seconds()
		connections, requests = max(connections, (now.connections-last.connections)/seconds), max(requests, (now.requests-last.requests)/seconds)
		last, at = now, time.Now()
		return now.watches >= before.watches, nil
	})
	if err != nil {
		return err
	}
	if err := c.awaitQueue(ctx, c.n-1); err != nil {
		return err
	}
	c.add(figure{Name: "etcd killed for a while: until all are back", Machines: c.n, Measured: time.Since(start).Seconds(), Unit: "s",
		Note: fmt.Sprintf("away for %v; from its first answer until all watches stand", away)})
	c.add(figure{Name: "connections then, at most", Machines: c.n, Measured: connections, Unit: "/s"})
	after, err := quiet(ctx, c.server)
	if err != nil {
		return err
	}
	c.add(figure{Name: "requests then, at most", Machines: c.n, Measured: requests, Unit: "/s",
		Note: fmt.Sprintf("%.1f by each in all", after.requests/float64(c.n))})
	if n := c.are(granted); n != 1 {
		return fmt.Errorf("no slot was given back, and %d machines were granted one", n-1)
	}
	return nil
}
