package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// line is a group's queue as etcd tells it, in the order in which it is served. An entry
// that comes is the last of its level, and entries only go: both are a step, however many
// wait.
type line struct {
	cancel context.CancelFunc
	queue  clientv3.WatchChan
	others [4]clientv3.WatchChan // the semaphore and the policies

	from    int64 // revision at which the queue was read
	rev     int64 // as of which it is known
	levels  [locksmith.MaxPriority + 1]struct{ first, last *place }
	entries map[placeName]*place
}

type placeName struct {
	level   int
	machine string
}

// place is one entry of the queue.
type place struct {
	machine    string
	created    int64 // CreateRevision
	prev, next *place
}

// front is the first in line.
func (l *line) front() (level int, p *place) {
	for level := range l.levels {
		if p := l.levels[level].first; p != nil {
			return level, p
		}
	}
	return 0, nil
}

// created is the CreateRevision of a machine's entry, 0: there is none.
func (l *line) created(level int, machine string) int64 {
	if p := l.entries[placeName{level, machine}]; p != nil {
		return p.created
	}
	return 0
}

// add puts an entry at the end of its level.
func (l *line) add(level int, machine string, created int64) {
	name := placeName{level, machine}
	if p := l.entries[name]; p != nil {
		if p.created == created {
			return
		}
		l.remove(level, machine, p.created)
	}
	p := &place{machine: machine, created: created}
	l.entries[name] = p
	end := &l.levels[level]
	if p.prev = end.last; p.prev != nil {
		p.prev.next = p
	} else {
		end.first = p
	}
	end.last = p
}

// remove takes an entry out, if it is the one that was created then.
func (l *line) remove(level int, machine string, created int64) {
	name := placeName{level, machine}
	p := l.entries[name]
	if p == nil || p.created != created {
		return
	}
	delete(l.entries, name)
	end := &l.levels[level]
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		end.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		end.last = p.prev
	}
}

// follow opens the line while somebody waits, and closes it a while after.
func (d *desk) follow() {
	now := time.Now()
	switch {
	case len(d.turns) > 0:
		d.lineUsed = now
		if d.line != nil || d.opening != nil || now.Before(d.lineRetry) {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		d.opening = cancel
		d.batcher.running.Go(func() {
			r := d.open(ctx, cancel)
			d.post(func(in *inbox) { in.line = r })
		})
	case d.line != nil && now.Sub(d.lineUsed) >= d.linger():
		d.unfollow()
	}
}

// linger is how long the line stays after the last has left it.
func (d *desk) linger() time.Duration { return min(lineLinger, d.batcher.idle) }

// unfollow closes the line.
func (d *desk) unfollow() {
	if d.opening != nil {
		d.opening()
	}
	if d.line != nil {
		d.line.cancel()
		d.line, d.unseen, d.blocked = nil, 0, false
	}
}

// lineReply is a line that was opened, with what was read then.
type lineReply struct {
	line *line
	resp *clientv3.TxnResponse
	err  error
}

// open watches first and reads then, so that nothing is missed. It takes no longer than
// the time limit.
func (d *desk) open(ctx context.Context, cancel context.CancelFunc) *lineReply {
	l := &line{cancel: cancel, entries: make(map[placeName]*place)}
	r := &lineReply{line: l}
	limit := time.AfterFunc(d.store.cfg.Timeout, cancel)
	defer func() {
		if !limit.Stop() {
			r.err = context.DeadlineExceeded
		}
	}()
	if l.queue, r.err = d.store.watch(ctx, queuePrefix(d.group), clientv3.WithPrefix()); r.err != nil {
		return r
	}
	for i, key := range [...]string{semaphoreKey(d.group), policyKey(locksmith.PauseScope{Group: d.group}), policyKey(locksmith.PauseScope{All: true})} {
		if l.others[i], r.err = d.store.watch(ctx, key); r.err != nil {
			return r
		}
	}
	if l.others[3], r.err = d.store.watch(ctx, machinePolicyPrefix(), clientv3.WithPrefix()); r.err != nil {
		return r
	}
	r.resp, r.err = d.store.read(ctx, append(d.basics(), clientv3.OpGet(queuePrefix(d.group), clientv3.WithPrefix(),
		clientv3.WithKeysOnly(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))))
	return r
}

// opened takes in a line, or why there is none.
func (d *desk) opened(r *lineReply) {
	d.opening = nil
	if r.err != nil {
		r.line.cancel()
		d.broken(r.err)
		return
	}
	l, rev := r.line, r.resp.Header.Revision
	if rev < d.known.rev { // newer already, but not every policy need be
		d.known.fresh = false
	}
	d.take(rev, r.resp.Responses[:basicsLen])
	l.from, l.rev = rev, rev
	for _, kv := range r.resp.Responses[basicsLen].GetResponseRange().GetKvs() {
		if level, machine, ok := waiterAt(d.group, kv.Key); ok {
			l.add(level, d.name(machine), kv.CreateRevision)
		}
	}
	// What was in the way before may have gone before this was read: the next grant
	// finds out, and what the line tells from then on.
	d.line, d.crowd, d.blocked, d.lineBack = l, false, false, newRetry()
	for _, t := range d.turns {
		stands := l.created(t.level, t.machine)
		if t.state == turnQueued && t.created <= rev && stands != t.created || t.state == turnBlocked && t.foreign <= rev && stands != t.foreign {
			d.lost(t)
		}
	}
}

// broken has the line opened anew.
func (d *desk) broken(err error) {
	d.log.Warn("queue not followed, trying again", "group", d.group, "error", d.store.say(err))
	d.unfollow()
	d.lineRetry = time.Now().Add(min(d.lineBack.delay(), maxRetry))
}

// name is machine in the one string that its turn has.
func (d *desk) name(machine string) string {
	if t := d.turns[machine]; t != nil {
		return t.machine
	}
	return machine
}

// sleep waits until something happens.
func (d *desk) sleep(timer *time.Timer) {
	var queue clientv3.WatchChan
	var others [4]clientv3.WatchChan
	if d.line != nil {
		queue, others = d.line.queue, d.line.others
	}
	var lost chan struct{}
	if d.lease != nil {
		lost = d.lease.lost
	}
	var resp clientv3.WatchResponse
	open := false
	take := d.told
	select {
	case <-d.wake:
		return
	case <-timer.C:
		return
	case <-lost:
		d.leaseLost()
		return
	case resp, open = <-queue:
		take = d.moved
	case resp, open = <-others[0]:
	case resp, open = <-others[1]:
	case resp, open = <-others[2]:
	case resp, open = <-others[3]:
	}
	if err := watchErr(context.Background(), resp, open); err != nil {
		d.broken(err)
		return
	}
	for _, ev := range resp.Events {
		take(ev)
	}
}

// moved takes in an entry that has come or gone.
func (d *desk) moved(ev *clientv3.Event) {
	l, kv := d.line, ev.Kv
	level, machine, ok := waiterAt(d.group, kv.Key)
	if kv.ModRevision <= l.from {
		return
	}
	l.rev = max(l.rev, kv.ModRevision)
	if !ok {
		d.blocked = false // perhaps: the next grant finds out
		return
	}
	if ev.Type != clientv3.EventTypeDelete {
		l.add(level, d.name(machine), kv.CreateRevision)
		return
	}
	stood := l.created(level, machine)
	l.remove(level, machine, stood)
	t := d.turns[machine]
	if t == nil || t.level != level || stood == 0 {
		return
	}
	if t.state == turnQueued && t.created == stood || t.state == turnBlocked && t.foreign == stood {
		d.lost(t)
	}
}
