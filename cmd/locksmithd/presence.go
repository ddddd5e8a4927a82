package main

import (
	"context"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// presence is what etcd is told of this machine.
func (d *daemon) presence(s agent.Status) locksmith.Presence {
	p := s.Presence()
	p.OS, p.Kernel, p.Version, p.Started = d.me.OS, d.me.Kernel, d.me.Version, d.me.Started
	return p
}

// keepPresence shows in etcd that this machine's agent lives. Where etcd may not even
// exist, it waits until it does.
func (d *daemon) keepPresence(ctx context.Context) error {
	if d.store == nil {
		return nil
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		use, err := d.useLock(ctx)
		if use && err == nil {
			return d.store.KeepPresence(ctx, d.presences)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// why says why this machine has or has not rebooted: its own conditions, and where a
// reboot is needed or slots are held, its place in each group.
func (d *daemon) why(ctx context.Context) locksmith.Why {
	now := time.Now()
	s := d.agent.Status()
	w := locksmith.Why{Time: now.Unix(), Machine: locksmith.MachineStatus{Presence: d.presence(s), Present: true}}
	w.Machine.Seen = now.Unix()
	for _, p := range s.Pauses {
		if p.Scope.Machine != "" {
			w.Machine.Pauses = append(w.Machine.Pauses, p)
		}
	}
	if d.fleetLock != nil {
		if h := d.fleetLock.Held(); h != nil {
			h.Groups = nil // those of etcd's semaphores, from which commands could take it
			w.Machine.Holds = h
		}
		return w
	}
	if d.store == nil || !s.Needed && !s.Held {
		return w
	}
	if use, err := d.useLock(ctx); err == nil && !use {
		return w
	}
	for _, g := range s.Groups {
		status, err := d.store.Status(ctx, g)
		if err != nil {
			w.Places, w.StoreError = nil, err.Error()
			return w
		}
		for _, h := range status.Holders {
			if h.MachineID == s.MachineID {
				w.Machine.Holds = &h.Holder
			}
		}
		w.Places = append(w.Places, locksmith.PlaceOf(status, s.MachineID))
	}
	return w
}
