package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// margin is what finding out why nobody answered may add to the time limit.
const margin = 3 * time.Second

// calls are all of a store's methods that are no waits, by name.
func calls(s *Store, g locksmith.Group, slots locksmith.Slots) map[string]func(context.Context) error {
	groups := []locksmith.Group{g}
	return map[string]func(context.Context) error{
		"Semaphore":  func(ctx context.Context) error { _, _, err := s.Semaphore(ctx, g); return err },
		"Status":     func(ctx context.Context) error { _, err := s.Status(ctx, g); return err },
		"Groups":     func(ctx context.Context) error { _, err := s.Groups(ctx); return err },
		"History":    func(ctx context.Context) error { _, err := s.History(ctx, g, 1); return err },
		"Find":       func(ctx context.Context) error { _, err := s.Find(ctx, "m", groups); return err },
		"Withdraw":   func(ctx context.Context) error { _, err := s.Withdraw(ctx, "m", groups); return err },
		"TryAcquire": func(ctx context.Context) error { _, err := s.TryAcquire(ctx, request("new", g)); return err },
		"Advance": func(ctx context.Context) error {
			_, err := s.Advance(ctx, slots, locksmith.PhaseRebooting, "")
			return err
		},
		"Release": func(ctx context.Context) error { return s.Release(ctx, slots, locksmith.Result{}) },
		"Unlock":  func(ctx context.Context) error { return s.Unlock(ctx, g, "holder", locksmith.Result{}) },
		"SetMax":  func(ctx context.Context) error { _, err := s.SetMax(ctx, g, 7, "test"); return err },
		"Pause": func(ctx context.Context) error {
			return s.Pause(ctx, locksmith.Pause{Scope: locksmith.PauseScope{Machine: "other"}, Reason: "test"})
		},
		"Pauses":   func(ctx context.Context) error { _, err := s.Pauses(ctx); return err },
		"Machines": func(ctx context.Context) error { _, err := s.Machines(ctx); return err },
		"Machine":  func(ctx context.Context) error { _, err := s.Machine(ctx, "holder"); return err },
	}
}

// reads are those of them that change nothing, here where nobody waits.
var reads = []string{"Semaphore", "Status", "Groups", "History", "Find", "Withdraw", "Pauses", "Machines", "Machine"}

// together runs do for all calls at the same time.
func together(all map[string]func(context.Context) error, do func(string, func(context.Context) error)) {
	var wg sync.WaitGroup
	for name, call := range all {
		wg.Go(func() { do(name, call) })
	}
	wg.Wait()
}

// inTime runs do and checks that it ends within the limit and a margin.
func inTime(t *testing.T, what string, limit time.Duration, do func(context.Context) error) error {
	t.Helper()
	start := time.Now()
	err := do(t.Context())
	if took := time.Since(start); took > limit+margin {
		t.Errorf("%s took %v, the limit is %v", what, took, limit)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: the error is not one line: %q", what, err)
	}
	return err
}

// reports collects what Acquire says while it waits.
type reports struct {
	mu   sync.Mutex
	all  []string
	news chan struct{}
}

func newReports() *reports { return &reports{news: make(chan struct{}, 1)} }

func (r *reports) add(s string) {
	r.mu.Lock()
	r.all = append(r.all, s)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// await returns once something was reported that contains part.
func (r *reports) await(t *testing.T, part string) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		r.mu.Lock()
		all := slices.Clone(r.all)
		r.mu.Unlock()
		if slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, part) }) {
			return
		}
		select {
		case <-r.news:
		case <-deadline:
			t.Fatalf("not reported within 60 s: %q; reported %q", part, all)
		}
	}
}

func (r *reports) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return "nothing"
	}
	return r.all[len(r.all)-1]
}

func acquireReporting(t *testing.T, s *Store, req locksmith.Request) (*waiter, *reports) {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &waiter{machine: req.MachineID, store: s, cancel: cancel, done: make(chan struct{})}
	r := newReports()
	go func() {
		defer close(w.done)
		w.slots, w.err = s.Acquire(ctx, req, r.add)
	}()
	t.Cleanup(func() { cancel(errStopped); <-w.done })
	return w, r
}

// Without space etcd takes no writes: who asks is told so at once, who waits goes
// on when there is space again.
func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Debian, "--quota-backend-bytes", "2000000")
	s, g, cl := dial(t, srv.Endpoint), newGroup(t), srv.Client(t)
	setMax(t, s, g, 2)
	slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
	fill(t, cl)

	want := "etcd is out of space and takes no writes (alarm NOSPACE): compact and defragment it, or raise its quota, " +
		"then disarm the alarm (tried " + srv.Endpoint + ")"
	for name, do := range calls(s, g, slots) {
		switch err := inTime(t, name, time.Second, do); {
		case slices.Contains(reads, name):
			if err != nil {
				t.Errorf("%s: %v, want it to work", name, err)
			}
		case err == nil || err.Error() != want:
			t.Errorf("%s: %v, want %s", name, err, want)
		case !transient(err):
			t.Errorf("%s: waiting cures it, but the error does not say so", name)
		}
	}
	w, r := acquireReporting(t, s, request("w", g))
	r.await(t, want)
	makeSpace(t, cl)
	w.granted(t)
	if got := r.last(); got != "" {
		t.Errorf("granted, and still reported: %q", got)
	}
	checkGroup(t, s, g, 2, 2)
}

// fill writes until etcd raises its alarm.
func fill(t *testing.T, cl *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("x", 100_000)
	for i := range 1000 {
		_, err := cl.Put(t.Context(), fmt.Sprintf("fill/%d", i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the quota was never reached")
}

func makeSpace(t *testing.T, cl *clientv3.Client) {
	t.Helper()
	resp := must(cl.Delete(t.Context(), "fill/", clientv3.WithPrefix()))(t)
	must(cl.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()))(t)
	must(cl.Defragment(t.Context(), cl.Endpoints()[0]))(t)
	must(cl.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}))(t) // of all kinds, on all members
}

// Two of three members are lost: every call is an error that says so, in time.
// When they are back everything goes on, with the same Store, and so does who
// waited meanwhile.
func TestLostQuorum(t *testing.T) {
	t.Parallel()
	members := etcdtest.StartCluster(t, 3)
	limit := 3 * time.Second
	s := dial(t, members[0].Endpoint, func(c *Config) {
		c.Endpoints = []string{members[0].Endpoint, members[1].Endpoint, members[2].Endpoint}
		c.Timeout = limit
	})
	g := newGroup(t)
	slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
	w, r := acquireReporting(t, s, request("w", g))
	awaitQueue(t, s, g, 1)
	members[1].Stop()
	members[2].Stop()

	says := regexp.MustCompile(`lost (its )?quorum`)
	dead := regexp.MustCompile(regexp.QuoteMeta(members[1].Endpoint) + " refused the connection; " +
		regexp.QuoteMeta(members[2].Endpoint) + " refused the connection$")
	together(calls(s, g, slots), func(name string, do func(context.Context) error) {
		err := inTime(t, name, limit, do)
		if err == nil || !says.MatchString(err.Error()) || !transient(err) {
			t.Errorf("%s: %v, want %v", name, err, says)
		} else if strings.HasPrefix(err.Error(), "no answer") && !dead.MatchString(err.Error()) {
			t.Errorf("%s: %v, want it to name the members that are gone", name, err)
		}
	})
	r.await(t, "lost")
	for _, m := range members[1:] {
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	awaitQueue(t, s, g, 1) // also: the lost members' changes did not come through
	if !w.isWaiting() {
		t.Fatalf("the waiter did not survive: %v", w.err)
	}
	slots = must(s.Find(t.Context(), "holder", []locksmith.Group{g}))(t)
	if len(slots.Groups) == 1 { // a release that was tried may have been carried out after all
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
	}
	w.granted(t)
	if got := r.last(); got != "" {
		t.Errorf("granted, and still reported: %q", got)
	}
}

// The leader is killed, again and again, while machines wait: the order stays and
// nobody is lost.
func TestLeaderChanges(t *testing.T) {
	t.Parallel()
	members := etcdtest.StartCluster(t, 3)
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.Endpoint)
	}
	all := func(c *Config) { c.Endpoints = endpoints }
	s, g := dial(t, "", all), newGroup(t)
	slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
	var waiters []*waiter
	for i := range 4 {
		waiters = append(waiters, acquire(t, dial(t, "", all), request(fmt.Sprintf("w%d", i), g)))
		awaitQueue(t, s, g, i+1)
	}
	for i, w := range waiters {
		lead := leader(t, members)
		lead.Stop()
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		slots = w.granted(t)
		for _, later := range waiters[i+1:] {
			if !later.isWaiting() {
				t.Fatalf("%s went before its turn: %v", later.machine, later.err)
			}
		}
		if err := lead.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	checkGroup(t, s, g, 1, 1)
}

func leader(t *testing.T, members []*etcdtest.Server) *etcdtest.Server {
	t.Helper()
	for _, m := range members {
		st := must(m.Client(t).Status(t.Context(), m.Endpoint))(t)
		if st.Leader == st.Header.MemberId {
			return m
		}
	}
	t.Fatal("no member leads")
	return nil
}

// silent is an endpoint whose connections are accepted, by the kernel, and never
// answered.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// refusing is an endpoint at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return "http://" + l.Addr().String()
}

// withoutNames makes every host name fail to resolve, until the test ends, as a
// name server does that does not know it.
func withoutNames(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2], buf[3] = 0x81, 0x83 // a reply: no such name
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = before; conn.Close() })
}

// Every endpoint that does not answer is named with its own reason.
func TestNobodyAnswers(t *testing.T) {
	withoutNames(t)
	mute, refused := silent(t), refusing(t)
	limit := time.Second
	muteWhy := " accepts connections but did not answer within 1s (lost quorum, overload, or not etcd's client port)"
	for _, tt := range []struct {
		name      string
		endpoints []string
		want      string
		transient bool
	}{
		{"refused", []string{refused}, refused + " refused the connection", true},
		{"silent", []string{mute}, mute + muteWhy, true},
		{"no such name", []string{"http://etcd.example:2379"},
			"http://etcd.example:2379 has a host name that does not resolve (no such host)", false},
		{"all", []string{refused, mute, "http://etcd.example:2379"},
			refused + " refused the connection; " + mute + muteWhy +
				"; http://etcd.example:2379 has a host name that does not resolve (no such host)", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, user := range []string{"", "user"} { // with one, the first connection is a call of its own
				s := dial(t, "", func(c *Config) { c.Endpoints, c.Timeout, c.Username, c.Password = tt.endpoints, limit, user, user })
				want := "no answer from etcd: " + tt.want
				together(calls(s, "", locksmith.Slots{}), func(name string, do func(context.Context) error) {
					err := inTime(t, name, limit, do)
					if err == nil || err.Error() != want || transient(err) != tt.transient {
						t.Errorf("%s: %v (transient %v), want %s (%v)", name, err, transient(err), want, tt.transient)
					}
				})
			}
		})
	}
}

// One endpoint of several is enough.
func TestOneEndpointOfSeveral(t *testing.T) {
	srv := server(t, etcdtest.Debian)
	for name, dead := range map[string]string{"refused": refusing(t), "silent": silent(t)} {
		t.Run(name, func(t *testing.T) {
			for _, endpoints := range [][]string{{dead, srv.Endpoint}, {srv.Endpoint, dead}} {
				s := dial(t, "", func(c *Config) { c.Endpoints, c.Timeout = endpoints, 3*time.Second })
				g := newGroup(t)
				slots := must(s.Acquire(t.Context(), request("m", g), nil))(t)
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A call ends with its context, also while the first connection is made by
// another call, and while another waits for a lease.
func TestCallsEndWithTheirContext(t *testing.T) {
	for _, user := range []string{"", "user"} {
		t.Run("user "+user, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s := dial(t, "http://"+l.Addr().String(), func(c *Config) { c.Username, c.Password, c.Timeout, c.PresenceSettle = user, user, time.Minute, 1 })
			keep, let := context.WithCancel(t.Context())
			defer let()
			present := make(chan error, 1) // asks for a lease until let go
			go func() { present <- s.KeepPresence(keep, always(locksmith.Presence{MachineID: "m"})) }()
			conn, err := l.Accept() // it does so now
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			all := calls(s, "", locksmith.Slots{Groups: []locksmith.Group{""}, Record: locksmith.Holder{MachineID: "m"}})
			all["Acquire"] = func(ctx context.Context) error { _, err := s.Acquire(ctx, request("m", ""), nil); return err }
			// Changes are waited for once sent, and here they are sent without
			// a read before.
			delete(all, "Advance")
			errs := make(chan error, len(all))
			for name, do := range all {
				go func() { errs <- fmt.Errorf("%s: %w", name, do(ctx)) }()
			}
			cancel(errStopped)
			for range all {
				select {
				case err := <-errs:
					if !errors.Is(err, errStopped) {
						t.Error(err)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("a call outlasts its context by 10 s")
				}
			}
			let()
			if err := <-present; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// always is a channel with one value.
func always(p locksmith.Presence) <-chan locksmith.Presence {
	latest := make(chan locksmith.Presence, 1)
	latest <- p
	return latest
}

// While etcd is away, who waits says why; when it is back, he goes on.
func TestReportsOfAWaiter(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		proxy := etcdtest.NewProxy(t, srv.Address())
		s, g := dial(t, srv.Endpoint), newGroup(t)
		slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		far := dial(t, proxy.Endpoint, func(c *Config) { c.Timeout, c.LeaseTTL = time.Second, 2*time.Second })
		proxy.Down()
		w, r := acquireReporting(t, far, request("w", g))
		r.await(t, "no answer from etcd: "+proxy.Endpoint)
		proxy.Up()
		awaitQueue(t, s, g, 1)
		if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
			t.Fatal(err)
		}
		w.granted(t)
		if got := r.last(); got != "" {
			t.Errorf("granted, and still reported: %q", got)
		}
	})
}
