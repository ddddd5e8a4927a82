package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// agentsArg is the first argument of the process that simulates the machines. It is one
// of its own, so that it can be measured apart and gives way to etcd: real machines
// bring processors of their own.
const agentsArg = "agents"

// order says which machines to simulate: the first line that the process reads.
type order struct {
	Endpoint string
	Machines int
	Groups   int           // that they are spread over; 1: the default group
	Down     time.Duration // in a reboot
	Abreast  int           // how many may be on their way into the queue at a time
	LeaseTTL time.Duration // of each machine's lease
}

// state is what the machines are doing: the answer to each further line.
type state struct {
	Started  int // agents, reboots not counted
	Granted  int // of all machines so many got slots to reboot with
	Down     int // so many went down
	Paused   int // so many know of a pause at this moment
	Released int // so many have rebooted and given back their slots

	Connections int64   // made so far
	Lost        int64   // of them, so many are gone
	Refusals    int64   // requests that failed and were not given up by who asked
	Bytes       float64 // heap and stacks, after a collection; only where it was asked for

	Last time.Time // when the last machine gave back its slots; zero: none did

	Most     int      // machines of one group that were down at once; only where it was asked for
	Unproven []string // machines that did not reboot exactly once; only where it was asked for
	Failure  string   // why the fleet stopped; empty: it runs, or is done
}

// Questions, each a line.
const (
	askOpen   = "open" // start the machines, once
	askState  = "state"
	askMemory = "memory"
	askReport = "report" // with Most and Unproven
)

// simulate is the whole process: it runs until its standard input ends.
func simulate(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) int {
	lines := bufio.NewScanner(stdin)
	out := json.NewEncoder(stdout)
	var o order
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &o) != nil {
		fmt.Fprintf(stderr, "scale %s: this is how scale runs itself, and not for people\n", agentsArg)
		return 2
	}
	ctx, stop := context.WithCancel(ctx)
	m, err := newMachines(ctx, o)
	if err != nil {
		stop()
		fmt.Fprintln(stderr, "scale:", err)
		return 1
	}
	var running sync.WaitGroup
	for lines.Scan() {
		if lines.Text() == askOpen {
			running.Go(func() { m.run(ctx) })
		}
		if err := out.Encode(m.answer(lines.Text())); err != nil {
			break
		}
	}
	stop()
	running.Wait()
	return 0
}

// machines is the fleet of one process.
type machines struct {
	order order
	fleet *fleet.Fleet
	gate  *gate
	links links

	mu    sync.Mutex
	each  map[string]facts
	state state
}

func newMachines(ctx context.Context, o order) (*machines, error) {
	m := &machines{order: o, each: make(map[string]facts)}
	client, err := newClient(o.Endpoint)
	if err != nil {
		return nil, err
	}
	m.gate = &gate{client: client, groups: groupNames(o.Groups), abreast: o.Abreast, free: make(chan struct{})}
	m.fleet, err = fleet.New(fleet.Config{Machines: o.Machines, Down: o.Down, OnChange: m.observe,
		Groups:  func(i int) []locksmith.Group { return []locksmith.Group{groupNames(o.Groups)[i%o.Groups]} },
		NewLock: func(name string) (fleet.Lock, error) { return m.dial(ctx, name) }})
	return m, err
}

// dial is a machine's connection, with what a daemon's has. The first one waits until
// there is room at the gate.
func (m *machines) dial(ctx context.Context, name string) (fleet.Lock, error) {
	m.mu.Lock()
	_, known := m.each[name]
	m.mu.Unlock()
	if !known {
		select {
		case <-m.gate.free:
		case <-ctx.Done():
		}
	}
	return etcd.Dial(etcd.Config{Endpoints: []string{m.order.Endpoint}, LeaseTTL: m.order.LeaseTTL, DialOptions: []grpc.DialOption{grpc.WithStatsHandler(&m.links)}})
}

// run is the fleet's life.
func (m *machines) run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var gate sync.WaitGroup
	gate.Go(func() {
		if err := m.gate.run(ctx, m.order.Machines); err != nil {
			cancel(err)
		}
	})
	err := m.fleet.Run(ctx)
	gate.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.state.Failure = err.Error()
	}
}

// facts are what is counted of a machine: that it was granted its slots, went down, knows
// of a pause, and gave its slots back.
type facts [4]bool

func factsOf(s fleet.Status) facts {
	return facts{!s.Granted.IsZero(), len(s.Outages) > 0, len(s.Agent.Pauses) > 0, !s.Released.IsZero()}
}

// observe keeps count.
func (m *machines) observe(s fleet.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, known := m.each[s.Machine]
	if !known {
		m.state.Started++
	}
	now := factsOf(s)
	m.each[s.Machine] = now
	for i, count := range []*int{&m.state.Granted, &m.state.Down, &m.state.Paused, &m.state.Released} {
		switch {
		case now[i] && !before[i]:
			*count++
		case before[i] && !now[i]:
			*count--
		}
	}
	if s.Released.After(m.state.Last) {
		m.state.Last = s.Released
	}
}

func (m *machines) answer(question string) state {
	m.mu.Lock()
	s := m.state
	m.mu.Unlock()
	s.Connections, s.Lost, s.Refusals = m.links.made.Load(), m.links.lost.Load(), m.links.refused.Load()
	switch question {
	case askMemory:
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		s.Bytes = float64(mem.HeapAlloc + mem.StackInuse)
	case askReport:
		report := m.fleet.Report()
		for _, r := range report.Machines {
			if !r.RebootedOnce() {
				s.Unproven = append(s.Unproven, r.Machine)
			}
		}
		for _, p := range report.Peaks() {
			s.Most = max(s.Most, p.Down)
		}
	}
	return s
}
