package etcd

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// member is an etcd member that has stopped with a join that it was sent: the client
// learns only that the connection broke. Later it goes on, and carries the join out.
type member struct {
	mu    sync.Mutex
	stops int // joins from now on
	has   []*pb.TxnRequest
}

func (m *member) stop(joins int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stops = joins
}

// dialOptions are for the store whose joins it takes.
func (m *member) dialOptions(c *Config) {
	c.DialOptions = append(c.DialOptions, grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if txn, ok := req.(*pb.TxnRequest); ok && joins(txn) && m.take(txn) {
				return status.Error(codes.Unavailable, "the connection broke")
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}))
}

func (m *member) take(txn *pb.TxnRequest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stops == 0 {
		return false
	}
	m.stops--
	m.has = append(m.has, proto.Clone(txn).(*pb.TxnRequest))
	return true
}

// goesOn carries out what it was sent, want joins, of which none may succeed.
func (m *member) goesOn(t *testing.T, srv *etcdtest.Server, want int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.has) != want {
		t.Errorf("%d joins had no reply, want %d", len(m.has), want)
	}
	kv := pb.NewKVClient(srv.Client(t).ActiveConnection())
	for _, txn := range m.has {
		// Without the lease it is refused, which is as good.
		if resp, err := kv.Txn(t.Context(), txn); err == nil && resp.Succeeded {
			t.Errorf("carried out late: %v", txn)
		}
	}
	m.has = nil
}

// A join that is carried out only when its machine has its slot, by way of another one, or
// has given up, leaves nothing in the queue: nobody would take it out.
func TestJoinCarriedOutLate(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, granted := range []bool{true, false} {
			var m member
			s, direct := dial(t, srv.Endpoint, m.dialOptions), dial(t, srv.Endpoint)
			a, b := newGroup(t), newGroup(t)
			setMax(t, direct, a, 0)
			setMax(t, direct, b, 1)
			m.stop(2)
			w := acquire(t, s, request("late", a, b))
			awaitQueue(t, direct, a, 1)
			var slots locksmith.Slots
			if granted {
				setMax(t, direct, a, 1)
				slots = w.granted(t)
			} else {
				w.cancel(errStopped)
				<-w.done
			}
			m.goesOn(t, srv, 2)
			awaitQueue(t, direct, a, 0)
			awaitQueue(t, direct, b, 0)
			if granted {
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Fatal(err)
				}
			}
			// Another lease is there when it is needed.
			again := acquire(t, s, request("late", b))
			if err := s.Release(t.Context(), again.granted(t), locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The same for a server, where it costs nobody else's place.
func TestBatchJoinCarriedOutLate(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, granted := range []bool{true, false} {
			var m member
			s, direct, g := dial(t, srv.Endpoint, m.dialOptions), dial(t, srv.Endpoint), newGroup(t)
			b := newBatcher(t, s)
			setMax(t, direct, g, 1)
			b.get(t, g, "holder")
			m.stop(2)
			late := ask(t, b, asks("late", g), long)
			awaitQueue(t, direct, g, 1)
			other := ask(t, b, asks("other", g), long)
			awaitQueue(t, direct, g, 2)
			places := must(direct.Status(t.Context(), g))(t).Queue
			if granted {
				b.put(t, g, "holder")
				late.granted(t)
			} else {
				late.cancel(errStopped)
				if err := late.ended(t); err == nil {
					t.Fatal("granted")
				}
			}
			// What was sent is void once the fence is up, which nobody waits for.
			awaitFence(t, srv, s)
			m.goesOn(t, srv, 2)
			queue := must(direct.Status(t.Context(), g))(t).Queue
			if len(queue) != 1 || queue[0].MachineID != "other" || queue[0].Revision != places[1].Revision {
				t.Errorf("queue %+v, want the other in its place of %+v", queue, places)
			}
			if granted {
				b.put(t, g, "late")
			} else {
				b.put(t, g, "holder")
			}
			other.granted(t)
			// Behind a fence as before it.
			again := ask(t, b, asks("late", g), long)
			awaitQueue(t, direct, g, 1)
			b.put(t, g, "other")
			again.granted(t)
			b.put(t, g, "late")
		}
	})
}

// awaitFence waits until what was sent under the lease of s is void.
func awaitFence(t *testing.T, srv *etcdtest.Server, s *Store) {
	t.Helper()
	l := must(s.keep.get(t.Context()))(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := srv.Client(t)
	events := cl.Watch(ctx, fenceKey(l.id), clientv3.WithCreatedNotify())
	<-events
	if len(must(cl.Get(ctx, fenceKey(l.id)))(t).Kvs) > 0 {
		return
	}
	if resp, ok := <-events; !ok || resp.Err() != nil {
		t.Fatal("no fence", resp.Err())
	}
}

// joins says whether a transaction puts a queue entry.
func joins(txn *pb.TxnRequest) bool {
	return slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool {
		return strings.Contains(string(op.GetRequestPut().GetKey()), "/queue/")
	})
}
