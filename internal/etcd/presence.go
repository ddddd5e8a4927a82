package etcd

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// How often a presence is written that does not change, give or take a tenth: it
// says when the machine was seen last, which is asked for where others wait for it.
const (
	presenceIdle = time.Hour
	presenceHeld = 5 * time.Minute
)

// presenceLast bounds the last write of an agent that stops.
const presenceLast = 2 * time.Second

// KeepPresence shows that an agent runs and what it says of itself, for as long as ctx
// lasts and the process lives, and returns ctx's cause. It takes what comes from latest
// without delay and writes the newest: first 2 s after the first value came, so that
// an agent's start is one write, then 2 s after a change but at most every 10 s, and
// without one every hour, or every 5 min while the phase holds slots.
//
// Each write is one transaction of two keys with the same content. One hangs on the
// store's lease, so that a machine that went away is seen to be gone when that
// expires, 30 s later by default; the other stays. When ctx ends, what was not
// written yet goes to the latter.
func (s *Store) KeepPresence(ctx context.Context, latest <-chan locksmith.Presence) error {
	plan := presencePlan{settle: s.cfg.PresenceSettle, every: s.cfg.PresenceEvery}
	back := newRetry()
	var lapsed chan struct{}      // the lease's; nil: none that matters
	var writing chan announcement // nil: nothing is being written
	for {
		var due <-chan time.Time
		if at := plan.due(); writing == nil && !at.IsZero() {
			due = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			if writing != nil {
				plan.done(time.Now(), (<-writing).err == nil)
			}
			s.sayLast(ctx, plan)
			return context.Cause(ctx)
		case p, open := <-latest:
			if !open {
				latest = nil
				continue
			}
			plan.take(time.Now(), p)
		case <-lapsed:
			s.log.Debug("presence lapsed, announcing it again", "machine", plan.newest.MachineID)
			lapsed, plan.lapsed = nil, true
		case <-due:
			p := plan.begin(time.Now())
			writing = make(chan announcement, 1)
			go func() { writing <- s.announce(ctx, p) }()
		case a := <-writing:
			writing = nil
			plan.done(time.Now(), a.err == nil)
			if a.err == nil {
				back, lapsed = newRetry(), a.lease.lost
				continue
			}
			s.log.Debug("presence not announced", "machine", plan.newest.MachineID, "error", plain(a.err))
			plan.retry = time.Now().Add(back.delay())
		}
	}
}

// announcement is how a write ended.
type announcement struct {
	lease *lease // under which it was
	err   error
}

// announce writes both keys. It is cancelled with ctx: one that is carried out later
// does no harm.
func (s *Store) announce(ctx context.Context, p locksmith.Presence) announcement {
	l, err := s.keep.getInTurn(ctx)
	if err != nil {
		return announcement{err: err}
	}
	doc := mustJSON(p)
	_, err = s.txn(ctx, nil, []clientv3.Op{
		clientv3.OpPut(presenceKey(p.MachineID), doc, clientv3.WithLease(l.id)),
		clientv3.OpPut(seenKey(p.MachineID), doc),
	}, nil)
	return announcement{l, err}
}

// sayLast leaves the last word of an agent that stops, if it was not written yet.
func (s *Store) sayLast(ctx context.Context, plan presencePlan) {
	if plan.changed.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(presenceLast, s.cfg.Timeout))
	defer cancel()
	p := plan.begin(time.Now())
	if _, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpPut(seenKey(p.MachineID), mustJSON(p))}, nil); err != nil {
		s.log.Debug("last presence not written", "machine", p.MachineID, "error", plain(err))
	}
}

// presencePlan decides when a presence is written.
type presencePlan struct {
	settle, every time.Duration

	newest  *locksmith.Presence // nil: none came yet
	doc     string              // its document, without the time
	changed time.Time           // when the oldest change came that is not written; zero: none
	written time.Time           // the last time; zero: never
	repeat  float64             // factor of the time until the next without a change
	lapsed  bool                // the lease is gone: nobody sees us
	retry   time.Time           // after a failure: not before

	flight struct { // the write under way
		changed time.Time
		lapsed  bool
	}
}

// take takes the newest value in.
func (pl *presencePlan) take(now time.Time, p locksmith.Presence) {
	p.Seen = 0
	doc := mustJSON(p)
	if pl.newest != nil && doc == pl.doc {
		return
	}
	pl.newest, pl.doc = &p, doc
	if pl.changed.IsZero() {
		pl.changed = now
	}
}

// due is when to write, zero: not before something happens.
func (pl *presencePlan) due() time.Time {
	if pl.newest == nil {
		return time.Time{}
	}
	interval := presenceIdle
	if pl.newest.Phase.HoldsSlots() {
		interval = presenceHeld
	}
	at := pl.written.Add(time.Duration(pl.repeat * float64(interval)))
	if !pl.changed.IsZero() {
		change := pl.changed.Add(pl.settle)
		if !pl.written.IsZero() {
			change = later(change, pl.written.Add(pl.every))
		}
		if pl.written.IsZero() || change.Before(at) {
			at = change
		}
	}
	if pl.lapsed {
		at = pl.written
	}
	return later(at, pl.retry)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// begin is what to write now.
func (pl *presencePlan) begin(now time.Time) locksmith.Presence {
	pl.flight.changed, pl.flight.lapsed = pl.changed, pl.lapsed
	pl.changed, pl.lapsed = time.Time{}, false
	p := *pl.newest
	p.Seen = now.Unix()
	return p
}

// done takes in how that went.
func (pl *presencePlan) done(now time.Time, ok bool) {
	if ok {
		pl.written, pl.repeat, pl.retry = now, 0.9+0.2*rand.Float64(), time.Time{}
		return
	}
	pl.lapsed = pl.lapsed || pl.flight.lapsed
	if !pl.flight.changed.IsZero() {
		pl.changed = pl.flight.changed
	}
}

// newest is the younger one of a machine's presences as stored, nil where there is
// none that can be read.
func newest(kvs ...*mvccpb.KeyValue) *locksmith.Presence {
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(b.GetModRevision(), a.GetModRevision()) })
	for _, kv := range kvs {
		var p locksmith.Presence
		if kv != nil && decode(kv, &p) == nil {
			return &p
		}
	}
	return nil
}

// readPresences marks the holders whose agents are present, says when the others were
// seen last, and in which phase they are where that is newer than their records: not
// every phase is worth a write of these.
func (s *Store) readPresences(ctx context.Context, holders []locksmith.HolderStatus) error {
	for chunk := range slices.Chunk(holders, maxReads/2) {
		var ops []clientv3.Op
		for _, h := range chunk {
			ops = append(ops, clientv3.OpGet(presenceKey(h.MachineID), clientv3.WithKeysOnly()), clientv3.OpGet(seenKey(h.MachineID)))
		}
		resp, err := s.read(ctx, ops)
		if err != nil {
			return err
		}
		for i := range chunk {
			h := &chunk[i]
			p := newest(first(resp.Responses[2*i+1]))
			var seen int64
			if p != nil {
				seen = p.Seen
			}
			if h.By == locksmith.ByAgent { // only the machine itself writes its phase
				seen = max(seen, h.PhaseTime)
				if p != nil && p.Phase.HoldsSlots() {
					h.Phase, h.PhaseTime = locksmith.MachineStatus{Presence: *p, Holds: &h.Holder}.Where()
				}
			}
			if h.Present = first(resp.Responses[2*i]) != nil; h.Present {
				continue
			}
			h.Seen = locksmith.When(seen)
		}
	}
	return nil
}
