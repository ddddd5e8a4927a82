package fleetlock_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// await waits for a condition that nothing signals.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}

// serve runs a server as locksmith-server does, with shorter time-outs where change sets
// some, and returns its address.
func serve(t testing.TB, h http.Handler, change func(*http.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	if change != nil {
		change(srv)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-ended })
	return l.Addr().String()
}

// serveTLS runs a server that speaks HTTP/2 and has short time-outs, and returns its
// address and a client for it.
func serveTLS(t *testing.T, h http.Handler) (addr string, cl *http.Client) {
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), srv.Client()
}

// post is a request as it goes over the wire.
func post(path, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// backend calls functions, which may be nil.
type backend struct {
	take, give func(ctx context.Context, req fleetlock.Request) error

	mu    sync.Mutex
	calls []string
}

func (b *backend) PreReboot(ctx context.Context, req fleetlock.Request) error {
	return b.call("take", b.take, ctx, req)
}

func (b *backend) SteadyState(ctx context.Context, req fleetlock.Request) error {
	return b.call("give", b.give, ctx, req)
}

func (b *backend) call(name string, do func(context.Context, fleetlock.Request) error, ctx context.Context, req fleetlock.Request) error {
	b.mu.Lock()
	if len(b.calls) < 1000 {
		b.calls = append(b.calls, name+" "+req.ID+" "+req.Group)
	}
	b.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(ctx, req)
}

func (b *backend) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// reply is what a server said, as it is on the wire.
type reply struct {
	*http.Response
	body  string
	kind  string
	value string
}

// client is one connection.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads an answer and checks what holds for each.
func (c *client) reply(method string) reply {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	re := reply{Response: resp, body: string(body)}
	if ct := resp.Header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
		c.t.Errorf("Content-Type is %q", ct)
	}
	if resp.StatusCode != 200 && (resp.StatusCode < 400 || resp.StatusCode > 599) {
		c.t.Errorf("status %d, which is neither a grant nor an error", resp.StatusCode)
	}
	if method == "HEAD" {
		return re
	}
	var doc struct{ Kind, Value string }
	if err := json.Unmarshal(body, &doc); err != nil {
		c.t.Fatalf("body %q: %v", body, err)
	}
	if re.kind, re.value = doc.Kind, doc.Value; resp.StatusCode != 200 && (re.kind == "" || re.value == "") {
		c.t.Errorf("body %q has no kind or no value", body)
	}
	return re
}

func (c *client) ask(request string) reply {
	c.t.Helper()
	c.send(request)
	method, _, _ := strings.Cut(request, " ")
	return c.reply(method)
}

const good = `{"client_params":{"id":"m1","group":"workers"}}`

// zincati is a request as Zincati sends it: pretty-printed, without a Content-Type.
const zincati = "POST /v1/steady-state HTTP/1.1\r\nfleet-lock-protocol: true\r\naccept: */*\r\nhost: h\r\ncontent-length: 108\r\n\r\n" +
	"{\n  \"client_params\": {\n    \"id\": \"978a225b3d7b40e9acd7ce9b62f68444\",\n    \"group\": \"default-group.1\"\n  }\n}   \n\n\n\n"

func TestHandlerTakesRequests(t *testing.T) {
	b := new(backend)
	addr := serve(t, &fleetlock.Handler{Backend: b}, nil)
	head := "POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\n"
	chunked := head + "Fleet-Lock-Protocol: true\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, test := range []struct{ name, request, call string }{
		{"plain", post("/v1/pre-reboot", good), "take m1 workers"},
		{"giving back", post("/v1/steady-state", good), "give m1 workers"},
		{"Zincati", zincati, "give 978a225b3d7b40e9acd7ce9b62f68444 default-group.1"},
		{"curl", "POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nfleet-lock-protocol: true\r\n" +
			"Content-Length: 47\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n" + good, "take m1 workers"},
		{"chunked", chunked + "5\r\n" + good[:5] + "\r\n2a\r\n" + good[5:] + "\r\n0\r\n\r\n", "take m1 workers"},
		{"other case of the header", strings.Replace(post("/v1/pre-reboot", good), "fleet-lock", "FLEET-Lock", 1), "take m1 workers"},
		{"a query", post("/v1/pre-reboot?x=y", good), "take m1 workers"},
		{"fields of others", post("/v1/pre-reboot", `{"a":[{"client_params":1},"\"}"],"client_params":{"ID":"x","id":"m1","group":"workers","n":-1.5e3,"o":{"id":null}},"z":true}`), "take m1 workers"},
		{"escapes", post("/v1/pre-reboot", `{"client_p\u0061rams":{"id":"\u006d\ud83d\ude00\/1","group":"w\u002d1"}}`), "take m\U0001f600/1 w-1"},
		{"id of 253 bytes", post("/v1/pre-reboot", `{"client_params":{"id":"`+strings.Repeat("é", 126)+`x","group":"`+strings.Repeat("g", 253)+`"}}`),
			"take " + strings.Repeat("é", 126) + "x " + strings.Repeat("g", 253)},
		{"16 KiB", post("/v1/pre-reboot", good+strings.Repeat(" ", 16<<10-len(good))), "take m1 workers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			re := dial(t, addr).ask(test.request)
			want := `{"held":true}` + "\n"
			if strings.HasPrefix(test.call, "give") {
				want = `{"held":false}` + "\n"
			}
			if re.StatusCode != 200 || re.body != want {
				t.Errorf("%s %q", re.Status, re.body)
			}
			if calls := b.took(); len(calls) != 1 || calls[0] != test.call {
				t.Errorf("calls %q, want %q", calls, test.call)
			}
		})
	}
}

func TestHandlerRefusesRequests(t *testing.T) {
	b := new(backend)
	addr := serve(t, &fleetlock.Handler{Backend: b}, nil)
	body := func(s string) string { return post("/v1/pre-reboot", s) }
	params := func(s string) string { return body(`{"client_params":` + s + `}`) }
	head := "POST /v1/pre-reboot HTTP/1.1\r\nHost: h\r\n"
	for _, test := range []struct {
		name, request string
		status        int
		kind, value   string
	}{
		{"GET", "GET /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\n\r\n", 405, "method_not_allowed", "POST"},
		{"GET with a body", strings.Replace(body(good), "POST", "GET", 1), 405, "method_not_allowed", "POST"},
		{"PUT", strings.Replace(body(good), "POST", "PUT", 1), 405, "method_not_allowed", "POST"},
		{"post", strings.Replace(body(good), "POST", "post", 1), 405, "method_not_allowed", "POST"},
		{"HEAD", "HEAD /v1/steady-state HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\n\r\n", 405, "", ""},
		{"OPTIONS", "OPTIONS /v1/pre-reboot HTTP/1.1\r\nHost: h\r\nfleet-lock-protocol: true\r\n\r\n", 405, "method_not_allowed", "POST"},

		{"two slashes", post("//v1/pre-reboot", good), 404, "not_found", "/v1/pre-reboot"},
		{"slash at the end", post("/v1/pre-reboot/", good), 404, "not_found", "/v1/pre-reboot"},
		{"dots", post("/v1/x/../pre-reboot", good), 404, "not_found", "/v1/pre-reboot"},
		{"root", post("/", good), 404, "not_found", "/v1/steady-state"},
		{"other case of the path", post("/V1/Pre-Reboot", good), 404, "not_found", "/v1/pre-reboot"},

		{"no header", head + "Content-Length: 47\r\n\r\n" + good, 400, "invalid_request", "header fleet-lock-protocol: true"},
		{"header True", strings.Replace(body(good), ": true", ": True", 1), 400, "invalid_request", "header fleet-lock-protocol: true"},
		{"header twice", strings.Replace(body(good), ": true", ": true\r\nFleet-Lock-Protocol: true", 1), 400, "invalid_request", "header"},

		{"empty", body(""), 400, "invalid_request", "the body is empty; expected is {"},
		{"no body", head + "fleet-lock-protocol: true\r\n\r\n", 400, "invalid_request", "the body is empty"},
		{"spaces", body(" \n "), 400, "invalid_request", "the body is empty"},
		{"no JSON", body("id=m1&group=workers"), 400, "invalid_request", "the body is no JSON: invalid character 'i'"},
		{"half", body(good[:30]), 400, "invalid_request", "unexpected end of JSON input"},
		{"more after it", body(good + good), 400, "invalid_request", "invalid character '{' after top-level value"},
		{"byte order mark", body("\ufeff" + good), 400, "invalid_request", "no JSON"},
		{"not UTF-8", params(`{"id":"m` + "\xff" + `","group":"workers"}`), 400, "invalid_request", "not UTF-8"},
		{"null", body("null"), 400, "invalid_request", "the body is null; expected is"},
		{"array", body("[" + good + "]"), 400, "invalid_request", "the body is an array"},
		{"deep", body(strings.Repeat("[", 16000)), 400, "invalid_request", "no JSON"},
		{"no client_params", body(`{"id":"m1","group":"workers"}`), 400, "invalid_request", "client_params is missing"},
		{"other case", body(`{"Client_Params":{"id":"m1","group":"workers"}}`), 400, "invalid_request", "client_params is missing"},
		{"null params", params("null"), 400, "invalid_request", "client_params is null"},
		{"params a string", params(`"x"`), 400, "invalid_request", "client_params is a string"},
		{"params twice", body(`{"client_params":{"id":"a","group":"g"},"client_params":{"id":"m1","group":"workers"}}`), 400, "invalid_request", "client_params is given twice"},
		{"no id", params(`{"group":"workers"}`), 400, "invalid_request", "id is missing"},
		{"no group", params(`{"id":"m1"}`), 400, "invalid_request", "group is missing"},
		{"id null", params(`{"id":null,"group":"workers"}`), 400, "invalid_request", "id is null"},
		{"id a number", params(`{"id":1 ,"group":"workers"}`), 400, "invalid_request", "id is a number"},
		{"id twice", params(`{"id":"m1","group":"workers","\u0069d":"m2"}`), 400, "invalid_request", "id is given twice"},
		{"group a boolean", params(`{"id":"m1","group":true}`), 400, "invalid_request", "group is a boolean"},
		{"group an object", params(`{"id":"m1","group":{"a":"}"}}`), 400, "invalid_request", "group is an object"},
		{"id empty", params(`{"id":"","group":"workers"}`), 400, "invalid_request", "id is empty"},
		{"group empty", params(`{"id":"m1","group":""}`), 400, "invalid_request", "group is empty"},
		{"id too long", params(`{"id":"` + strings.Repeat("m", 254) + `","group":"workers"}`), 400, "invalid_request", "id is 254 bytes long, at most 253"},
		{"group too long", params(`{"id":"m1","group":"` + strings.Repeat("g", 254) + `"}`), 400, "invalid_request", "group is 254 bytes long"},
		{"id with a space", params(`{"id":"m 1","group":"workers"}`), 400, "invalid_request", "space"},
		{"id with a newline", params(`{"id":"m\n1","group":"workers"}`), 400, "invalid_request", "control character"},
		{"id with half a pair", params(`{"id":"m\ud800","group":"workers"}`), 400, "invalid_request", "not valid Unicode"},
		{"group with a slash", params(`{"id":"m1","group":"a/b"}`), 400, "invalid_request", "letters, digits, . and -"},
		{"group with a newline", params(`{"id":"m1","group":"a\n"}`), 400, "invalid_request", "letters, digits, . and -"},
		{"group not ASCII", params(`{"id":"m1","group":"ä"}`), 400, "invalid_request", "letters, digits, . and -"},
		{"a byte too many", body(good + strings.Repeat(" ", 16<<10+1-len(good))), 413, "request_too_large", "16384 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			re := dial(t, addr).ask(test.request)
			if re.StatusCode != test.status || re.kind != test.kind || !strings.Contains(re.value, test.value) {
				t.Errorf("%s %q, want %d %s %q", re.Status, re.body, test.status, test.kind, test.value)
			}
			if allow := re.Header.Get("Allow"); (allow == "POST") != (test.status == 405) {
				t.Errorf("Allow is %q", allow)
			}
			if calls := b.took(); len(calls) != 0 {
				t.Errorf("the backend was asked: %q", calls)
			}
		})
	}
}

func TestHandlerTellsErrors(t *testing.T) {
	secret := errors.New("password 1234")
	for _, test := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"full", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "held by <a> & b"}, 423, `{"kind":"failed_lock_semaphore_full","value":"held by <a> & b"}`},
		{"paused", &fleetlock.Error{Kind: fleetlock.KindPaused, Value: "x"}, 423, `{"kind":"failed_lock_paused","value":"x"}`},
		{"held", &fleetlock.Error{Kind: fleetlock.KindHeld, Value: "x"}, 409, `{"kind":"failed_lock_held_by_other","value":"x"}`},
		{"no group", &fleetlock.Error{Kind: fleetlock.KindNoGroup, Value: "x"}, 404, `{"kind":"unknown_group","value":"x"}`},
		{"forbidden", &fleetlock.Error{Kind: fleetlock.KindForbidden, Value: "x"}, 403, `{"kind":"forbidden","value":"x"}`},
		{"unauthorized", &fleetlock.Error{Kind: fleetlock.KindUnauthorized, Value: "x"}, 401, `{"kind":"unauthorized","value":"x"}`},
		{"store", &fleetlock.Error{Kind: fleetlock.KindStore, Value: "x"}, 503, `{"kind":"store_unavailable","value":"x"}`},
		{"busy", &fleetlock.Error{Kind: fleetlock.KindBusy, Value: "x"}, 503, `{"kind":"too_many_requests","value":"x"}`},
		{"wrapped", errors.Join(secret, &fleetlock.Error{Kind: fleetlock.KindHeld, Value: "x"}), 409, `{"kind":"failed_lock_held_by_other","value":"x"}`},
		{"own kind and status", &fleetlock.Error{Kind: "teapot", Value: "x", Status: 418}, 418, `{"kind":"teapot","value":"x"}`},
		{"own kind", &fleetlock.Error{Kind: "teapot", Value: "x"}, 500, `{"kind":"teapot","value":"x"}`},
		{"never a grant", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "x", Status: 202}, 423, `{"kind":"failed_lock_semaphore_full","value":"x"}`},
		{"never a redirect", &fleetlock.Error{Kind: fleetlock.KindStore, Value: "x", Status: 307}, 503, `{"kind":"store_unavailable","value":"x"}`},
		{"nothing said", &fleetlock.Error{}, 500, `{"kind":"internal_error","value":"internal_error"}`},
		{"unknown", secret, 500, `{"kind":"internal_error","value":"the server failed; its log says why"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, from := range []string{"backend", "admission"} {
				var log bytes.Buffer
				h := &fleetlock.Handler{Backend: &backend{}, Log: slog.New(slog.NewTextHandler(&log, nil))}
				if from == "backend" {
					h.Backend = &backend{take: func(context.Context, fleetlock.Request) error { return test.err }}
				} else {
					h.Admit = func(*http.Request, fleetlock.Request) (context.Context, error) { return nil, test.err }
				}
				re := dial(t, serve(t, h, nil)).ask(post("/v1/pre-reboot", good))
				if re.StatusCode != test.status || re.body != test.body+"\n" {
					t.Errorf("from the %s: %s %q, want %d %q", from, re.Status, re.body, test.status, test.body)
				}
				if www := re.Header.Get("WWW-Authenticate"); (www == `Basic realm="locksmith"`) != (test.status == 401) {
					t.Errorf("WWW-Authenticate is %q", www)
				}
				if logged := strings.Count(log.String(), "level=ERROR"); (logged == 1) != (test.err == secret) || logged > 1 {
					t.Errorf("the log is %q", log.String())
				}
			}
		})
	}
}

type valueKey struct{}

func TestHandlerAdmits(t *testing.T) {
	b := &backend{take: func(ctx context.Context, req fleetlock.Request) error {
		return &fleetlock.Error{Kind: "told", Value: ctx.Value(valueKey{}).(string)}
	}}
	h := &fleetlock.Handler{Backend: b, Admit: func(r *http.Request, req fleetlock.Request) (context.Context, error) {
		return context.WithValue(r.Context(), valueKey{}, req.ID+" of "+req.Group), nil
	}}
	if re := dial(t, serve(t, h, nil)).ask(post("/v1/pre-reboot", good)); re.value != "m1 of workers" {
		t.Errorf("%q", re.body)
	}
}

func TestHandlerSurvivesPanics(t *testing.T) {
	for name, set := range map[string]func(h *fleetlock.Handler){
		"backend": func(h *fleetlock.Handler) {
			h.Backend = &backend{take: func(context.Context, fleetlock.Request) error { panic("ouch") }}
		},
		"admission": func(h *fleetlock.Handler) {
			h.Admit = func(*http.Request, fleetlock.Request) (context.Context, error) { panic("ouch") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			h := &fleetlock.Handler{Backend: &backend{}, Log: slog.New(slog.NewTextHandler(&log, nil))}
			set(h)
			c := dial(t, serve(t, h, nil))
			re := c.ask(post("/v1/pre-reboot", good))
			if re.StatusCode != 500 || re.kind != "internal_error" || strings.Contains(re.body, "ouch") {
				t.Errorf("%s %q", re.Status, re.body)
			}
			if s := log.String(); strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, "ouch") || !strings.Contains(s, "handler_test.go") {
				t.Errorf("the log is %q", s)
			}
			if re := c.ask(post("/v1/steady-state", good)); name == "backend" && re.StatusCode != 200 {
				t.Errorf("afterwards %s", re.Status)
			}
		})
	}
}
