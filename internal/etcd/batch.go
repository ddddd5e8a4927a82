package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/locksmith-reboot/locksmith"
)

const (
	// maxDesks bounds how many groups are served at a time. Only groups that exist
	// get a desk.
	maxDesks = 4096

	// deskIdle is how long a desk stays without a request.
	deskIdle = time.Minute

	// leaveLimit bounds how long a caller waits until its place in the queue is given up.
	leaveLimit = 3 * time.Second
)

var (
	errStopping = &Error{msg: "the server is stopping", transient: true}
	errCrowded  = &Error{msg: fmt.Sprintf("requests for %d groups are under way, which is the most at a time: try again later", maxDesks), transient: true}

	// errGone is the answer to a call that was given up: nobody reads it.
	errGone = errors.New("the client went away")
)

// BatcherConfig says how a Batcher serves.
type BatcherConfig struct {
	// CreateGroups makes a group that does not exist with its first grant, with one
	// slot; false: that is locksmith.ErrUnknownGroup.
	CreateGroups bool
}

// Batcher takes and gives back slots for many machines that have no connection to etcd
// of their own, in few transactions: those of one group that come while a transaction is
// under way go into the next one together. Machines that wait do so in the same queue as
// everybody else, and cost no goroutine and no watch each.
//
// Any number of Batchers may work on one etcd; nothing depends on what one of them
// remembers. Its methods may be called concurrently.
type Batcher struct {
	store *Store
	cfg   BatcherConfig
	idle  time.Duration // after which a desk goes away

	mu      sync.Mutex
	desks   map[locksmith.Group]*desk
	closed  bool
	running sync.WaitGroup
}

// NewBatcher is a Batcher until Close. It starts nothing before it is used.
func (s *Store) NewBatcher(cfg BatcherConfig) *Batcher {
	return &Batcher{store: s, cfg: cfg, idle: deskIdle, desks: make(map[locksmith.Group]*desk)}
}

// call is one Acquire or Release, from its client to its answer.
type call struct {
	group   locksmith.Group
	machine string
	release bool
	result  locksmith.Result   // of a release
	req     *locksmith.Request // else, with the rest
	nonce   string
	wait    time.Duration
	began   time.Time

	desk   *desk
	answer chan error  // receives once
	gone   atomic.Bool // the client does not wait for the answer any more
	queued atomic.Bool // it waits for a slot, and no longer for etcd
}

// Acquire returns nil once the machine holds a slot of the one group of req, which must be
// By locksmith.ByFleetLock. One that holds a slot already, of that kind or without a record,
// gets nil and nothing is written. A Priority of 0 is locksmith.DefaultPriority.
//
// Where no slot is free it waits in the queue for as long as wait says; with a wait of 0
// the answer comes at once and does not regard the queue. Errors are
// locksmith.ErrUnknownGroup, *locksmith.HeldError for a slot that an administrator or
// locksmithd holds in the machine's name, *locksmith.FullError with the holders,
// *locksmith.PausedError, *locksmith.UnreadableError, ctx's cause, or an *Error, which comes
// within Config.Timeout while etcd is away. None of them leaves the machine in the queue;
// nor, as long as etcd answers, in a slot.
func (b *Batcher) Acquire(ctx context.Context, req locksmith.Request, wait time.Duration) error {
	if len(req.Groups) != 1 {
		return fmt.Errorf("a slot in %d groups was asked for: must be 1", len(req.Groups))
	}
	if req.By != locksmith.ByFleetLock {
		return fmt.Errorf("a slot for %q was asked for: must be for %q", req.By, locksmith.ByFleetLock)
	}
	if req.Priority == 0 {
		req.Priority = locksmith.DefaultPriority
	}
	a, err := b.store.newAttempt(req, true, nil)
	if err != nil {
		return err
	}
	req = a.req
	return b.serve(ctx, &call{group: req.Groups[0], machine: req.MachineID, req: &req, nonce: a.nonce, wait: max(0, wait)})
}

// Release gives back a slot of machine's that is By locksmith.ByFleetLock or without a
// record. That it holds none, or that somebody else holds it in its name, is no error, and
// nothing is written. Whether the machine waits in the queue is another request's
// business. Errors are locksmith.ErrUnknownGroup, *locksmith.UnreadableError, ctx's cause or
// an *Error.
func (b *Batcher) Release(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error {
	if err := locksmith.CheckMachineID(machine); err != nil {
		return err
	}
	return b.serve(ctx, &call{group: group, machine: machine, release: true, result: result})
}

// Waiting is how many requests wait for a slot, of the groups in which any do.
func (b *Batcher) Waiting() map[locksmith.Group]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := make(map[locksmith.Group]int)
	for g, d := range b.desks {
		if n := d.waiting.Load(); n > 0 {
			waiting[g] = int(n)
		}
	}
	return waiting
}

// Close ends all requests with an error, leaves the queues and returns when that is done,
// or cannot be done because etcd is away.
func (b *Batcher) Close() {
	b.mu.Lock()
	b.closed = true
	for _, d := range b.desks {
		d.post(func(in *inbox) { in.closed = true })
	}
	b.mu.Unlock()
	b.running.Wait()
}

// serve has a call answered.
func (b *Batcher) serve(ctx context.Context, c *call) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.began, c.answer = time.Now(), make(chan error, 1)
	done, err := b.submit(c, false)
	if err == nil && !done {
		if err = b.exists(ctx, c); err == nil {
			_, err = b.submit(c, true)
		}
	}
	if err != nil {
		return err
	}
	return c.await(ctx, b.store.cfg.Timeout)
}

// submit hands c to its group's desk. Where there is none it is set up, or done is false.
func (b *Batcher) submit(c *call, setUp bool) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false, errStopping
	}
	d := b.desks[c.group]
	switch {
	case d == nil && !setUp:
		return false, nil
	case d == nil && len(b.desks) >= maxDesks:
		return false, errCrowded
	case d == nil:
		d = newDesk(b, c.group)
		b.desks[c.group] = d
		b.running.Go(d.run)
	}
	c.desk = d
	d.post(func(in *inbox) { in.calls = append(in.calls, c) })
	return true, nil
}

// exists is nil for a group that exists or may be made: names that somebody made up
// leave nothing behind.
func (b *Batcher) exists(ctx context.Context, c *call) error {
	if b.cfg.CreateGroups && !c.release {
		return nil
	}
	resp, err := b.store.get(ctx, semaphoreKey(c.group), clientv3.WithKeysOnly())
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return b.store.say(err)
	case len(resp.Kvs) == 0:
		return locksmith.ErrUnknownGroup
	}
	return nil
}

// retire takes an idle desk away, unless something has come for it.
func (b *Batcher) retire(d *desk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !d.quiet() {
		return false
	}
	delete(b.desks, d.group)
	return true
}

// await returns the answer, or gives the call up: when ctx ends, when it has waited long
// enough for a slot, or when etcd is away for longer than timeout.
func (c *call) await(ctx context.Context, timeout time.Duration) error {
	patience := timeout
	if c.wait > 0 {
		patience = min(c.wait, timeout)
	}
	t := time.NewTimer(max(0, patience-time.Since(c.began)))
	defer t.Stop()
	for {
		select {
		case err := <-c.answer:
			return err
		case <-ctx.Done():
			c.giveUp(false)
			return c.last(context.Cause(ctx))
		case <-t.C:
			took := time.Since(c.began)
			switch queued := c.queued.Load(); {
			case queued && took >= c.wait:
				c.giveUp(true)
				return c.last(c.desk.away())
			case queued:
				t.Reset(c.wait - took)
			case took >= timeout:
				c.giveUp(false)
				return c.desk.away()
			default:
				t.Reset(timeout - took)
			}
		}
	}
}

// giveUp tells the desk that nobody waits for the answer any more, or else that patience
// is at its end, which has an answer of its own.
func (c *call) giveUp(patience bool) {
	c.gone.Store(!patience)
	c.desk.post(func(in *inbox) { in.quits = append(in.quits, quit{c, patience}) })
}

// last is the answer to a call that was given up: one that was on its way, or else why,
// once the queue is left.
func (c *call) last(why error) error {
	t := time.NewTimer(leaveLimit)
	defer t.Stop()
	select {
	case err := <-c.answer:
		if errors.Is(err, errGone) {
			return why
		}
		return err
	case <-t.C:
		c.gone.Store(true)
		return why
	}
}

// say is explain without asking each endpoint what is wrong, which takes as long as the
// time limit once more.
func (s *Store) say(err error) error {
	var mine *Error
	if err == nil || errors.As(err, &mine) || isDomain(err) || errors.Is(err, locksmith.ErrUnknownGroup) {
		return err
	}
	if msg, transient, ok := s.known(err); ok {
		return &Error{msg: msg, transient: transient, err: err}
	}
	msg := "no answer from etcd: " + lastWords(err)
	if c := codeOf(err); c == codes.DeadlineExceeded || c == codes.Canceled {
		msg = fmt.Sprintf("no answer from etcd within %v", s.cfg.Timeout)
	}
	return &Error{msg: msg + " (" + s.tried() + ")", transient: !refused(err), err: err}
}

// lastWords is the cause in an error of gRPC's, which wraps the system's words (after
// "dial tcp 10.0.0.1:2379: connect: ") in its own and quotes them.
func lastWords(err error) string {
	msg := strings.TrimRight(plain(err), `"`)
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		msg = msg[i+2:]
	}
	if msg == "EOF" {
		return "the connection was closed"
	}
	return msg
}
