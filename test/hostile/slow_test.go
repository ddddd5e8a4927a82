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

// headerLimit is how long the server waits for a request's headers, and for a TLS
// handshake.
const headerLimit = 10 * time.Second

// slowHeaders begin a request and go on with a byte every now and then, for ever: the
// server hangs up on them.
func slowHeaders(t *testing.T, s *server) {
	crowd(t, s, size(180, 1800), func(i int, c stream) error {
		e := endpoints[i%len(endpoints)]
		return drip(c, e.begin()+"X-Slow: ", awaitHangup(c))
	})
}

// slowBodies do the same with the body, with which the server has more patience: in the
// short form they leave before its end.
func slowBodies(t *testing.T, s *server) {
	crowd(t, s, size(180, 1800), func(i int, c stream) error {
		e := endpoints[i%len(endpoints)]
		over := awaitHangup(c)
		if !inNumbers {
			over = after(headerLimit)
		}
		return drip(c, e.begin()+"Content-Length: 100000\r\n\r\n", over)
	})
}

// halfHandshakes begin a TLS handshake, and stop somewhere in its first message.
func halfHandshakes(t *testing.T, s *server) {
	hello := clientHello(t)
	crowd(t, s.plainly(), size(200, 2000), func(i int, c stream) error {
		if _, err := c.Write(hello[:i%len(hello)]); err != nil {
			return err
		}
		return hangup(c)
	})
}

// drip sends the beginning, then a byte every 250 ms, until it is over.
func drip(c stream, beginning string, over <-chan error) error {
	if _, err := c.Write([]byte(beginning)); err != nil {
		return err
	}
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

// after is over after some time, without an error.
func after(d time.Duration) <-chan error {
	over := make(chan error, 1)
	time.AfterFunc(d, func() { over <- nil })
	return over
}

// awaitHangup is over when the server closes the connection. That it still listens after
// the limit is an error.
func awaitHangup(c stream) <-chan error {
	over := make(chan error, 1)
	go func() { over <- hangup(c) }() // ends with the connection
	return over
}

// hangup reads until the server closes the connection.
func hangup(c stream) error {
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
