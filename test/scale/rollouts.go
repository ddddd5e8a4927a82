package main

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
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
func (s *scale) rollouts(ctx context.Context) error {
	for _, r := range []rollout{{100, 1, 20}, {1000, 1, 10}, {1000, 1, 50}, {999, 3, 10}, {10_000, 1, 100}, {10_000, 1, 500}} {
		if r.machines > s.largest {
			continue
		}
		if err := s.rollout(ctx, r); err != nil {
			return fmt.Errorf("%d machines, %d at a time: %w", r.machines, r.atOnce, err)
		}
	}
	return nil
}

func (r rollout) group(i int) locksmith.Group {
	if r.groups == 1 {
		return ""
	}
	return locksmith.Group(fmt.Sprintf("zone-%d", i%r.groups))
}

// ideal is how long the largest group takes.
func (r rollout) ideal() time.Duration {
	largest := (r.machines + r.groups - 1) / r.groups
	return time.Duration((largest+r.atOnce-1)/r.atOnce) * rolloutDown
}

func (s *scale) rollout(ctx context.Context, r rollout) error {
	s.say("rollout of %d machines in %d groups, %d of each at a time", r.machines, r.groups, r.atOnce)
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
	allowed := make(map[locksmith.Group]int)
	for i := range r.groups {
		allowed[r.group(i)] = r.atOnce
		if _, err := admin.SetMax(ctx, r.group(i), r.atOnce, "scale"); err != nil {
			return err
		}
	}
	f, err := fleet.New(fleet.Config{
		Machines: r.machines, Down: rolloutDown,
		Groups:  func(i int) []locksmith.Group { return []locksmith.Group{r.group(i)} },
		NewLock: func(string) (fleet.Lock, error) { return dial(server) },
	})
	if err != nil {
		return err
	}
	before, err := countsOf(ctx, server)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := f.Run(ctx); err != nil {
		return err
	}
	after, err := countsOf(ctx, server)
	if err != nil {
		return err
	}
	report := f.Report()
	if over := report.Exceeded(allowed); len(over) > 0 {
		return fmt.Errorf("more were down at once than may be: %+v", over)
	}
	took, most := time.Duration(0), 0
	for _, m := range report.Machines {
		if !m.RebootedOnce() {
			return fmt.Errorf("%s did not reboot once: %+v", m.Machine, m)
		}
		took = max(took, m.Released.Sub(start))
	}
	for _, p := range report.Peaks() {
		most = max(most, p.Down)
	}
	name := fmt.Sprintf("rollout, %d at a time", r.atOnce)
	if r.groups > 1 {
		name += fmt.Sprintf(" in each of %d groups", r.groups)
	}
	s.add(figure{Name: name, Machines: r.machines, Measured: took.Seconds(), Unit: "s", Ideal: r.ideal().Seconds(),
		Note: fmt.Sprintf("%v down each; at most %d of a group at once", rolloutDown, most)})
	s.add(figure{Name: name + ", etcd", Machines: r.machines, Measured: (after.requests - before.requests) / float64(r.machines), Unit: "requests/machine",
		Note: fmt.Sprintf("but keep-alives; watches opened count; %.2f ms of etcd's CPU each", 1000*(after.cpu-before.cpu)/float64(r.machines))})
	return nil
}

func (s *scale) add(f figure) { s.result.Figures = append(s.result.Figures, f) }
