package hostile

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fleetLock is a FleetLock request as it goes over the wire.
func fleetLock(path, id, group string) []byte {
	e := endpoint{method: "POST", path: path, token: machineToken, headers: lockHeader, body: slotBody(id, group)}
	return []byte(e.request(""))
}

// taken has a machine hold the one slot of a group until the function returned is called.
func (s *server) taken(t testing.TB, group string) (free func()) {
	t.Helper()
	b, body := s.behaved(), slotBody("holder", group)
	b.ask(http.MethodPost, "/v1/pre-reboot", machineToken, body)
	b.none(t)
	return func() {
		t.Helper()
		b.ask(http.MethodPost, "/v1/steady-state", machineToken, body)
		b.none(t)
	}
}

// wait is an error unless so many wait in a group.
func (s *server) wait(group string, n int) error {
	text, err := s.get("/api/v1/queue?group=" + group)
	if in := strings.Count(string(text), `"machineID"`); err == nil && in != n {
		err = fmt.Errorf("%d wait in %s, and not %d", in, group, n)
	}
	return err
}

// halfClosed send a request, then close their half of the connection. What can be
// answered at once is; who would have to wait, for a slot or for what changes, is taken
// for gone.
func halfClosed(t *testing.T, s *server) {
	free := s.taken(t, "half")
	crowd(t, s, size(200, 1000), func(i int, c stream) error {
		e := endpoints[i%len(endpoints)]
		request := e.request("")
		slot := i%len(endpoints) == 0 && i%2 == 0
		if slot {
			request = string(fleetLock("/v1/pre-reboot", fmt.Sprint("half-", i), "half"))
		}
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if slot || e.endless {
			return hangup(c)
		}
		return served(c)
	})
	free()
	s.neverGranted(t, "half", "half-")
}

// disconnects cut a request off after each of its bytes but the last, one for a slot and
// one to each endpoint: nobody asked, so nobody gets one.
func disconnects(t *testing.T, s *server) {
	requests := [][]byte{fleetLock("/v1/pre-reboot", "cut-off", "cut")}
	for _, e := range endpoints {
		requests = append(requests, []byte(e.request("")))
	}
	crowd(t, s, size(500, 4000), func(i int, c stream) error {
		if i%2 == 0 { // with a reset instead of an end
			if err := tcp(c).SetLinger(0); err != nil {
				return err
			}
		}
		request := requests[0]
		if i%4 > 1 {
			request = requests[i/4%len(requests)]
		}
		_, err := c.Write(request[:i/2%len(request)])
		return err
	})
	s.taken(t, "cut")() // the slot is free, and nobody waits
	s.neverGranted(t, "cut", "cut-off")
}

// neverGranted looks whether a machine whose name begins so is in a group's history. Of
// the machine "holder" it has to be there: it was given the slot.
func (s *server) neverGranted(t *testing.T, group, machine string) {
	t.Helper()
	var text []byte
	eventually(t, func() (err error) {
		text, err = s.get("/api/v1/history?limit=1000&group=" + group)
		return err
	})
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
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		eventually(t, func() error { return s.wait("left", n) })
	}()
	crowd(t, s, n, func(i int, c stream) error {
		if i%2 == 0 {
			if err := tcp(c).SetLinger(0); err != nil {
				return err
			}
		}
		if _, err := c.Write(fleetLock("/v1/pre-reboot", fmt.Sprint("left-", i), "left")); err != nil {
			return err
		}
		<-gone
		<-time.After(time.Duration(i) * leaving / time.Duration(n)) // at every point of the wait
		return nil
	})
	eventually(t, func() error { return s.wait("left", 0) })
	free()
	s.neverGranted(t, "left", "left-")
}

// unread are streams of which nothing is read but that one was let in. Somebody changes
// all the while what they tell of. They come in four waves of each, together more than the
// server lets in at a time: who has left must not count. In the short form the pages'
// streams come in one wave only.
func unread(t *testing.T, s *server) {
	quiet := s.atRestSockets(t)
	streams := those(func(e endpoint) bool { return e.endless })
	for wave := range size(5, 8) {
		s.unreadWave(t, streams[wave/4])
		eventually(t, func() error {
			if n, err := s.sockets(); err != nil || n > quiet {
				return fmt.Errorf("%d sockets are open after a wave of streams (%v)", n, err)
			}
			return nil
		})
	}
}

// atRestSockets is how many sockets the server has, with some for the client that behaves.
func (s *server) atRestSockets(t *testing.T) int {
	n, err := s.sockets()
	if err != nil {
		t.Fatal(err)
	}
	return n + 20
}

func (s *server) unreadWave(t *testing.T, e endpoint) {
	n := size(260, 900)
	open := gather(n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := open.await(); err != nil {
			t.Error(err)
		}
		s.turnOver(t, "good", 5)
	}()
	crowd(t, s, n, func(i int, c stream) error {
		defer func() { <-done }()
		defer open.arrive()
		if err := tcp(c).SetReadBuffer(1 << 10); err != nil {
			return err
		}
		if _, err := io.WriteString(c, e.request("")); err != nil {
			return err
		}
		status := make([]byte, len("HTTP/1.1 200"))
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		_, err := io.ReadFull(c, status)
		if err == nil && string(status) != "HTTP/1.1 200" {
			err = fmt.Errorf("who follows %s is answered with %q", e.path, status)
		}
		return err
	}, open)
}

// turnOver has machine after machine take the slot of a group and give it back.
func (s *server) turnOver(t *testing.T, group string, times int) {
	b := s.behaved()
	for i := range times {
		body := slotBody(fmt.Sprint("turn-", i), group)
		b.ask(http.MethodPost, "/v1/pre-reboot", machineToken, body)
		b.ask(http.MethodPost, "/v1/steady-state", machineToken, body)
	}
	b.none(t)
}

// wrongTokens guess, by the thousand, from the address of the client that behaves.
func wrongTokens(t *testing.T, s *server) {
	const each = 50
	guarded := those(func(e endpoint) bool { return e.token != "" })
	crowd(t, s, size(60, 400), func(i int, c stream) error {
		for j := range each {
			e := guarded[(i+j)%len(guarded)]
			e.token = fmt.Sprintf("guess-%d-%d-0123456789-abcdefghijkl", i, j)
			if _, err := io.WriteString(c, e.request("")); err != nil {
				return err
			}
			if err := refused(c); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
		return nil
	})
}
