package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// Release gives all slots back in one transaction. A slot that somebody else took
// away meanwhile, or that was given to the machine anew by somebody else, is left
// as it is and is no error.
func (s *Store) Release(ctx context.Context, slots locksmith.Slots, result locksmith.Result) error {
	machine := slots.Record.MachineID
	if result.Actor == "" {
		result.Actor = slots.Record.By
	}
	sent := false
	return s.insist(ctx, &sent, func(ctx context.Context) error {
		return s.remove(ctx, slots.Groups, machine, result, &sent, func(g groupView) bool { return g.ours(machine, slots.Record.Nonce) })
	})
}

// Unlock takes machine's slot in group away from it, whoever took it. It returns
// locksmith.ErrNotHolder if it holds none.
func (s *Store) Unlock(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error {
	if err := locksmith.CheckMachineID(machine); err != nil {
		return err
	}
	sent, found := false, false
	return s.insist(ctx, &sent, func(ctx context.Context) error {
		err := s.remove(ctx, []locksmith.Group{group}, machine, result, &sent, func(g groupView) bool {
			// A record without a slot is what an old client forgot to delete.
			holds := g.holds(machine) || g.recordRev > 0
			found = found || holds
			return holds
		})
		if err == nil && !found {
			return locksmith.ErrNotHolder
		}
		return err
	})
}

// remove takes machine out of those groups in which which says so.
func (s *Store) remove(ctx context.Context, groups []locksmith.Group, machine string, result locksmith.Result,
	sent *bool, which func(groupView) bool) error {
	v := viewer{store: s, groups: groups, machine: machine}
	seen, _, err := v.read(ctx)
	for err == nil {
		var cmps []clientv3.Cmp
		var then []clientv3.Op
		for _, g := range seen.groups {
			if g.semErr != nil {
				return g.semErr
			}
			if which(g) {
				// The record too: one that has been written since says that the
				// machine goes on with its reboot, perhaps by another process.
				cmps = append(cmps, g.unchanged(), clientv3.Compare(clientv3.ModRevision(holderKey(g.group, machine)), "=", g.recordRev))
				then = append(then, g.without(machine, result)...)
			}
		}
		if len(then) == 0 {
			return nil
		}
		*sent = true
		resp, txnErr := s.change(ctx, cmps, then, v.ops())
		if txnErr != nil {
			return txnErr
		}
		*sent = false
		if resp.Succeeded {
			return nil
		}
		seen = v.parse(resp.Header.Revision, resp.Responses)
	}
	return err
}

// without is the operations that take machine's slot and record away.
func (g groupView) without(machine string, result locksmith.Result) []clientv3.Op {
	h := ended(machine, g.record, time.Now(), result)
	sem, err := g.sem.Unlock(machine)
	if err != nil {
		h.Outcome = "record without a slot removed"
	}
	return append(g.write(sem, h), clientv3.OpDelete(holderKey(g.group, machine)))
}

// ended is how the history tells that machine's slot was given back or taken away at now;
// a nil record is one that was not there.
func ended(machine string, record *locksmith.Holder, now time.Time, result locksmith.Result) historyDoc {
	h := historyDoc{Time: now, Actor: result.Actor, Action: locksmith.ActionUnlock, Machine: machine,
		Outcome: result.Outcome, DownMS: result.Down.Milliseconds()}
	if record != nil {
		h.Hostname = record.Hostname
		h.HeldMS = max(0, now.Sub(record.Since()).Milliseconds())
	}
	return h
}

// SetMax changes how many slots group has and returns how many there were.
// Holders stay; below their number the semaphore goes negative and nothing is
// granted. It refuses a negative number before it calls etcd.
func (s *Store) SetMax(ctx context.Context, group locksmith.Group, n int, actor string) (old int, err error) {
	if _, err := locksmith.NewSemaphore().SetMax(n); err != nil {
		return 0, err
	}
	sent, read := false, false
	err = s.insist(ctx, &sent, func(ctx context.Context) error {
		resp, err := s.get(ctx, semaphoreKey(group))
		if err != nil {
			return err
		}
		kv := head(resp.Kvs)
		for {
			gv := groupView{group: group}
			gv.setSemaphore(s, kv)
			if gv.semErr != nil {
				return gv.semErr
			}
			if !read { // after a lost reply, what was before our own change counts
				old, read = gv.sem.Max, true
			}
			sem, _ := gv.sem.SetMax(n)
			if kv != nil && string(kv.Value) == sem.Document() {
				return nil
			}
			sent = true
			txn, err := s.change(ctx, []clientv3.Cmp{gv.unchanged()}, gv.write(sem, historyDoc{
				Time: time.Now(), Actor: actor, Action: locksmith.ActionSetMax, Outcome: maxOutcome(gv, n),
			}), []clientv3.Op{clientv3.OpGet(semaphoreKey(group))})
			if err != nil {
				return err
			}
			if sent = false; txn.Succeeded {
				return nil
			}
			kv, read = first(txn.Responses[0]), false
		}
	})
	return old, err
}

// maxOutcome is how the history tells a new max. A group that is written for the
// first time had none.
func maxOutcome(before groupView, n int) string {
	if before.semRev == 0 {
		return fmt.Sprintf("max %d", n)
	}
	return fmt.Sprintf("max %d -> %d", before.sem.Max, n)
}
