// Package fleet runs simulated machines on the real agent: each has a lock of its
// own, a queue to wait in, a reboot to go through and a boot to prove. Only the
// reboot itself is simulated: the agent stops and its connection closes, and after
// a while a new agent starts with another boot ID and finds what the first one left.
//
// The package keeps its own record of when each machine was down, so that whether
// a limit held is judged from what happened and not from what the lock says. It
// must not know how the lock is kept: callers hand it connections.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// Lock is one machine's connection to the reboot lock for the length of one boot.
// *etcd.Store is one.
type Lock interface {
	agent.Lock

	// KeepPresence shows that the machine's agent runs, and what it last said of
	// itself, until ctx ends.
	KeepPresence(ctx context.Context, latest <-chan locksmith.Presence) error

	// Close leaves the queue and withdraws the presence, as when the process
	// ends at a shutdown. Slots stay held.
	io.Closer
}

// Config says what fleet to run.
type Config struct {
	Machines int // required, 1 or more

	// NewLock connects a machine that boots. Required. An error ends Run.
	NewLock func(machine string) (Lock, error)

	// Name is the id and host name of machine i, from 0. Nil: m1, m2, …, with
	// leading zeros so that they sort.
	Name func(i int) string

	// Groups are those of machine i, as locksmith.ParseGroups returns them.
	// Nil: the default group.
	Groups func(i int) []locksmith.Group

	Down   time.Duration // required: how long a machine is down in a reboot
	Jitter time.Duration // up to this much is added to Down at random; 0: nothing
	Window agent.Window  // when reboots are allowed; nil: always

	// Lost says that machine i goes down for its reboot and does not come back.
	// Nil: all come back.
	Lost func(i int) bool

	// Stay keeps the machines up after the last one has rebooted, until Run's
	// context ends.
	Stay bool

	// OnChange, if not nil, is told a machine's new state after each change:
	// one call at a time, in the order in which things happened. It must not
	// block, nor call the Fleet.
	OnChange func(Status)

	Log *slog.Logger // of the agents; nil: discard
}

// Status is one machine at one moment.
type Status struct {
	Record
	Up    bool         // an agent runs
	Agent agent.Status // as the agent last described itself; zero before its first word
}

// Fleet is a number of simulated machines, all of which need a reboot from the
// start until they have had it.
type Fleet struct {
	cfg      Config
	machines []*machine

	mu   sync.Mutex // guards what is observed of the machines, and orders OnChange
	left int        // machines that have not been through their reboot
	all  chan struct{}
}

// errAllRebooted is why a fleet stops that has done what it was to do.
var errAllRebooted = errors.New("every machine has rebooted")

// New checks cfg and returns a fleet that Run sets going, once.
func New(cfg Config) (*Fleet, error) {
	switch {
	case cfg.Machines < 1:
		return nil, fmt.Errorf("fleet: %d machines: must be 1 or more", cfg.Machines)
	case cfg.NewLock == nil:
		return nil, errors.New("fleet: NewLock is required")
	case cfg.Down <= 0 || cfg.Jitter < 0:
		return nil, fmt.Errorf("fleet: down for %v and up to %v more: Down must be more than 0, Jitter 0 or more", cfg.Down, cfg.Jitter)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == nil {
		width := len(fmt.Sprint(cfg.Machines))
		cfg.Name = func(i int) string { return fmt.Sprintf("m%0*d", width, i+1) }
	}
	f := &Fleet{cfg: cfg, left: cfg.Machines, all: make(chan struct{})}
	for i := range cfg.Machines {
		id, groups := cfg.Name(i), []locksmith.Group{""}
		if cfg.Groups != nil {
			groups = cfg.Groups(i)
		}
		if err := locksmith.CheckMachineID(id); err != nil {
			return nil, fmt.Errorf("fleet: machine %d: %w", i, err)
		}
		if len(groups) == 0 {
			return nil, fmt.Errorf("fleet: machine %s is in no group", id)
		}
		f.machines = append(f.machines, &machine{
			fleet: f, lost: cfg.Lost != nil && cfg.Lost(i),
			status: Status{Record: Record{Machine: id, Groups: groups}},
		})
	}
	return f, nil
}

// Run boots all machines and returns nil when each has rebooted once and given its
// slots back. With Stay, or when ctx ends before that, it returns ctx's cause.
// Either way all machines have stopped when it returns; slots they held at that
// moment stay held.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, m := range f.machines {
		wg.Go(func() {
			if err := m.run(ctx); err != nil {
				cancel(fmt.Errorf("machine %s: %w", m.id(), err))
			}
		})
	}
	all := f.all
	if f.cfg.Stay {
		all = nil
	}
	select {
	case <-all:
		cancel(errAllRebooted)
	case <-ctx.Done():
	}
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, errAllRebooted) {
		return cause
	}
	return nil
}

// Report is what has been observed so far. It may be called at any time.
func (f *Fleet) Report() Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := Report{Machines: make([]Record, len(f.machines))}
	for i, m := range f.machines {
		r.Machines[i] = m.status.clone()
	}
	return r
}

// change applies what was observed of m at this moment and tells OnChange.
func (f *Fleet) change(m *machine, apply func(now time.Time, s *Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	apply(time.Now(), &m.status)
	if f.cfg.OnChange != nil {
		s := m.status
		s.Record = s.clone()
		f.cfg.OnChange(s)
	}
	if !m.done && !m.status.Released.IsZero() {
		m.done = true
		if f.left--; f.left == 0 {
			close(f.all)
		}
	}
}

func (r Record) clone() Record {
	r.Outages = slices.Clone(r.Outages)
	return r
}
