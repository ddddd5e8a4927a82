package hostile

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// The server's limits, and what a busy machine may add to them.
const (
	headerLimit = 10 * time.Second // also for a TLS handshake
	bodyLimit   = 30 * time.Second
	slack       = 8 * time.Second
)

// slowHeaders begin a request and go on with a byte every now and then, for ever.
func slowHeaders(t *testing.T, s *server) {
	crowd(t, s, size(200, 2000), func(i int, c *net.TCPConn) error {
		return drip(c, []byte("GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: "), headerLimit+slack)
	})
}

// slowBodies do the same with the body, half of them of a FleetLock request, half of an
// action.
func slowBodies(t *testing.T, s *server) {
	crowd(t, s, size(200, 2000), func(i int, c *net.TCPConn) error {
		head := "POST /v1/pre-reboot HTTP/1.1\r\nfleet-lock-protocol: true\r\n"
		if i%2 == 0 {
			head = "POST /api/v1/unlock HTTP/1.1\r\nContent-Type: application/json\r\n"
		}
		head += "Host: h\r\nAuthorization: Bearer " + adminToken + "\r\nContent-Length: 1000\r\n\r\n"
		return drip(c, []byte(head), bodyLimit+slack)
	})
}

// halfHandshakes begin a TLS handshake, and stop somewhere in its first message.
func halfHandshakes(t *testing.T, s *server) {
	hello := clientHello(t)
	crowd(t, s, size(200, 2000), func(i int, c *net.TCPConn) error {
		if _, err := c.Write(hello[:i%len(hello)]); err != nil {
			return err
		}
		return awaitHangup(c, headerLimit+slack)
	})
}

// drip sends the beginning, then a byte every 250 ms, until the server hangs up. That it
// still listens after the limit is an error.
func drip(c *net.TCPConn, beginning []byte, limit time.Duration) error {
	if _, err := c.Write(beginning); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- awaitHangup(c, limit) }()
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case err := <-over:
			return err
		case <-every.C:
			_, _ = c.Write([]byte(" ")) // what fails here is what is waited for
		}
	}
}

// awaitHangup reads until the server closes the connection.
func awaitHangup(c *net.TCPConn, limit time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	for buf := make([]byte, 4<<10); ; {
		if _, err := c.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the server still listens after %v", limit)
		} else if err != nil {
			return nil
		}
	}
}

// clientHello is the first message of a handshake, as the library would send it.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		defer ours.Close()
		_ = tls.Client(ours, &tls.Config{ServerName: "h"}).Handshake() // ends when theirs is closed
	}()
	buf := make([]byte, 8<<10)
	n, err := theirs.Read(buf)
	if err != nil || n < 100 {
		t.Errorf("%d bytes of a client hello: %v", n, err)
		return []byte("\x16\x03\x01") // it may not be the test's own goroutine
	}
	return bytes.Clone(buf[:n])
}
