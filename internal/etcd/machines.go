package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// machineTries is how often a list of machines is begun anew, when etcd dropped the
// revision that was being read.
const machineTries = 3

// Machines reads what is known of every machine, at one revision: those whose agents
// run, those that ran once, those that hold slots, and those that are paused. It is
// sorted by host name, then by id. The groups it looks into are those of a moment
// before.
func (s *Store) Machines(ctx context.Context) ([]locksmith.MachineStatus, error) {
	groups, err := s.groupNames(ctx)
	for try := 1; err == nil; try++ {
		var t machineTable
		if t, err = s.machines(ctx, groups); err == nil {
			return t.sorted(), nil
		}
		if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) && try < machineTries {
			err = nil
		}
	}
	return nil, s.explain(ctx, err)
}

// Machine reads what is known of one machine. It is named by its id, or by its host
// name or the beginning of its id, where only one machine has that. The error is
// locksmith.ErrUnknownMachine, or lists those that it could be.
func (s *Store) Machine(ctx context.Context, name string) (locksmith.MachineStatus, error) {
	if err := locksmith.CheckMachineID(name); err != nil {
		return locksmith.MachineStatus{}, err
	}
	m, _, err := s.machine(ctx, name)
	if !errors.Is(err, locksmith.ErrUnknownMachine) {
		return m, err
	}
	all, err := s.Machines(ctx)
	if err != nil {
		return locksmith.MachineStatus{}, err
	}
	for _, fits := range []func(locksmith.MachineStatus) bool{
		func(m locksmith.MachineStatus) bool { return m.Hostname == name },
		func(m locksmith.MachineStatus) bool { return strings.HasPrefix(m.MachineID, name) },
	} {
		var found []locksmith.MachineStatus
		for _, m := range all {
			if fits(m) {
				found = append(found, m)
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return locksmith.MachineStatus{}, ambiguous(name, found)
		}
	}
	return locksmith.MachineStatus{}, fmt.Errorf("%w %q: no machine has this id, this host name or an id that begins so", locksmith.ErrUnknownMachine, name)
}

func ambiguous(name string, found []locksmith.MachineStatus) error {
	const shown = 5
	var texts []string
	for _, m := range found[:min(shown, len(found))] {
		text := m.MachineID
		if m.Hostname != "" {
			text += " (" + m.Hostname + ")"
		}
		texts = append(texts, text)
	}
	if n := len(found) - shown; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", n))
	}
	return refuse("%q could be %d machines: %s; give the whole id", name, len(found), strings.Join(texts, ", "))
}

// Forget removes what is remembered of a machine, by its id, which must neither run
// nor hold a slot nor be paused; the error says which of these it does. It is
// locksmith.ErrUnknownMachine where nothing is remembered.
func (s *Store) Forget(ctx context.Context, id string) error {
	if err := locksmith.CheckMachineID(id); err != nil {
		return err
	}
	sent, removed := false, false
	return s.insist(ctx, &sent, func(ctx context.Context) error {
		for {
			m, policy, err := s.machine(ctx, id)
			switch {
			case removed && errors.Is(err, locksmith.ErrUnknownMachine):
				return nil
			case err != nil:
				return err
			case m.Present:
				return refuse("machine %s is connected to etcd: stop its locksmithd first", id)
			case m.Holds != nil:
				return refuse("machine %s holds a slot of group %s: unlock it first", id, locksmith.JoinGroups(m.Holds.Groups))
			case len(m.Pauses) > 0:
				return refuse("machine %s is paused: resume it first", id)
			}
			before := removed
			sent, removed = true, true
			done, err := s.forget(ctx, m, policy)
			if err != nil {
				removed = before || !refused(err)
				return err
			}
			if sent = false; done {
				return nil
			}
			removed = before
		}
	})
}

// forget removes what was read of m and its policy, unless that has changed meanwhile.
func (s *Store) forget(ctx context.Context, m locksmith.MachineStatus, p policy) (done bool, err error) {
	cmps := append(policies{p}.unchanged(), clientv3.Compare(clientv3.CreateRevision(presenceKey(m.MachineID)), "=", 0))
	for _, g := range m.Groups[:min(len(m.Groups), locksmith.MaxGroups)] {
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(holderKey(g, m.MachineID)), "=", 0))
	}
	resp, err := s.change(ctx, cmps, []clientv3.Op{clientv3.OpDelete(seenKey(m.MachineID)), clientv3.OpDelete(policyKey(p.scope))}, nil)
	if err != nil {
		return false, err
	}
	return resp.Succeeded, nil
}

// machine reads what is known of one machine, by its id, and its policy.
func (s *Store) machine(ctx context.Context, id string) (m locksmith.MachineStatus, p policy, err error) {
	groups, err := s.groupNames(ctx)
	if err != nil {
		return m, p, s.explain(ctx, err)
	}
	scope := locksmith.PauseScope{Machine: id}
	resp, err := s.read(ctx, []clientv3.Op{clientv3.OpGet(policyKey(scope)), clientv3.OpGet(presenceKey(id)), clientv3.OpGet(seenKey(id))})
	if err != nil {
		return m, p, s.explain(ctx, err)
	}
	t := machineTable{}
	p = parsePolicy(scope, first(resp.Responses[0]))
	t.pause(p)
	t.present(id, first(resp.Responses[1]))
	t.seen(id, first(resp.Responses[2]))
	for chunk := range slices.Chunk(groups, maxReads/2) {
		var ops []clientv3.Op
		for _, g := range chunk {
			ops = append(ops, clientv3.OpGet(semaphoreKey(g)), clientv3.OpGet(holderKey(g, id)))
		}
		if resp, err = s.read(ctx, ops); err != nil {
			return m, p, s.explain(ctx, err)
		}
		for i, g := range chunk {
			t.holds(g, first(resp.Responses[2*i]), resp.Responses[2*i+1].GetResponseRange().Kvs, func(holder string) bool { return holder == id })
		}
	}
	if t[id] == nil {
		return m, p, fmt.Errorf("%w %q", locksmith.ErrUnknownMachine, id)
	}
	return t[id].status, p, nil
}

// machines reads all machines, of these groups, at one revision. Its error is etcd's
// own.
func (s *Store) machines(ctx context.Context, groups []locksmith.Group) (machineTable, error) {
	t := machineTable{}
	each := func(below string, take func(string, *mvccpb.KeyValue)) func(*mvccpb.KeyValue) {
		return func(kv *mvccpb.KeyValue) {
			if id, ok := machineAt(below, kv.Key); ok {
				take(id, kv)
			}
		}
	}
	revision, err := s.pages(ctx, seenPrefix(), 0, each(seenPrefix(), t.seen))
	if err == nil {
		_, err = s.pages(ctx, presencePrefix(), revision, each(presencePrefix(), t.present))
	}
	if err == nil {
		_, err = s.pages(ctx, machinePolicyPrefix(), revision, each(machinePolicyPrefix(), func(id string, kv *mvccpb.KeyValue) {
			t.pause(parsePolicy(locksmith.PauseScope{Machine: id}, kv))
		}))
	}
	if err != nil {
		return nil, err
	}
	for chunk := range slices.Chunk(groups, maxReads/2) {
		var ops []clientv3.Op
		for _, g := range chunk {
			ops = append(ops, clientv3.OpGet(semaphoreKey(g), clientv3.WithRev(revision)),
				clientv3.OpGet(holdersPrefix(g), clientv3.WithPrefix(), clientv3.WithLimit(pageSize), clientv3.WithRev(revision)))
		}
		resp, err := s.read(ctx, ops)
		if err != nil {
			return nil, err
		}
		for i, g := range chunk {
			records := resp.Responses[2*i+1].GetResponseRange()
			if records.More {
				records.Kvs = nil
				if _, err := s.pages(ctx, holdersPrefix(g), revision, func(kv *mvccpb.KeyValue) { records.Kvs = append(records.Kvs, kv) }); err != nil {
					return nil, err
				}
			}
			t.holds(g, first(resp.Responses[2*i]), records.Kvs, func(string) bool { return true })
		}
	}
	return t, nil
}

// machineTable joins what is stored of machines, by id.
type machineTable map[string]*machineEntry

type machineEntry struct {
	status locksmith.MachineStatus
	rev    int64 // of the presence that is in it
}

func (t machineTable) entry(id string) *machineEntry {
	if t[id] == nil {
		t[id] = &machineEntry{status: locksmith.MachineStatus{Presence: locksmith.Presence{MachineID: id}}}
	}
	return t[id]
}

func (t machineTable) present(id string, kv *mvccpb.KeyValue) {
	if kv != nil {
		t.entry(id).status.Present = true
		t.seen(id, kv)
	}
}

// seen takes a presence in. Of two the younger one counts: an agent of an older
// version leaves no trace. One that cannot be read says nothing.
func (t machineTable) seen(id string, kv *mvccpb.KeyValue) {
	if kv == nil {
		return
	}
	e := t.entry(id)
	if p := newest(kv); p != nil && kv.ModRevision > e.rev {
		p.MachineID = id
		e.status.Presence, e.rev = *p, kv.ModRevision
	}
}

func (t machineTable) pause(p policy) {
	if active := (policies{p}).active(time.Now()); len(active) > 0 {
		t.entry(p.scope.Machine).status.Pauses = active
	}
}

// holds takes the holders of a group in, as its semaphore names them, with their
// records. Of a machine that holds slots by several records, that of an administrator
// counts, as in Find. Where the semaphore cannot be read the records count.
func (t machineTable) holds(group locksmith.Group, semaphore *mvccpb.KeyValue, kvs []*mvccpb.KeyValue, which func(string) bool) {
	records := make(map[string]*locksmith.Holder, len(kvs))
	for _, kv := range kvs {
		if h, err := parseHolder(kv); err == nil {
			records[h.MachineID] = h
		}
	}
	var holders []string
	if semaphore != nil {
		sem, _, err := parseSemaphore(semaphore)
		if holders = sem.Holders; err != nil {
			holders = slices.Sorted(maps.Keys(records))
		}
	}
	for _, id := range holders {
		if !which(id) {
			continue
		}
		st, h := &t.entry(id).status, records[id]
		switch {
		case h != nil && (st.Holds == nil || st.Holds.Own()):
			st.Holds = h
		case st.Holds == nil: // an old client's slot
			st.Holds = &locksmith.Holder{MachineID: id, Groups: []locksmith.Group{group}}
		}
	}
}

func (t machineTable) sorted() []locksmith.MachineStatus {
	machines := make([]locksmith.MachineStatus, 0, len(t))
	for _, id := range slices.Sorted(maps.Keys(t)) {
		machines = append(machines, t[id].status)
	}
	slices.SortStableFunc(machines, func(a, b locksmith.MachineStatus) int { return cmp.Compare(a.Hostname, b.Hostname) })
	return machines
}
