package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

const (
	fleetConns   = 64   // connections of the load
	fleetWaiting = 5000 // requests held at once
)

// fleetServer is a locksmith-server with an etcd of its own, as a process.
type fleetServer struct {
	bench   *bench
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	listen  string
	etcd    string // URL
	store   *etcd.Store
	clients []*flClient
}

// fleetlock measures locksmith-server as machines that speak FleetLock see it.
func (b *bench) fleetlock(ctx context.Context) (err error) {
	s, err := b.startFleetServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	for range fleetConns {
		c, err := s.connect(ctx)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
	}
	for _, part := range []func(context.Context) error{s.repeats, s.cycles, s.atOnce, s.waiting} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w%s", err, s.said())
		}
	}
	return nil
}

func (s *fleetServer) said() string {
	if s.cmd.ProcessState == nil || s.stderr.Len() == 0 { // it may still be writing
		return ""
	}
	return "\n" + s.stderr.String()
}

func (b *bench) startFleetServer(ctx context.Context) (*fleetServer, error) {
	program, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/cmd/locksmith-server")
	if err != nil {
		return nil, err
	}
	s := &fleetServer{bench: b}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s.listen, s.etcd = ports[0], "http://"+ports[1]
	s.cmd = exec.CommandContext(ctx, program, "-listen", ports[0], "-etcd-listen", ports[1],
		"-data-dir", filepath.Join(b.dir, "fleetlock-data"), "-fleetlock-wait", "10m", "-log-format", "text")
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	err = await(ctx, "locksmith-server", 20*time.Millisecond, func() (bool, error) {
		resp, err := http.Get("http://" + s.listen + "/readyz")
		if err != nil {
			return false, nil // not yet
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err == nil {
		s.store, err = etcd.Dial(etcd.Config{Endpoints: []string{s.etcd}})
	}
	if err != nil {
		return nil, errors.Join(err, s.stop(), errors.New(s.stderr.String()))
	}
	return s, nil
}

func freePorts(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func (s *fleetServer) stop() error {
	for _, c := range s.clients {
		c.conn.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	killed := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer killed.Stop()
	return s.cmd.Wait()
}

// group makes a group with so many slots.
func (s *fleetServer) group(ctx context.Context, max int) (string, error) {
	name := "bench-" + locksmith.NewNonce()[:8]
	_, err := s.store.SetMax(ctx, locksmith.Group(name), max, "bench")
	return name, err
}

// rss is what the server has resident, in bytes.
func (s *fleetServer) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10, err
}

// load runs do on each connection until the time is over, and returns how long each
// call took.
func (s *fleetServer) load(ctx context.Context, lasts time.Duration, do func(c *flClient, n int64) error) (took []time.Duration, err error) {
	end := time.Now().Add(lasts)
	var count atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range s.clients {
		wg.Go(func() {
			var mine []time.Duration
			for ctx.Err() == nil {
				began := time.Now()
				if began.After(end) {
					break
				}
				if doErr := do(c, count.Add(1)); doErr != nil {
					mu.Lock()
					err = errors.Join(err, doErr)
					mu.Unlock()
					break
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return took, errors.Join(err, ctx.Err())
}

// floorLoad is load for plain transactions on the server's own etcd.
func (s *fleetServer) floorLoad(ctx context.Context, lasts time.Duration, ops func(n int64) []clientv3.Op) (perSecond float64, err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.etcd}})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	took, err := s.load(ctx, lasts, func(_ *flClient, n int64) error {
		_, err := client.Txn(ctx).Then(ops(n)...).Commit()
		return err
	})
	return float64(len(took)) / lasts.Seconds(), err
}

func (b *bench) loadTime() time.Duration { return time.Duration(b.reps(10, 3)) * time.Second }

// repeats is what holders cost that ask again.
func (s *fleetServer) repeats(ctx context.Context) error {
	s.bench.say("FleetLock: holders that ask again")
	group, err := s.group(ctx, 1000)
	if err != nil {
		return err
	}
	requests := make([]flRequest, fleetConns)
	for i := range requests {
		requests[i] = newFLRequest("pre-reboot", machineName(int64(i)), group)
		if err := s.clients[i].want(requests[i], http.StatusOK); err != nil {
			return err
		}
	}
	lasts := s.bench.loadTime()
	took, err := s.load(ctx, lasts, func(c *flClient, n int64) error {
		return c.want(requests[n%fleetConns], http.StatusOK)
	})
	if err != nil {
		return err
	}
	key := "coreos.com/updateengine/rebootlock/groups/" + group + "/semaphore"
	floor, err := s.floorLoad(ctx, lasts, func(int64) []clientv3.Op { return []clientv3.Op{clientv3.OpGet(key)} })
	if err != nil {
		return err
	}
	s.bench.atLeast(figure{Name: "FleetLock, a holder asks again", Unit: "/s", Measured: float64(len(took)) / lasts.Seconds(),
		Floor: floor, Note: "64 connections; floor: reads of one key"}, 10000)
	s.bench.atMost(figure{Name: "FleetLock, a holder asks again, p99", Unit: "ms", Measured: ms(quantile(took, 0.99))}, 25)
	return nil
}

// cycles is what grants cost that are given back at once.
func (s *fleetServer) cycles(ctx context.Context) error {
	s.bench.say("FleetLock: complete cycles")
	group, err := s.group(ctx, 100000)
	if err != nil {
		return err
	}
	lasts := s.bench.loadTime()
	var mu sync.Mutex
	var single []time.Duration
	took, err := s.load(ctx, lasts, func(c *flClient, n int64) error {
		began := time.Now()
		if err := c.want(newFLRequest("pre-reboot", machineName(n), group), http.StatusOK); err != nil {
			return err
		}
		granted := time.Now()
		if err := c.want(newFLRequest("steady-state", machineName(n), group), http.StatusOK); err != nil {
			return err
		}
		mu.Lock()
		single = append(single, granted.Sub(began), time.Since(granted))
		mu.Unlock()
		return nil
	})
	if err != nil {
		return err
	}
	record := strings.Repeat("r", 250)
	floor, err := s.floorLoad(ctx, lasts, func(n int64) []clientv3.Op {
		key := "bench-floor/" + strconv.FormatInt(n%1000, 10)
		return []clientv3.Op{clientv3.OpPut(key+"/semaphore", record), clientv3.OpPut(key+"/holder", record), clientv3.OpPut(key+"/history", record)}
	})
	if err != nil {
		return err
	}
	s.bench.atLeast(figure{Name: "FleetLock, complete cycles", Unit: "/s", Measured: float64(len(took)) / lasts.Seconds(), Floor: floor / 2,
		Note: "64 connections; floor: two transactions of three puts each, uncombined"}, 3000)
	s.bench.atMost(figure{Name: "FleetLock, grants and releases, p99", Unit: "ms", Measured: ms(quantile(single, 0.99)),
		Note: fmt.Sprintf("median %.1f ms", ms(quantile(single, 0.5)))}, 25)
	return nil
}

// atOnce counts what fails when many ask at the same moment.
func (s *fleetServer) atOnce(ctx context.Context) error {
	for _, n := range []int{50, 300} {
		s.bench.say("FleetLock: %d at once", n)
		group, err := s.group(ctx, n)
		if err != nil {
			return err
		}
		for _, call := range []string{"pre-reboot", "steady-state"} {
			failed, err := s.oneEach(ctx, n, call, group)
			if err != nil {
				return err
			}
			s.bench.atMost(figure{Name: fmt.Sprintf("FleetLock, %d %s at once, failures", n, call), Unit: "requests", Measured: float64(failed)}, 0)
		}
	}
	return nil
}

func (s *fleetServer) oneEach(ctx context.Context, n int, call, group string) (failed int64, err error) {
	clients := make([]*flClient, n)
	for i := range clients {
		if clients[i], err = s.connect(ctx); err != nil {
			return 0, err
		}
		defer clients[i].conn.Close()
	}
	var bad atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, c := range clients {
		wg.Go(func() {
			<-start
			if c.want(newFLRequest(call, machineName(int64(i)), group), http.StatusOK) != nil {
				bad.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return bad.Load(), nil
}
