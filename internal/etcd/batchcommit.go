package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// conditions are what has to be as it was for the plan to hold.
func (p *plan) conditions() []clientv3.Cmp {
	k := &p.d.known
	cmps := []clientv3.Cmp{k.sem.unchanged()}
	if p.policies {
		cmps = append(cmps, policies{k.group, k.all}.unchanged()...)
		cmps = append(cmps, p.exact.unchanged()...)
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(machinePolicyPrefix()).WithPrefix(), "<", k.policiesRev+1))
	}
	cmps = append(cmps, p.cmps...)
	if p.clear >= 0 {
		from, to := upTo(p.d.group, p.clear)
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(from).WithRange(to), "=", 0))
	}
	return cmps
}

// upTo is the range of queue entries of a level and of all that are more urgent.
func upTo(g locksmith.Group, level int) (from, to string) {
	if level == locksmith.MaxPriority {
		return queuePrefix(g), clientv3.GetPrefixRangeEnd(queuePrefix(g))
	}
	return urgent(g, level+1)
}

// effects are what the plan writes. All changes have one place in the history.
func (p *plan) effects() []clientv3.Op {
	if !p.changes() {
		return nil
	}
	h := p.history[0]
	h.More = p.history[1:]
	return append(p.d.known.sem.write(p.semaphore(), h), p.then...)
}

// reasons are the reads that tell why the plan does not hold.
func (p *plan) reasons() []clientv3.Op {
	ops := p.d.basics()
	for _, g := range p.granted {
		if g.turn != nil {
			ops = append(ops, clientv3.OpGet(queueKey(p.d.group, g.turn.level, g.machine), clientv3.WithKeysOnly()))
		}
	}
	if p.clear >= 0 {
		from, to := upTo(p.d.group, p.clear)
		ops = append(ops, clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithLimit(1), clientv3.WithKeysOnly()))
	}
	return ops
}

// commit carries a plan out. It returns whether there may be more to do.
func (d *desk) commit(p *plan) bool {
	resp, err := d.exchange(p.changes(), func() (*clientv3.TxnResponse, error) {
		return d.store.change(context.Background(), p.conditions(), p.effects(), p.reasons())
	})
	switch {
	case err != nil:
		if p.changes() && !refused(err) {
			d.known.fresh = false
			for _, g := range p.granted { // it may be carried out
				d.claims[g.machine] = &claim{nonce: g.nonce}
			}
		}
	case resp.Succeeded:
		d.done(p, resp.Header.Revision)
	default:
		d.failed(p, resp)
	}
	return true
}

// failed takes in why a plan does not hold.
func (d *desk) failed(p *plan, resp *clientv3.TxnResponse) {
	r := resp.Responses
	d.take(resp.Header.Revision, r[:basicsLen])
	r = r[basicsLen:]
	for _, g := range p.granted {
		if g.turn == nil {
			continue
		}
		if kv := first(r[0]); kv == nil || kv.CreateRevision != g.turn.created {
			d.lost(g.turn)
		}
		r = r[1:]
	}
	if p.clear >= 0 {
		if kv := first(r[0]); kv != nil {
			d.crowd, d.unseen = true, max(d.unseen, kv.CreateRevision)
			_, _, ok := waiterAt(p.d.group, kv.Key)
			d.blocked = d.blocked || !ok
		}
	}
	for _, m := range p.removed {
		delete(d.known.holders, m)
	}
}

// done takes in that a plan was carried out, and answers.
func (d *desk) done(p *plan, revision int64) {
	k := &d.known
	k.rev = revision
	if p.policies {
		k.policiesRev = revision
	}
	if p.changes() {
		k.sem.sem, k.sem.semRev = p.semaphore(), revision
		k.sem.version++
		for _, m := range p.removed {
			delete(k.holders, m)
		}
		for _, g := range p.granted {
			k.holders[g.machine] = holding{record: g.record, rev: revision}
		}
	}
	d.pending = p.later
	for _, m := range p.returned {
		d.settle(m)
	}
	for _, r := range p.answers {
		d.reply(r)
	}
	for _, g := range p.granted {
		d.deliver(g)
	}
	for _, c := range p.enqueue {
		d.queue(c)
	}
}

// reply answers a call that changed nothing but what it gave back.
func (d *desk) reply(r reply) {
	var full *locksmith.FullError
	switch {
	case errors.As(r.err, &full):
		sem := d.known.sem.sem
		*full = locksmith.FullError{Group: d.group, Semaphore: sem.Semaphore, Holders: sem.Holders}
	case r.err != nil || r.call.release:
	case !r.call.gone.Load():
		d.settle(r.call.machine)
	default:
		r.err = errGone
		if c := d.claims[r.call.machine]; c != nil {
			c.calls = append(c.calls, r.call)
			return
		}
	}
	r.call.answer <- r.err
}

// deliver answers those for whom a slot was granted. One that none of them learns of is
// given back.
func (d *desk) deliver(g grant) {
	var calls []*call
	if g.call != nil {
		calls = append(calls, g.call)
	}
	if t := d.turns[g.machine]; t != nil {
		calls = append(calls, d.empty(t)...)
		if t == g.turn {
			d.served(t)
		} else {
			d.leaves(t)
		}
	}
	d.grantTo(g.machine, g.nonce, calls)
}

// grantTo tells calls that their machine holds a slot, by the attempt of this nonce.
func (d *desk) grantTo(machine, nonce string, calls []*call) {
	var gone []*call
	told := false
	for _, c := range calls {
		if c.gone.Load() {
			gone = append(gone, c)
			continue
		}
		c.answer <- nil
		told = true
	}
	d.settle(machine)
	if !told {
		d.claims[machine] = &claim{nonce: nonce, since: time.Now(), calls: gone}
		return
	}
	for _, c := range gone {
		c.answer <- errGone
	}
}
