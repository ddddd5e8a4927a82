package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// idleMachines is how many machines that need nothing are looked at: what one of them
// sends does not depend on how many there are.
const idleMachines = 20

// enough is how many entries stand out from what etcd's heap and its pages vary by.
const enough = 1000

// hour is what rates are given for.
const hour = 3600.0

// entries looks at what etcd keeps for a machine, apart from its connection: its presence
// and its place in the queue, each with the lease it hangs on. And at what the presence of
// an idle machine costs, as its connection carries it.
func (s *scale) entries(ctx context.Context) error {
	for _, n := range s.sizes() {
		if n < enough {
			continue
		}
		if err := s.within(ctx, "entries", n, func(ctx context.Context) error { return s.keepEntries(ctx, n) }); err != nil {
			return err
		}
	}
	return s.within(ctx, "presence", idleMachines, s.presence)
}

// keepEntries puts n documents of each kind into an etcd that nobody else uses.
func (s *scale) keepEntries(ctx context.Context, n int) (err error) {
	s.say("%d entries without machines", n)
	server, err := s.startEtcd()
	if err != nil {
		return err
	}
	defer server.Stop()
	client, err := newClient(server.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	docs, err := s.specimens(ctx, server, client)
	if err != nil {
		return err
	}
	for _, kind := range []struct{ name, prefix string }{{"presence", root + "machines/"}, {"queue entry", queuePrefix("")}} {
		before, err := s.settled(ctx, server)
		if err != nil {
			return err
		}
		if err := s.put(ctx, client, docs[kind.prefix], n); err != nil {
			return err
		}
		after, err := s.settled(ctx, server)
		if err != nil {
			return err
		}
		each := func(from, to float64) float64 { return (to - from) / 1024 / float64(n) }
		s.add(figure{Name: "database for a " + kind.name, Machines: n, Measured: each(before.stored, after.stored), Unit: "kB",
			Note: fmt.Sprintf("keys and documents have %d bytes", docs[kind.prefix].size())})
		s.add(figure{Name: "memory of etcd for a " + kind.name, Machines: n, Measured: each(before.heap, after.heap), Unit: "kB",
			Note: "heap, with its lease and the log entries of its writing, without a connection"})
	}
	return nil
}

// settled are the counts once what was written is in the database, which takes etcd a
// tenth of a second.
func (s *scale) settled(ctx context.Context, server *etcdtest.Server) (counts, error) {
	if err := s.pass(ctx, time.Second); err != nil {
		return counts{}, err
	}
	return collected(ctx, server)
}

// specimen is what one machine wrote: keys, in which its id is to be replaced, and values.
type specimen map[string]string

func (p specimen) size() (bytes int) {
	for key, value := range p {
		bytes += len(key) + len(value)
	}
	return bytes
}

// machineID is as long as a real one.
const machineID = "0123456789abcdef0123456789abcdef"

// specimens has a real agent's lock write what it writes, and takes it down by prefixes.
func (s *scale) specimens(ctx context.Context, server *etcdtest.Server, client *clientv3.Client) (map[string]specimen, error) {
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}, PresenceSettle: time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	held := locksmith.Request{Groups: []locksmith.Group{""}, MachineID: "held", By: locksmith.ByLock}
	if _, err := store.TryAcquire(ctx, held); err != nil {
		return nil, err
	}
	writing, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return store.KeepPresence(writing, said(machineID)) })
	group.Go(func() error {
		_, err := store.Acquire(writing, locksmith.Request{Groups: []locksmith.Group{""}, MachineID: machineID, Hostname: "web-17.example.com",
			Priority: locksmith.DefaultPriority, By: locksmith.ByAgent, Reason: "package openssl updated"}, nil)
		return err
	})
	docs := map[string]specimen{root + "machines/": {}, queuePrefix(""): {}}
	err = s.await(ctx, "the specimens", 10*time.Millisecond, func() (bool, error) {
		for prefix, doc := range docs {
			resp, err := client.Get(ctx, prefix, clientv3.WithPrefix())
			if err != nil {
				return false, err
			}
			for _, kv := range resp.Kvs {
				doc[string(kv.Key)] = string(kv.Value)
			}
			if len(doc) == 0 {
				return false, nil
			}
		}
		return true, nil
	})
	stop()
	if e := group.Wait(); !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	for key, value := range docs[root+"machines/"] { // the one that stays is written with it
		docs[root+"machines/"][strings.Replace(key, "machines/", "seen/", 1)] = value
		break
	}
	return docs, err
}

// said is what an idle agent says of itself.
func said(id string) <-chan locksmith.Presence {
	latest := make(chan locksmith.Presence, 1)
	latest <- locksmith.Presence{MachineID: id, Hostname: "web-17.example.com", Groups: []locksmith.Group{""}, BootID: "01234567-89ab-cdef-0123-456789abcdef",
		Strategy: locksmith.StrategyEtcdLock, OS: "Debian GNU/Linux 12 (bookworm)", Started: time.Now().Unix(), Phase: locksmith.PhaseIdle, PhaseTime: time.Now().Unix()}
	return latest
}

// put writes n copies, each under a lease of its own that outlasts the run.
func (s *scale) put(ctx context.Context, client *clientv3.Client, doc specimen, n int) error {
	if len(doc) == 0 {
		return errors.New("nothing to copy")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(50)
	for i := range n {
		group.Go(func() error {
			lease, err := client.Grant(ctx, int64(time.Hour/time.Second))
			if err != nil {
				return err
			}
			id := fmt.Sprintf("%032x", i+1)
			var puts []clientv3.Op
			for key, value := range doc {
				var opts []clientv3.OpOption
				if !strings.HasPrefix(key, root+"seen/") {
					opts = append(opts, clientv3.WithLease(lease.ID))
				}
				puts = append(puts, clientv3.OpPut(strings.ReplaceAll(key, machineID, id), strings.ReplaceAll(value, machineID, id), opts...))
			}
			_, err = client.Txn(ctx).Then(puts...).Commit()
			return err
		})
	}
	return group.Wait()
}

// presence lets machines that need nothing show that they are there, and counts what
// their connections carry.
func (s *scale) presence(ctx context.Context) error {
	s.say("the presence of %d idle machines", idleMachines)
	server, err := s.startEtcd()
	if err != nil {
		return err
	}
	defer server.Stop()
	var carried atomic.Int64
	showing, stop := context.WithCancel(ctx)
	var group errgroup.Group
	defer group.Wait()
	defer stop()
	for i := range idleMachines {
		store, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}, DialOptions: []grpc.DialOption{counted(&carried)}})
		if err != nil {
			return err
		}
		defer store.Close()
		group.Go(func() error { return store.KeepPresence(showing, said(fmt.Sprintf("%032x", i+1))) })
	}
	shown, err := s.quiet(ctx, server)
	if err != nil {
		return err
	}
	first, began := carried.Load(), time.Now()
	s.add(figure{Name: "presence: connecting and the first write", Machines: idleMachines, Measured: float64(first) / idleMachines, Unit: "bytes/machine",
		Note: "both ways, without TCP's and IP's own; at each boot"})
	if err := s.pass(ctx, 9*s.watched); err != nil {
		return err
	}
	now, err := countsOf(ctx, server)
	if err != nil {
		return err
	}
	perHour := hour / time.Since(began).Seconds() / idleMachines
	s.add(figure{Name: "presence: keep-alives of an idle machine", Machines: idleMachines, Measured: (now.keepAlives - shown.keepAlives) * perHour, Unit: "/h",
		Note: fmt.Sprintf("%g other requests in %.0f s; one write an hour besides", now.requests-shown.requests, time.Since(began).Seconds())})
	s.add(figure{Name: "presence: an idle machine's traffic", Machines: idleMachines, Measured: float64(carried.Load()-first) * perHour / 1024, Unit: "kB/h",
		Note: "both ways, without TCP's and IP's own"})
	return nil
}

// counted adds up the bytes that a connection carries, both ways.
func counted(sum *atomic.Int64) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(address, "http://"))
		return countedConn{conn, sum}, err
	})
}

type countedConn struct {
	net.Conn
	sum *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.sum.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sum.Add(int64(n))
	return n, err
}
