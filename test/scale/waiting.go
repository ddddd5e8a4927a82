package main

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// waiting looks at fleets that wait for one slot, which an administrator holds: what they
// cost, and what one release, a pause and a restart of etcd set going.
func (s *scale) waiting(ctx context.Context) error {
	for _, n := range s.sizes() {
		if err := s.within(ctx, "waiting", n, func(ctx context.Context) error { return s.wait(ctx, n) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *scale) wait(ctx context.Context, n int) error {
	s.say("%d machines wait", n)
	var held locksmith.Slots
	c, err := s.gather(order{Machines: n, Groups: 1, Down: 24 * time.Hour}, func(admin *etcd.Store) (err error) {
		held, err = admin.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{""}, MachineID: "held", By: locksmith.ByLock})
		return err
	})
	if err != nil {
		return err
	}
	defer c.close()
	for _, measure := range []func(context.Context) error{
		c.measureFilling,
		c.idle,
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

// fill lets all machines find their places in the queue.
func (c *crowd) fill(ctx context.Context) error {
	n, groups := c.order.Machines, groupNames(c.order.Groups)
	if _, err := c.state(askOpen); err != nil {
		return err
	}
	return c.await(ctx, fmt.Sprintf("all %d to be in the queue", n), 100*time.Millisecond, func() (bool, error) {
		s, err := c.state(askState)
		if err != nil {
			return false, err
		}
		queued, err := inQueue(ctx, c.client, groups)
		c.reached = fmt.Sprintf("%d of %d agents were started, %d were in the queue, and of %d connections %d were lost", s.Started, n, queued, s.Connections, s.Lost)
		return err == nil && queued == n, err
	})
}

// measureFilling is fill, and what it took.
func (c *crowd) measureFilling(ctx context.Context) error {
	agents, err := c.state(askMemory)
	if err != nil {
		return err
	}
	before, err := collected(ctx, c.server)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.fill(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	full, err := c.quiet(ctx, c.server)
	if err != nil {
		return err
	}
	n := float64(c.order.Machines)
	c.figure("until all are in the queue", took.Seconds(), "s", fmt.Sprintf("at most %d on their way at a time; leases of %v", c.order.Abreast, c.order.LeaseTTL))
	c.figure("requests to get there", (full.requests-before.requests)/n, "requests/machine", fmt.Sprintf("%.1f ms of etcd's CPU each; watches opened count", 1000*(full.cpu-before.cpu)/n))
	waiting, err := c.state(askMemory)
	if err != nil {
		return err
	}
	now, err := collected(ctx, c.server)
	if err != nil {
		return err
	}
	each := func(from, to float64) float64 { return (to - from) / 1024 / n }
	c.figure("memory of a waiting agent", each(agents.Bytes, waiting.Bytes), "kB", "heap and stacks, with its connection")
	c.figure("memory of etcd for it", each(before.heap+before.stacks, now.heap+now.stacks), "kB",
		fmt.Sprintf("heap and stacks: connection, watches, lease, entry, presence; resident %.0f kB", each(before.resident, now.resident)))
	return nil
}

// idle is what it takes to wait.
func (c *crowd) idle(ctx context.Context) error {
	was, err := c.state(askState)
	if err != nil {
		return err
	}
	from, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.pass(ctx, c.watched); err != nil {
		return err
	}
	to, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	is, err := c.state(askState)
	if err != nil {
		return err
	}
	c.figure("keep-alives while all wait", (to.keepAlives-from.keepAlives)/seconds, "/s",
		fmt.Sprintf("%g other requests in %.0f s; %d connections lost", to.requests-from.requests, seconds, is.Lost-was.Lost))
	c.figure("etcd's processor time while all wait", 100*(to.cpu-from.cpu)/seconds, "% of a core", "")
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
	if _, err := c.awaitState(ctx, "a machine to go down", 5*time.Millisecond, func(s state) bool { return s.Down > 0 }); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := c.quiet(ctx, c.server)
	if err != nil {
		return err
	}
	if err := c.granted(1); err != nil {
		return err
	}
	c.figure("until a machine is down after a release", ms(took), "ms", "from the call to give back")
	c.figure("requests that a release sets going", after.requests-before.requests, "requests",
		"the release itself, one machine's grant and way down, and the next one stepping forward")
	return nil
}

// granted fails where not exactly so many machines were granted slots.
func (c *crowd) granted(n int) error {
	s, err := c.state(askState)
	if err == nil && s.Granted != n {
		err = fmt.Errorf("%d slots were given back, and %d machines were granted one", n, s.Granted)
	}
	return err
}

// pause sets and ends a pause of all groups: until every agent that waits knows of it.
func (c *crowd) pause(ctx context.Context) error {
	n := c.order.Machines
	before, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	start := time.Now()
	scope := locksmith.PauseScope{All: true}
	if err := c.admin.Pause(ctx, locksmith.Pause{Scope: scope, By: "scale", Reason: "measured"}); err != nil {
		return err
	}
	if _, err := c.awaitState(ctx, "all to know of the pause", 5*time.Millisecond, func(s state) bool { return s.Paused >= n-1 }); err != nil {
		return err
	}
	c.figure("until all know of a pause", ms(time.Since(start)), "ms", "")
	start = time.Now()
	if err := c.admin.Resume(ctx, scope, "scale"); err != nil {
		return err
	}
	if _, err := c.awaitState(ctx, "all to know of its end", 5*time.Millisecond, func(s state) bool { return s.Paused == 0 }); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := c.quiet(ctx, c.server)
	if err != nil {
		return err
	}
	c.figure("until all know of its end", ms(took), "ms", fmt.Sprintf("%.2f requests by each for both", (after.requests-before.requests)/float64(n)))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
