package main

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

// crew is the machines of one process. A rollout boots them all: what was up goes down
// without a word, as in a power cut, so that each rollout begins with new agents.
type crew struct {
	ctx  context.Context
	role role
	out  *teller
	leak leaker

	running func() // stops the machines and waits for them; nil: there are none
}

func newCrew(ctx context.Context, r role, out *teller) *crew {
	return &crew{ctx: ctx, role: r, out: out, leak: leaker{kind: r.Leak, endpoint: r.Etcd}}
}

func (c *crew) read(bool) {}

func (c *crew) close() {
	if c.running != nil {
		c.running()
		c.running = nil
	}
}

// wave starts rollout n.
func (c *crew) wave(n int) {
	c.close()
	seen := make(map[string]fleet.Status) // guarded by the fleet, which calls one at a time
	f, err := fleet.New(fleet.Config{
		Machines: len(c.role.Machines), Down: c.role.Down, Jitter: c.role.Down, Stay: true,
		Name:    func(i int) string { return c.role.Machines[i].ID },
		Groups:  func(i int) []locksmith.Group { return c.role.Machines[i].Groups },
		NewLock: c.newLock,
		OnChange: func(s fleet.Status) {
			c.tell(n, seen[s.Machine], s)
			seen[s.Machine] = s
		},
	})
	if err != nil {
		panic(err) // of this program's own making
	}
	ctx, cancel := context.WithCancel(c.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); ctx.Err() == nil {
			panic(err) // whoever started this process finds it gone, and why in its log
		}
	})
	c.running = func() { cancel(); wg.Wait() }
}

// tell tells what has changed with a machine.
func (c *crew) tell(wave int, before, now fleet.Status) {
	l := line{Machine: now.Machine, Wave: wave}
	switch {
	case len(now.Outages) > len(before.Outages):
		l.Kind = lineDown
	case now.Up && !before.Up:
		l.Kind = lineUp
	case before.Released.IsZero() && !now.Released.IsZero():
		l.Kind = lineReleased
	default:
		return
	}
	c.out.tell(l)
}

// newLock connects a machine that boots.
func (c *crew) newLock(machine string) (fleet.Lock, error) {
	if err := c.leak.leak(c.ctx); err != nil {
		return nil, err
	}
	if !c.role.FleetLock {
		s, err := etcd.Dial(etcd.Config{Endpoints: []string{c.role.Etcd}})
		if err != nil { // or a nil *Store in the interface would not be nil
			return nil, err
		}
		return s, nil
	}
	var groups []locksmith.Group
	for _, m := range c.role.Machines {
		if m.ID == machine {
			groups = m.Groups
		}
	}
	return newCaller(c.role, machine, groups[0])
}

// caller is the lock of a machine that speaks FleetLock, for the length of one boot.
type caller struct {
	*lockclient.Lock
	transport *http.Transport
	stop      context.CancelFunc
	tidying   sync.WaitGroup
}

func newCaller(r role, machine string, group locksmith.Group) (*caller, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = 5 * time.Second // at rest there are none
	l, err := lockclient.Open(lockclient.Config{
		Client: &fleetlock.Client{URL: r.Server, HTTP: &http.Client{Transport: transport}},
		ID:     machine, Group: group, Path: filepath.Join(r.Dir, machine+".json"),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &caller{Lock: l, transport: transport, stop: cancel}
	c.tidying.Go(func() { _ = l.Run(ctx) })
	return c, nil
}

// KeepPresence: a FleetLock server has none.
func (c *caller) KeepPresence(ctx context.Context, _ <-chan locksmith.Presence) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Close ends what the lock does by itself.
func (c *caller) Close() error {
	c.stop()
	c.tidying.Wait()
	c.transport.CloseIdleConnections()
	return nil
}
