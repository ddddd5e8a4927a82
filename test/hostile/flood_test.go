package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// peak is what the server may need at most while it is attacked, in KiB.
const peak = 600 << 10

// answered reads an answer and wants one of these statuses, or that the server hung up.
func answered(c *net.TCPConn, statuses ...int) error {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	for _, status := range statuses {
		if resp.StatusCode == status {
			return nil
		}
	}
	return fmt.Errorf("answered with %s", resp.Status)
}

// hugeHeaders send 4 MiB of header each: one line, or thousands of them.
func hugeHeaders(t *testing.T, s *server) {
	lines := [][]byte{[]byte("X-" + strings.Repeat("x", 64<<10)), []byte(strings.Repeat("X: y\r\n", 10<<10))}
	crowd(t, s, size(60, 600), func(i int, c *net.TCPConn) error {
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: h\r\n")); err != nil {
			return err
		}
		for range 64 {
			if _, err := c.Write(lines[i%2]); err != nil {
				return err // the server has had enough, as it should
			}
		}
		return answered(c, http.StatusRequestHeaderFieldsTooLarge)
	})
	s.peaked(t)
}

// hugeBodies send 16 MiB each, said beforehand or in chunks, to all that takes a body.
func hugeBodies(t *testing.T, s *server) {
	paths := []string{"/v1/pre-reboot", "/v1/steady-state", "/api/v1/unlock", "/api/v1/pause", "/healthz", "/sign-in"}
	chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte(" "), 64<<10), "\r\n"...)...)
	crowd(t, s, size(60, 600), func(i int, c *net.TCPConn) error {
		head := "POST " + paths[i%len(paths)] + " HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nContent-Type: application/json\r\n" +
			"Authorization: Bearer " + adminToken + "\r\n"
		if chunked := i/len(paths)%2 == 0; chunked {
			head += "Transfer-Encoding: chunked\r\n\r\n"
		} else {
			head += "Content-Length: 16777216\r\n\r\n"
		}
		if _, err := c.Write([]byte(head)); err != nil {
			return err
		}
		for range 256 {
			if _, err := c.Write(chunk); err != nil {
				return err
			}
		}
		return answered(c, 400, 403, 404, 405, 413)
	})
	s.peaked(t)
}

// peaked fails the test where the server has needed too much memory at any time.
func (s *server) peaked(t *testing.T) {
	t.Helper()
	if most, err := s.memory("VmHWM"); err != nil || most > peak {
		t.Errorf("the server needed %d MiB at most, %d are allowed (%v)", most>>10, peak>>10, err)
	}
}

// idle opens thousands of connections that say nothing, and holds all of them.
func idle(t *testing.T, s *server) {
	n := size(3000, 12_000)
	var open atomic.Int64
	all := make(chan struct{})
	crowd(t, s, n, func(i int, c *net.TCPConn) error {
		if open.Add(1) == int64(n) {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			return fmt.Errorf("only %d of %d connections could be opened", open.Load(), n)
		}
		// All are open at this moment: the server holds them, and does not hang up on them.
		if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("a connection that says nothing ended at once: %v", err)
		}
		return nil
	})
}

// garbage sends what is no request: random bytes, TLS to the plain port, HTTP to the one
// with TLS, and what is nearly right.
func garbage(t *testing.T, s *server) {
	seed := uint64(time.Now().UnixNano())
	defer func() {
		if t.Failed() {
			t.Logf("the garbage's seed is %d", seed)
		}
	}()
	hello := clientHello(t)
	nearly := []string{"GET / HTTP/1.1\r\n\r\n", "GET  / HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00",
		"POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n"}
	crowd(t, s, size(400, 4000), func(i int, c *net.TCPConn) error {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		var text []byte
		switch i % 4 {
		case 0:
			text = []byte(nearly[i/4%len(nearly)])
		case 1:
			text = bytes.Clone(hello) // with a few bytes changed, to the plain port too
			for range i % 7 {
				text[random.IntN(len(text))] = byte(random.Uint32())
			}
		default:
			text = make([]byte, 1+random.IntN(8<<10))
			for j := range text {
				text[j] = byte(random.Uint32())
			}
		}
		if _, err := c.Write(text); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		return awaitHangup(c, headerLimit+slack)
	})
}

// pipelined sends hundreds of requests at once on each connection, and reads the answers
// on every other one only.
func pipelined(t *testing.T, s *server) {
	const each = 300
	request := "GET /api/v1/status?group=good HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + adminToken + "\r\n\r\n"
	flood := []byte(strings.Repeat(request, each-1) + strings.Replace(request, "Host: h", "Host: h\r\nConnection: close", 1))
	crowd(t, s, size(20, 100), func(i int, c *net.TCPConn) error {
		go func() { _, _ = c.Write(flood) }() // ends with the connection
		if i%2 == 0 {
			if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				return err
			}
			_, _ = c.Read(make([]byte, 1))
			return nil
		}
		if err := c.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
			return err
		}
		text, err := io.ReadAll(c)
		if got := bytes.Count(text, []byte("HTTP/1.1 200 OK")); err == nil && got != each {
			return fmt.Errorf("%d of %d requests were answered", got, each)
		}
		return err
	})
}
