package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// slowSlots grants when it is told to.
type slowSlots struct {
	slotsFake
	asked chan struct{}
	grant chan error
	left  chan error
}

func (s *slowSlots) Acquire(ctx context.Context, _ locksmith.Request, _ time.Duration) error {
	s.asked <- struct{}{}
	select {
	case err := <-s.grant:
		return err
	case <-ctx.Done():
		s.left <- context.Cause(ctx)
		return context.Cause(ctx)
	}
}

// serveFleetLock runs all of a server around slots, and returns its address and what it
// is told of answers: the server's, and FleetLock's.
func serveFleetLock(t *testing.T, slots Slots) (addr string, answers, calls chan string) {
	t.Helper()
	answers, calls = make(chan string, 100), make(chan string, 100)
	actions := admin.New(new(refusals), nil)
	guard := is(access.Caller{Open: true, From: "127.0.0.1"})
	f := NewFleetLock(FleetLockConfig{Slots: slots, Guard: guard, Admin: actions, Wait: time.Minute,
		Observe: func(call string, code int, _ time.Duration) { keep(calls, call, code) }})
	h, err := New(Config{Store: struct{ Store }{}, Admin: actions, Guard: guard, FleetLock: f,
		Feed:    admin.NewFeed(func(ctx context.Context, _ func()) error { <-ctx.Done(); return ctx.Err() }),
		Ready:   func(context.Context) error { return nil },
		Observe: func(kind string, code int, _ time.Duration) { keep(answers, kind, code) }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, l, h, ServeConfig{}) }()
	t.Cleanup(func() {
		f.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return addr, answers, calls
}

// keep keeps what was observed, for tests that look at it.
func keep(seen chan string, what string, code int) {
	select {
	case seen <- fmt.Sprint(what, " ", code):
	default:
	}
}

func sendFleetLock(t *testing.T, addr, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	body := `{"client_params":{"id":"m1","group":"web"}}`
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	return c, bufio.NewReader(c)
}

func TestFleetLockHoldsBehindTheServer(t *testing.T) {
	slots := &slowSlots{asked: make(chan struct{}), grant: make(chan error), left: make(chan error)}
	addr, answers, calls := serveFleetLock(t, slots)
	_, r := sendFleetLock(t, addr, "/v1/pre-reboot")
	<-slots.asked
	select { // it leaves net/http meanwhile
	case a := <-answers:
		t.Errorf("counted as answered: %s", a)
	case <-time.After(300 * time.Millisecond):
	}
	slots.grant <- nil
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != `{"held":true}`+"\n" || !resp.Close {
		t.Errorf("%s %q, close %v", resp.Status, body, resp.Close)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", resp.Header)
	}
	if s := <-calls; s != "pre-reboot 200" {
		t.Errorf("observed %q", s)
	}

	c, _ := sendFleetLock(t, addr, "/v1/pre-reboot")
	<-slots.asked
	c.Close()
	if err := <-slots.left; err == nil {
		t.Error("the wait ended without a cause")
	}
	if s := <-calls; s != "pre-reboot 499" {
		t.Errorf("observed %q", s)
	}
}

// Whatever the path, nothing redirects, and nothing but the two paths is a grant.
func TestFleetLockIsNeverRedirected(t *testing.T) {
	addr, _, calls := serveFleetLock(t, new(slotsFake))
	for _, test := range []struct {
		path   string
		status int
	}{
		{"/v1/pre-reboot", 200}, {"/v1/steady-state", 200}, {"/v1/pre-reboot?", 200},
		{"//v1/pre-reboot", 404}, {"/v1//pre-reboot", 404}, {"/v1/pre-reboot/", 404}, {"/v1/./pre-reboot", 404}, {"/v1/x/../pre-reboot", 404},
		{"/v1", 404}, {"/v1/", 404}, {"/v2/pre-reboot", 404}, {"/api/v1/../../v1/pre-reboot", 404},
	} {
		_, r := sendFleetLock(t, addr, test.path)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != test.status || resp.Header.Get("Location") != "" || resp.Header.Get("Content-Type") != "application/json" && test.path != "/v2/pre-reboot" {
			t.Errorf("%s: %s %v", test.path, resp.Status, resp.Header)
		}
		if test.status == 200 {
			<-calls
		}
	}
}
