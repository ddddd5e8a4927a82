package fleetlock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// gate is a backend whose requests wait until they are let go or their context ends.
type gate struct {
	entered chan fleetlock.Request
	leave   chan error
	ended   chan error // the cause of a context that ended
}

func newGate() *gate {
	return &gate{make(chan fleetlock.Request, 1000), make(chan error), make(chan error, 1000)}
}

func (g *gate) PreReboot(ctx context.Context, req fleetlock.Request) error {
	g.entered <- req
	select {
	case err := <-g.leave:
		return err
	case <-ctx.Done():
		g.ended <- context.Cause(ctx)
		return fmt.Errorf("the queue was left: %w", ctx.Err())
	}
}

func (g *gate) SteadyState(context.Context, fleetlock.Request) error { return nil }

// observed is what a handler's Observe was told.
type observed chan string

func observe(h *fleetlock.Handler) observed {
	o := make(observed, 1000)
	h.Observe = func(call string, code int, took time.Duration) {
		if took <= 0 {
			call += " in no time"
		}
		o <- fmt.Sprint(call, " ", code)
	}
	return o
}

func wait[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: not within 30 s", what)
	}
	return v
}

// awaitDetached waits until requests have left net/http, as they do when they are held.
func awaitDetached(t *testing.T, states *states, n int) {
	t.Helper()
	await(t, "requests have left net/http", func() bool { return states.count(http.StateHijacked) >= n })
}

type states struct {
	mu   sync.Mutex
	seen map[http.ConnState]int
}

func (s *states) watch(srv *http.Server) {
	s.seen = make(map[http.ConnState]int)
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen[state]++
	}
}

func (s *states) count(state http.ConnState) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[state]
}

// A request is held beyond all of the server's time-outs, is answered with the headers of
// those around the handler, and its connection closed.
func TestHeldRequestIsAnswered(t *testing.T) {
	for _, test := range []struct {
		name   string
		said   error
		status int
		body   string
	}{
		{"granted", nil, 200, `{"held":true}`},
		{"refused", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "held by a"}, 423, `{"kind":"failed_lock_semaphore_full","value":"held by a"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, seen := newGate(), new(states)
			h := &fleetlock.Handler{Backend: g}
			calls := observe(h)
			addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Content-Type-Options", "nosniff")
				h.ServeHTTP(w, r)
			}), func(srv *http.Server) {
				srv.ReadTimeout, srv.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
				seen.watch(srv)
			})
			c := dial(t, addr)
			c.send(post("/v1/pre-reboot", good))
			wait(t, "the backend is asked", g.entered)
			awaitDetached(t, seen, 1) // after 100 ms, twice the time-outs
			g.leave <- test.said
			re := c.reply("POST")
			if re.StatusCode != test.status || re.body != test.body+"\n" || !re.Close || re.Proto != "HTTP/1.1" {
				t.Errorf("%s %s %q, close %v", re.Proto, re.Status, re.body, re.Close)
			}
			if re.Header.Get("X-Content-Type-Options") != "nosniff" || re.Header.Get("Date") == "" || re.ContentLength != int64(len(re.body)) {
				t.Errorf("headers %v, length %d", re.Header, re.ContentLength)
			}
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the connection is not closed: %v", err)
			}
			if s := wait(t, "observed", calls); s != fmt.Sprint("pre-reboot ", test.status) {
				t.Errorf("observed %q", s)
			}
			h.Close()
		})
	}
}

func TestHeldRequestEndsWithItsClient(t *testing.T) {
	for _, test := range []struct {
		name     string
		detached bool
		after    string // what the client sends after its request
	}{
		{"at once", false, ""},
		{"held", true, ""},
		{"held, with a second request sent", true, post("/v1/steady-state", good)},
		{"held, with garbage sent", true, "\x00\xff garbage"},
		{"held, with more garbage than anybody wants", true, strings.Repeat("garbage", 10<<10)},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, seen := newGate(), new(states)
			h := &fleetlock.Handler{Backend: g}
			calls := observe(h)
			c := dial(t, serve(t, h, seen.watch))
			c.send(post("/v1/pre-reboot", good))
			wait(t, "the backend is asked", g.entered)
			if test.detached {
				awaitDetached(t, seen, 1)
			}
			io.WriteString(c, test.after) // may fail: too much of it ends the request
			if len(test.after) < 64<<10 {
				c.Close()
			}
			if cause := wait(t, "the wait ends", g.ended); cause.Error() != "the client went away" {
				t.Errorf("the cause is %v", cause)
			}
			if s := wait(t, "observed", calls); s != "pre-reboot 499" {
				t.Errorf("observed %q", s)
			}
			h.Close()
		})
	}
}

func TestCloseAnswersWhoWaits(t *testing.T) {
	g, seen := newGate(), new(states)
	h := &fleetlock.Handler{Backend: g}
	addr := serve(t, h, seen.watch)
	held, fresh, later := dial(t, addr), dial(t, addr), dial(t, addr)
	held.send(post("/v1/pre-reboot", good))
	awaitDetached(t, seen, 1)
	fresh.send(post("/v1/pre-reboot", good))
	wait(t, "the backend is asked", g.entered)
	wait(t, "the backend is asked", g.entered)
	h.Close()
	for _, c := range []*client{held, fresh} {
		if re := c.reply("POST"); re.StatusCode != 503 || re.kind != "store_unavailable" {
			t.Errorf("%s %q", re.Status, re.body)
		}
	}
	if re := later.ask(post("/v1/steady-state", good)); re.StatusCode != 503 || re.kind != "store_unavailable" {
		t.Errorf("afterwards: %s %q", re.Status, re.body)
	}
	h.Close()
}

func TestBaseContextEndsRequests(t *testing.T) {
	g := newGate()
	base, stop := context.WithCancelCause(context.Background())
	h := &fleetlock.Handler{Backend: g}
	calls := observe(h)
	c := dial(t, serve(t, h, func(srv *http.Server) { srv.BaseContext = func(net.Listener) context.Context { return base } }))
	c.send(post("/v1/pre-reboot", good))
	wait(t, "the backend is asked", g.entered)
	stop(errors.New("closing time"))
	if re := c.reply("POST"); re.StatusCode != 503 || re.kind != "store_unavailable" {
		t.Errorf("%s %q", re.Status, re.body)
	}
	if s := wait(t, "observed", calls); s != "pre-reboot 503" {
		t.Errorf("observed %q", s)
	}
}

// Over HTTP/2 a request stays where it is, and is held all the same.
func TestHeldOverHTTP2(t *testing.T) {
	g := newGate()
	h := &fleetlock.Handler{Backend: g}
	addr, cl := serveTLS(t, h)
	type outcome struct {
		proto  string
		status int
	}
	answered := make(chan outcome)
	go func() {
		req, _ := http.NewRequest("POST", "https://"+addr+"/v1/pre-reboot", strings.NewReader(good))
		req.Header.Set("fleet-lock-protocol", "true")
		resp, err := cl.Do(req)
		if err != nil {
			t.Error(err)
			close(answered)
			return
		}
		resp.Body.Close()
		answered <- outcome{resp.Proto, resp.StatusCode}
	}()
	wait(t, "the backend is asked", g.entered)
	select { // longer than the server's time-outs and than a moment
	case o := <-answered:
		t.Fatalf("answered early: %v", o)
	case cause := <-g.ended:
		t.Fatalf("ended early: %v", cause)
	case <-time.After(300 * time.Millisecond):
	}
	g.leave <- nil
	if o := wait(t, "answered", answered); o != (outcome{"HTTP/2.0", 200}) {
		t.Errorf("%v", o)
	}
}

func TestTooManyWait(t *testing.T) {
	g := newGate()
	h := &fleetlock.Handler{Backend: g, MaxWaiting: 2}
	addr := serve(t, h, nil)
	first := dial(t, addr)
	for _, c := range []*client{first, dial(t, addr)} {
		c.send(post("/v1/pre-reboot", good))
		wait(t, "the backend is asked", g.entered)
	}
	if re := dial(t, addr).ask(post("/v1/pre-reboot", good)); re.StatusCode != 503 || re.kind != "too_many_requests" || !strings.Contains(re.value, "2 pre-reboot requests") {
		t.Errorf("%s %q", re.Status, re.body)
	}
	if re := dial(t, addr).ask(post("/v1/steady-state", good)); re.StatusCode != 200 {
		t.Errorf("who gives back is kept out: %s %q", re.Status, re.body)
	}
	first.Close()
	wait(t, "one has left", g.ended)
	await(t, "its place is free", func() bool {
		c := dial(t, addr)
		c.send(post("/v1/pre-reboot", good))
		select {
		case <-g.entered:
			return true
		case <-wrote(c):
			return false
		}
	})
}

// wrote is closed once the server has said something.
func wrote(c *client) <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); c.r.Peek(1) }()
	return done
}

func TestManyAtOnce(t *testing.T) {
	h := &fleetlock.Handler{Backend: &backend{}, MaxWaiting: 1000}
	addr := serve(t, h, nil)
	var wg sync.WaitGroup
	for i := range 300 {
		c := dial(t, addr)
		wg.Go(func() {
			if _, err := io.WriteString(c, post([]string{"/v1/pre-reboot", "/v1/steady-state"}[i%2], good)); err != nil {
				t.Error(err)
				return
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
			}
		})
	}
	wg.Wait()
}

func TestConnectionIsUsedAgain(t *testing.T) {
	h := &fleetlock.Handler{Backend: &backend{take: func(context.Context, fleetlock.Request) error {
		return &fleetlock.Error{Kind: fleetlock.KindFull, Value: "full"}
	}}}
	calls := observe(h)
	c := dial(t, serve(t, h, func(srv *http.Server) { srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) }))
	c.ask(post("/v1/steady-state", good))
	c.ask(post("/v1/pre-reboot", good))
	c.ask(post("/nothing", good))
	c.ask(post("/v1/pre-reboot", "{}"))
	c.ask("GET /v1/pre-reboot HTTP/1.1\r\nHost: h\r\n\r\n")
	c.send(post("/v1/steady-state", good) + post("/v1/steady-state", good) + "\x00garbage\r\n\r\n")
	c.reply("POST")
	c.reply("POST")
	for _, want := range []string{"steady-state 200", "pre-reboot 423", "other 404", "pre-reboot 400", "pre-reboot 405", "steady-state 200", "steady-state 200"} {
		if s := wait(t, "observed", calls); s != want {
			t.Errorf("observed %q, want %q", s, want)
		}
	}
	rest, err := io.ReadAll(c.r)
	if err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") {
		t.Errorf("garbage is answered with %q, %v", rest, err)
	}
}

func TestHTTP10(t *testing.T) {
	g, seen := newGate(), new(states)
	addr := serve(t, &fleetlock.Handler{Backend: g}, seen.watch)
	c := dial(t, addr)
	c.send(strings.Replace(post("/v1/pre-reboot", good), "HTTP/1.1", "HTTP/1.0", 1))
	awaitDetached(t, seen, 1)
	g.leave <- nil
	if re := c.reply("POST"); re.StatusCode != 200 {
		t.Error(re.Status)
	}
	if re := dial(t, addr).ask(strings.Replace(post("/v1/steady-state", good), "HTTP/1.1", "HTTP/1.0", 1)); re.StatusCode != 200 || !re.Close {
		t.Errorf("%s, close %v", re.Status, re.Close)
	}
}

func TestPanicOfHeldRequest(t *testing.T) {
	for _, test := range []struct {
		name  string
		value any
	}{{"any", "ouch"}, {"to drop the connection", http.ErrAbortHandler}} {
		t.Run(test.name, func(t *testing.T) {
			seen := new(states)
			var log bytes.Buffer
			b := &backend{take: func(context.Context, fleetlock.Request) error {
				await(t, "it is held", func() bool { return seen.count(http.StateHijacked) == 1 })
				panic(test.value)
			}}
			h := &fleetlock.Handler{Backend: b, Log: slog.New(slog.NewTextHandler(&log, nil))}
			c := dial(t, serve(t, h, seen.watch))
			c.send(post("/v1/pre-reboot", good))
			if test.value == http.ErrAbortHandler {
				if b, err := io.ReadAll(c.r); err != nil || len(b) > 0 {
					t.Errorf("answered with %q, %v", b, err)
				}
				return
			}
			if re := c.reply("POST"); re.StatusCode != 500 || re.kind != "internal_error" {
				t.Errorf("%s %q", re.Status, re.body)
			}
			h.Close()
			if s := log.String(); strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, "ouch") {
				t.Errorf("the log is %q", s)
			}
		})
	}
}
