package model

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// process is a process of a machine: a store whose changes all stop at its gate, and what
// it does just now. Where it does nothing, job is nil.
type process struct {
	store *etcd.Store
	gate  *gate
	dead  atomic.Bool

	newest atomic.Int64 // the lease that it was granted last

	parked *sent // the change that stands at the gate
	job    *wait
	kind   Request // of the job: Grant is an Acquire, Confirm an Advance, Release a Release

	called   bool // the job was told to end
	leaving  bool // the job ends by itself
	repeats  bool // the job had no reply, and tries again
	answered bool // the job's change was carried out
	told     bool // an Advance that had no reply has seen that it was carried out
	lost     bool // an Advance has seen that a slot is lost
}

// life is how long a lease lasts that nobody renews: longer than any test. The process
// itself takes it for so short that it soon learns when it was revoked.
const life, shortLife = 10 * time.Minute, 2

// join and leave are changes that the model takes for a single step without a request.
const (
	join Request = 100 + iota
	leave
)

func (r *replay) newProcess() *process {
	p := &process{gate: &gate{stopped: make(chan *sent), closed: make(chan struct{})}}
	p.store = dial(r.t, at(r.server), func(cfg *etcd.Config) {
		cfg.Timeout, cfg.LeaseTTL = life, life
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(p.mortal, p.shortLease))
	}, p.gate.option)
	return p
}

// mortal is the end of everything that a dead process sends. It may still read, and
// believe that it has left the queue, so that its calls come to an end.
func (p *process) mortal(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	txn, _ := req.(*pb.TxnRequest)
	_, get := req.(*pb.RangeRequest)
	switch reads := get || txn != nil && len(txn.Compare) == 0; {
	case !p.dead.Load() || reads:
		return invoke(ctx, method, req, reply, cc, opts...)
	case txn != nil && kindOf(&sent{req: txn}) == leave:
		reply.(*pb.TxnResponse).Succeeded = true
		return nil
	}
	return errOver
}

func (p *process) shortLease(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if granted, ok := reply.(*pb.LeaseGrantResponse); ok && err == nil {
		granted.TTL = shortLife
		p.newest.Store(granted.ID)
	}
	return err
}

// begin begins a job.
func (p *process) begin(kind Request, do func(context.Context) (locksmith.Slots, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &wait{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slots, w.err = do(ctx)
	}()
	p.job, p.kind = w, kind
	p.called, p.leaving, p.repeats, p.answered = false, false, false, false
}

// cancel tells the job to end.
func (p *process) cancel() {
	if p.job != nil {
		p.called = true
		p.job.cancel()
	}
}

// kill ends the process, and waits for its job so that nothing of it is left.
func (p *process) kill() {
	p.dead.Store(true)
	close(p.gate.closed)
	if p.job != nil {
		p.job.cancel()
		<-p.job.done
	}
}

// look is the change that stands at the gate, nil if there is none; with must it waits
// for one, or for the end of the job.
func (p *process) look(t *testing.T, must bool) *sent {
	t.Helper()
	if p.parked != nil {
		return p.parked
	}
	var done <-chan struct{}
	var late <-chan time.Time
	if p.job != nil {
		done = p.job.done
	}
	quiet := make(chan struct{})
	if must {
		late = time.After(patience)
	} else {
		close(quiet)
	}
	select {
	case p.parked = <-p.gate.stopped:
	case <-quiet:
	case <-done:
	case <-late:
		t.Error("neither a change nor the end of the call")
	}
	return p.parked
}

// ended says whether the job has ended.
func (p *process) ended() bool {
	if p.job == nil {
		return true
	}
	select {
	case <-p.job.done:
		return true
	default:
		return false
	}
}

// let says what becomes of the change at the gate.
func (p *process) let(f fate) bool {
	s := p.parked
	p.parked = nil
	return s.let(f)
}

// kindOf is what a change does.
func kindOf(s *sent) Request {
	var semaphore, holder, entry, gone bool
	for _, op := range s.req.Success {
		put, del := string(op.GetRequestPut().GetKey()), string(op.GetRequestDeleteRange().GetKey())
		semaphore = semaphore || strings.HasSuffix(put, "/semaphore")
		holder = holder || strings.Contains(put, "/holders/")
		entry = entry || strings.Contains(put, "/queue/")
		gone = gone || strings.Contains(del, "/holders/")
	}
	switch {
	case gone:
		return Release
	case holder && semaphore:
		return Grant
	case holder:
		return Confirm
	case entry:
		return join
	}
	return leave
}

// would says whether the comparisons of a change hold at this moment.
func (r *replay) would(s *sent) bool {
	r.t.Helper()
	resp, err := r.raw.Txn(r.t.Context(), &pb.TxnRequest{Compare: s.req.Compare})
	if err != nil {
		r.fail("comparisons: %v", err)
	}
	return resp.Succeeded
}

// lease is that on which machine m's queue entry hangs, 0: it has none.
func (r *replay) lease(m int) (int64, error) {
	entry, err := r.entry(m)
	if entry == nil {
		return 0, err
	}
	return entry.Lease, nil
}

// entry is machine m's in the queue of its first group, nil: it has none.
func (r *replay) entry(m int) (*mvccpb.KeyValue, error) {
	g := r.of(m)[0]
	key := "coreos.com/updateengine/rebootlock/groups/" + url.QueryEscape(string(g)) + fmt.Sprintf("/queue/%d/%s", locksmith.DefaultPriority, name(m))
	resp, err := r.raw.Range(r.t.Context(), &pb.RangeRequest{Key: []byte(key)})
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}
