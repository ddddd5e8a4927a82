package etcd

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

const (
	// maxRetry bounds the pauses between tries: requests end after Config.Timeout.
	maxRetry = 500 * time.Millisecond

	// giveBackWithin is how long a slot that no client knows of is given back. Its
	// client may ask again, perhaps another server, and be told that it holds the slot.
	giveBackWithin = 2 * time.Second

	// lineLinger is how long the queue is followed after the last has left it.
	lineLinger = 5 * time.Second
)

// desk serves one group, in one goroutine, which has all of it but the inbox.
type desk struct {
	batcher *Batcher
	store   *Store
	group   locksmith.Group
	log     *slog.Logger

	mu      sync.Mutex // of in
	in      inbox
	wake    chan struct{} // in is not empty
	waiting atomic.Int64  // calls in turns
	trouble atomic.Pointer[Error]

	known   known
	pending []*call // to be decided
	claims  map[string]*claim
	budget  int // changes in one transaction

	turns                map[string]*turn               // who waits, by machine
	levels               [locksmith.MaxPriority + 1]int // how many of them have calls
	toJoin               []*turn                        // without an entry
	joining              int                            // joins under way
	leavers              []*turn                        // without calls
	lease                *lease                         // of the newest entry
	line                 *line                          // the queue, followed; nil: not
	opening              context.CancelFunc             // it is about to be; nil: not
	lineUsed             time.Time                      // when anybody waited last
	lineBack, joinBack   *retry
	lineRetry, joinRetry time.Time // not before
	crowd                bool      // somebody waits, as far as is known without a line
	unseen               int64     // an entry that the line does not show yet
	blocked              bool      // an entry that is none is in the way of the queue

	used    time.Time // of the newest call
	contact time.Time // etcd's newest answer
	back    *retry
	retryAt time.Time // not before
	review  bool      // the semaphore may say something about turns
	closed  bool
}

// inbox is what comes to a desk from other goroutines.
type inbox struct {
	calls  []*call
	quits  []quit
	joins  []joinReply
	line   *lineReply
	closed bool
}

// quit is a call whose client does not wait any more, or not for a slot.
type quit struct {
	call     *call
	patience bool
}

// claim is a slot that was granted, or may have been, and of which no client knows yet.
type claim struct {
	nonce string
	since time.Time // when the last of them gave up; zero: not yet
	calls []*call   // theirs, to be answered when it is given back
}

// settle ends a claim.
func (d *desk) settle(machine string) {
	if c := d.claims[machine]; c != nil {
		for _, c := range c.calls {
			c.answer <- errGone
		}
		delete(d.claims, machine)
	}
}

func newDesk(b *Batcher, group locksmith.Group) *desk {
	return &desk{
		batcher: b, store: b.store, group: group, log: b.store.log,
		wake: make(chan struct{}, 1), turns: make(map[string]*turn), claims: make(map[string]*claim),
		budget: maxChanges, back: newRetry(), lineBack: newRetry(), joinBack: newRetry(), used: time.Now(), contact: time.Now(),
	}
}

// post puts something into the inbox.
func (d *desk) post(put func(*inbox)) {
	d.mu.Lock()
	put(&d.in)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// quiet says whether nothing is in the inbox.
func (d *desk) quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.in.calls) == 0 && len(d.in.quits) == 0 && len(d.in.joins) == 0 && d.in.line == nil
}

// away is the error of a call that etcd did not answer in time.
func (d *desk) away() error {
	if e := d.trouble.Load(); e != nil {
		return e
	}
	return &Error{msg: "no answer from etcd within " + d.store.cfg.Timeout.String() + " (" + d.store.tried() + ")", transient: true}
}

// run is the desk's goroutine.
func (d *desk) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer d.unfollow()
	for {
		d.receive()
		if d.closed {
			d.shut()
			return
		}
		if !time.Now().Before(d.retryAt) {
			d.leave()
			for !time.Now().Before(d.retryAt) && d.decide() {
			}
			d.join()
		}
		d.follow()
		if d.idle() && d.batcher.retire(d) {
			return
		}
		timer.Reset(time.Until(d.due()))
		d.sleep(timer)
	}
}

// receive takes in what has come.
func (d *desk) receive() {
	d.mu.Lock()
	in := d.in
	d.in = inbox{closed: in.closed}
	d.mu.Unlock()
	d.closed = in.closed
	if len(in.calls) > 0 {
		d.used = time.Now()
		d.pending = append(d.pending, in.calls...)
	}
	for _, r := range in.joins {
		d.joined(r)
	}
	if in.line != nil {
		d.opened(in.line)
	}
	for _, q := range in.quits {
		d.quit(q)
	}
	if len(in.quits) > 0 {
		d.prune()
	}
}

// prune drops those of the pending calls that nobody waits for.
func (d *desk) prune() {
	kept := d.pending[:0]
	for _, c := range d.pending {
		if c.gone.Load() {
			c.answer <- errGone
		} else {
			kept = append(kept, c)
		}
	}
	clear(d.pending[len(kept):])
	d.pending = kept
}

// quit takes a call out of its turn.
func (d *desk) quit(q quit) {
	t := d.turns[q.call.machine]
	if t == nil || !t.drop(q.call) {
		return // pending, or answered
	}
	d.waiting.Add(-1)
	if len(t.calls) == 0 {
		d.levels[t.level]--
	}
	err := errGone
	if q.patience {
		err = d.full(time.Now(), q.call.machine)
	}
	if len(t.calls) > 0 {
		q.call.answer <- err
		return
	}
	t.last = append(t.last, reply{q.call, err})
	d.leaves(t)
}

// full is why there is no slot for a machine that has waited for one.
func (d *desk) full(now time.Time, machine string) error {
	if d.known.sem.semErr != nil {
		return d.known.sem.semErr
	}
	if err := d.known.policiesOf(machine).err(now); err != nil {
		return err
	}
	sem := d.known.sem.sem
	return &locksmith.FullError{Group: d.group, Semaphore: sem.Semaphore, Holders: sem.Holders}
}

// idle says whether there has been nothing to do for a while.
func (d *desk) idle() bool {
	return time.Since(d.used) >= d.batcher.idle && d.unused() && d.line == nil && d.opening == nil && len(d.claims) == 0
}

// unused says whether nobody asks, waits or leaves.
func (d *desk) unused() bool { return len(d.pending) == 0 && len(d.turns) == 0 && d.joining == 0 }

// due is when to look again if nothing happens.
func (d *desk) due() time.Time {
	now := time.Now()
	if d.retryAt.After(now) {
		return d.retryAt
	}
	next := d.used.Add(d.batcher.idle)
	if d.line != nil && len(d.turns) == 0 {
		next = d.lineUsed.Add(d.linger())
	}
	if !next.After(now) || len(d.claims) > 0 { // something keeps the desk
		next = now.Add(time.Second)
	}
	if len(d.turns) == 0 {
		return next
	}
	if len(d.toJoin) > 0 && d.joining < maxJoins {
		next = earlier(next, d.joinRetry)
	}
	if d.line == nil && d.opening == nil {
		next = earlier(next, d.lineRetry)
	}
	next = earlier(next, d.contact.Add(d.checkEvery()))
	for _, p := range (policies{d.known.group, d.known.all}).active(now) {
		if p.Until != 0 {
			next = earlier(next, time.Unix(p.Until, 0))
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// checkEvery is how often etcd is asked, while somebody waits, whether it is there. The
// watches would only be silent.
func (d *desk) checkEvery() time.Duration { return d.store.cfg.Timeout / 4 }

// exchange carries out one transaction, which writes or not. While it is under way nothing
// else is done, but that those who wait are told when etcd stays away.
func (d *desk) exchange(writes bool, do func() (*clientv3.TxnResponse, error)) (*clientv3.TxnResponse, error) {
	if len(d.turns) == 0 {
		resp, err := do()
		d.heard(writes, err)
		return resp, err
	}
	type outcome struct {
		resp *clientv3.TxnResponse
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		resp, err := do()
		done <- outcome{resp, err}
	}()
	limit := time.NewTimer(time.Until(d.silent()))
	defer limit.Stop()
	for {
		select {
		case r := <-done:
			d.heard(writes, r.err)
			return r.resp, r.err
		case <-limit.C:
			d.dismiss(d.away())
		}
	}
}

// silent is from when on etcd is away for those who wait: a little before the time limit,
// which holds for their answers too.
func (d *desk) silent() time.Time { return d.contact.Add(d.store.cfg.Timeout * 9 / 10) }

// heard takes in how a request to etcd ended. That one can read again does not end what
// keeps etcd from writing.
func (d *desk) heard(writes bool, err error) {
	now := time.Now()
	if err == nil {
		d.contact = now
		if e := d.trouble.Load(); e != nil && !writes && noSpace(e.err) {
			return
		}
		d.retryAt = time.Time{}
		if d.trouble.Swap(nil) != nil {
			d.back = newRetry()
			d.log.Info("etcd is back", "group", d.group)
		}
		return
	}
	if refused(err) && codeOf(err) == codes.InvalidArgument && d.budget > 1 {
		d.budget /= 2 // too large a transaction for this etcd
		return
	}
	var said *Error
	if e, ok := d.store.say(err).(*Error); ok {
		said = e
	} else {
		said = &Error{msg: err.Error(), err: err}
	}
	if d.trouble.Swap(said) == nil {
		d.log.Warn("etcd does not answer, trying again", "group", d.group, "error", said)
	}
	d.retryAt = now.Add(min(d.back.delay(), maxRetry))
	switch {
	case !said.transient:
		d.refuse(said)
		d.dismiss(said)
	case !now.Before(d.silent()):
		d.dismiss(said)
	}
}

// refuse answers all pending calls.
func (d *desk) refuse(err error) {
	for _, c := range d.pending {
		c.answer <- err
	}
	d.pending = nil
}

// dismiss answers all who wait.
func (d *desk) dismiss(err error) {
	for _, t := range d.turns {
		d.end(t, err)
		t.farewell()
	}
}

// shut ends everything.
func (d *desk) shut() {
	d.refuse(errStopping)
	d.dismiss(errStopping)
	limit := time.Now().Add(leaveLimit)
	for d.retryAt = (time.Time{}); len(d.turns) > 0 && time.Now().Before(limit); {
		if d.joining > 0 {
			<-d.wake
			d.receive()
			d.refuse(errStopping)
			continue
		}
		d.leave()
		if len(d.turns) > 0 {
			pause(context.Background(), time.Until(d.retryAt))
		}
	}
	for d.joining > 0 {
		<-d.wake
		d.receive()
	}
}
