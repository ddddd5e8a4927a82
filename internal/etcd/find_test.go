package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// aboutToBeGranted is a process that queues, is first, and has seen that there is room:
// its next request takes the slots.
func aboutToBeGranted(t *testing.T, s *Store, req locksmith.Request) (*attempt, view) {
	t.Helper()
	a := must(s.newAttempt(req, true, nil))(t)
	l := must(s.keep.get(t.Context()))(t)
	if _, _, err := a.join(t.Context(), l.id); err != nil {
		t.Fatal(err)
	}
	v, _, err := a.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a, v
}

// An earlier process of the machine was killed, and its request for the slots is under
// way. It is carried out before its entries are taken out of the queues, and found, or
// it fails; whatever its priority was.
func TestWithdraw(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint("late ", late), func(t *testing.T) {
				s, g, h := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
				groups := []locksmith.Group{g, h}
				req := request("m", g, h)
				req.Priority = locksmith.MaxPriority
				killed, v := aboutToBeGranted(t, dial(t, srv.Endpoint), req)
				if found := must(s.Find(t.Context(), "m", groups))(t); !found.Queued || len(found.Groups) != 0 {
					t.Errorf("found %+v, want that it waits", found)
				}
				if found := must(s.Find(t.Context(), "n", groups))(t); found.Queued {
					t.Errorf("another machine waits, too: %+v", found)
				}
				if !late {
					if _, _, granted, err := killed.commit(t.Context(), v); !granted {
						t.Fatalf("not granted: %v", err)
					}
				}
				found := must(s.Withdraw(t.Context(), "m", groups))(t)
				if found.Queued || slices.Equal(found.Groups, groups) == late {
					t.Errorf("withdrawn, and found %+v", found)
				}
				if _, _, granted, err := killed.commit(t.Context(), v); granted || err != nil {
					t.Errorf("granted %v, %v", granted, err)
				}
				for _, g := range groups {
					st := must(s.Status(t.Context(), g))(t)
					if len(st.Queue) != 0 || (len(st.Holders) == 0) != late {
						t.Errorf("%s: %d wait, %d hold", g, len(st.Queue), len(st.Holders))
					}
				}
			})
		}
	})
}

// An administrator's wait on the machine is not the agent's, and other machines' are not
// the machine's.
func TestWithdrawLeavesOthers(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	setMax(t, s, g, 0)
	hold := request("m", g)
	hold.By = locksmith.ByLock
	for _, req := range []locksmith.Request{hold, request("n", g)} {
		acquire(t, dial(t, srv.Endpoint), req)
	}
	awaitQueue(t, s, g, 2)
	if found := must(s.Withdraw(t.Context(), "m", []locksmith.Group{g}))(t); found.Queued {
		t.Errorf("found %+v", found)
	}
	if st := must(s.Status(t.Context(), g))(t); len(st.Queue) != 2 {
		t.Errorf("%d wait, want both", len(st.Queue))
	}
}

// A machine in as many groups as may be has more queues than one request can read.
func TestWithdrawFromManyQueues(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	var groups []locksmith.Group
	for range locksmith.MaxGroups {
		groups = append(groups, newGroup(t))
	}
	s := dial(t, srv.Endpoint)
	for _, gs := range [][]locksmith.Group{groups[:1], groups[len(groups)-1:], groups} {
		killed, v := aboutToBeGranted(t, dial(t, srv.Endpoint), request("m", gs...))
		if found := must(s.Find(t.Context(), "m", groups))(t); !found.Queued {
			t.Errorf("in %d groups: not found", len(gs))
		}
		must(s.Withdraw(t.Context(), "m", groups))(t)
		if _, _, granted, err := killed.commit(t.Context(), v); granted || err != nil {
			t.Errorf("in %d groups: granted %v, %v", len(gs), granted, err)
		}
	}
	// Taken in other groups than are configured now: both are looked at.
	for range locksmith.MaxGroups {
		groups = append(groups, newGroup(t))
	}
	earlier := []locksmith.Group{"", "web"}
	rawPut(t, srv, seenKey("m"), `{"machineID":"m","groups":["","web"]}`)
	for _, find := range []func(context.Context, string, []locksmith.Group) (locksmith.Slots, error){s.Find, s.Withdraw} {
		if found := must(find(t.Context(), "m", groups))(t); found.Queued || len(found.Groups) != 0 || !slices.Equal(found.Earlier, earlier) {
			t.Errorf("found %+v", found)
		}
	}
	rawPut(t, srv, seenKey("m"), "not JSON")
	if found := must(s.Find(t.Context(), "m", groups))(t); len(found.Earlier) != 0 {
		t.Errorf("found %+v", found)
	}
}

// Where nothing is left in a queue, looking for it costs no request more than reading what
// is held.
func TestFindIsOneRequest(t *testing.T) {
	var requests atomic.Int64
	count := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		requests.Add(1)
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	s := dial(t, server(t, etcdtest.Embedded).Endpoint, func(c *Config) {
		c.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(count)}
	})
	groups := []locksmith.Group{newGroup(t), newGroup(t), newGroup(t)}
	for name, do := range map[string]func(context.Context, string, []locksmith.Group) (locksmith.Slots, error){"Find": s.Find, "Withdraw": s.Withdraw} {
		requests.Store(0)
		must(do(t.Context(), "m", groups))(t)
		if n := requests.Load(); n != 1 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// A wait that ends while a grant is under way, and that cannot take its entries out of the
// queue, says that it may hold slots: what it reads is not final.
func TestMayHold(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	var deaf atomic.Bool
	refuse := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, isTxn := req.(*pb.TxnRequest); isTxn && len(txn.Compare) > 0 && deaf.Load() {
			return status.Error(codes.Unavailable, "no writes")
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	g := newGroup(t)
	s := dial(t, srv.Endpoint, func(c *Config) {
		c.Timeout, c.DialOptions = time.Second, []grpc.DialOption{grpc.WithChainUnaryInterceptor(refuse)}
	})
	a, v := aboutToBeGranted(t, s, request("m", g))
	deaf.Store(true)
	if _, _, _, err := a.commit(t.Context(), v); err == nil {
		t.Fatal("the grant was not lost")
	}
	_, err := a.giveUp(t.Context(), errStopped)
	if !errors.Is(err, locksmith.ErrMayHold) || !errors.Is(err, errStopped) {
		t.Errorf("gave up with %v", err)
	}
	deaf.Store(false)
	if _, err := a.giveUp(t.Context(), errStopped); err != errStopped {
		t.Errorf("gave up, out of the queue, with %v", err)
	}
}
