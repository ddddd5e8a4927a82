package model

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// patience is how long a test waits for something that must come.
const patience = 30 * time.Second

// gate stops every change that a store sends, until the test says what becomes of it.
type gate struct {
	stopped chan *sent
	closed  chan struct{}
}

// sent is a change on its way.
type sent struct {
	req  *pb.TxnRequest
	fate chan fate
	held bool          // whether its comparisons held, once over is closed
	over chan struct{} // closed when its sender has the answer
}

// fate is what becomes of a change.
type fate int

const (
	carried fate = iota // and answered
	muted               // carried out, and the reply is lost
	held                // its sender has no reply, and it may be carried out later
)

func newGate(t *testing.T) *gate {
	g := &gate{stopped: make(chan *sent), closed: make(chan struct{})}
	t.Cleanup(func() { close(g.closed) })
	return g
}

// option puts the gate before a store.
func (g *gate) option(cfg *etcd.Config) {
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(g.intercept))
}

func (g *gate) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	txn, ok := req.(*pb.TxnRequest)
	if !ok || len(txn.Compare) == 0 { // a read
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	s := &sent{req: txn, fate: make(chan fate, 1), over: make(chan struct{})}
	defer close(s.over)
	select {
	case g.stopped <- s:
	case <-g.closed:
		return errOver
	}
	var f fate
	select {
	case f = <-s.fate:
	case <-g.closed:
		return errOver
	}
	if f == held {
		return errNoReply
	}
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return err
	}
	s.held = reply.(*pb.TxnResponse).Succeeded
	if f == muted {
		return errNoReply
	}
	return nil
}

// What senders are told. An end is nothing that is tried again.
var (
	errNoReply = status.Error(codes.Unavailable, "no reply")
	errOver    = status.Error(codes.FailedPrecondition, "the process is over")
)

// next is the next change that comes to the gate.
func (g *gate) next(t *testing.T) *sent {
	t.Helper()
	select {
	case s := <-g.stopped:
		return s
	case <-time.After(patience):
		t.Fatal("no change was sent")
		return nil
	}
}

// let says what becomes of a change and waits until its sender knows. It says whether
// the comparisons held of one that was carried out.
func (s *sent) let(f fate) bool {
	s.fate <- f
	<-s.over
	return s.held
}

// open lets everything through from now on.
func (g *gate) open() {
	go func() {
		for {
			select {
			case s := <-g.stopped:
				s.fate <- carried
			case <-g.closed:
				return
			}
		}
	}()
}
