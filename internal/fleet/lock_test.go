package fleet_test

import (
	"context"
	"slices"
	"sync"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// memory is a reboot lock in memory: one line for all groups, first come, first
// served, and whoever has room in all of its groups may pass those who have not.
type memory struct {
	mu      sync.Mutex
	max     map[locksmith.Group]int
	held    map[string]locksmith.Slots // by machine
	waiting []*waiter
	granted []string        // machines, in order
	boots   map[string]bool // boot IDs that took a slot
	present map[string]bool
	open    int // connections
	evil    bool
}

type waiter struct {
	req     locksmith.Request
	granted chan struct{}
}

func newMemory(max map[locksmith.Group]int) *memory {
	return &memory{max: max, held: make(map[string]locksmith.Slots), boots: make(map[string]bool), present: make(map[string]bool)}
}

func (m *memory) connect(machine string) (fleet.Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open++
	return &connection{memory: m, machine: machine}, nil
}

// grant serves whoever can be served.
func (m *memory) grant() {
	m.waiting = slices.DeleteFunc(m.waiting, func(w *waiter) bool {
		for _, g := range w.req.Groups {
			taken := 0
			for _, s := range m.held {
				if slices.Contains(s.Groups, g) {
					taken++
				}
			}
			if taken >= m.max[g] && !m.evil {
				return false
			}
		}
		m.held[w.req.MachineID] = locksmith.Slots{Groups: w.req.Groups, Record: locksmith.Holder{
			MachineID: w.req.MachineID, BootID: w.req.BootID, By: w.req.By, Nonce: "nonce",
		}}
		m.granted = append(m.granted, w.req.MachineID)
		m.boots[w.req.BootID] = true
		close(w.granted)
		return true
	})
}

func (m *memory) unlock(machine string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, machine)
	m.grant()
}

func (m *memory) holders() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.held {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m *memory) isPresent(machine string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.present[machine]
}

// connection is one machine's.
type connection struct {
	*memory
	machine string
}

func (c *connection) Find(_ context.Context, machine string, _ []locksmith.Group) (locksmith.Slots, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[machine], nil
}

func (c *connection) Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	return c.Find(ctx, machine, groups)
}

func (c *connection) Acquire(ctx context.Context, req locksmith.Request, _ func(string)) (locksmith.Slots, error) {
	w := &waiter{req, make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, w)
	c.grant()
	c.mu.Unlock()
	select {
	case <-w.granted:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, w); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return locksmith.Slots{}, context.Cause(ctx)
	}
	return c.held[req.MachineID], nil
}

func (c *connection) Advance(_ context.Context, s locksmith.Slots, phase locksmith.Phase, _ string) (locksmith.Slots, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[s.Record.MachineID]; !ok {
		return locksmith.Slots{Record: s.Record}, locksmith.ErrSlotLost
	}
	s.Record.Phase = phase
	c.held[s.Record.MachineID] = s
	return s, nil
}

// Nobody pauses anything here.
func (c *connection) FollowPauses(ctx context.Context, _ string, _ []locksmith.Group, changed func([]locksmith.Pause)) error {
	changed(nil)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (c *connection) Release(_ context.Context, s locksmith.Slots, _ locksmith.Result) error {
	c.unlock(s.Record.MachineID)
	return nil
}

func (c *connection) KeepPresence(ctx context.Context, latest <-chan locksmith.Presence) error {
	p := <-latest
	c.mu.Lock()
	c.present[p.MachineID] = true
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.present[p.MachineID] = false
	c.mu.Unlock()
	return context.Cause(ctx)
}

func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	return nil
}
