package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// prefix is where locksmith keeps everything in etcd.
const prefix = "coreos.com/updateengine/rebootlock/"

func base(group string) string {
	if group == "" {
		return prefix
	}
	return prefix + "groups/" + url.QueryEscape(group) + "/"
}

// Store is what is stored in etcd at one moment, read without locksmith's code.
type Store map[string]string

type semaphore struct {
	Semaphore int
	Max       int
	Holders   []string
}

// Holders are the machine ids that hold a slot of group.
func (s Store) Holders(group string) []string {
	var sem semaphore
	// A document that is none has no holders; the Audit says that it is none.
	json.Unmarshal([]byte(s[base(group)+"semaphore"]), &sem)
	return sem.Holders
}

// Phase is the phase in machine's holder record in group, empty without one.
func (s Store) Phase(group, machine string) string {
	phase, _ := s.record(group, machine)
	return phase
}

// Reason is the reason in machine's holder record in group, empty without one.
func (s Store) Reason(group, machine string) string {
	_, reason := s.record(group, machine)
	return reason
}

func (s Store) record(group, machine string) (phase, reason string) {
	var holder struct{ Phase, Reason string }
	json.Unmarshal([]byte(s[base(group)+"holders/"+machine]), &holder)
	return holder.Phase, holder.Reason
}

// Queued says whether machine waits in group's queue.
func (s Store) Queued(group, machine string) bool {
	for key := range s {
		if rest, ok := strings.CutPrefix(key, base(group)+"queue/"); ok && strings.HasSuffix(rest, "/"+machine) {
			return true
		}
	}
	return false
}

// Present says whether machine's agent keeps its presence.
func (s Store) Present(machine string) bool {
	_, ok := s[prefix+"machines/"+machine]
	return ok
}

// Audit watches what is stored and the machines of a fleet together, and writes
// down each moment in which a guarantee does not hold:
//
//   - a machine goes down by itself without a slot in each of its groups;
//   - a slot goes away while its machine is down, and nobody allowed it;
//   - a semaphore is not max less holders, is deleted, or its holders are not
//     sorted.
//
// How many are down at once is for MostDown.
type Audit struct {
	fleet *Fleet
	etcd  *Etcd
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	down       map[string]bool // by name
	store      Store
	changed    chan struct{}
	allowed    map[string]bool // machine ids
	ever       map[string]bool // machine ids that held or queued
	slots      map[string]int  // machine ids, how often they were granted a slot
	violations []string
}

// StartAudit watches from now on, until the fleet is closed.
func (f *Fleet) StartAudit(ctx context.Context, etcd *Etcd) (*Audit, error) {
	res, err := etcd.Client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	a := &Audit{fleet: f, etcd: etcd, store: Store{}, changed: make(chan struct{}),
		down: map[string]bool{}, allowed: map[string]bool{}, ever: map[string]bool{}, slots: map[string]int{}}
	for _, kv := range res.Kvs {
		a.store[string(kv.Key)] = string(kv.Value)
	}
	watching, stop := context.WithCancel(context.Background())
	a.stop = stop
	changes := etcd.Client.Watch(watching, prefix, clientv3.WithPrefix(), clientv3.WithRev(res.Header.Revision+1))
	a.tasks.Go(func() { a.follow(watching, changes) })
	f.watch(func(e Event) {
		a.mu.Lock()
		defer a.mu.Unlock()
		reboots := e.Kind == Down && e.Boot != "plug" ||
			// Without a shutdown that could be seen: the kernel was asked at once.
			e.Kind == Off && e.Status == strconv.Itoa(rebooted) && !a.down[e.Machine]
		a.down[e.Machine] = e.Kind != Up
		if reboots && !a.closed {
			a.tasks.Go(func() { a.checkSlots(watching, e) })
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closers = append(f.closers, a.close)
	return a, nil
}

func (a *Audit) close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.tasks.Wait()
	return nil
}

// Allow lets an administrator take machine's slot from now on, although it is
// down.
func (a *Audit) Allow(m *Machine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.allowed[m.ID] = true
}

// Ever says whether m has held a slot or waited in a queue at any moment.
func (a *Audit) Ever(m *Machine) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ever[m.ID]
}

// Slots is how many slots m was granted, in all groups.
func (a *Audit) Slots(m *Machine) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.slots[m.ID]
}

// Violations are the moments in which a guarantee did not hold.
func (a *Audit) Violations() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.violations)
}

// Store is what is stored, as far as the watch has told.
func (a *Audit) Store() Store {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.store
}

// Wait returns once cond is true of what is stored.
func (a *Audit) Wait(ctx context.Context, what string, cond func(Store) bool) error {
	for {
		a.mu.Lock()
		store, changed := a.store, a.changed
		a.mu.Unlock()
		if cond(store) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; stored: %v", what, context.Cause(ctx), store)
		}
	}
}

func (a *Audit) violation(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.violations = append(a.violations, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// follow takes over each change, one revision at a time.
func (a *Audit) follow(ctx context.Context, changes clientv3.WatchChan) {
	for res := range changes {
		if err := res.Err(); err != nil {
			if ctx.Err() == nil {
				a.violation("the audit is blind: %v", err)
			}
			return
		}
		for _, change := range res.Events {
			a.change(ctx, change)
		}
	}
}

func (a *Audit) change(ctx context.Context, change *clientv3.Event) {
	key, value := string(change.Kv.Key), string(change.Kv.Value)
	a.mu.Lock()
	before := a.store[key]
	// Stores that were handed out stay as they are.
	next := make(Store, len(a.store)+1)
	for k, v := range a.store {
		next[k] = v
	}
	if change.Type == clientv3.EventTypeDelete {
		delete(next, key)
	} else {
		next[key] = value
	}
	a.store = next
	for _, m := range a.fleet.Machines() {
		waits := strings.Contains(key, "/queue/") || strings.Contains(key, "/holders/")
		if waits && strings.HasSuffix(key, "/"+m.ID) {
			a.ever[m.ID] = true
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()

	if strings.HasSuffix(key, "/semaphore") {
		a.countSlots(before, value)
		if err := a.checkSemaphore(ctx, before, value); err != nil {
			a.violation("%s: %v (was %s, is %s)", key, err, before, value)
		}
	}
}

// countSlots counts those that one change of a semaphore's document grants.
func (a *Audit) countSlots(before, after string) {
	var old, now semaphore
	json.Unmarshal([]byte(before), &old)
	json.Unmarshal([]byte(after), &now)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range now.Holders {
		if !slices.Contains(old.Holders, id) {
			a.slots[id]++
		}
	}
}

// checkSemaphore checks one change of a semaphore's document.
func (a *Audit) checkSemaphore(ctx context.Context, before, after string) error {
	var old, now semaphore
	json.Unmarshal([]byte(before), &old) // one that was unreadable has been told of before
	if err := json.Unmarshal([]byte(after), &now); err != nil {
		return err
	}
	if now.Semaphore != now.Max-len(now.Holders) || !slices.IsSorted(now.Holders) {
		return errors.New("inconsistent")
	}
	for _, id := range old.Holders {
		if slices.Contains(now.Holders, id) {
			continue
		}
		if err := a.checkRelease(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// checkRelease says whether machine id may just have lost its slot. A machine
// that gave it back itself was up before, so after Sync that is known.
func (a *Audit) checkRelease(ctx context.Context, id string) error {
	a.mu.Lock()
	allowed := a.allowed[id]
	a.mu.Unlock()
	i := slices.IndexFunc(a.fleet.Machines(), func(m *Machine) bool { return m.ID == id })
	if allowed || i < 0 {
		return nil // an administrator's, or no machine of ours
	}
	if err := a.fleet.Sync(ctx); err != nil {
		return nil // the fleet is being closed
	}
	m := a.fleet.Machines()[i]
	if !IsUp(a.fleet.Events(), m.Name) {
		return fmt.Errorf("%s lost its slot while it was down", m.Name)
	}
	return nil
}

// checkSlots looks, as long as the machine of a Down is down, whether it holds
// its slots.
func (a *Audit) checkSlots(ctx context.Context, e Event) {
	machines := a.fleet.Machines()
	m := machines[slices.IndexFunc(machines, func(m *Machine) bool { return m.Name == e.Machine })]
	for _, group := range m.Groups {
		res, err := a.etcd.Client.Get(ctx, base(group)+"semaphore")
		if ctx.Err() != nil {
			return
		}
		var sem semaphore
		if err == nil && len(res.Kvs) == 1 {
			err = json.Unmarshal(res.Kvs[0].Value, &sem)
		}
		if err != nil || !slices.Contains(sem.Holders, m.ID) {
			a.violation("%s goes down without a slot in group %q: holders %v, error %v", m.Name, group, sem.Holders, err)
		}
	}
}
