package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// rolloutDown is how long a simulated machine is down: short, so that what locksmith adds
// is a large part of what is measured.
const rolloutDown = time.Second

// rollout is a fleet that reboots, of which so many machines of each group may be down.
type rollout struct {
	machines, groups, atOnce int
}

// rollouts reboots fleets and holds the time against the ideal: as many at a time as may
// be, with nothing in between.
func (s *scale) rollouts(ctx context.Context) (err error) {
	for _, r := range []rollout{{100, 1, 20}, {1000, 1, 10}, {1000, 1, 50}, {999, 3, 10}, {10_000, 1, 100}, {9999, 3, 33}, {10_000, 1, 500}} {
		if r.machines < s.smallest || r.machines > s.largest {
			continue
		}
		err = errors.Join(err, s.within(ctx, r.name(), r.machines, func(ctx context.Context) error { return s.rollout(ctx, r) }))
	}
	return err
}

// ideal is how long the largest group takes.
func (r rollout) ideal() time.Duration {
	largest := (r.machines + r.groups - 1) / r.groups
	return time.Duration((largest+r.atOnce-1)/r.atOnce) * rolloutDown
}

func (r rollout) name() string {
	name := fmt.Sprintf("rollout, %d at a time", r.atOnce)
	if r.groups > 1 {
		name += fmt.Sprintf(" in each of %d groups", r.groups)
	}
	return name
}

// setMax is how many machines of each group may be down.
func (r rollout) setMax(ctx context.Context, admin *etcd.Store, n int) error {
	for _, g := range groupNames(r.groups) {
		if _, err := admin.SetMax(ctx, g, n, "scale"); err != nil {
			return err
		}
	}
	return nil
}

// rollout has all machines wait first, with no slot to be had. What is measured begins
// when there are some.
func (s *scale) rollout(ctx context.Context, r rollout) error {
	s.say("rollout of %d machines in %d groups, %d of each at a time", r.machines, r.groups, r.atOnce)
	c, err := s.gather(order{Machines: r.machines, Groups: r.groups, Down: rolloutDown}, func(admin *etcd.Store) error { return r.setMax(ctx, admin, 0) })
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.fill(ctx); err != nil {
		return err
	}
	before, err := c.quiet(ctx, c.server)
	if err != nil {
		return err
	}
	seen, err := c.presences(ctx)
	if err != nil {
		return err
	}
	start, err := c.reboot(ctx, r)
	if err != nil {
		return err
	}
	after, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	written, err := c.presences(ctx)
	if err != nil {
		return err
	}
	end, err := c.state(askReport)
	if err != nil {
		return err
	}
	if err := r.check(end); err != nil {
		return err
	}
	n := float64(r.machines)
	s.add(figure{Name: r.name(), Machines: r.machines, Measured: end.Last.Sub(start).Seconds(), Unit: "s", Ideal: r.ideal().Seconds(),
		Note: fmt.Sprintf("%v down each; at most %d of a group at once", rolloutDown, end.Most)})
	s.add(figure{Name: r.name() + ", etcd", Machines: r.machines, Measured: (after.requests - before.requests) / n, Unit: "requests/machine",
		Note: fmt.Sprintf("but keep-alives; watches opened count; %.2f ms of etcd's CPU each", 1000*(after.cpu-before.cpu)/n)})
	s.add(figure{Name: r.name() + ", presence", Machines: r.machines, Measured: float64(written-seen) / n, Unit: "writes/machine", Note: "from its place in the queue to the end of its reboot"})
	return nil
}

// reboot lets the machines go, and returns when that was, once all are through.
func (c *crowd) reboot(ctx context.Context, r rollout) (start time.Time, err error) {
	start = time.Now()
	if err := r.setMax(ctx, c.admin, r.atOnce); err != nil {
		return start, err
	}
	_, err = c.awaitState(ctx, "all to have rebooted", 50*time.Millisecond, func(s state) bool {
		c.reached = fmt.Sprintf("%d of %d machines had rebooted %.0f s after they could, which is ideally done in %.0f s",
			s.Released, r.machines, time.Since(start).Seconds(), r.ideal().Seconds())
		return s.Released == r.machines
	})
	return start, err
}

// check holds what the machines did against what they may.
func (r rollout) check(end state) error {
	if end.Most > r.atOnce {
		return fmt.Errorf("%d machines of a group were down at once, of which %d may be", end.Most, r.atOnce)
	}
	if len(end.Unproven) > 0 {
		return fmt.Errorf("%d machines did not reboot exactly once: %.200s", len(end.Unproven), fmt.Sprint(end.Unproven))
	}
	return nil
}

// presences counts how often one was written.
func (c *crowd) presences(ctx context.Context) (n int64, err error) {
	resp, err := c.client.Get(ctx, root+"seen/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	for _, kv := range resp.Kvs {
		n += kv.Version
	}
	return n, nil
}

func (s *scale) add(f figure) { s.result.Figures = append(s.result.Figures, f) }

// figure takes down one of the crowd.
func (c *crowd) figure(name string, measured float64, unit, note string) {
	c.add(figure{Name: name, Machines: c.order.Machines, Measured: measured, Unit: unit, Note: note})
}
