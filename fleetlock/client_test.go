package fleetlock_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// asked is the request of these tests.
var asked = fleetlock.Request{ID: "Machine <1>", Group: "rack-7.b"}

// TestClientSends looks at what arrives at a server.
func TestClientSends(t *testing.T) {
	type seen struct{ Method, Path, Protocol, Authorization, ID, Group string }
	asked := fleetlock.Request{ID: "Machine<1>", Group: "rack-7.b"}
	var got seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]map[string]string
		text, err := io.ReadAll(r.Body)
		if err = errors.Join(err, json.Unmarshal(text, &body)); err != nil || len(body) != 1 || len(body["client_params"]) != 2 {
			t.Errorf("body %s: %v", text, err)
		}
		for name := range r.Header {
			if name == "Idempotency-Key" {
				t.Errorf("header %s is sent", name)
			}
		}
		p := body["client_params"]
		got = seen{r.Method, r.URL.Path, strings.Join(r.Header["Fleet-Lock-Protocol"], ","), r.Header.Get("Authorization"), p["id"], p["group"]}
	}))
	defer server.Close()
	withUser := strings.Replace(server.URL, "://", "://u:p%40ss@", 1)
	const basic = "Basic dTpwQHNz" // u:p@ss
	for _, tt := range []struct {
		client     *fleetlock.Client
		steady     bool
		path, auth string
	}{
		{&fleetlock.Client{URL: server.URL}, false, "/v1/pre-reboot", ""},
		{&fleetlock.Client{URL: server.URL + "/"}, true, "/v1/steady-state", ""},
		{&fleetlock.Client{URL: withUser + "/some/prefix"}, false, "/some/prefix/v1/pre-reboot", basic},
		{&fleetlock.Client{URL: server.URL + "/some/prefix/", Username: "u", Password: "p@ss"}, true, "/some/prefix/v1/steady-state", basic},
		{&fleetlock.Client{URL: withUser, Token: "secret"}, false, "/v1/pre-reboot", "Bearer secret"},
		{&fleetlock.Client{URL: server.URL, HTTP: &http.Client{}}, false, "/v1/pre-reboot", ""},
	} {
		call := tt.client.PreReboot
		if tt.steady {
			call = tt.client.SteadyState
		}
		if err := call(t.Context(), asked); err != nil {
			t.Errorf("%s: %v", tt.client.URL, err)
		}
		if diff := cmp.Diff(seen{"POST", tt.path, "true", tt.auth, asked.ID, asked.Group}, got); diff != "" {
			t.Errorf("%s: %s", tt.client.URL, diff)
		}
	}
}

// TestClientAnswers holds what servers of all shapes answer against what the client makes
// of it.
func TestClientAnswers(t *testing.T) {
	huge := `{"kind":"k","value":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   *fleetlock.Error // nil: success
	}{
		{"ok", 200, "", nil},
		{"ok with a body", 200, `{"kind":"x","value":"y"}`, nil},
		{"ok with a huge body", 200, huge, nil},
		{"not yet", 202, "", &fleetlock.Error{Kind: fleetlock.KindUnexpected, Value: "Accepted", Status: 202}},
		{"no content", 204, "", &fleetlock.Error{Kind: fleetlock.KindUnexpected, Value: "No Content", Status: 204}},
		{"full", 423, `{"kind":"failed_lock_semaphore_full","value":"held by a, b","more":1}`,
			&fleetlock.Error{Kind: fleetlock.KindFull, Value: "held by a, b", Status: 423}},
		{"a kind of its own", 500, `{"kind":"failed_lock","value":"why"}`, &fleetlock.Error{Kind: "failed_lock", Value: "why", Status: 500}},
		{"full without words", 423, "", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "Locked", Status: 423}},
		{"half of an error", 404, `{"kind":"x"}`, &fleetlock.Error{Kind: fleetlock.KindNotFound, Value: "Not Found", Status: 404}},
		{"empty words", 400, `{"kind":"x","value":""}`, &fleetlock.Error{Kind: fleetlock.KindInvalid, Value: "Bad Request", Status: 400}},
		{"a page", 502, "<html>Bad gateway", &fleetlock.Error{Kind: fleetlock.KindUnexpected, Value: "Bad Gateway", Status: 502}},
		{"an error that is too long", 503, huge, &fleetlock.Error{Kind: fleetlock.KindStore, Value: "Service Unavailable", Status: 503}},
		{"a kind that is none", 403, `{"kind":"` + strings.Repeat("k", 200) + `","value":"v"}`, &fleetlock.Error{Kind: fleetlock.KindForbidden, Value: "Forbidden", Status: 403}},
		{"something follows", 401, `{"kind":"a","value":"b"} {}`, &fleetlock.Error{Kind: fleetlock.KindUnauthorized, Value: "Unauthorized", Status: 401}},
		{"an unknown status", 599, "", &fleetlock.Error{Kind: fleetlock.KindUnexpected, Value: "status 599", Status: 599}},
		{"held by somebody else", 409, "", &fleetlock.Error{Kind: fleetlock.KindUnexpected, Value: "Conflict", Status: 409}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			c := &fleetlock.Client{URL: server.URL}
			for _, call := range []func(context.Context, fleetlock.Request) error{c.PreReboot, c.SteadyState} {
				checkAnswer(t, call(t.Context(), fleetlock.Request{ID: "m", Group: "g"}), tt.want)
			}
		})
	}
}

func checkAnswer(t *testing.T, err error, want *fleetlock.Error) {
	t.Helper()
	var got *fleetlock.Error
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("got %v, which is no *Error", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A POST that is redirected becomes a GET elsewhere, which must neither be sent nor be
// taken for a grant.
func TestClientFollowsNoRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Errorf("%d was followed", status)
		}))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", strings.Replace(other.URL, "://", "://user:secret@", 1)+"/there")
			w.WriteHeader(status)
		}))
		for _, own := range []*http.Client{nil, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
			err := (&fleetlock.Client{URL: server.URL, HTTP: own}).PreReboot(t.Context(), fleetlock.Request{ID: "m", Group: "g"})
			var e *fleetlock.Error
			if !errors.As(err, &e) || e.Status != status || e.Kind != fleetlock.KindUnexpected ||
				!strings.Contains(e.Value, other.URL+"/there") || strings.Contains(e.Value, "secret") {
				t.Errorf("%d: %v", status, err)
			}
		}
		server.Close()
		other.Close()
	}
}

// TestClientWrong is about clients and requests that are refused before anything is sent.
func TestClientWrong(t *testing.T) {
	request := fleetlock.Request{ID: "m", Group: "g"}
	const form = "; must be like https://fleetlock.example.org:8443"
	for _, tt := range []struct {
		client *fleetlock.Client
		req    fleetlock.Request
		want   string
	}{
		{&fleetlock.Client{}, request, `invalid URL "" of the FleetLock server: it is neither http nor https` + form},
		{&fleetlock.Client{URL: "ftp://u:hidden@h"}, request, `invalid URL "ftp://…@h" of the FleetLock server: it is neither http nor https` + form},
		{&fleetlock.Client{URL: "https://u:hid den@h"}, request, `invalid URL "https://…@h" of the FleetLock server: it cannot be read` + form},
		{&fleetlock.Client{URL: "https:///x"}, request, `invalid URL "https:///x" of the FleetLock server: it has no host` + form},
		{&fleetlock.Client{URL: "https://h/?a=b"}, request, `invalid URL "https://h/?a=b" of the FleetLock server: it has more than a host and a path` + form},
		{&fleetlock.Client{URL: "https://h", Token: "hidden", Username: "u"}, request, "a user with a password and a token were given: give one of them"},
		{&fleetlock.Client{URL: "https://h"}, asked, `id "Machine <1>" holds a space or a control character`},
		{&fleetlock.Client{URL: "https://h"}, fleetlock.Request{ID: "m", Group: "a b"}, `group "a b" is no group's name: letters, digits, . and - are allowed`},
	} {
		err := tt.client.PreReboot(t.Context(), tt.req)
		if err == nil || err.Error() != tt.want || strings.Contains(err.Error(), "hidden") {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// Who cannot be reached is no answer, and what is said of it has no credentials.
func TestClientAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := &fleetlock.Client{URL: "http://user:hidden@" + l.Addr().String() + "/p"}
	err = c.PreReboot(t.Context(), fleetlock.Request{ID: "m", Group: "g"})
	var answer *fleetlock.Error
	if err == nil || errors.As(err, &answer) || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "user") ||
		!strings.HasPrefix(err.Error(), "the FleetLock server http://"+l.Addr().String()+"/p: dial tcp ") {
		t.Errorf("got %v", err)
	}
	if got, want := c.Base(), "http://"+l.Addr().String()+"/p"; got != want {
		t.Errorf("base is %s, want %s", got, want)
	}
}

// Who speaks HTTP/2 at once, as etcd may, is no HTTP server: whether that arrives before
// the request is sent or after it.
func TestNoHTTPServer(t *testing.T) {
	for _, first := range []bool{true, false} {
		url, hungUp := noHTTPServer(t, first)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
			if first { // the client has read it by then
				<-hungUp
			}
		}})
		err := (&fleetlock.Client{URL: url}).PreReboot(ctx, fleetlock.Request{ID: "m", Group: "g"})
		if want := "the FleetLock server " + url + ": it is no HTTP server (perhaps an etcd endpoint)"; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// noHTTPServer answers the first who connects in HTTP/2, and that before it is asked or
// not. hungUp is closed when the other one has.
func noHTTPServer(t *testing.T, first bool) (url string, hungUp <-chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	end := make(chan struct{})
	go func() {
		defer close(end)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if !first {
			_, _ = conn.Read(make([]byte, 1))
		}
		_, _ = io.WriteString(conn, "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00") // its settings
		if !first {                                                                              // no such request
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	return "http://" + l.Addr().String(), end
}

// A request that is held ends with its context, and the server sees that at once.
func TestClientGivesUp(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(left)
	}))
	defer server.Close()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-arrived; cancel(enough) }()
	err := (&fleetlock.Client{URL: server.URL}).PreReboot(ctx, fleetlock.Request{ID: "m", Group: "g"})
	var answer *fleetlock.Error
	if !errors.Is(err, context.Canceled) && !errors.Is(err, enough) || errors.As(err, &answer) {
		t.Errorf("got %v", err)
	}
	<-left
}

// endless answers with a head, and with a body that lasts until nobody wants it any more.
type endless struct {
	status int
	length int64
}

func (e endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: e.status, ContentLength: e.length, Request: r, Body: io.NopCloser(reading{r.Context()})}, nil
}

type reading struct{ ctx context.Context }

func (r reading) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// An answer counts from its head on: who does not send the body that belongs to it
// delays it only until the client has enough of that.
func TestClientSlowBody(t *testing.T) {
	for _, tt := range []struct {
		endless
		want *fleetlock.Error
		took time.Duration
	}{
		{endless{200, -1}, nil, 0},
		{endless{200, 1 << 30}, nil, 0},
		{endless{200, 20}, nil, 10 * time.Second},
		{endless{423, -1}, &fleetlock.Error{Kind: fleetlock.KindFull, Value: "Locked", Status: 423}, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			c := &fleetlock.Client{URL: "http://h", HTTP: &http.Client{Transport: tt.endless}}
			checkAnswer(t, c.PreReboot(t.Context(), fleetlock.Request{ID: "m", Group: "g"}), tt.want)
			if took := time.Since(began); took != tt.took {
				t.Errorf("%+v took %v, want %v", tt.endless, took, tt.took)
			}
		})
	}
}

func TestClientTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	server.Config.ErrorLog = nil
	req := fleetlock.Request{ID: "m", Group: "g"}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if err := (&fleetlock.Client{URL: server.URL, TLS: &tls.Config{RootCAs: roots}}).PreReboot(t.Context(), req); err != nil {
		t.Errorf("with the server's authority: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if err := (&fleetlock.Client{URL: server.URL}).PreReboot(t.Context(), req); !errors.As(err, &unknown) {
		t.Errorf("with the system's authorities: %v", err)
	}
}

// A connection that the server closed meanwhile is not the request's fault.
func TestClientAfterAPause(t *testing.T) {
	calls := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { calls <- r.RemoteAddr }))
	defer server.Close()
	c, req := &fleetlock.Client{URL: server.URL}, fleetlock.Request{ID: "m", Group: "g"}
	for range 2 {
		if err := c.PreReboot(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := <-calls, <-calls; first != second {
		t.Errorf("the connection is not used again: %s, then %s", first, second)
	}
	server.CloseClientConnections()
	if err := c.PreReboot(t.Context(), req); err != nil {
		t.Errorf("on a connection that was closed: %v", err)
	}
}
