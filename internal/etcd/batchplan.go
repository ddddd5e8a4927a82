package etcd

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

const (
	// maxChanges bounds what one transaction gives and takes back: etcd's default limit
	// is 128 operations, and a grant from the queue has two beside those that all share.
	maxChanges = 60

	// maxLooks bounds how many records one transaction reads.
	maxLooks = maxReads - basicsLen
)

// plan is what a desk would do and answer, going by what it knows. All of it holds if a
// transaction finds that nothing has changed.
type plan struct {
	d    *desk
	now  time.Time
	free int // slots

	touched map[string]bool // machines whose slots change
	added   []string
	removed []string
	history []historyDoc
	then    []clientv3.Op // beside the semaphore and the history

	cmps     []clientv3.Cmp
	policies bool     // it rests on the policies,
	exact    policies // and on these of machines
	clear    int      // up to this level nobody may have an entry; -1: any may
	missing  []string // machines whose records have to be read first
	answers  []reply  // to calls
	granted  []grant  //
	enqueue  []*call  // to the queue
	later    []*call  // stay pending
	returned []string // claims that are given back
}

type reply struct {
	call *call
	err  error
}

// grant is a slot for a call, or for all that wait in a turn.
type grant struct {
	machine string
	nonce   string
	record  *locksmith.Holder
	call    *call
	turn    *turn
}

func (d *desk) newPlan(now time.Time) *plan {
	return &plan{d: d, now: now, free: d.known.sem.sem.Semaphore, clear: -1, touched: make(map[string]bool)}
}

func (p *plan) full() bool { return len(p.added)+len(p.removed)+len(p.exact) >= p.d.budget }

func (p *plan) changes() bool { return len(p.added)+len(p.removed) > 0 }

// empty says whether there is nothing to be done.
func (p *plan) empty() bool { return !p.changes() && len(p.answers)+len(p.enqueue) == 0 }

func (p *plan) answer(c *call, err error) { p.answers = append(p.answers, reply{c, err}) }

// decide makes and carries out one plan. It returns whether there may be more to do.
func (d *desk) decide() bool {
	if !d.known.fresh {
		return (len(d.pending) > 0 || len(d.turns) > 0 || len(d.claims) > 0) && d.look(d.askedFor())
	}
	now := time.Now()
	if d.review {
		if missing := d.reviewTurns(now); len(missing) > 0 {
			return d.look(missing)
		}
	}
	if d.expel(now) {
		return d.look(nil)
	}
	p := d.newPlan(now)
	p.giveBack()
	p.releases()
	p.fromQueue()
	p.newcomers()
	if len(p.missing) > 0 {
		return d.look(p.missing[:min(len(p.missing), maxLooks)])
	}
	if p.empty() {
		if len(d.turns) == 0 || now.Before(d.contact.Add(d.checkEvery())) {
			return false
		}
		p.policies = true // a check is of everything
	}
	return d.commit(p)
}

// askedFor are the machines whose records the first look takes along.
func (d *desk) askedFor() []string {
	var machines []string
	for _, c := range d.pending[:min(len(d.pending), maxLooks)] {
		if !slices.Contains(machines, c.machine) {
			machines = append(machines, c.machine)
		}
	}
	return machines
}

// holding is the record of a holder; false: it has to be read first.
func (p *plan) holding(machine string) (holding, bool) {
	h, ok := p.d.known.holders[machine]
	if !ok && !slices.Contains(p.missing, machine) && len(p.missing) < maxLooks {
		p.missing = append(p.missing, machine)
	}
	return h, ok
}

// giveBack takes back slots that no client knows of.
func (p *plan) giveBack() {
	d := p.d
	for machine, c := range d.claims {
		if d.wanted(machine) {
			continue
		}
		if c.since.IsZero() {
			c.since = p.now
		}
		if !d.known.sem.holds(machine) {
			d.settle(machine)
			continue
		}
		h, ok := p.holding(machine)
		switch {
		case !ok:
		case h.record == nil || h.record.Nonce != c.nonce:
			d.settle(machine)
		case p.now.Sub(c.since) > giveBackWithin:
			d.log.Warn("a slot was granted whose client had no answer in time, it is kept until the machine asks again",
				"group", d.group, "machine", machine)
			d.settle(machine)
		case !p.full():
			p.remove(machine, h, locksmith.Result{Outcome: locksmith.OutcomeClientGone})
			p.returned = append(p.returned, machine)
		}
	}
}

// wanted says whether a client asks for machine's slot or waits for it.
func (d *desk) wanted(machine string) bool {
	if t := d.turns[machine]; t != nil && t.live() {
		return true
	}
	return slices.ContainsFunc(d.pending, func(c *call) bool { return !c.release && c.machine == machine && !c.gone.Load() })
}

// releases plans for those who give back.
func (p *plan) releases() {
	d, sem := p.d, &p.d.known.sem
	for _, c := range d.pending {
		if !c.release {
			continue
		}
		if err := d.unusable(false); err != nil {
			p.answer(c, err)
			continue
		}
		if p.touched[c.machine] || !sem.holds(c.machine) {
			p.answer(c, nil)
			continue
		}
		h, ok := p.holding(c.machine)
		_, foreign := h.foreign()
		switch {
		case !ok:
		case h.err != nil:
			p.answer(c, h.err)
		case foreign:
			p.answer(c, nil)
		case p.full():
			p.later = append(p.later, c)
		default:
			p.remove(c.machine, h, c.result)
			p.answer(c, nil)
		}
	}
}

// unusable is why nobody can be served in the group.
func (d *desk) unusable(create bool) error {
	sem := &d.known.sem
	switch {
	case sem.semErr != nil:
		return sem.semErr
	case sem.semRev == 0 && !create:
		return locksmith.ErrUnknownGroup
	}
	return nil
}

// fromQueue grants to those of our turns that are first in the queue.
func (p *plan) fromQueue() {
	d := p.d
	if d.line == nil || d.blocked || d.unseen > d.line.rev || d.unusable(d.batcher.cfg.CreateGroups) != nil {
		return
	}
	level, e := d.line.front()
	for ; e != nil && p.free > 0 && !p.full(); e = e.next {
		t := d.turns[e.machine]
		if t == nil || t.level != level || t.created != e.created || !t.live() || p.touched[e.machine] || d.known.sem.holds(e.machine) {
			return
		}
		p.policies = true
		ps := p.d.known.policiesOf(e.machine)
		if ps.err(p.now) != nil {
			return // for everybody, or else expel deals with it
		}
		p.relyOn(ps)
		key := queueKey(d.group, level, t.machine)
		p.cmps = append(p.cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", t.created))
		p.then = append(p.then, clientv3.OpDelete(key))
		p.clear = max(p.clear, level-1)
		p.add(t.req, t.nonce, grant{turn: t})
	}
}

// relyOn notes that the plan rests on policies. That no machine has a new one is a single
// comparison, that an old one is the same is one of its own.
func (p *plan) relyOn(ps policies) {
	p.policies = true
	if own := ps[len(ps)-1]; own.rev > 0 && !slices.Contains(p.exact, own) {
		p.exact = append(p.exact, own)
	}
}

// newcomers plans for those who ask for a slot.
func (p *plan) newcomers() {
	for _, c := range p.d.pending {
		if !c.release {
			p.newcomer(c)
		}
	}
}

func (p *plan) newcomer(c *call) {
	d := p.d
	if p.touched[c.machine] {
		p.later = append(p.later, c)
		return
	}
	if err := d.unusable(d.batcher.cfg.CreateGroups); err != nil {
		p.answer(c, err)
		return
	}
	ps := d.known.policiesOf(c.machine)
	paused := ps.err(p.now)
	if d.known.sem.holds(c.machine) {
		if h, ok := p.holding(c.machine); ok {
			p.relyOn(ps)
			p.answer(c, d.toHolder(h, paused))
		}
		return
	}
	if p.full() {
		p.later = append(p.later, c)
		return
	}
	p.relyOn(ps)
	patient := p.now.Sub(c.began) < c.wait
	switch {
	case paused != nil && (!patient || !ps.everywhere(p.now)):
		p.answer(c, paused)
	case paused == nil && p.free > 0 && (c.wait == 0 || !d.crowded(c.req.Priority)):
		if c.wait > 0 {
			p.clear = max(p.clear, c.req.Priority)
		}
		p.add(c.req, c.nonce, grant{call: c})
	case patient:
		p.enqueue = append(p.enqueue, c)
	default:
		p.answer(c, &locksmith.FullError{}) // with what is known then
	}
}

// toHolder is the answer to a machine that asks for the slot it has.
func (d *desk) toHolder(h holding, paused error) error {
	if h.err != nil {
		return h.err
	}
	if by, foreign := h.foreign(); foreign {
		return &locksmith.HeldError{Group: d.group, By: by}
	}
	return paused // about to reboot, which it must not
}

// crowded says whether somebody may wait at a level or at a more urgent one.
func (d *desk) crowded(level int) bool {
	for l := range level + 1 {
		if d.levels[l] > 0 || d.line != nil && d.line.levels[l].first != nil {
			return true
		}
	}
	if d.line != nil {
		return d.blocked || d.unseen > d.line.rev
	}
	return d.crowd
}

// add gives a slot.
func (p *plan) add(req *locksmith.Request, nonce string, g grant) {
	now := p.now.Unix()
	g.machine, g.nonce = req.MachineID, nonce
	g.record = &locksmith.Holder{
		MachineID: req.MachineID, StartTime: now,
		BootID: req.BootID, Hostname: req.Hostname, Groups: req.Groups,
		Phase: locksmith.PhaseAcquired, PhaseTime: now,
		Reason: req.Reason, By: req.By, Nonce: nonce, Address: req.Address,
	}
	p.free--
	p.touched[g.machine] = true
	p.added = append(p.added, g.machine)
	p.granted = append(p.granted, g)
	p.then = append(p.then, clientv3.OpPut(holderKey(p.d.group, g.machine), mustJSON(g.record)))
	p.history = append(p.history, historyDoc{
		Time: p.now, Actor: req.Actor, Action: locksmith.ActionLock,
		Machine: req.MachineID, Hostname: req.Hostname, Outcome: req.Reason,
	})
}

// remove takes a slot back.
func (p *plan) remove(machine string, h holding, result locksmith.Result) {
	if result.Actor == "" {
		result.Actor = locksmith.ByFleetLock
		if h.record != nil {
			result.Actor = h.record.By
		}
	}
	p.free++
	p.touched[machine] = true
	p.removed = append(p.removed, machine)
	key := holderKey(p.d.group, machine)
	p.cmps = append(p.cmps, clientv3.Compare(clientv3.ModRevision(key), "=", h.rev))
	p.then = append(p.then, clientv3.OpDelete(key))
	p.history = append(p.history, ended(machine, h.record, p.now, result))
}

// semaphore is what the plan makes of the group's.
func (p *plan) semaphore() locksmith.Semaphore {
	sem := p.d.known.sem.sem
	holders := make([]string, 0, len(sem.Holders)+len(p.added))
	slices.Sort(p.removed)
	for _, h := range sem.Holders {
		if _, gone := slices.BinarySearch(p.removed, h); !gone {
			holders = append(holders, h)
		}
	}
	holders = append(holders, p.added...)
	slices.Sort(holders)
	return locksmith.Semaphore{Max: sem.Max, Semaphore: sem.Max - len(holders), Holders: holders}
}
