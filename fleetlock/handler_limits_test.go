package fleetlock_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// Large bodies are refused unread, and cost no memory.
func TestLargeBodies(t *testing.T) {
	const size = 50 << 20
	addr := serve(t, &fleetlock.Handler{Backend: &backend{}}, nil)
	head := fmt.Sprintf("POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nContent-Length: %d\r\n", size)
	chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
	for _, test := range []struct{ name, head, body string }{
		{"asked first", head + "Expect: 100-continue\r\n\r\n", ""},
		{"sent", head + "\r\n", strings.Repeat(" ", 1<<16)},
		{"in chunks", "POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nTransfer-Encoding: chunked\r\n\r\n", chunk},
		{"to nowhere", "POST /v1/nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", chunk},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := dial(t, addr)
			c.send(test.head)
			body := []byte(test.body)
			go func() {
				for range size / (1 << 16) {
					if _, err := c.Write(body); err != nil || len(body) == 0 {
						return // the server closes the connection
					}
				}
			}()
			re := c.reply("POST")
			if re.StatusCode != 413 && test.name != "to nowhere" || !re.Close {
				t.Errorf("%s %q, close %v", re.Status, re.body, re.Close)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

// Who sends slowly is gone after the server's time-outs, and so is all that was kept.
func TestSlowSenders(t *testing.T) {
	seen := new(states)
	b := new(backend)
	addr := serve(t, &fleetlock.Handler{Backend: b}, func(srv *http.Server) {
		srv.ReadHeaderTimeout, srv.ReadTimeout = 50*time.Millisecond, 100*time.Millisecond
		seen.watch(srv)
	})
	before := runtime.NumGoroutine()
	const each = 20
	request := post("/v1/pre-reboot", good)
	var slow []*client
	for _, part := range []string{request[:20], request[:len(request)-len(good)-2], request[:len(request)-5], "GET" + request[4:len(request)-5],
		"POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"} {
		for range each {
			c := dial(t, addr)
			c.send(part)
			slow = append(slow, c)
		}
	}
	await(t, "all connections are closed", func() bool { return seen.count(http.StateClosed) == len(slow) })
	await(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	if re := slow[2*each].reply("POST"); re.StatusCode != 400 || !strings.Contains(re.value, "in time") {
		t.Errorf("%s %q", re.Status, re.body)
	}
	if calls := b.took(); len(calls) != 0 {
		t.Errorf("the backend was asked: %q", calls)
	}
}

// Who is refused hears of it before the rest of the body, which is not waited for.
func TestRefusedBeforeTheEndOfTheBody(t *testing.T) {
	addr := serve(t, &fleetlock.Handler{Backend: &backend{}}, func(srv *http.Server) { srv.ReadTimeout = time.Hour })
	for _, test := range []struct {
		name, path, sent string
		status           int
	}{
		{"no such path", "/nowhere", "", 404},
		{"too much already", "/v1/pre-reboot", "4400\r\n" + strings.Repeat("x", 0x4400) + "\r\n", 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			re := dial(t, addr).ask("POST " + test.path + " HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nTransfer-Encoding: chunked\r\n\r\n" + test.sent)
			if re.StatusCode != test.status || !re.Close {
				t.Errorf("%s, close %v", re.Status, re.Close)
			}
		})
	}
}

// deadlined records the last write deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	limit time.Time
}

func (d *deadlined) SetWriteDeadline(limit time.Time) error { d.limit = limit; return nil }

func TestAnswerHasALimit(t *testing.T) {
	r := httptest.NewRequest("POST", "/v1/pre-reboot", strings.NewReader(good))
	r.Header.Set("fleet-lock-protocol", "true")
	w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	(&fleetlock.Handler{Backend: &backend{}}).ServeHTTP(w, r)
	if left := time.Until(w.limit); w.Code != 200 || left <= 0 || left > 10*time.Second {
		t.Errorf("status %d, %v left to read it", w.Code, left)
	}
}
