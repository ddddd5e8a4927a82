package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// errRebooting is why a boot ends that a reboot follows.
var errRebooting = errors.New("the machine goes down for its reboot")

// machine is one simulated machine through all its boots.
type machine struct {
	fleet *Fleet
	lost  bool // does not come back

	// Guarded by the fleet's mu, but for the record's id and groups, which
	// never change.
	status Status
	done   bool // was counted as rebooted
}

func (m *machine) id() string { return m.status.Machine }

// run boots the machine until ctx ends, or it cannot boot.
func (m *machine) run(ctx context.Context) error {
	for {
		wentDown, err := m.boot(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if m.lost {
			<-ctx.Done()
			return nil
		}
		down := m.fleet.cfg.Down + rand.N(m.fleet.cfg.Jitter+1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(wentDown.Add(down))):
		}
	}
}

// boot is one boot, from the agent's start until it is stopped by ctx, or by a
// reboot. It returns when the machine went down.
func (m *machine) boot(ctx context.Context) (wentDown time.Time, err error) {
	cfg := m.fleet.cfg
	lock, err := cfg.NewLock(m.id())
	if err != nil {
		return time.Time{}, fmt.Errorf("connecting to the lock: %w", err)
	}
	defer func() {
		if err := lock.Close(); err != nil {
			cfg.Log.Warn("the lock was not closed cleanly", "machine", m.id(), "error", err)
		}
	}()
	ctx, shutdown := context.WithCancelCause(ctx)
	defer shutdown(nil)
	hw := &hardware{m: m, shutdown: shutdown}
	bootID := newBootID()
	said := m.newSpeaker(bootID)
	a, err := agent.New(agent.Config{
		MachineID: m.id(), BootID: bootID, Hostname: m.id(), Groups: m.status.Groups,
		Strategy: locksmith.StrategyEtcdLock, Priority: locksmith.DefaultPriority,
		Lock: lock, Machine: hw, Triggers: []agent.Trigger{update{m}},
		Window: cfg.Window, OnChange: func(s agent.Status) { m.observe(s); said.say(s) }, Log: cfg.Log,
	})
	if err != nil {
		return time.Time{}, err
	}
	// Whatever came before this instant counts as down, and whatever comes after
	// the call to Reboot: what is measured is never shorter than what was.
	m.fleet.change(m, func(now time.Time, s *Status) {
		if n := len(s.Outages); n > 0 {
			s.Outages[n-1].To = now
		}
		s.Up, s.Agent = true, a.Status()
		s.Boots++
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := lock.KeepPresence(ctx, said.latest); ctx.Err() == nil {
			shutdown(fmt.Errorf("the presence ended: %v", err))
		}
	})
	cause := a.Run(ctx)
	wg.Wait()
	if errors.Is(cause, errRebooting) {
		return hw.wentDown, nil
	}
	return time.Time{}, cause
}

// speaker turns what the agent of one boot says into the machine's presence.
type speaker struct {
	presence locksmith.Presence
	latest   chan locksmith.Presence // holds at most the newest
}

func (m *machine) newSpeaker(bootID string) *speaker {
	s := &speaker{latest: make(chan locksmith.Presence, 1), presence: locksmith.Presence{
		MachineID: m.id(), Hostname: m.id(), Groups: m.status.Groups, BootID: bootID,
		Strategy: locksmith.StrategyEtcdLock, OS: "simulated", Started: time.Now().Unix(),
	}}
	s.latest <- s.presence
	return s
}

// say is called by one goroutine at a time, so that it never waits.
func (s *speaker) say(a agent.Status) {
	p := s.presence
	p.Phase, p.PhaseTime, p.Reason, p.Waiting = a.Phase, a.Since.Unix(), a.Reason, a.Waiting
	if !a.NeededSince.IsZero() {
		p.NeededSince = a.NeededSince.Unix()
	}
	select {
	case <-s.latest:
	default:
	}
	s.latest <- p
}

// observe notes what the agent says of itself.
func (m *machine) observe(a agent.Status) {
	m.fleet.change(m, func(now time.Time, s *Status) {
		rebooted := len(s.Outages) > 0
		switch {
		case !rebooted && a.Held && !s.Agent.Held:
			s.Granted = now
		case !rebooted && !a.Held: // given back without a reboot
			s.Granted = time.Time{}
		case rebooted && s.Up && a.Phase == locksmith.PhaseIdle && s.Released.IsZero(): // holds nothing there
			s.Released = now
		}
		s.Agent = a
	})
}

// hardware is the machine as the agent of one boot sees it. Nobody logs in.
type hardware struct {
	m        *machine
	shutdown context.CancelCauseFunc

	mu       sync.Mutex
	wentDown time.Time // zero: it is up
}

// Reboot takes the machine down at once.
func (h *hardware) Reboot(context.Context, locksmith.Method) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.wentDown.IsZero() {
		return errRebooting
	}
	h.m.fleet.change(h.m, func(now time.Time, s *Status) {
		h.wentDown = now
		s.Outages = append(s.Outages, Outage{From: now})
		s.Up = false
	})
	h.shutdown(errRebooting)
	return nil
}

// GoingDown is true from the reboot on.
func (h *hardware) GoingDown(context.Context) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.wentDown.IsZero(), nil
}

func (h *hardware) Sessions(context.Context) ([]agent.Session, error) { return nil, nil }

func (h *hardware) SessionChanges(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (h *hardware) Tell(context.Context, []agent.Session, string) error { return nil }

// update is the trigger: an update that takes effect with the first reboot.
type update struct{ m *machine }

func (u update) Name() string { return "simulation" }

func (u update) Watch(ctx context.Context, report func(agent.Need)) error {
	u.m.fleet.mu.Lock()
	needed := len(u.m.status.Outages) == 0
	if needed && u.m.status.Needed.IsZero() {
		u.m.status.Needed = time.Now()
	}
	u.m.fleet.mu.Unlock()
	report(agent.Need{Needed: needed, Reason: "simulated update"})
	<-ctx.Done()
	return context.Cause(ctx)
}

// newBootID is a random UUID, as the kernel gives each boot.
func newBootID() string {
	s := locksmith.NewNonce()
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
