package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// floodGrowth is what the server may need more while it is sent headers or bodies that are too
// large, in KiB. All of them together have 720 MiB at least.
const floodGrowth = 200 << 10

// peak is what it may need at most after that, in KiB. In the long form that is for nine thousand
// connections with TLS that make a request at once: about 60 KiB for each.
func peak() int { return size(600, 900) << 10 }

// answered reads an answer up to its headers, and wants one of these statuses, or that
// the server hung up.
func answered(c stream, statuses ...int) error {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices { // it has an end, after which another one may come
		defer func() { _, _ = io.Copy(io.Discard, resp.Body) }()
	}
	if !slices.Contains(statuses, resp.StatusCode) {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("answered with %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}

// served reads an answer and wants that the request was served, or there were too many.
func served(c stream) error {
	return answered(c, http.StatusOK, http.StatusSeeOther, http.StatusServiceUnavailable)
}

// refused reads an answer and wants that whoever asked may not. Who asks for a page is
// sent to where they can sign in.
func refused(c stream) error {
	return answered(c, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusSeeOther)
}

// hugeHeaders send 4 MiB of header each: one line, or thousands of them.
func hugeHeaders(t *testing.T, s *server) {
	before := s.forgetPeak(t)
	lines := [][]byte{[]byte("X-" + strings.Repeat("x", 64<<10)), []byte(strings.Repeat("X: y\r\n", 10<<10))}
	crowd(t, s, size(180, 900), func(i int, c stream) error {
		if _, err := c.Write([]byte(endpoints[i%len(endpoints)].begin())); err != nil {
			return err
		}
		for range 64 {
			if _, err := c.Write(lines[i%2]); err != nil {
				return err // the server has had enough, as it should
			}
		}
		return answered(c, http.StatusRequestHeaderFieldsTooLarge)
	})
	s.grewAtMost(t, before, floodGrowth)
}

// hugeBodies send 16 MiB each, said beforehand or in chunks. Who reads a body refuses it,
// and so do streams; others answer without it.
func hugeBodies(t *testing.T, s *server) {
	before := s.forgetPeak(t)
	chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte(" "), 64<<10), "\r\n"...)...)
	crowd(t, s, size(180, 900), func(i int, c stream) error {
		e := endpoints[i%len(endpoints)]
		head := e.begin() + "Content-Length: 16777216\r\n\r\n"
		if chunked := i/len(endpoints)%2 == 0; chunked {
			head = e.begin() + "Transfer-Encoding: chunked\r\n\r\n"
		}
		if _, err := c.Write([]byte(head)); err != nil {
			return err
		}
		for range 256 {
			if _, err := c.Write(chunk); err != nil {
				return err
			}
		}
		statuses := []int{400, 413}
		if e.body == "" && !e.endless {
			statuses = append(statuses, http.StatusOK, http.StatusServiceUnavailable)
		}
		return answered(c, statuses...)
	})
	s.grewAtMost(t, before, floodGrowth)
}

// forgetPeak begins the server's peak of memory anew, and returns what it has, in KiB.
func (s *server) forgetPeak(t *testing.T) int {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid), []byte("5"), 0); err != nil { // proc_pid_clear_refs(5)
		t.Fatal(err)
	}
	now, err := s.memory("VmRSS")
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// grewAtMost fails the test where the server's peak is higher than before by more than that.
func (s *server) grewAtMost(t *testing.T, before, allowed int) {
	t.Helper()
	most, err := s.memory("VmHWM")
	if err != nil || most-before > allowed {
		t.Errorf("the server needed %d MiB more, %d are allowed (%v)", (most-before)>>10, allowed>>10, err)
	}
	t.Logf("%d MiB, and %d at most", before>>10, most>>10)
}

// peaked fails the test where the server has needed too much memory since forgetPeak.
func (s *server) peaked(t *testing.T) {
	t.Helper()
	if most, err := s.memory("VmHWM"); err != nil || most > peak() {
		t.Errorf("the server needed %d MiB at most, %d are allowed (%v)", most>>10, peak()>>10, err)
	}
}

// idle opens thousands of connections that say nothing, and holds all of them.
func idle(t *testing.T, s *server) {
	n := size(3000, 12_000)
	all := gather(n)
	began := time.Now()
	crowd(t, s.plainly(), n, func(i int, c stream) error {
		all.arrive()
		// Until all are open the server hangs up on nobody before the time that it
		// gives them, which begins when it sees them.
		defer context.AfterFunc(all.here, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
		err := hangup(c)
		if took := time.Since(began); err == nil && took < headerLimit-time.Second {
			err = fmt.Errorf("a connection that says nothing ended after %v", took)
		} else if all.here.Err() != nil {
			err = nil
		}
		return err
	})
}

// thousands make a request each, at the same time, and stay until all have been answered.
func thousands(t *testing.T, s *server) {
	n := size(900, 9000)
	open, all := gather(n), gather(n)
	crowd(t, s, n, func(i int, c stream) error {
		arrive := sync.OnceFunc(all.arrive)
		defer arrive()
		open.arrive()
		if err := open.await(); err != nil {
			return err
		}
		if _, err := io.WriteString(c, endpoints[i%len(endpoints)].request("")); err != nil {
			return err
		}
		if err := served(c); err != nil {
			return err
		}
		arrive()
		return all.await()
	}, open.arrive, all.arrive)
}

// garbage sends what is no request: random bytes, TLS to the plain port, HTTP to the one
// with TLS, and what is nearly right.
func garbage(t *testing.T, s *server) { rubbish(t, s.plainly()) }

// garbageInside is the same after a handshake.
func garbageInside(t *testing.T, s *server) { rubbish(t, s) }

// nearly are requests that are not quite right.
var nearly = []string{"GET / HTTP/1.1\r\n\r\n", "GET  / HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00",
	"POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n"}

func rubbish(t *testing.T, s *server) {
	hello := clientHello(t)
	random := seeded(t)
	crowd(t, s, size(400, 4000), func(i int, c stream) error {
		random := random(i)
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
			text = noise(random, 1+random.IntN(8<<10))
		}
		return sent(c, text)
	})
}

// garbageBodies are requests whose bodies are not what their headers say.
func garbageBodies(t *testing.T, s *server) {
	random := seeded(t)
	crowd(t, s, size(270, 2700), func(i int, c stream) error {
		e, random := endpoints[i%len(endpoints)], random(i)
		body := noise(random, 1+random.IntN(2<<10))
		if i/len(endpoints)%2 == 0 { // its own with a byte changed
			body = append([]byte(e.body), 'x')
			body[random.IntN(len(body))] ^= 0x80
		}
		return sent(c, []byte(e.request("", string(body))))
	})
}

// sent sends a text and the end of what there is to send, and waits until the server
// hangs up, too.
func sent(c stream, text []byte) error {
	if _, err := c.Write(text); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	return hangup(c)
}

// seeded makes a source for each client of an attack, and tells the seed if it fails.
func seeded(t *testing.T) func(i int) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the garbage's seed is %d", seed)
		}
	})
	return func(i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i))) }
}

// noise is n random bytes.
func noise(random *rand.Rand, n int) []byte {
	text := make([]byte, n)
	for i := range text {
		text[i] = byte(random.Uint32())
	}
	return text
}

// pipelined sends hundreds of requests at once on each connection, and reads the answers
// on every other one only.
func pipelined(t *testing.T, s *server) {
	const each = 100
	kinds := those(ending)
	crowd(t, s, size(32, 160), func(i int, c stream) error {
		e := kinds[i/2%len(kinds)]
		flood := strings.Repeat(e.request(""), each-1) + e.request("Connection: close\r\n")
		go func() { _, _ = io.WriteString(c, flood) }() // ends with the connection
		if i%2 == 0 {
			if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				return err
			}
			_, _ = c.Read(make([]byte, 1))
			return nil
		}
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		text, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s: no end of the answers after %v", e.name, limit)
		}
		got := bytes.Count(text, []byte("HTTP/1.1 "))
		// A FleetLock request that takes a moment is the last of its connection.
		if all := got == each || got > 0 && e.name == "FleetLock"; err == nil && !all {
			return fmt.Errorf("%s: %d of %d requests were answered", e.name, got, each)
		}
		return err
	})
}
