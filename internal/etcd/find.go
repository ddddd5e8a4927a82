package etcd

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// Find reads what machine holds at this moment: the groups among those given in
// which it is a holder (none: no Groups), and its record, with only MachineID
// where there is none. Where an administrator holds it in one of them and its own
// locksmithd in others, only the latter count: those it has to go on with, or to give
// back. A record that cannot be read is an *locksmith.UnreadableError.
//
// Queued says whether its locksmithd has entries in the queues of these groups. Where
// it has none, no request that an earlier process sent can take a slot any more. Earlier
// are the groups of its last presence.
func (s *Store) Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	slots, _, err := s.find(ctx, machine, groups)
	return slots, s.explain(ctx, err)
}

// Withdraw takes the entries of machine's locksmithd out of the queues of groups, and
// is Find then. It is for a process that knows it is the only one of its kind on the
// machine, and that does not wait itself.
func (s *Store) Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (slots locksmith.Slots, err error) {
	sent := false
	err = s.insist(ctx, &sent, func(ctx context.Context) error {
		for {
			found, entries, err := s.find(ctx, machine, groups)
			if err != nil {
				return err
			}
			if slots = found; !found.Queued {
				return nil
			}
			for chunk := range slices.Chunk(entries, maxReads) {
				sent = true
				if err := s.dequeue(ctx, chunk); err != nil {
					return err
				}
				sent = false
			}
		}
	})
	return slots, err
}

// dequeue deletes entries, unless one of them has changed or gone since it was read: a
// grant took them, or somebody else waits there now.
func (s *Store) dequeue(ctx context.Context, entries []*mvccpb.KeyValue) error {
	var cmps []clientv3.Cmp
	var then []clientv3.Op
	for _, kv := range entries {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
		then = append(then, clientv3.OpDelete(string(kv.Key)))
	}
	_, err := s.change(ctx, cmps, then, nil)
	return err
}

// find is Find, with the entries it found. Its error is etcd's own, or an outcome of ours.
func (s *Store) find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, []*mvccpb.KeyValue, error) {
	v := viewer{store: s, groups: groups, machine: machine}
	var ops []clientv3.Op
	for _, g := range groups {
		for level := locksmith.MinPriority; level <= locksmith.MaxPriority; level++ {
			ops = append(ops, clientv3.OpGet(queueKey(g, level, machine)))
		}
	}
	// All in one request, as far as one may be that large. What does not fit in comes
	// before the slots are looked at: a grant takes the entries.
	var responses []*pb.ResponseOp
	room := max(0, maxReads-len(v.ops())-1)
	for ; len(ops) > room; ops = ops[min(len(ops), maxReads):] {
		resp, err := s.read(ctx, ops[:min(len(ops), maxReads)])
		if err != nil {
			return locksmith.Slots{}, nil, err
		}
		responses = append(responses, resp.Responses...)
	}
	now, last, err := v.read(ctx, append(ops, clientv3.OpGet(seenKey(machine)))...)
	if err != nil {
		return locksmith.Slots{}, nil, err
	}
	entries := agentsEntries(append(responses, last[:len(ops)]...))
	slots, err := now.slots(machine)
	slots.Queued, slots.Earlier = len(entries) > 0, groupsSeen(first(last[len(ops)]))
	return slots, entries, err
}

// groupsSeen are the groups of a presence, those that are configured and those in which
// slots are held; what cannot be read has none.
func groupsSeen(kv *mvccpb.KeyValue) []locksmith.Group {
	var p locksmith.Presence
	if kv == nil || decode(kv, &p) != nil {
		return nil
	}
	return p.Groups[:min(len(p.Groups), 2*locksmith.MaxGroups)]
}

// agentsEntries are those of queue entries that were made by a locksmithd.
func agentsEntries(responses []*pb.ResponseOp) (entries []*mvccpb.KeyValue) {
	for _, r := range responses {
		kv := first(r)
		var w locksmith.Waiter
		// An unreadable entry is nobody we know: it goes with its lease.
		if kv != nil && decode(kv, &w) == nil && w.By == locksmith.ByAgent {
			entries = append(entries, kv)
		}
	}
	return entries
}

// slots is what machine holds according to a view.
func (v view) slots(machine string) (locksmith.Slots, error) {
	slots := locksmith.Slots{Revision: v.revision, Record: locksmith.Holder{MachineID: machine}}
	for _, g := range v.groups {
		switch {
		case g.semErr != nil:
			return locksmith.Slots{}, g.semErr
		case !g.holds(machine):
			continue
		case g.recordErr != nil:
			return locksmith.Slots{}, g.recordErr
		}
		record := locksmith.Holder{MachineID: machine}
		if g.record != nil {
			record = *g.record
		}
		// Groups taken in one transaction have one record. Where they differ, one of
		// the slots was taken away, and taken again by somebody else.
		switch {
		case len(slots.Groups) == 0 || record.Own() && !slots.Record.Own():
			slots.Groups, slots.Record = []locksmith.Group{g.group}, record
		case record.Own() == slots.Record.Own():
			slots.Groups = append(slots.Groups, g.group)
			if g.record != nil {
				slots.Record = record
			}
		}
	}
	return slots, nil
}
