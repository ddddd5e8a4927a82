package hostile

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// fleetLock is a FleetLock request as it goes over the wire.
func fleetLock(path, id, group string) []byte {
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":%q}}`, id, group)
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		path, machineToken, len(body), body)
}

// taken has a machine hold the one slot of a group until the function returned is called.
func (s *server) taken(t *testing.T, group string) (free func()) {
	t.Helper()
	b := &behaved{url: s.url, client: newClient(s.tls)}
	body := fmt.Sprintf(`{"client_params":{"id":"holder","group":%q}}`, group)
	if err := b.request(http.MethodPost, "/v1/pre-reboot", machineToken, body); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := b.request(http.MethodPost, "/v1/steady-state", machineToken, body); err != nil {
			t.Fatal(err)
		}
	}
}

// waiting is how many wait in a group.
func (s *server) waiting(group string) (int, error) {
	text, err := s.get("/api/v1/queue?group="+group, adminToken)
	return strings.Count(string(text), `"machineID"`), err
}

// halfClosed send a request, then close their half of the connection. What can be
// answered at once is; who would have to wait for a slot is taken for gone.
func halfClosed(t *testing.T, s *server) {
	free := s.taken(t, "half")
	crowd(t, s, size(200, 1000), func(i int, c *net.TCPConn) error {
		request := []byte("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
		if i%2 == 0 {
			request = fleetLock("/v1/pre-reboot", fmt.Sprint("half-", i), "half")
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if i%2 == 1 {
			return answered(c, http.StatusOK)
		}
		return awaitHangup(c, 5*time.Second)
	})
	free()
	s.neverGranted(t, "half", "half-")
}

// disconnects cut a request for a slot off after each of its bytes but the last: nobody
// asked, so nobody gets one.
func disconnects(t *testing.T, s *server) {
	request := fleetLock("/v1/pre-reboot", "cut-off", "cut")
	n := size(300, 3000)
	crowd(t, s, n, func(i int, c *net.TCPConn) error {
		if i%2 == 0 { // with a reset instead of an end
			if err := c.SetLinger(0); err != nil {
				return err
			}
		}
		_, err := c.Write(request[:i%len(request)])
		return err
	})
	s.taken(t, "cut")() // the slot is free, and nobody waits
	s.neverGranted(t, "cut", "cut-off")
}

// neverGranted looks whether a machine whose name begins so is in a group's history. Of
// the machine "holder" it has to be there: it was given the slot.
func (s *server) neverGranted(t *testing.T, group, machine string) {
	t.Helper()
	text, err := s.get("/api/v1/history?limit=1000&group="+group, adminToken)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"machineID":"holder"`) {
		t.Errorf("the history of %s lacks who was given its slot: %.1000s", group, text)
	}
	if strings.Contains(string(text), `"machineID":"`+machine) {
		t.Errorf("a machine %s… was given a slot of %s: %.1000s", machine, group, text)
	}
}

// leaving is over how long those who wait go away, so that some have only begun to wait,
// as the server sees it, and others have long been set aside.
const leaving = 600 * time.Millisecond

// leavesQueue has hundreds of machines wait for a slot and go away while they do. They
// leave the queue, and when the slot is free nobody of them gets it.
func leavesQueue(t *testing.T, s *server) {
	free := s.taken(t, "left")
	n := size(300, 3000)
	var queued sync.WaitGroup
	queued.Add(n)
	gone := make(chan struct{})
	go func() {
		queued.Wait()
		defer close(gone)
		eventually(t, 20*time.Second, func() error {
			if in, err := s.waiting("left"); err != nil || in < n {
				return fmt.Errorf("%d of %d wait (%v)", in, n, err)
			}
			return nil
		})
	}()
	crowd(t, s, n, func(i int, c *net.TCPConn) error {
		if i%2 == 0 {
			if err := c.SetLinger(0); err != nil {
				return err
			}
		}
		_, err := c.Write(fleetLock("/v1/pre-reboot", fmt.Sprint("left-", i), "left"))
		queued.Done()
		<-gone
		<-time.After(time.Duration(i) * leaving / time.Duration(n)) // at every point of the wait
		return err
	})
	eventually(t, 10*time.Second, func() error {
		if in, err := s.waiting("left"); err != nil || in > 0 {
			return fmt.Errorf("%d still wait (%v)", in, err)
		}
		return nil
	})
	free()
	s.neverGranted(t, "left", "left-")
}

// unreadEvents follow a group, and read nothing of what they are told but that they are
// let in. Somebody changes it all the while. They come in four waves, together more than
// the server lets in at a time: who has left must not count.
func unreadEvents(t *testing.T, s *server) {
	n := size(300, 900)
	for range 4 {
		var open sync.WaitGroup
		open.Add(n)
		done := make(chan struct{})
		go func() {
			defer close(done)
			open.Wait()
			s.turnOver(t, "events", 20)
		}()
		crowd(t, s, n, func(i int, c *net.TCPConn) error {
			err := c.SetReadBuffer(1 << 10)
			if err == nil {
				_, err = c.Write([]byte("GET /api/v1/events?group=events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + adminToken + "\r\n\r\n"))
			}
			status := make([]byte, len("HTTP/1.1 200"))
			if err == nil {
				_, err = io.ReadFull(c, status)
			}
			if err == nil && string(status) != "HTTP/1.1 200" {
				err = fmt.Errorf("who follows events is answered with %q", status)
			}
			open.Done()
			<-done
			return err
		})
	}
}

// turnOver has machine after machine take the slot of a group and give it back.
func (s *server) turnOver(t *testing.T, group string, times int) {
	b := &behaved{url: s.url, client: newClient(s.tls)}
	for i := range times {
		body := fmt.Sprintf(`{"client_params":{"id":"turn-%d","group":%q}}`, i, group)
		for _, path := range []string{"/v1/pre-reboot", "/v1/steady-state"} {
			if err := b.request(http.MethodPost, path, machineToken, body); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// wrongTokens guess, by the thousand, from the address of the client that behaves.
func wrongTokens(t *testing.T, s *server) {
	const each = 50
	crowd(t, s, size(60, 400), func(i int, c *net.TCPConn) error {
		for j := range each {
			request := fmt.Sprintf("GET /api/v1/groups HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer guess-%d-%d-0123456789-abcdefghijkl\r\n\r\n", i, j)
			if _, err := c.Write([]byte(request)); err != nil {
				return err
			}
			if err := answered(c, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests); err != nil {
				return err
			}
		}
		return nil
	})
}
