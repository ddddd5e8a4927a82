package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// machineName has the form of a Zincati id.
func machineName(n int64) string { return fmt.Sprintf("%032x", n+1) }

// flRequest is a FleetLock request as it goes over the wire.
type flRequest []byte

func newFLRequest(call, id, group string) flRequest {
	body := `{"client_params":{"id":"` + id + `","group":"` + group + `"}}`
	return flRequest("POST /v1/" + call + " HTTP/1.1\r\nHost: localhost\r\nfleet-lock-protocol: true\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// flClient has one connection at a time. It does no more than HTTP needs: it shares the
// machine with the server that is measured.
type flClient struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	closed  bool // by the server, after the last answer
}

func (s *fleetServer) connect(ctx context.Context) (*flClient, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.listen)
	if err != nil {
		return nil, err
	}
	return &flClient{address: s.listen, conn: conn, in: bufio.NewReaderSize(conn, 1024)}, nil
}

// want sends a request and reads an answer of that status.
func (c *flClient) want(r flRequest, status int) error {
	if c.closed {
		c.conn.Close()
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return err
		}
		c.conn, c.closed = conn, false
		c.in.Reset(conn)
	}
	if _, err := c.conn.Write(r); err != nil {
		return err
	}
	return c.answer(status)
}

func (c *flClient) answer(want int) error {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	var status int
	if len(line) > 12 {
		status, _ = strconv.Atoi(string(line[9:12]))
	}
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(value); err != nil {
				return err
			}
		case strings.EqualFold(name, "Connection"):
			c.closed = value == "close"
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer of status %d without a length", status)
	}
	if status == want {
		_, err := c.in.Discard(length)
		return err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return err
	}
	return fmt.Errorf("status %d: %s", status, body)
}

// waiting is what requests cost that wait, and how fast a slot is handed on among them.
func (s *fleetServer) waiting(ctx context.Context) error {
	few, err := s.handoffs(ctx, 10, nil)
	if err != nil {
		return err
	}
	n := s.bench.reps(fleetWaiting, 1000)
	many, err := s.handoffs(ctx, n, func(each float64) {
		s.bench.atMost(figure{Name: fmt.Sprintf("FleetLock, memory of each of %d that wait", n), Unit: "KiB", Measured: each, Note: "resident, of the whole server with its etcd, 25 s after the last came"}, 20)
	})
	if err != nil {
		return err
	}
	again, err := s.handoffs(ctx, 10, nil) // the machine may not be the same all the time
	if err != nil {
		return err
	}
	few = append(few, again...)
	s.bench.ratioAtMost(figure{Name: fmt.Sprintf("FleetLock, handoff, %d against 10 waiting", n), Unit: "ms", Measured: ms(quantile(many, 0.5)),
		Floor: ms(quantile(few, 0.5)), Note: fmt.Sprintf("medians of %d; p99 %.1f and %.1f ms", len(many), ms(quantile(many, 0.99)), ms(quantile(few, 0.99)))}, 1.5)
	return nil
}

// flGrant is a slot that a request got.
type flGrant struct {
	at      time.Time
	machine int64
	err     error
}

// handoffs measures the time from a machine's steady-state to the grant of the next,
// with n waiting, and tells what each of those has resident in the server.
func (s *fleetServer) handoffs(ctx context.Context, n int, memory func(kib float64)) (took []time.Duration, err error) {
	s.bench.say("FleetLock: handoff with %d waiting", n)
	group, err := s.group(ctx, 1)
	if err != nil {
		return nil, err
	}
	var before int64
	if memory != nil {
		if before, err = s.atRest(ctx); err != nil {
			return nil, err
		}
	}
	granted := make(chan flGrant, n+1)
	var wg sync.WaitGroup
	var open []*flClient
	defer func() {
		for _, c := range open {
			c.conn.Close()
		}
		wg.Wait()
		err = s.awaitEmpty(group, err)
	}()
	ask := func(machine int64) error {
		c, err := s.connect(ctx)
		if err != nil {
			return err
		}
		open = append(open, c)
		wg.Go(func() {
			err := c.want(newFLRequest("pre-reboot", machineName(machine), group), http.StatusOK)
			granted <- flGrant{time.Now(), machine, err}
		})
		return nil
	}
	if err := ask(0); err != nil {
		return nil, err
	}
	holder := <-granted
	next := int64(1)
	for ; next <= int64(n); next++ {
		if err := ask(next); err != nil {
			return nil, err
		}
	}
	if err := s.awaitWaiting(ctx, group, n); err != nil {
		return nil, err
	}
	if memory != nil {
		after, err := s.atRest(ctx)
		if err != nil {
			return nil, err
		}
		memory(float64(after-before) / float64(n) / 1024)
	}
	back, err := s.connect(ctx) // the server has closed those that it had nothing from for a minute
	if err != nil {
		return nil, err
	}
	open = append(open, back)
	for range s.bench.reps(300, 60) {
		if holder.err != nil {
			return nil, holder.err
		}
		released := time.Now()
		if err := back.want(newFLRequest("steady-state", machineName(holder.machine), group), http.StatusOK); err != nil {
			return nil, err
		}
		holder = <-granted
		took = append(took, holder.at.Sub(released))
		if err := ask(next); err != nil { // so that as many wait as before
			return nil, err
		}
		next++
		if err := s.awaitWaiting(ctx, group, n); err != nil {
			return nil, err
		}
		time.Sleep(settle)
	}
	return took, holder.err
}

// atRest is what the server has resident once it has had time to give back what was
// needed only for a moment.
func (s *fleetServer) atRest(ctx context.Context) (int64, error) {
	select {
	case <-time.After(25 * time.Second):
	case <-ctx.Done():
	}
	return s.rss()
}

func (s *fleetServer) awaitWaiting(ctx context.Context, group string, n int) error {
	return await(ctx, fmt.Sprintf("%d that wait", n), 5*time.Millisecond, func() (bool, error) {
		groups, err := s.store.Groups(ctx)
		for _, g := range groups {
			if g.Group == locksmith.Group(group) {
				return g.Waiting == n, err
			}
		}
		return false, err
	})
}

// awaitEmpty returns err once nobody waits any more, so that the next measurement
// begins with a server at rest.
func (s *fleetServer) awaitEmpty(group string, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.awaitWaiting(ctx, group, 0)
}
