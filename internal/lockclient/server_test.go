package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

// server is a FleetLock server in memory: fleetlock's own handler, reached without a
// network, so that a test's time can be virtual.
type server struct {
	t       *testing.T
	handler http.Handler

	mu      sync.Mutex
	began   time.Time
	max     int
	hold    time.Duration // how long a request waits for a slot
	holders []string      // "group/id"
	freed   chan struct{} // closed and replaced when a slot is given back
	waiting int
	most    int      // holders at a time
	log     []string // "0s pre-reboot m"
	auth    []string // of each request
	refuse  error    // what every call is answered with, if not nil

	away   error                  // that the network has instead of an answer
	before func(call string)      // called before a request is carried out
	after  func(call string) bool // afterwards; true: its answer is lost
}

func newServer(t *testing.T) *server {
	s := &server{t: t, began: time.Now(), max: 1, freed: make(chan struct{})}
	s.handler = &fleetlock.Handler{Backend: s}
	return s
}

var errFull = &fleetlock.Error{Kind: fleetlock.KindFull, Value: "every slot is taken"}

func (s *server) PreReboot(ctx context.Context, req fleetlock.Request) error {
	who := req.Group + "/" + req.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	timeout := time.NewTimer(s.hold)
	defer timeout.Stop()
	s.waiting++
	defer func() { s.waiting-- }()
	for !slices.Contains(s.holders, who) {
		if len(s.holders) < s.max {
			s.holders = append(s.holders, who)
			s.most = max(s.most, len(s.holders))
			continue
		}
		if s.hold == 0 {
			return errFull
		}
		freed := s.freed
		s.mu.Unlock()
		var err error
		select {
		case <-freed:
		case <-timeout.C:
			err = errFull
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *server) SteadyState(_ context.Context, req fleetlock.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	who := req.Group + "/" + req.ID
	s.holders = slices.DeleteFunc(s.holders, func(h string) bool { return h == who })
	close(s.freed)
	s.freed = make(chan struct{})
	return nil
}

// RoundTrip is the network.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	call := strings.TrimPrefix(r.URL.Path, "/v1/")
	s.mu.Lock()
	s.log = append(s.log, fmt.Sprintf("%v %s", time.Since(s.began).Round(time.Second), call))
	s.auth = append(s.auth, r.URL.Host+" "+r.Header.Get("Authorization"))
	away, before, after := s.away, s.before, s.after
	s.mu.Unlock()
	if before != nil {
		before(call)
	}
	if away != nil {
		return nil, away
	}
	answer := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		answer <- w.Result()
	}()
	select {
	case resp := <-answer:
		if after != nil && after(call) {
			return nil, errors.New("connection reset by peer")
		}
		return resp, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// change changes the server under its lock.
func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// take has somebody else hold a slot.
func (s *server) take(who string) { s.change(func() { s.holders = append(s.holders, who) }) }

// drop gives somebody's slot back.
func (s *server) drop(who string) {
	group, id, _ := strings.Cut(who, "/")
	if err := s.SteadyState(context.Background(), fleetlock.Request{ID: id, Group: group}); err != nil {
		s.t.Error(err)
	}
}

func (s *server) held() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.holders))
}

func (s *server) expectHeld(want ...string) {
	s.t.Helper()
	if got := s.held(); !slices.Equal(got, want) {
		s.t.Errorf("the server's holders are %q, want %q", got, want)
	}
}

// requests are those since the last call.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

func (s *server) expectRequests(want ...string) {
	s.t.Helper()
	if got := s.requests(); !slices.Equal(got, want) {
		s.t.Errorf("requests are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// machine is a machine with a disk.
type machine struct {
	t    *testing.T
	path string
}

func newMachine(t *testing.T) *machine {
	return &machine{t, filepath.Join(t.TempDir(), "state", "fleet-lock.json")}
}

// open is a new process of the machine's.
func (m *machine) open(s *server, change ...func(*lockclient.Config)) *lockclient.Lock {
	m.t.Helper()
	cfg := lockclient.Config{
		Client: &fleetlock.Client{URL: "https://user:secret@server:1", HTTP: &http.Client{Transport: s}},
		ID:     "id", Group: "web", Path: m.path,
	}
	for _, f := range change {
		f(&cfg)
	}
	l, err := lockclient.Open(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// run has l's Run run until the test ends, or stop is called.
func (m *machine) run(l *lockclient.Lock) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			m.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	m.t.Cleanup(stop)
	return stop
}

// file is what is on the disk, "" where there is none.
func (m *machine) file() string {
	data, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Error(err)
	}
	return string(data)
}

// expectFile says in which state the file is: "", "asking" or "held".
func (m *machine) expectFile(state string) {
	m.t.Helper()
	text := m.file()
	if state == "" && text != "" || state != "" && !strings.Contains(text, `"state":"`+state+`"`) {
		m.t.Errorf("the file holds %q, want it %q", text, state)
	}
	if strings.Contains(text, "secret") {
		m.t.Errorf("the file holds the password: %s", text)
	}
}

var groups = []locksmith.Group{"web"}

func request(boot string) locksmith.Request {
	return locksmith.Request{Groups: groups, MachineID: "m", By: locksmith.ByAgent, BootID: boot, Hostname: "web-1", Reason: "new kernel"}
}

// find is Find, which must succeed.
func (m *machine) find(l *lockclient.Lock) locksmith.Slots {
	m.t.Helper()
	slots, err := l.Find(context.Background(), "m", groups)
	if err != nil {
		m.t.Fatal(err)
	}
	if slots.Record.MachineID != "m" {
		m.t.Errorf("found %+v", slots)
	}
	return slots
}

// acquire is Acquire, which must succeed.
func (m *machine) acquire(l *lockclient.Lock, boot string) locksmith.Slots {
	m.t.Helper()
	slots, err := l.Acquire(context.Background(), request(boot), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return slots
}

func (m *machine) release(l *lockclient.Lock, slots locksmith.Slots) {
	m.t.Helper()
	if err := l.Release(context.Background(), slots, locksmith.Result{Outcome: "rebooted"}); err != nil {
		m.t.Fatal(err)
	}
}
