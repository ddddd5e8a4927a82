package chaos

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
	"github.com/locksmith-reboot/locksmith/internal/memory"
	"github.com/locksmith-reboot/locksmith/test/chaos/clock"
)

// RoleVariable names the environment variable that makes the test's program one
// machine's agent: it has a Boot as JSON.
const RoleVariable = "LOCKSMITH_CHAOS_MACHINE"

// eventsFile is the number of the pipe to which the agent's process writes what
// happens. All of them share it, and its order is the order of what happened.
const eventsFile = 3

// Boot is what the process of an agent is told.
type Boot struct {
	Machine   string
	Groups    []locksmith.Group
	BootID    string
	Endpoints []string
	Memory    string        // the file with what the machine remembers
	Clock     string        // the file that sets its clock; empty: it has the real one
	Needed    bool          // this boot was told already that a reboot is needed
	Users     time.Duration // somebody is logged in, and given so long; 0: nobody is
	Sick      bool          // the first check after the boot does not pass
	FleetLock string        // the URL of the server that keeps the slot; empty: the store does

	// Thief has the agent take slots without looking whether there are any: the
	// checks have to see it.
	Thief bool
}

// leaseTTL is that of the agents: short, so that queues move on soon after one was
// killed for good.
const leaseTTL = 3 * time.Second

// callTimeout is that of the agents' requests.
const callTimeout = 3 * time.Second

// RunMachine is the process of one machine's agent, from its start until it is
// killed. doc is the Boot. Lines on standard input say that a reboot is needed, and
// that a phase was heard of.
func RunMachine(ctx context.Context, doc string) error {
	var b Boot
	if err := json.Unmarshal([]byte(doc), &b); err != nil {
		return fmt.Errorf("%s: %w", RoleVariable, err)
	}
	if b.Clock != "" {
		if err := clock.Follow(b.Clock); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("machine", b.Machine, "boot", b.BootID[:8])
	store, err := etcd.Dial(etcd.Config{Endpoints: b.Endpoints, Timeout: callTimeout, LeaseTTL: leaseTTL, Log: log})
	if err != nil {
		return err
	}
	defer store.Close()
	file, remembered, err := memory.Open(b.Memory)
	if err != nil {
		return err
	}
	asked, heard := make(chan struct{}), make(chan struct{})
	go listenTo(os.Stdin, asked, heard)
	says := &teller{out: os.NewFile(eventsFile, "events"), boot: b, heard: heard}
	var lock agent.Lock = store
	strategy := locksmith.StrategyEtcdLock
	switch {
	case b.Thief:
		client, err := clientv3.New(clientv3.Config{Endpoints: b.Endpoints})
		if err != nil {
			return err
		}
		defer client.Close()
		lock = &thief{Lock: store, client: client}
	case b.FleetLock != "":
		strategy = locksmith.StrategyFleetLock
		kept, err := lockclient.Open(lockclient.Config{
			Client: &fleetlock.Client{URL: b.FleetLock}, ID: b.Machine, Group: b.Groups[0],
			Path: filepath.Join(filepath.Dir(b.Memory), "fleet-lock.json"), Log: log,
		})
		if err != nil {
			return err
		}
		go kept.Run(ctx) // until the process is killed
		lock = kept
	}
	lock = &witness{Lock: lock, says: says}
	ways := &habits{}
	ways.sick.Store(b.Sick)
	a, err := agent.New(agent.Config{
		MachineID: b.Machine, BootID: b.BootID, Hostname: b.Machine, Groups: b.Groups,
		Strategy: strategy, Priority: locksmith.DefaultPriority,
		Lock: lock, Machine: &hardware{says: says, users: b.Users > 0}, LoginDelay: cmp.Or(b.Users, loginDelay),
		Steps: ways, Blockers: []agent.Check{&habits{}}, Verifiers: []agent.Check{ways}, Triggers: []agent.Trigger{&need{boot: b, asked: asked}},
		Memory: remembered, Remember: file.Save, OnChange: says.phase, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// What the harness says on an agent's standard input, a line each.
const (
	orderNeed  = "need\n"  // a reboot is needed
	orderHeard = "heard\n" // go on: the phase was written down
)

// listenTo reads what the harness says. asked is closed at its first need.
func listenTo(harness io.Reader, asked chan<- struct{}, heard chan<- struct{}) {
	for lines := bufio.NewScanner(harness); lines.Scan(); {
		switch lines.Text() + "\n" {
		case orderNeed:
			close(asked)
		case orderHeard:
			heard <- struct{}{}
		}
	}
}

// teller writes down what happens, one line each.
type teller struct {
	out   *os.File
	boot  Boot
	heard <-chan struct{} // something for each phase
	last  locksmith.Phase // of the line before; phase is called by one goroutine
}

func (t *teller) tell(kind, note string) {
	if err := writeLine(t.out, Line{Machine: t.boot.Machine, Boot: t.boot.BootID, Kind: kind, Note: note}); err != nil {
		panic(err) // nothing could be judged any more
	}
}

// phase tells of a new phase before anything is done in it, and waits until that was
// heard: who is to die in it gets no further.
func (t *teller) phase(s agent.Status) {
	if s.Phase != t.last {
		t.last = s.Phase
		t.tell(KindPhase, string(s.Phase))
		<-t.heard
	}
}

// witness is a lock that writes down what it is asked for, and what it grants.
type witness struct {
	agent.Lock
	says *teller
}

// Acquire asks for the slots.
func (h *witness) Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error) {
	h.says.tell(KindAsks, AskSlot)
	slots, err := h.Lock.Acquire(ctx, req, report)
	if err == nil {
		h.says.tell(KindGranted, AskSlot)
	}
	return slots, err
}

// Advance asks whether the machine may reboot, where that is the step.
func (h *witness) Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error) {
	if phase != locksmith.PhaseRebooting {
		return h.Lock.Advance(ctx, slots, phase, reason)
	}
	h.says.tell(KindAsks, AskReboot)
	slots, err := h.Lock.Advance(ctx, slots, phase, reason)
	if err == nil {
		h.says.tell(KindGranted, AskReboot)
	}
	return slots, err
}

// hardware is the machine as the agent of one boot sees it.
type hardware struct {
	says  *teller
	users bool
	mu    sync.Mutex
	down  bool
}

// Reboot says that the machine is down, before anything else, and leaves it to the
// harness to end the process: from the call on it counts as down.
func (h *hardware) Reboot(context.Context, locksmith.Method) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return errors.New("the machine is down already")
	}
	h.down = true
	h.says.tell(KindDown, "")
	return nil
}

// GoingDown is true from the reboot on.
func (h *hardware) GoingDown(context.Context) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down, nil
}

// Sessions is one, or none.
func (h *hardware) Sessions(context.Context) ([]agent.Session, error) {
	if !h.users {
		return nil, nil
	}
	return []agent.Session{{ID: "1", User: "alice"}}, nil
}

// SessionChanges never happen.
func (h *hardware) SessionChanges(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Tell reaches nobody.
func (h *hardware) Tell(context.Context, []agent.Session, string) error { return nil }

// need is the trigger: the harness says when.
type need struct {
	boot  Boot
	asked <-chan struct{} // closed when this process is told
}

// Name is the trigger's.
func (n *need) Name() string { return "chaos" }

// Watch reports what the harness said before, and then that a reboot is needed once
// it says so.
func (n *need) Watch(ctx context.Context, report func(agent.Need)) error {
	reason := "asked for in boot " + n.boot.BootID // each its own, or the breaker would see one that was not cured
	report(agent.Need{Trigger: n.Name(), Needed: n.boot.Needed, Reason: reason})
	select {
	case <-n.asked:
		report(agent.Need{Trigger: n.Name(), Needed: true, Reason: reason})
	case <-ctx.Done():
	}
	<-ctx.Done()
	return context.Cause(ctx)
}
