package etcd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// Advance writes a new phase and reason into the holder records, in one
// transaction that fails with locksmith.ErrSlotLost unless every slot of slots is
// still held; it then returns those that are. Else it returns the slots with the new
// record. Slots of an old client, which have no nonce, are only checked.
//
// To locksmith.PhaseRebooting it also fails, with a *locksmith.PausedError, while the
// machine, one of the groups or all groups are paused, whoever took the slots.
func (s *Store) Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error) {
	a := advance{slots: slots, next: slots.Record, viewer: viewer{
		store: s, groups: slots.Groups, machine: slots.Record.MachineID,
		reboots: phase == locksmith.PhaseRebooting,
	}}
	a.next.Phase, a.next.PhaseTime, a.next.Reason = phase, time.Now().Unix(), reason
	if slots.Record.Nonce == "" {
		a.next = slots.Record
	}
	if a.next.Nonce != "" {
		a.unsettled = s.unsettled.of(a.next.Nonce)
	}
	sent := false
	err := s.insist(ctx, &sent, func(ctx context.Context) error { return a.once(ctx, &sent) })
	switch {
	case a.next.Nonce == "":
	case err == nil, errors.Is(err, locksmith.ErrSlotLost):
		s.unsettled.forget(a.next.Nonce)
	case sent: // it may be carried out yet, and must not be taken for somebody else's
		s.unsettled.add(a.next)
	}
	return a.slots, err
}

// advance is one Advance, with its retries.
type advance struct {
	viewer
	slots     locksmith.Slots    // as they are known
	next      locksmith.Holder   // the record to be
	unsettled []locksmith.Holder // records of earlier calls, of which it is not known whether they were written
}

// wrote says whether a record that is newer than what is known is an earlier call's.
func (a *advance) wrote(record locksmith.Holder) bool {
	return slices.ContainsFunc(a.unsettled, func(h locksmith.Holder) bool {
		return h.Phase == record.Phase && h.PhaseTime == record.PhaseTime && h.Reason == record.Reason
	})
}

// unsettled are the records, by nonce, that calls of Advance have sent without learning
// what became of them.
type unsettled struct {
	mu      sync.Mutex
	records map[string][]locksmith.Holder
}

// maxUnsettled bounds them for each nonce: an agent tries again and again while etcd is
// away. Older ones cannot be carried out any more.
const maxUnsettled = 64

func (u *unsettled) of(nonce string) []locksmith.Holder {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.records[nonce])
}

func (u *unsettled) add(h locksmith.Holder) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.records == nil {
		u.records = make(map[string][]locksmith.Holder)
	}
	list := append(u.records[h.Nonce], h)
	u.records[h.Nonce] = list[max(0, len(list)-maxUnsettled):]
}

func (u *unsettled) forget(nonce string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.records, nonce)
}

// once tries until the outcome is clear. It compares the policies with what this
// process saw of them last, so that a look at them costs a request of its own only
// where one has changed since, or holds a pause that may be over.
func (a *advance) once(ctx context.Context, sent *bool) error {
	policies := a.store.policies.last(a.scopes())
	if policies.err(time.Now()) != nil {
		v, _, err := a.read(ctx)
		if err != nil {
			return err
		}
		if done, err := a.judge(v, *sent); done || err != nil {
			return err
		}
		policies = v.policies
	}
	for {
		if err := policies.err(time.Now()); err != nil {
			return err
		}
		lost := *sent // the reply to an earlier try
		*sent = true
		v, succeeded, err := a.write(ctx, policies)
		if err != nil {
			return err
		}
		*sent = lost
		done, err := a.judge(v, succeeded || lost)
		if done || succeeded || err != nil {
			return err
		}
		policies = v.policies
	}
}

// write is the transaction, and the view after it.
func (a *advance) write(ctx context.Context, policies policies) (v view, succeeded bool, err error) {
	cmps := policies.unchanged()
	var puts []clientv3.Op
	if a.slots.Record.Nonce != "" {
		for _, g := range a.groups {
			key := holderKey(g, a.machine)
			// Nobody but this process and administrators writes it, so
			// whatever is newer than what we know is not ours any more.
			cmps = append(cmps,
				clientv3.Compare(clientv3.CreateRevision(key), ">", 0),
				clientv3.Compare(clientv3.ModRevision(key), "<", a.slots.Revision+1))
			puts = append(puts, clientv3.OpPut(key, mustJSON(a.next)))
		}
	}
	resp, err := a.store.change(ctx, cmps, append(slices.Clone(puts), a.ops()...), a.ops())
	if err != nil {
		return view{}, false, err
	}
	if resp.Succeeded {
		resp.Responses = resp.Responses[len(puts):]
	}
	return a.parse(resp.Header.Revision, resp.Responses), resp.Succeeded, nil
}

// judge tells from a view whether every slot is still held, and whether the new
// record stands: wrote says that it may, because it was sent. Both are taken over
// into a.slots.
func (a *advance) judge(v view, wrote bool) (done bool, err error) {
	nonce := a.slots.Record.Nonce
	done = nonce != ""
	known := a.slots
	for _, g := range v.groups {
		switch {
		case g.semErr != nil:
			return false, g.semErr
		case !g.ours(a.machine, nonce):
			return false, a.lost(v)
		case nonce == "":
		case g.recordRev <= a.slots.Revision: // not written yet
			done = false
		case wrote && g.record.Phase == a.next.Phase && g.record.PhaseTime == a.next.PhaseTime:
		case a.wrote(*g.record): // an earlier call did: from there on
			done, known = false, locksmith.Slots{Groups: a.slots.Groups, Record: *g.record, Revision: v.revision}
		default:
			return false, a.lost(v) // not what we wrote
		}
	}
	if !done {
		a.slots = known
	}
	if done || nonce == "" {
		a.slots.Record, a.slots.Revision = a.next, v.revision
	}
	return done, nil
}

// lost leaves in a.slots what is still held according to a view, for the caller to give
// back. Of a group that cannot be read that is not known, so it is among them.
func (a *advance) lost(v view) error {
	left := locksmith.Slots{Record: a.slots.Record, Revision: v.revision}
	for _, g := range v.groups {
		if g.semErr == nil && !g.ours(a.machine, a.slots.Record.Nonce) {
			continue
		}
		left.Groups = append(left.Groups, g.group)
		if g.semErr == nil && g.record != nil {
			left.Record = *g.record
		}
	}
	a.slots = left
	return locksmith.ErrSlotLost
}
