package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/api"
)

// says is a handler that says which one it is, and where it was asked.
func says(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, " ", r.URL.Path) })
}

func withParts(c *Config) {
	c.FleetLock, c.Dashboard, c.Metrics = says("fleetlock"), says("dashboard"), says("metrics")
}

func TestRoutes(t *testing.T) {
	st := newSite(t, nil, withParts)
	for target, want := range map[string]string{
		"/v1/pre-reboot": "fleetlock /v1/pre-reboot", "/v1/": "fleetlock /v1/", "/v1": "fleetlock /v1", "//v1/pre-reboot": "fleetlock //v1/pre-reboot",
		"/v1/../v1/x": "fleetlock /v1/../v1/x", "/x/../v1/pre-reboot": "fleetlock /x/../v1/pre-reboot", "/v1//x/": "fleetlock /v1//x/",
		"/": "dashboard /", "/groups/lb": "dashboard /groups/lb", "/v10": "dashboard /v10", "/apis": "dashboard /apis", "/metrics/x": "dashboard /metrics/x",
		"/metrics": "metrics /metrics", "/healthz": "ok\n", "/readyz": "ready\n",
	} {
		for _, method := range []string{"GET", "POST"} {
			resp, text := st.do("root", method, target, "")
			if method == "POST" && strings.HasSuffix(want, "\n") {
				if resp.StatusCode != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: %s", method, target, resp.Status)
				}
				continue
			}
			if resp.StatusCode != 200 || text != want {
				t.Errorf("%s %s: %s %q, want %q", method, target, resp.Status, text, want)
			}
		}
	}
}

// Without its optional parts a server says so, in the form that clients understand.
func TestWithoutParts(t *testing.T) {
	st := newSite(t, nil)
	for target, want := range map[string]string{"/": `"code":"not_found"`, "/v1/pre-reboot": `{"kind":"not_found","value":"this server does not speak FleetLock"}`, "/metrics": `"code":"not_found"`} {
		resp, text := st.do("root", "POST", target, "")
		if resp.StatusCode != 404 || !strings.Contains(text, want) {
			t.Errorf("%s: %s %s", target, resp.Status, text)
		}
	}
}

func TestMetricsTakeAViewerOfEverything(t *testing.T) {
	st := newSite(t, nil, withParts)
	for token, want := range map[string]int{"": 401, "machine": 403, "viewer": 403, "admin": 403, "all": 200, "root": 200} {
		if resp, text := st.do(token, "GET", "/metrics", ""); resp.StatusCode != want {
			t.Errorf("%q: %s %s", token, resp.Status, text)
		}
	}
}

func TestHeaders(t *testing.T) {
	st := newSite(t, nil, withParts)
	for _, target := range []string{"/", "/v1/x", "/metrics", "/healthz", "/readyz", api.PathGroups, api.PathOpenAPI, "/api/nothing"} {
		resp, _ := st.do("root", "GET", target, "")
		h := resp.Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "same-origin" || h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %v", target, h)
		}
		if policy := h.Get("Content-Security-Policy"); (policy != "default-src 'none'; frame-ancestors 'none'") != (target == "/") {
			t.Errorf("%s: %q", target, policy)
		}
	}
	h := http.Header{}
	setHeaders(h, KindAPI, true)
	if h.Get("Strict-Transport-Security") != "max-age=31536000" {
		t.Error(h)
	}
}

// Pages of other sites get nothing done, whatever the browser sends along.
func TestOtherSites(t *testing.T) {
	st := newSite(t, nil, withParts)
	body := `{"group":"` + string(st.group) + `","max":5}`
	origin := st.http.URL
	tests := []struct {
		target string
		header []string
		want   int
	}{
		{api.PathSetMax, nil, 200},
		{api.PathSetMax, []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{api.PathSetMax, []string{"Origin", origin}, 200},
		{api.PathSetMax, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{api.PathSetMax, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{api.PathSetMax, []string{"Origin", "https://evil.example"}, 403},
		{"/v1/pre-reboot", []string{"Origin", "https://evil.example"}, 403},
		{"/sign-in", []string{"Origin", "https://evil.example"}, 403},
	}
	for _, tt := range tests {
		resp, text := st.do("root", "POST", tt.target, body, tt.header...)
		if resp.StatusCode != tt.want {
			t.Errorf("%s %q: %s %s, want %d", tt.target, tt.header, resp.Status, text, tt.want)
		}
		if tt.want == 403 && tt.target == "/v1/pre-reboot" && !strings.Contains(text, `"kind":"forbidden"`) {
			t.Error(text)
		}
	}
	if resp, _ := st.do("root", "GET", api.PathGroups, "", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// observed is what Observe was told.
type observed struct {
	mu   sync.Mutex
	list []string
}

func (o *observed) observe(kind string, code int, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, fmt.Sprint(kind, " ", code))
	if took < 0 || !slices.Contains(Kinds, kind) {
		o.list = append(o.list, "strange")
	}
}

func (o *observed) has(want string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.list, want)
}

func TestObserve(t *testing.T) {
	var o observed
	st := newSite(t, nil, withParts, func(c *Config) { c.Observe = o.observe })
	g := string(st.group)
	for _, target := range []string{"/", "/v1/x", "/metrics", "/healthz", api.PathGroups, "/api/nothing", api.PathEvents + "?group=x"} {
		st.do("viewer", "GET", target, "")
	}
	f := st.follow("viewer", g)
	f.change()
	if o.has("events 200") {
		t.Error("a stream is told before its end")
	}
	f.cancel()
	for _, want := range []string{"dashboard 200", "fleetlock 200", "metrics 403", "health 200", "api 200", "api 404", "api 403", "events 200"} {
		await(t, want, func() bool { return o.has(want) })
	}
	if o.has("strange") {
		t.Error(o.list)
	}
}

// A panic is one answer and one line of the log, and nobody else notices.
func TestPanics(t *testing.T) {
	var o observed
	st := newSite(t, nil, func(c *Config) {
		c.Observe = o.observe
		c.Dashboard = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "secret=1")
			if r.URL.Path == "/late" {
				fmt.Fprint(w, strings.Repeat("x", 100<<10))
			}
			panic("the cat walked over the keyboard")
		})
	})
	resp, text := st.do("root", "GET", "/", "")
	if resp.StatusCode != 500 || text != internalText+"\n" || resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s %q %v", resp.Status, text, resp.Header)
	}
	if lines := st.log.String(); strings.Count(lines, "level=ERROR") != 1 || !strings.Contains(lines, "the cat") || !strings.Contains(lines, "http_test.go") {
		t.Error(lines)
	}
	if resp, err := http.DefaultTransport.RoundTrip(newRequest(t, st.http.URL+"/late")); err == nil {
		buf := make([]byte, 200<<10)
		n := 0
		for err == nil {
			var m int
			m, err = resp.Body.Read(buf)
			n += m
		}
		if err.Error() == "EOF" {
			t.Errorf("half of an answer, %d bytes, looks like all of it", n)
		}
	}
	if !o.has("dashboard 500") || !o.has("dashboard 200") {
		t.Error(o.list)
	}
}

func newRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// Strangers cannot have the store asked more than once a second.
func TestReadyIsAskedSparingly(t *testing.T) {
	var mu sync.Mutex
	asked, now := 0, time.Unix(1e9, 0)
	var down error
	h := &readiness{log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }, check: func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > readyLimit {
			t.Error("the store has no time limit")
		}
		return down
	}}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := h.ask(gone); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	down = errors.New("away")
	now = now.Add(readyFor)
	if err := h.ask(t.Context()); err != down || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

func TestNewRefuses(t *testing.T) {
	st := newSite(t, nil)
	for _, change := range []func(*Config){
		func(c *Config) { c.Store = nil }, func(c *Config) { c.Admin = nil }, func(c *Config) { c.Feed = nil },
		func(c *Config) { c.Guard = nil }, func(c *Config) { c.Ready = nil }, func(c *Config) { c.MaxEvents = -1 },
	} {
		cfg := st.server.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v", cfg)
		}
	}
}
