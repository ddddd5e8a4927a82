package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// maxJoins bounds how many joins of a desk are under way at a time. Each is a transaction
// of its own, because its revision is what orders it.
const maxJoins = 64

// turn is a machine that waits, with all calls in its name.
type turn struct {
	machine string
	level   int
	nonce   string
	req     *locksmith.Request // of the first call, for the entry and the record
	since   int64

	calls   []*call // empty: the queue is to be left
	last    []reply // to calls that have left, once the queue is left
	leaving bool    // it is among the desk's leavers

	state     turnState
	created   int64  // CreateRevision of the entry, where it stands
	foreign   int64  // of somebody else's entry for the machine, where turnBlocked
	lease     *lease // of the entry
	unsettled *lease // of a join that was sent and had no reply: an entry may yet appear
}

type turnState uint8

const (
	turnNew     turnState = iota // has no entry, and has to join
	turnJoining                  // is about to
	turnQueued                   // has its entry
	turnBlocked                  // waits behind another process's entry for the machine
)

// haunted says whether an entry of the turn may yet appear: not without its lease.
func (t *turn) haunted() bool { return t.unsettled != nil && !t.unsettled.gone() }

// live says whether any client waits.
func (t *turn) live() bool {
	for _, c := range t.calls {
		if !c.gone.Load() {
			return true
		}
	}
	return false
}

// drop takes a call out; false: it is not there.
func (t *turn) drop(c *call) bool {
	for i := range t.calls {
		if t.calls[i] == c {
			t.calls = append(t.calls[:i], t.calls[i+1:]...)
			return true
		}
	}
	return false
}

// farewell answers the calls that have left.
func (t *turn) farewell() {
	for _, r := range t.last {
		r.call.answer <- r.err
	}
	t.last = nil
}

// entry is the document of the queue entry: always the same.
func (t *turn) entry() string {
	return mustJSON(locksmith.Waiter{
		MachineID: t.machine, Hostname: t.req.Hostname, By: t.req.By, Reason: t.req.Reason, Address: t.req.Address,
		Groups: t.req.Groups, Since: t.since, Nonce: t.nonce,
	})
}

// queue has a call wait, together with others for the same machine.
func (d *desk) queue(c *call) {
	t := d.turns[c.machine]
	if t == nil {
		t = &turn{machine: c.machine, level: c.req.Priority, nonce: c.nonce, req: c.req, since: time.Now().Unix()}
		d.turns[c.machine] = t
	}
	if len(t.calls) == 0 {
		d.levels[t.level]++
		t.farewell()
		if t.state == turnNew {
			d.toJoin = append(d.toJoin, t)
		}
	}
	t.calls = append(t.calls, c)
	d.waiting.Add(1)
	c.queued.Store(true)
}

// empty takes all calls out of a turn.
func (d *desk) empty(t *turn) []*call {
	calls := t.calls
	if t.calls = nil; len(calls) > 0 {
		d.levels[t.level]--
		d.waiting.Add(-int64(len(calls)))
	}
	return calls
}

// end answers all calls of a turn with an error, once it has left the queue.
func (d *desk) end(t *turn, err error) {
	calls := d.empty(t)
	if len(calls) == 0 {
		return
	}
	for _, c := range calls {
		if c.gone.Load() {
			t.last = append(t.last, reply{c, errGone})
		} else {
			t.last = append(t.last, reply{c, err})
		}
	}
	d.leaves(t)
}

// leaves notes that nobody waits in a turn any more.
func (d *desk) leaves(t *turn) {
	if !t.leaving {
		t.leaving = true
		d.leavers = append(d.leavers, t)
	}
}

// forget ends a turn that has no entry any more.
func (d *desk) forget(t *turn) {
	t.farewell()
	t.leaving = false
	delete(d.turns, t.machine)
	if d.line != nil {
		d.line.remove(t.level, t.machine, t.created)
	}
	d.lineUsed = time.Now()
}

// served ends a turn whose entry the grant has taken out of the queue.
func (d *desk) served(t *turn) {
	if !t.haunted() {
		d.forget(t)
		return
	}
	if d.line != nil {
		d.line.remove(t.level, t.machine, t.created)
	}
	t.state, t.created = turnNew, 0
	d.leaves(t)
}

// lost has a turn join again whose entry is not there any more.
func (d *desk) lost(t *turn) {
	if t.state == turnQueued || t.state == turnBlocked {
		t.state, t.created, t.foreign = turnNew, 0, 0
		d.toJoin = append(d.toJoin, t)
	}
}

// expel ends the wait of machines that are paused while others of the group could go. It
// returns whether the policies have to be read first, at one revision.
func (d *desk) expel(now time.Time) (unsure bool) {
	if len(d.turns) == 0 {
		return false
	}
	for machine := range d.known.machines {
		if t := d.turns[machine]; t != nil && len(t.calls) > 0 {
			ps := d.known.policiesOf(machine)
			if err := ps.err(now); err != nil && !ps.everywhere(now) {
				if d.known.watched {
					return true
				}
				d.end(t, err)
			}
		}
	}
	return false
}

// reviewTurns looks whether the semaphore, which somebody else has changed, has an
// answer for any who wait. It returns machines whose records are needed for that.
func (d *desk) reviewTurns(now time.Time) (missing []string) {
	if len(d.turns) == 0 {
		d.review = false
		return nil
	}
	if err := d.unusable(d.batcher.cfg.CreateGroups); err != nil {
		d.review = false
		for _, t := range d.turns {
			d.end(t, err)
		}
		return nil
	}
	for _, machine := range d.known.sem.sem.Holders {
		t := d.turns[machine]
		if t == nil || len(t.calls) == 0 {
			continue
		}
		h, ok := d.known.holders[machine]
		if !ok {
			if missing = append(missing, machine); len(missing) == maxLooks {
				break
			}
			continue
		}
		if err := d.toHolder(h, d.known.policiesOf(machine).err(now)); err != nil {
			d.end(t, err)
			continue
		}
		nonce := ""
		if h.record != nil {
			nonce = h.record.Nonce
		}
		calls := d.empty(t)
		d.leaves(t)
		if c := d.claims[machine]; nonce == t.nonce || c != nil && c.nonce == nonce {
			d.grantTo(machine, nonce, calls)
			continue
		}
		for _, c := range calls {
			c.answer <- nil
		}
	}
	d.review = len(missing) > 0
	return missing
}

// join sends the joins of those who have no entry.
func (d *desk) join() {
	if time.Now().Before(d.joinRetry) {
		return
	}
	n := 0
	for ; n < len(d.toJoin) && d.joining < maxJoins; n++ {
		t := d.toJoin[n]
		if t.state != turnNew || len(t.calls) == 0 {
			continue
		}
		t.state = turnJoining
		d.joining++
		j := joinReply{turn: t}
		key, tail, doc := queueKey(d.group, t.level, t.machine), tailKey(d.group, t.level), t.entry()
		d.batcher.running.Go(func() {
			j.err = d.store.joinOne(&j, key, tail, doc)
			d.post(func(in *inbox) { in.joins = append(in.joins, j) })
		})
	}
	if d.toJoin = d.toJoin[n:]; len(d.toJoin) == 0 {
		d.toJoin = nil
	}
}

// joinReply is how a join ended.
type joinReply struct {
	turn    *turn
	created int64  // of the entry
	foreign int64  // of another process's, where there is one
	lease   *lease // of the entry
	sent    bool
	err     error // etcd's own
}

// joinOne puts an entry in the queue. One that an earlier join of the same turn has put
// there goes on, with its place, under the present lease.
func (s *Store) joinOne(j *joinReply, key, tail, doc string) error {
	ctx, cancel := s.limit(context.Background())
	defer cancel()
	l, err := s.keep.get(ctx)
	if err != nil {
		return err
	}
	j.lease = l
	put := clientv3.OpPut(key, doc, clientv3.WithLease(l.id))
	cmp := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	then := []clientv3.Op{put, clientv3.OpPut(tail, j.turn.machine)}
	fence := fenceKey(l.id)
	for {
		j.sent = true
		unfenced := clientv3.Compare(clientv3.ModRevision(fence), "=", l.fence.Load())
		resp, err := s.txn(ctx, []clientv3.Cmp{cmp, unfenced}, then, []clientv3.Op{clientv3.OpGet(key), clientv3.OpGet(fence)})
		if err != nil {
			return err
		}
		if resp.Succeeded {
			if j.created == 0 {
				j.created = resp.Header.Revision
			}
			return nil
		}
		if f := first(resp.Responses[1]); f != nil {
			l.raise(f.ModRevision)
		}
		kv := first(resp.Responses[0])
		var w locksmith.Waiter
		switch {
		case kv == nil: // gone meanwhile, or a fence
			j.created = 0
			cmp = clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
			then = []clientv3.Op{put, clientv3.OpPut(tail, j.turn.machine)}
		case decode(kv, &w) != nil || w.Nonce != j.turn.nonce:
			j.foreign = kv.CreateRevision
			return nil
		case clientv3.LeaseID(kv.Lease) == l.id:
			j.created = kv.CreateRevision
			return nil
		default:
			j.created = kv.CreateRevision
			cmp = clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)
			then = []clientv3.Op{put}
		}
	}
}

// joined takes in how a join ended.
func (d *desk) joined(j joinReply) {
	t := j.turn
	d.joining--
	switch {
	case j.err != nil:
		if j.sent && !refused(j.err) {
			t.unsettled = j.lease
		}
		t.state = turnNew
		if err := d.store.say(j.err); !transient(err) {
			d.end(t, err)
			return
		}
		d.toJoin = append(d.toJoin, t)
		d.joinRetry = time.Now().Add(min(d.joinBack.delay(), maxRetry))
	case j.foreign > 0:
		t.state, t.foreign = turnBlocked, j.foreign
		d.joinBack = newRetry()
		if d.line != nil && d.line.rev >= j.foreign && d.line.created(t.level, t.machine) != j.foreign {
			d.lost(t)
		}
	default:
		t.state, t.created, t.lease = turnQueued, j.created, j.lease
		d.lease, d.joinBack = j.lease, newRetry()
		if d.line != nil && d.line.rev >= j.created && d.line.created(t.level, t.machine) != j.created {
			d.lost(t)
		}
	}
}

// leaseLost has everybody join again whose entry was under the lease.
func (d *desk) leaseLost() {
	l := d.lease
	d.lease = nil
	again := func(t *turn) {
		if t != nil && t.lease == l {
			d.lost(t)
		}
	}
	if d.line != nil { // in the order in which they waited
		for i := range d.line.levels {
			for e := d.line.levels[i].first; e != nil; e = e.next {
				again(d.turns[e.machine])
			}
		}
	}
	for _, t := range d.turns {
		again(t)
	}
}

// leave takes the entries of those out of the queue for whom nobody waits any more.
func (d *desk) leave() {
	var stay, batch []*turn
	for _, t := range d.leavers {
		switch {
		case len(t.calls) > 0: // it is asked for again
			t.leaving = false
		case t.state == turnJoining:
			stay = append(stay, t)
		case t.state == turnQueued || t.haunted():
			batch = append(batch, t)
		default:
			d.forget(t)
		}
	}
	d.leavers = stay
	for len(batch) > 0 {
		n := min(len(batch), d.budget)
		if !d.leaveTogether(batch[:n]) {
			for _, t := range batch {
				t.farewell()
			}
			d.leavers = append(d.leavers, batch...)
			return
		}
		batch = batch[n:]
	}
}

// leaveTogether removes the entries of some turns, each if it is theirs, and makes void
// what may yet put one there.
func (d *desk) leaveTogether(turns []*turn) bool {
	var ops []clientv3.Op
	fences := make(map[*lease]bool)
	for _, t := range turns {
		key := queueKey(d.group, t.level, t.machine)
		mine := clientv3.Compare(clientv3.CreateRevision(key), "=", t.created)
		if t.haunted() {
			mine = clientv3.Compare(clientv3.Value(key), "=", t.entry())
			fences[t.unsettled] = true
		}
		ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{mine}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
	}
	for l := range fences {
		ops = append(ops, clientv3.OpPut(fenceKey(l.id), "", clientv3.WithLease(l.id)))
	}
	_, err := d.exchange(true, func() (*clientv3.TxnResponse, error) {
		return d.store.change(context.Background(), nil, ops, nil)
	})
	if err != nil {
		return false
	}
	for _, t := range turns {
		d.forget(t)
	}
	return true
}
