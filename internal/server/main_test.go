package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/api"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// One etcd serves all tests but those that stop it; each test has groups of its own.
var (
	shared = sync.OnceValues(func() (*etcdtest.Server, error) {
		dir, err := os.MkdirTemp("", "locksmith-server-")
		if err != nil {
			return nil, err
		}
		return etcdtest.New(etcdtest.Embedded, dir)
	})
	started atomic.Bool
	serial  atomic.Int64
)

func TestMain(m *testing.M) {
	code := m.Run()
	if srv, err := shared(); started.Load() && err == nil {
		srv.Stop()
	}
	os.Exit(code)
}

// guard knows callers by their token.
type guard struct {
	mu      sync.Mutex
	callers map[string]access.Caller
}

func (g *guard) Caller(r *http.Request) (access.Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	defer g.mu.Unlock()
	who, known := g.callers[token]
	switch {
	case !ok:
		return who, &access.Refusal{Status: http.StatusUnauthorized, Reason: "no token"}
	case !known:
		return who, &access.Refusal{Status: http.StatusUnauthorized, Reason: "unknown token"}
	}
	who.From = address(r.RemoteAddr)
	return who, nil
}

func (g *guard) set(token string, who access.Caller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.callers[token] = who
}

func (g *guard) withdraw(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.callers, token)
}

// site is a server on an etcd, with callers of every role: root and all are for every
// group, the others for group.
type site struct {
	*server
	t     *testing.T
	etcd  *etcdtest.Server
	store *etcd.Store
	guard *guard
	group locksmith.Group // of viewer, operator, admin and machine
	other locksmith.Group // not theirs
	http  *httptest.Server
	log   *lockedBuffer
}

// newSite starts a server on the shared etcd, or on one of its own.
func newSite(t *testing.T, srv *etcdtest.Server, change ...func(*Config)) *site {
	t.Helper()
	if srv == nil {
		var err error
		if srv, err = shared(); err != nil {
			t.Fatal(err)
		}
		started.Store(true)
	}
	n := serial.Add(1)
	st := &site{t: t, etcd: srv, log: &lockedBuffer{}, group: locksmith.Group(fmt.Sprintf("g%d", n)), other: locksmith.Group(fmt.Sprintf("other%d", n))}
	log := slog.New(slog.NewTextHandler(st.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if st.store, err = etcd.Dial(etcd.Config{Endpoints: []string{srv.Endpoint}, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	mine := []locksmith.Group{st.group}
	st.guard = &guard{callers: map[string]access.Caller{
		"viewer": {Name: "vera", Role: access.RoleViewer, Groups: mine}, "operator": {Name: "olga", Role: access.RoleOperator, Groups: mine},
		"admin": {Name: "anna", Role: access.RoleAdmin, Groups: mine}, "machine": {Name: "m1", Role: access.RoleMachine, Groups: mine},
		"all": {Name: "victor", Role: access.RoleViewer}, "root": {Name: "rita", Role: access.RoleAdmin},
	}}
	feed := admin.NewFeed(st.store.Follow)
	cfg := Config{Store: st.store, Admin: admin.New(st.store, nil), Feed: feed, Guard: st.guard, Log: log,
		Ready: func(ctx context.Context) error { _, err := st.store.Groups(ctx); return err }}
	for _, f := range change {
		f(&cfg)
	}
	if st.server, err = newServer(cfg); err != nil {
		t.Fatal(err)
	}
	if common, _ := shared(); started.Load() && srv == common { // a busy machine is no fault
		st.server.limit, st.server.events.times.look = time.Minute, time.Minute
	}
	ctx, stop := context.WithCancelCause(context.Background())
	fed := make(chan error, 1)
	go func() { fed <- feed.Run(ctx) }()
	st.http = httptest.NewUnstartedServer(st.server)
	st.http.Config.BaseContext = nil
	st.http.Start()
	t.Cleanup(func() {
		st.http.CloseClientConnections()
		st.http.Close()
		stop(errors.New("the test is over"))
		<-fed
		st.store.Close()
	})
	return st
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// do makes a request, and returns the status, the header and the body.
func (st *site) do(token, method, target, body string, header ...string) (*http.Response, string) {
	st.t.Helper()
	req, err := http.NewRequestWithContext(st.t.Context(), method, st.http.URL+target, strings.NewReader(body))
	if err != nil {
		st.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		st.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		st.t.Fatal(err)
	}
	return resp, string(text)
}

// get reads a document that must be there.
func get[T any](st *site, token, target string) (doc T) {
	st.t.Helper()
	resp, text := st.do(token, http.MethodGet, target, "")
	if resp.StatusCode != http.StatusOK {
		st.t.Fatalf("GET %s as %s: %s %s", target, token, resp.Status, text)
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		st.t.Fatal(err)
	}
	return doc
}

// post has something done that must work.
func (st *site) post(token, target string, body any) api.Done {
	st.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		st.t.Fatal(err)
	}
	resp, answer := st.do(token, http.MethodPost, target, string(text))
	var done api.Done
	if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(answer), &done) != nil {
		st.t.Fatalf("POST %s as %s: %s %s", target, token, resp.Status, answer)
	}
	return done
}

// refused is the code of an answer that must be an error.
func (st *site) refused(resp *http.Response, text string) api.ErrorBody {
	st.t.Helper()
	var doc api.ErrorDocument
	if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Error.Message == "" || doc.Error.Code.Status() != resp.StatusCode ||
		resp.Header.Get("Content-Type") != "application/json" {
		st.t.Fatalf("%s %s", resp.Status, text)
	}
	return doc.Error
}

// put stores a value as another program would.
func (st *site) put(key, value string) {
	st.t.Helper()
	if _, err := st.etcd.Client(st.t).Put(st.t.Context(), "coreos.com/updateengine/rebootlock"+key, value); err != nil {
		st.t.Fatal(err)
	}
}

// presence makes a machine known that ran once.
func (st *site) presence(id, hostname string, g locksmith.Group) {
	st.put("/seen/"+id, fmt.Sprintf(`{"machineID":%q,"hostname":%q,"groups":[%q],"phase":"idle","phaseTime":1397496396,"seen":%d}`, id, hostname, g, time.Now().Unix()))
}
