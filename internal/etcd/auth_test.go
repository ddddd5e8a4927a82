package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

const (
	password  = "correct-horse-battery"
	wrongWord = "tr0ub4dor-and-3"
)

// tlsServer is an etcd at an https endpoint, with a certificate for host; with a
// CA for clients it wants theirs.
func tlsServer(t *testing.T, ca *etcdtest.CA, host string, notAfter time.Time, clients *etcdtest.CA) *etcdtest.Server {
	t.Helper()
	cert, key := ca.Issue(t, host, notAfter)
	// The harness checks nothing: what the server shows may be wrong on purpose.
	harness := &tls.Config{InsecureSkipVerify: true}
	args := []string{"--cert-file", cert, "--key-file", key}
	if clients != nil {
		args = append(args, "--client-cert-auth", "--trusted-ca-file", clients.File)
		pair := must(tls.LoadX509KeyPair(clients.Issue(t, "harness", time.Now().Add(time.Hour))))(t)
		harness.Certificates = []tls.Certificate{pair}
	}
	return etcdtest.StartTLS(t, harness, args...)
}

func TestServerCertificates(t *testing.T) {
	t.Parallel()
	ca, other, later := etcdtest.NewCA(t), etcdtest.NewCA(t), time.Now().Add(time.Hour)
	good := tlsServer(t, ca, "127.0.0.1", later, nil)
	for _, tt := range []struct {
		name     string
		endpoint string
		caFile   string
		want     string // regular expression of what follows the endpoint; empty: it works
	}{
		{"a CA alone is enough", good.Endpoint, ca.File, ""},
		{"wrong CA", good.Endpoint, other.File, "has a certificate of an authority that is not trusted: check the etcd CA file"},
		{"the system's CAs", good.Endpoint, "", "has a certificate of an authority that is not trusted: check the etcd CA file"},
		{"expired", tlsServer(t, ca, "127.0.0.1", time.Now().Add(-time.Hour), nil).Endpoint, ca.File,
			"has a certificate that is not valid: x509: certificate has expired or is not yet valid: current time .* is after .*"},
		{"for another address", tlsServer(t, ca, "127.0.0.2", later, nil).Endpoint, ca.File,
			`has a certificate that is not valid: x509: certificate is valid for 127\.0\.0\.2, not 127\.0\.0\.1`},
		{"for another name", tlsServer(t, ca, "etcd.example", later, nil).Endpoint, ca.File,
			`has a certificate that is not valid: x509: cannot validate certificate for 127\.0\.0\.1 because it doesn't contain any IP SANs`},
		{"http endpoint, server with TLS", "http://" + good.Address(), "", "speaks TLS: use https://" + regexp.QuoteMeta(good.Address())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dial(t, tt.endpoint, func(c *Config) { c.CAFile, c.Timeout = tt.caFile, 2*time.Second })
			checkTLS(t, s, tt.endpoint, tt.want)
		})
	}
}

// Who hangs up during the handshake may be a proxy that has no server at the
// moment: that is worth waiting for.
func TestServerWithoutTLS(t *testing.T) {
	t.Parallel()
	endpoint := "https://" + server(t, etcdtest.Debian).Address()
	s := dial(t, endpoint, func(c *Config) { c.Timeout = 2 * time.Second })
	_, _, err := s.Semaphore(t.Context(), "")
	want := "no answer from etcd: " + endpoint + " hung up during the TLS handshake (if it does not speak TLS, use http://)"
	if err == nil || err.Error() != want || !transient(err) {
		t.Errorf("%v (transient %v), want %s", err, transient(err), want)
	}
}

// checkTLS makes calls with s, which work where want is empty.
func checkTLS(t *testing.T, s *Store, endpoint, want string) {
	t.Helper()
	g := newGroup(t)
	all := calls(s, g, locksmith.Slots{})
	acquire := func(ctx context.Context) error { // ends at once, for waiting cures nothing here
		_, err := s.Acquire(ctx, request("waiter", g), nil)
		return err
	}
	if want == "" {
		for _, do := range []func(context.Context) error{all["Semaphore"], acquire} {
			if err := do(t.Context()); err != nil {
				t.Errorf("%v, want it to work", err)
			}
		}
		return
	}
	re := regexp.MustCompile("^no answer from etcd: " + regexp.QuoteMeta(endpoint) + " " + want + "$")
	together(map[string]func(context.Context) error{"Semaphore": all["Semaphore"], "SetMax": all["SetMax"], "Acquire": acquire},
		func(name string, do func(context.Context) error) {
			err := inTime(t, name, 2*time.Second, do)
			if err == nil || !re.MatchString(err.Error()) || transient(err) {
				t.Errorf("%s: %v (transient %v), want %v", name, err, transient(err), re)
			}
		})
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, other, later := etcdtest.NewCA(t), etcdtest.NewCA(t), time.Now().Add(time.Hour)
	srv := tlsServer(t, ca, "127.0.0.1", later, ca)
	const rejected = `rejected our certificate: check the etcd certificate and key files \(tls: .*\)`
	type pair [2]string
	issue := func(ca *etcdtest.CA, until time.Time) pair {
		cert, key := ca.Issue(t, "client", until)
		return pair{cert, key}
	}
	for _, tt := range []struct {
		name string
		pair pair
		want string
	}{
		{"right", issue(ca, later), ""},
		{"none", pair{}, rejected},
		{"of another authority", issue(other, later), rejected},
		{"expired", issue(ca, time.Now().Add(-time.Hour)), rejected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dial(t, srv.Endpoint, func(c *Config) {
				c.CAFile, c.CertFile, c.KeyFile, c.Timeout = ca.File, tt.pair[0], tt.pair[1], 2*time.Second
			})
			checkTLS(t, s, srv.Endpoint, tt.want)
		})
	}
}

// A certificate that was renewed on disk is used at the next connection, also for
// what waits meanwhile; half a renewal does no harm.
func TestRenewedClientCertificate(t *testing.T) {
	t.Parallel()
	ca, soon := etcdtest.NewCA(t), time.Now().Add(5*time.Second)
	srv := tlsServer(t, ca, "127.0.0.1", time.Now().Add(time.Hour), ca)
	cert, key := ca.Issue(t, "client", soon)
	withPair := func(cert, key string) func(*Config) {
		return func(c *Config) { c.CAFile, c.CertFile, c.KeyFile, c.Timeout = ca.File, cert, key, 2*time.Second }
	}
	lasting := dial(t, srv.Endpoint, withPair(ca.Issue(t, "client", time.Now().Add(time.Hour))))
	s, g := dial(t, srv.Endpoint, withPair(cert, key)), newGroup(t)
	slots := must(lasting.TryAcquire(t.Context(), request("holder", g)))(t)
	w := acquire(t, s, request("w", g))
	awaitQueue(t, lasting, g, 1)

	newCert, newKey := ca.Issue(t, "client", time.Now().Add(time.Hour))
	copyFile(t, newCert, cert)
	srv.Stop()
	if err := srv.Restart(); err != nil { // all connect again, with half of the new pair
		t.Fatal(err)
	}
	must(s.Status(t.Context(), g))(t)
	copyFile(t, newKey, key)
	<-time.After(time.Until(soon) + time.Second) // until the first one has expired, which only time does
	srv.Stop()
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	must(s.Status(t.Context(), g))(t)
	if err := lasting.Release(t.Context(), slots, locksmith.Result{}); err != nil {
		t.Fatal(err)
	}
	w.granted(t)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What cannot work is refused before etcd is called.
func TestDialRefuses(t *testing.T) {
	ca := etcdtest.NewCA(t)
	cert, key := ca.Issue(t, "a", time.Now().Add(time.Hour))
	_, otherKey := ca.Issue(t, "b", time.Now().Add(time.Hour))
	missing, noPEM := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok := []string{"https://127.0.0.1:2379"}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no etcd endpoint given"},
		{Config{Endpoints: []string{"127.0.0.1:2379"}}, `invalid etcd endpoint "127.0.0.1:2379": must be http://HOST:PORT or https://HOST:PORT`},
		{Config{Endpoints: []string{"http://a"}}, `invalid etcd endpoint "http://a": must be http://HOST:PORT or https://HOST:PORT`},
		{Config{Endpoints: []string{"ftp://a:1"}}, `invalid etcd endpoint "ftp://a:1": must be http://HOST:PORT or https://HOST:PORT`},
		{Config{Endpoints: []string{"http://a:1/v2"}}, `invalid etcd endpoint "http://a:1/v2": must be http://HOST:PORT or https://HOST:PORT`},
		{Config{Endpoints: []string{"http://a:1", "https://b:1"}}, "etcd endpoints http://a:1 and https://b:1: must be all http or all https"},
		{Config{Endpoints: ok, Username: "u"}, "etcd user name and password must be given together"},
		{Config{Endpoints: ok, Password: password}, "etcd user name and password must be given together"},
		{Config{Endpoints: ok, CertFile: cert}, fmt.Sprintf("etcd client certificate and key must be given together: have certificate %q and key %q", cert, "")},
		{Config{Endpoints: ok, KeyFile: key}, fmt.Sprintf("etcd client certificate and key must be given together: have certificate %q and key %q", "", key)},
		{Config{Endpoints: ok, CertFile: cert, KeyFile: otherKey},
			"etcd client certificate " + cert + " and key " + otherKey + ": tls: private key does not match public key"},
		{Config{Endpoints: ok, CertFile: missing, KeyFile: key},
			"etcd client certificate " + missing + " and key " + key + ": open " + missing + ": no such file or directory"},
		{Config{Endpoints: ok, CAFile: missing}, "etcd CA file: open " + missing + ": no such file or directory"},
		{Config{Endpoints: ok, CAFile: noPEM}, "etcd CA file " + noPEM + " holds no PEM certificate"},
	} {
		if s, err := Dial(tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v, want %s", tt.cfg, err, tt.want)
			if err == nil {
				s.Close()
			}
		}
	}
}

// secureServer is an etcd with users: root, "machine" who may use the prefix,
// "reader" who may only read it, and "guest" who may nothing.
//
// root makes a client of its own for each use: that of the library does not get
// over a token that has lapsed.
func secureServer(t *testing.T, kind etcdtest.Kind) (srv *etcdtest.Server, root func() *clientv3.Client) {
	t.Helper()
	srv = etcdtest.Start(t, kind)
	open := srv.Client(t)
	ctx, end := t.Context(), clientv3.GetPrefixRangeEnd(prefix)
	must(open.RoleAdd(ctx, "readwrite"))(t)
	must(open.RoleGrantPermission(ctx, "readwrite", prefix, end, clientv3.PermissionType(clientv3.PermReadWrite)))(t)
	must(open.RoleAdd(ctx, "read"))(t)
	must(open.RoleGrantPermission(ctx, "read", prefix, end, clientv3.PermissionType(clientv3.PermRead)))(t)
	for user, role := range map[string]string{"root": "root", "machine": "readwrite", "reader": "read", "guest": ""} {
		must(open.UserAdd(ctx, user, password))(t)
		if role != "" {
			must(open.UserGrantRole(ctx, user, role))(t)
		}
	}
	must(open.AuthEnable(ctx))(t)
	return srv, func() *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{srv.Endpoint}, Username: "root", Password: password, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// sayings collects all that is logged and said, to look for secrets in it.
type sayings struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sayings) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// hear takes down an error and all that it wraps.
func (s *sayings) hear(err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(s, "%v %+v %#v\n", err, err, err)
	}
}

func (s *sayings) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range []string{password, wrongWord} {
		if strings.Contains(s.buf.String(), secret) {
			t.Errorf("a password was told:\n%s", s.buf.String())
		}
	}
}

// As is how a user connects.
func as(user, word string, log io.Writer) func(*Config) {
	return func(c *Config) {
		c.Username, c.Password = user, word
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

func TestUsers(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, _ := secureServer(t, kind)
			tried := " (tried " + srv.Endpoint + ")"
			const role = " has no readwrite role for the prefix " + prefix
			for _, tt := range []struct {
				name, user, word string
				read, change     string // what is said; empty: it works
			}{
				{"right", "machine", password, "", ""},
				{"wrong password", "machine", wrongWord, `etcd refused user "machine": unknown user or wrong password` + tried,
					`etcd refused user "machine": unknown user or wrong password` + tried},
				{"unknown user", "nobody", password, `etcd refused user "nobody": unknown user or wrong password` + tried,
					`etcd refused user "nobody": unknown user or wrong password` + tried},
				{"no user", "", "", "etcd wants a user: set the etcd user name and password" + tried,
					"etcd wants a user: set the etcd user name and password" + tried},
				{"no permission", "guest", password, `etcd denied permission: user "guest"` + role, `etcd denied permission: user "guest"` + role},
				{"may only read", "reader", password, "", `etcd denied permission: user "reader"` + role},
			} {
				t.Run(tt.name, func(t *testing.T) {
					var said sayings
					s := dial(t, srv.Endpoint, as(tt.user, tt.word, &said))
					checkUser(t, s, &said, tt.read, tt.change)
					said.check(t)
				})
			}
		})
	}
}

// checkUser makes all calls, which say read or change, or work where that is
// empty.
func checkUser(t *testing.T, s *Store, said *sayings, read, change string) {
	t.Helper()
	g := newGroup(t)
	say := func(name, want string, err error) {
		t.Helper()
		said.hear(err)
		if got := fmt.Sprint(err); (err == nil) != (want == "") || (err != nil && got != want) || transient(err) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	all := calls(s, g, locksmith.Slots{})
	for _, name := range reads {
		err := inTime(t, name, time.Second, all[name])
		if errors.Is(err, locksmith.ErrUnknownMachine) { // there is none, which was read
			err = nil
		}
		say(name, read, err)
	}
	err := s.WatchStatus(t.Context(), g, func(locksmith.GroupStatus) error { return errStopped })
	if errors.Is(err, errStopped) {
		err = nil
	}
	say("WatchStatus", read, err)
	_, err = s.SetMax(t.Context(), g, 3, "test")
	say("SetMax", change, err)
	slots, err := s.TryAcquire(t.Context(), request("holder", g))
	say("TryAcquire", change, err)
	r := newReports()
	waited, err := s.Acquire(t.Context(), request("waiter", g), r.add)
	say("Acquire", change, err)
	for _, report := range r.all {
		said.hear(errors.New(report))
	}
	if change != "" {
		return
	}
	slots, err = s.Advance(t.Context(), slots, locksmith.PhaseRebooting, "")
	say("Advance", "", err)
	say("Release", "", s.Release(t.Context(), slots, locksmith.Result{}))
	say("Unlock", "", s.Unlock(t.Context(), g, "waiter", locksmith.Result{}))
	say("Release of what was unlocked", "", s.Release(t.Context(), waited, locksmith.Result{}))
}

// A password is no hindrance where etcd has no users, and is used as soon as it
// has.
func TestPasswordWithoutUsers(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			var said sayings
			s := dial(t, server(t, kind).Endpoint, as("machine", password, &said))
			checkUser(t, s, &said, "", "")
			said.check(t)
		})
	}
}

// While machines wait: etcd is restarted, so that it forgets all tokens; users are
// switched off and on, so that tokens become void on connections that stand. Who
// has a password goes on; who has none is told.
func TestTokensExpireWhileWaiting(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, root := secureServer(t, kind)
			var said sayings
			s, g := dial(t, srv.Endpoint, as("machine", password, &said)), newGroup(t)
			slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
			var waiters []*waiter
			for i := range 4 {
				waiters = append(waiters, acquire(t, dial(t, srv.Endpoint, as("machine", password, &said)), request(fmt.Sprintf("w%d", i), g)))
				awaitQueue(t, s, g, i+1)
			}
			next := func(what string) {
				t.Helper()
				if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				slots = waiters[0].granted(t)
				waiters = waiters[1:]
			}
			srv.Stop()
			if err := srv.Restart(); err != nil {
				t.Fatal(err)
			}
			next("tokens forgotten")
			must(root().AuthDisable(t.Context()))(t)
			next("users switched off")
			must(srv.Client(t).AuthEnable(t.Context()))(t)
			next("users switched on again")
			must(root().UserChangePassword(t.Context(), "guest", wrongWord))(t) // also voids tokens
			next("the users changed")
			checkGroup(t, s, g, 1, 1)
			said.check(t)
		})
	}
}

// A stream that stands has the token it began with. A watch that is refused there
// for its token goes over another.
func TestWatchOnAStreamWithALapsedToken(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, root := secureServer(t, kind)
			var said sayings
			s, g := dial(t, srv.Endpoint, as("machine", password, &said)), newGroup(t)
			must(s.watch(t.Context(), semaphoreKey(g)))(t) // keeps the stream
			must(root().AuthDisable(t.Context()))(t)
			must(srv.Client(t).AuthEnable(t.Context()))(t)
			for range 3 {
				events := must(s.watch(t.Context(), semaphoreKey(g)))(t)
				setMax(t, s, g, int(serial.Add(1)))
				if resp := <-events; resp.Err() != nil || len(resp.Events) != 1 {
					t.Fatalf("%+v", resp)
				}
			}
			if n := s.streams.Load(); n != 1 {
				t.Errorf("%d further streams, want 1", n)
			}
			must(s.TryAcquire(t.Context(), request("holder", g)))(t)
		})
	}
}

// Users are switched on while somebody without one waits.
func TestUsersSwitchedOnWhileWaiting(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, root := secureServer(t, kind)
			must(root().AuthDisable(t.Context()))(t)
			var said sayings
			s, g := dial(t, srv.Endpoint, as("machine", password, &said)), newGroup(t)
			slots := must(s.TryAcquire(t.Context(), request("holder", g)))(t)
			without := acquire(t, dial(t, srv.Endpoint, func(c *Config) { c.LeaseTTL = 2 * time.Second }), request("without", g))
			awaitQueue(t, s, g, 1)
			with := acquire(t, s, request("with", g))
			awaitQueue(t, s, g, 2)
			must(srv.Client(t).AuthEnable(t.Context()))(t)
			if err := s.Release(t.Context(), slots, locksmith.Result{}); err != nil {
				t.Fatal(err)
			}
			<-without.done
			want := "etcd wants a user: set the etcd user name and password (tried " + srv.Endpoint + ")"
			if without.err == nil || without.err.Error() != want {
				t.Errorf("without a user: %v, want %s", without.err, want)
			}
			with.granted(t) // once the other's entry went with its lease
		})
	}
}
