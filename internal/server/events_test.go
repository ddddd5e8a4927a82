package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// stream is a client that follows events.
type follower struct {
	t      *testing.T
	events chan [2]string // name and data; closed with the stream
	cancel context.CancelFunc
}

func (st *site) follow(token string, group string) *follower {
	st.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	st.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", st.http.URL+api.PathEvents+"?group="+group, nil)
	if err != nil {
		st.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		st.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != eventStream {
		text, _ := io.ReadAll(resp.Body)
		st.t.Fatalf("%s %s", resp.Status, text)
	}
	f := &follower{st.t, make(chan [2]string, 1000), cancel}
	go func() {
		defer close(f.events)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		var name string
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				name = value
			case "data":
				f.events <- [2]string{name, value}
			case "":
				if value == "keep-alive" {
					f.events <- [2]string{value, ""}
				}
			}
		}
	}()
	return f
}

// next is the next event; ok is false where the stream ended.
func (f *follower) next() (name, data string, ok bool) {
	f.t.Helper()
	select {
	case ev, ok := <-f.events:
		return ev[0], ev[1], ok
	case <-time.After(30 * time.Second):
		f.t.Fatal("no event within 30 s")
		return
	}
}

// change is the next event but signs of life, which must be a change.
func (f *follower) change() (doc api.Status) {
	f.t.Helper()
	name, data, ok := f.next()
	for alive := 0; ok && name == "keep-alive" && alive < 10; alive++ {
		name, data, ok = f.next()
	}
	if !ok || name != api.EventChange || json.Unmarshal([]byte(data), &doc) != nil {
		f.t.Fatalf("%q %q, open %v", name, data, ok)
	}
	return doc
}

func TestEventsFollowTheStore(t *testing.T) {
	st := newSite(t, nil)
	g := string(st.group)
	f := st.follow("viewer", g)
	if s := f.change(); s.Exists || s.Max != 1 || s.Group != g {
		t.Errorf("at once: %+v", s)
	}
	// The first change is behind the look with which the stream began.
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(3)})
	f.change()
	fastest := time.Hour
	for n := 4; n < 7; n++ {
		start := time.Now()
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: &n})
		if s := f.change(); s.Max != n {
			t.Errorf("max %d, want %d", s.Max, n)
		}
		if took := time.Since(start); took < fastest {
			fastest = took
		}
	}
	// All of them were, on a machine that does nothing else.
	if fastest > time.Second {
		t.Errorf("the fastest of the changes took %v", fastest)
	}
	// What changes elsewhere is no event.
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: string(st.other), Max: new(2)})
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(9)})
	if s := f.change(); s.Max != 9 {
		t.Errorf("max %d, want 9", s.Max)
	}
	// A second one gets the present from what is known, and both the next change.
	f2 := st.follow("all", g)
	if s := f2.change(); s.Max != 9 {
		t.Errorf("at once: %+v", s)
	}
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(1)})
	if a, b := f.change(), f2.change(); a.Max != 1 || b.Max != 1 {
		t.Errorf("max %d and %d, want 1", a.Max, b.Max)
	}
}

// Many changes come as at most four a second, and the last one always comes.
func TestEventsAreCoalesced(t *testing.T) {
	st := newSite(t, nil)
	g := string(st.group)
	f := st.follow("viewer", g)
	f.change()
	const changes = 200
	start := time.Now()
	for n := range changes {
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(n + 2)})
	}
	events := 0
	for s := (api.Status{}); s.Max != changes+1; events++ {
		s = f.change()
	}
	if limit := 2 + int(time.Since(start)/st.server.events.times.gap); events > limit {
		t.Errorf("%d events in %v, at most %d were expected", events, time.Since(start), limit)
	}
}

// stalled is a client that follows events and does not read them. There is much to say.
func (st *site) stalled() {
	st.t.Helper()
	for n := range 60 {
		st.put(fmt.Sprintf("/groups/%s/queue/5/%s%d", st.group, strings.Repeat("m", 200), n), fmt.Sprintf(`{"machineID":"m","reason":%q}`, strings.Repeat("x", 4000)))
	}
	c, err := net.Dial("tcp", st.http.Listener.Addr().String())
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(c, "GET %s?group=%s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer viewer\r\n\r\n", api.PathEvents, st.group)
	await(st.t, "it follows", func() bool { return st.server.events.count() == 1 })
}

// A client that does not read holds nobody else up.
func TestSlowReaderOfEvents(t *testing.T) {
	st := newSite(t, nil)
	st.server.events.times.writes = time.Minute
	st.server.events.times.gap = time.Millisecond
	st.stalled()
	f := st.follow("viewer", string(st.group))
	f.change()
	for n := 2; n < 60; n++ { // 15 MB: more than sockets hold
		start := time.Now()
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: string(st.group), Max: &n})
		for f.change().Max != n {
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("who reads waited for %v", took)
		}
	}
	if n := st.server.events.count(); n != 2 {
		t.Errorf("%d follow, want 2", n)
	}
}

// And it is given up itself.
func TestSlowReaderIsCutOff(t *testing.T) {
	st := newSite(t, nil)
	st.server.events.times.writes = 200 * time.Millisecond
	st.server.events.times.gap = time.Millisecond
	st.stalled()
	for n := 2; st.server.events.count() > 0; n++ {
		if n > 2000 {
			t.Fatal("the client that does not read is still there")
		}
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: string(st.group), Max: &n})
	}
}

// count is how many follow events.
func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients
}

func TestEventsHaveAnEnd(t *testing.T) {
	st := newSite(t, nil, func(c *Config) { c.MaxEvents = 2 })
	st.server.events.times.alive = 50 * time.Millisecond
	g := string(st.group)
	st.guard.set("brief", access.Caller{Name: "bea", Role: access.RoleViewer})
	stays, goes := st.follow("viewer", g), st.follow("brief", g)
	stays.change()
	goes.change()
	resp, text := st.do("viewer", "GET", api.PathEvents+"?group="+g, "")
	if e := st.refused(resp, text); e.Code != api.CodeBusy {
		t.Errorf("%+v", e)
	}
	if name, _, _ := goes.next(); name != "keep-alive" {
		t.Errorf("%q instead of a sign of life", name)
	}
	st.guard.withdraw("brief")
	for ok := true; ok; {
		_, _, ok = goes.next()
	}
	stays.next() // goes on
	stays.cancel()
	for ok := true; ok; {
		_, _, ok = stays.next()
	}
	await(t, "all are gone", func() bool { return st.server.events.count() == 0 && st.server.events.open() == 0 })
	if resp, _ := st.do("viewer", "HEAD", api.PathEvents+"?group="+g, ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// A request whose body does not come is refused at once: it would hold a stream for
// somebody of whom it is not seen that they have gone.
func TestEventsTakeNoBody(t *testing.T) {
	st := newSite(t, nil)
	c, err := net.Dial("tcp", st.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s?group=%s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer viewer\r\nContent-Length: 10\r\n\r\n", api.PathEvents, st.group)
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "takes no body") {
		t.Errorf("%s: %s, %v", resp.Status, text, err)
	}
}

// open is how many groups are followed.
func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// await looks again and again until ok, with the test's patience.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited for 30 s: %s", what)
		}
	}
}

// A store that is away is told within five seconds, to those who follow too; nothing
// needs a restart when it is back.
func TestStoreAway(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	st := newSite(t, srv)
	g := string(st.group)
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(3)})
	f := st.follow("viewer", g)
	f.change()
	srv.Stop()
	for _, target := range []string{api.PathStatus + "?group=" + g, api.PathGroups, api.PathMachines, api.PathPauses, api.PathHistory} {
		start := time.Now()
		resp, text := st.do("root", "GET", target, "")
		if e := st.refused(resp, text); e.Code != api.CodeUnavailable || !strings.Contains(e.Message, "no answer from etcd") {
			t.Errorf("%s: %+v", target, e)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: told after %v", target, took)
		}
	}
	start := time.Now()
	resp, text := st.do("root", "POST", api.PathSetMax, `{"group":"`+g+`","max":4}`)
	if e := st.refused(resp, text); e.Code != api.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	if resp, _ := st.do("wrong", "GET", api.PathGroups, ""); resp.StatusCode != 401 {
		t.Error(resp.Status)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("told after %v", took)
	}
	if resp, text := st.do("", "GET", "/readyz", ""); resp.StatusCode != 503 || strings.Contains(text, srv.Endpoint) {
		t.Errorf("%s %s", resp.Status, text)
	}
	if name, data, _ := f.next(); name != api.EventUnavailable || !strings.Contains(data, `"code":"store_unavailable"`) {
		t.Errorf("%s %s", name, data)
	}
	if resp, _ := st.do("", "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	if s := f.change(); s.Max != 3 {
		t.Errorf("%+v", s)
	}
	await(t, "ready again", func() bool {
		resp, _ := st.do("", "GET", "/readyz", "")
		return resp.StatusCode == 200
	})
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(4)})
	if s := f.change(); s.Max != 4 {
		t.Errorf("%+v", s)
	}
	if lines := st.log.String(); strings.Count(lines, "msg=\"not ready\"") != 1 || strings.Count(lines, "msg=\"ready again\"") != 1 {
		t.Error(lines)
	}
}

// Events are told apart by what they say, not by what the clock makes of it.
func TestSteady(t *testing.T) {
	doc := api.Status{Holders: []api.Holder{{HeldSeconds: new(api.Duration(1))}}, Queue: []api.Waiter{{WaitedSeconds: new(api.Duration(1))}}, Revision: 7}
	later := api.Status{Holders: []api.Holder{{HeldSeconds: new(api.Duration(2))}}, Queue: []api.Waiter{{}}, Revision: 8}
	stale := api.Status{Holders: []api.Holder{{Stale: true}}, Queue: []api.Waiter{{}}}
	if !slices.Equal(steady(doc), steady(later)) || slices.Equal(steady(doc), steady(stale)) || doc.Holders[0].HeldSeconds == nil {
		t.Errorf("%s\n%s\n%s", steady(doc), steady(later), steady(stale))
	}
}
