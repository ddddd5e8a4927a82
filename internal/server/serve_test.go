package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a handler behind serve, until the test ends.
type served struct {
	address string
	stop    context.CancelFunc
	ended   chan error
}

func serving(t *testing.T, h http.Handler, cfg ServeConfig, limits limits) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &served{l.Addr().String(), stop, make(chan error, 1)}
	go func() { s.ended <- serve(ctx, l, h, cfg, limits) }()
	t.Cleanup(func() {
		stop()
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// closed waits until the server closes a connection.
func closed(t *testing.T, c net.Conn) (took time.Duration) {
	t.Helper()
	start := time.Now()
	_, err := io.Copy(io.Discard, c)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Fatal("the server keeps the connection")
	}
	return time.Since(start)
}

// Who sends slowly, or never, is cut off, and leaves nothing behind.
func TestSlowSenders(t *testing.T) {
	short := limits{header: 300 * time.Millisecond, read: 600 * time.Millisecond, write: time.Second, idle: 300 * time.Millisecond, stop: time.Second}
	st := newSite(t, nil)
	s := serving(t, st.server, ServeConfig{}, short)
	before := serversRunning()
	request := "POST /api/v1/set-max HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer root\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
	var conns []net.Conn
	for range 20 {
		for _, start := range []string{"", "POST /api/v1/set", request, request + "\r\n{\"max\":"} {
			c := s.dial(t)
			fmt.Fprint(c, start)
			conns = append(conns, c)
		}
	}
	for _, c := range conns {
		if took := closed(t, c); took > 5*time.Second {
			t.Errorf("cut off after %v", took)
		}
		c.Close()
	}
	await(t, "goroutines end", func() bool { return serversRunning() <= before })
}

// serversRunning is how many goroutines serve connections.
func serversRunning() int {
	stacks := make([]byte, 16<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "net/http.(*conn).serve(")
}

// A body of 50 MB costs no memory: it is refused by its length, or once it is too long.
func TestLargeBodies(t *testing.T) {
	st := newSite(t, nil)
	s := serving(t, st.server, ServeConfig{}, defaultLimits)
	for _, length := range []string{"Content-Length: 52428800", "Transfer-Encoding: chunked"} {
		c := s.dial(t)
		fmt.Fprintf(c, "POST /api/v1/set-max HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer root\r\nContent-Type: application/json\r\n%s\r\n\r\n", length)
		go func() {
			chunk := strings.Repeat("x", 1<<16)
			for range 800 {
				if strings.HasPrefix(length, "T") {
					fmt.Fprintf(c, "%x\r\n", len(chunk))
				}
				if _, err := fmt.Fprint(c, chunk, "\r\n"); err != nil {
					return
				}
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
			t.Errorf("%s: %s, close %v", length, resp.Status, resp.Close)
		}
		c.Close()
	}
	c := s.dial(t)
	fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n", strings.Repeat("x", 32<<10))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v %v", resp, err)
	}
}

// Connections above the limit wait until another one ends.
func TestTooManyConnections(t *testing.T) {
	s := serving(t, says("here"), ServeConfig{MaxConnections: 2}, defaultLimits)
	ask := func(c net.Conn) { fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") }
	answer := func(c net.Conn) error {
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	first, second, third := s.dial(t), s.dial(t), s.dial(t)
	for _, c := range []net.Conn{first, second} {
		ask(c)
		if err := answer(c); err != nil {
			t.Fatal(err)
		}
	}
	ask(third)
	_ = third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if err := answer(third); err == nil {
		t.Fatal("a third connection is served")
	}
	first.Close()
	_ = third.SetReadDeadline(time.Now().Add(30 * time.Second))
	if err := answer(third); err != nil {
		t.Fatal(err)
	}
}

// A server that stops ends streams at once, and lets short requests finish.
func TestStop(t *testing.T) {
	st := newSite(t, nil, func(c *Config) {
		c.Dashboard = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := patience(r.Context(), time.Minute)
			defer cancel()
			c.Log.Info("inside")
			<-r.Context().Done()
			select {
			case <-ctx.Done():
				t.Error("a short request ends with the server")
			case <-time.After(100 * time.Millisecond):
			}
			fmt.Fprint(w, "done")
		})
	})
	s := serving(t, st.server, ServeConfig{Log: st.server.log}, defaultLimits)
	stream := s.dial(t)
	fmt.Fprintf(stream, "GET /api/v1/events?group=%s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer root\r\n\r\n", st.group)
	r := bufio.NewReader(stream)
	for line := ""; !strings.HasPrefix(line, "data: "); {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	short := s.dial(t)
	fmt.Fprint(short, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	await(t, "a request is inside", func() bool { return strings.Contains(st.log.String(), "inside") })
	start := time.Now()
	s.stop()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(short), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(resp.Body); string(text) != "done" {
		t.Errorf("%q", text)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended <- nil // for the cleanup
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("stopped after %v", took)
	}
}

// Who does not end in time is cut off.
func TestStopDoesNotWaitForever(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(inside); <-leave })
	quick := defaultLimits
	quick.stop = 100 * time.Millisecond
	s := serving(t, h, ServeConfig{}, quick)
	c := s.dial(t)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-inside
	s.stop()
	closed(t, c)
	close(leave)
}

// Over TLS there is HTTP/2, and streams outlive the limits of short requests.
func TestTLSAndStreams(t *testing.T) {
	st := newSite(t, nil)
	short := limits{header: time.Second, read: 300 * time.Millisecond, write: 300 * time.Millisecond, idle: time.Minute, stop: time.Second}
	st.server.events.times.alive, st.server.events.times.writes = 100*time.Millisecond, 80*time.Millisecond
	pair := httptest.NewTLSServer(nil)
	pair.Close()
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		s := serving(t, st.server, ServeConfig{TLS: &tls.Config{Certificates: pair.TLS.Certificates}}, short)
		client := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: version == "HTTP/2.0"}
		if version == "HTTP/1.1" {
			client.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		req := newRequest(t, "https://"+s.address+"/api/v1/events?group="+string(st.group))
		req.Header.Set("Authorization", "Bearer viewer")
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Proto != version || resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s %s %v, want %s", resp.Proto, resp.Status, resp.Header, version)
		}
		alive, lines := 0, bufio.NewScanner(resp.Body)
		for alive < 10 && lines.Scan() {
			if strings.HasPrefix(lines.Text(), ": keep-alive") {
				alive++
			}
		}
		if alive < 10 {
			t.Errorf("%s: the stream ended after %d signs of life: %v", version, alive, lines.Err())
		}
		resp.Body.Close()
		client.CloseIdleConnections()
	}
	s := serving(t, st.server, ServeConfig{TLS: &tls.Config{Certificates: pair.TLS.Certificates, MinVersion: tls.VersionTLS10}}, short)
	if c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is taken")
	}
}

// A connection that was answered and then says nothing is closed after its own limit, which
// is neither that of a slow request nor left out.
func TestIdleConnections(t *testing.T) {
	short := limits{header: time.Minute, read: time.Minute, write: time.Minute, idle: 200 * time.Millisecond, stop: time.Second}
	pair := httptest.NewTLSServer(nil)
	pair.Close()
	s := serving(t, says("x"), ServeConfig{TLS: &tls.Config{Certificates: pair.TLS.Certificates}}, short)
	for _, version := range []string{"http/1.1", "h2"} {
		ended := make(chan struct{})
		client := &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{version}},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				return &endingConn{Conn: c, ended: ended}, err
			},
		}
		resp, err := client.RoundTrip(newRequest(t, "https://"+s.address+"/"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the server keeps an idle connection", version)
		}
		client.CloseIdleConnections()
	}
}

// endingConn tells when its user has closed it, as net/http does once the other side has.
type endingConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *endingConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, says("x"), ServeConfig{}); err == nil || !strings.HasPrefix(err.Error(), "serving on 127.0.0.1:") {
		t.Error(err)
	}
}
