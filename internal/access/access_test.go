package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Tokens of the tests' principals.
const (
	aliceToken   = "alice-0123456789abcdef"
	bobToken     = "bob-0123456789abcdef"
	machineToken = "machine-0123456789abcdef"
)

// somebody is an access file with one principal of each kind.
var somebody = fmt.Sprintf(`{"principals": [
  {"name": "alice", "role": "operator", "groups": ["web", ""], "token": %q},
  {"name": "bob", "role": "viewer", "tokenSHA256": "%x"},
  {"name": "carol", "role": "admin", "certificate": "carol@example.com"},
  {"name": "m1", "role": "machine", "machine": "id-1", "token": %q},
  {"name": "fleet", "role": "machine", "certificate": "*.example.com", "machineFromCertificate": true},
  {"name": "db", "role": "machine", "groups": ["db"], "certificate": "*.db.example.com"},
  {"name": "spiffe", "role": "machine", "certificate": "spiffe://example.com/machine/*", "machineFromCertificate": true}
]}
`, aliceToken, digestOf(bobToken), machineToken)

// log is a logger whose text can be read.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// lines are those that hold a text.
func (l *log) lines(with string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(strings.Split(l.text.String(), "\n"), func(s string) bool { return !strings.Contains(s, with) || s == "" })
}

// clock stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// write puts an access file in place at once, as editors and configuration management do.
func write(t testing.TB, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func newFile(t testing.TB, text string) (f *File, path string, c *clock, l *log) {
	t.Helper()
	path, c, l = filepath.Join(t.TempDir(), "access.json"), newClock(), new(log)
	write(t, path, text)
	f, err := open(path, l.logger(), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return f, path, c, l
}

// request is one from 10.0.0.7, changed by each of with.
func request(with ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest("GET", "http://locksmith.example.com/", nil)
	r.RemoteAddr = "10.0.0.7:4711"
	for _, f := range with {
		f(r)
	}
	return r
}

func bearer(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

func basic(name, token string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, token) }
}

func header(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(key, value) }
}

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

// certificate makes r one with a verified client certificate.
func certificate(leaf *x509.Certificate) func(*http.Request) {
	if leaf.NotAfter.IsZero() {
		leaf.NotAfter = time.Now().Add(time.Hour)
	}
	return func(r *http.Request) { r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}} }
}

func cn(name string, dns ...string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: dns}
}

func uri(t *testing.T, text string) *x509.Certificate {
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{URIs: []*url.URL{u}}
}

// refused wants a *Refusal.
func refused(t *testing.T, err error, status int, reason string) {
	t.Helper()
	refusal := new(Refusal)
	if !errors.As(err, &refusal) {
		t.Fatalf("error %v, want a *Refusal", err)
	}
	if refusal.Status != status || !strings.Contains(refusal.Reason, reason) {
		t.Errorf("refused with %d %q, want %d and %q", refusal.Status, refusal.Reason, status, reason)
	}
}

func TestCaller(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	alice := Caller{Name: "alice", From: "10.0.0.7", Role: RoleOperator, Groups: []locksmith.Group{"web", ""}}
	fleet := Caller{Name: "fleet", From: "10.0.0.7", Role: RoleMachine, Machine: "web-1"}
	for name, tt := range map[string]struct {
		r    *http.Request
		want Caller
	}{
		"bearer":               {request(bearer(aliceToken)), alice},
		"scheme in any case":   {request(header("Authorization", "bEARER  "+aliceToken)), alice},
		"digest":               {request(bearer(bobToken)), Caller{Name: "bob", From: "10.0.0.7", Role: RoleViewer}},
		"basic":                {request(basic("alice", aliceToken)), alice},
		"machine":              {request(basic("m1", machineToken)), Caller{Name: "m1", From: "10.0.0.7", Role: RoleMachine, Machine: "id-1"}},
		"IPv4 in IPv6":         {request(basic("bob", bobToken), from("[::ffff:10.1.2.3]:1")), Caller{Name: "bob", From: "10.1.2.3", Role: RoleViewer}},
		"IPv6 with a zone":     {request(basic("bob", bobToken), from("[fe80::1%eth0]:1")), Caller{Name: "bob", From: "fe80::1", Role: RoleViewer}},
		"no address":           {request(basic("bob", bobToken), from("@")), Caller{Name: "bob", From: "unknown", Role: RoleViewer}},
		"a proxy's word":       {request(bearer(bobToken), header("X-Forwarded-For", "1.2.3.4")), Caller{Name: "bob", From: "10.0.0.7", Role: RoleViewer}},
		"certificate":          {request(certificate(cn("carol@example.com"))), Caller{Name: "carol", From: "10.0.0.7", Role: RoleAdmin}},
		"DNS name":             {request(certificate(cn("", "other", "carol@example.com"))), Caller{Name: "carol", From: "10.0.0.7", Role: RoleAdmin}},
		"exact before pattern": {request(certificate(cn("web-1.example.com", "carol@example.com"))), Caller{Name: "carol", From: "10.0.0.7", Role: RoleAdmin}},
		"pattern":              {request(certificate(cn("web-1.example.com"))), fleet},
		"longest pattern":      {request(certificate(cn("db-1.db.example.com"))), Caller{Name: "db", From: "10.0.0.7", Role: RoleMachine, Groups: []locksmith.Group{"db"}}},
		"common name first":    {request(certificate(cn("web-1.example.com", "web-2.example.com"))), fleet},
		"URI":                  {request(certificate(uri(t, "spiffe://example.com/machine/a/b"))), Caller{Name: "spiffe", From: "10.0.0.7", Role: RoleMachine, Machine: "a/b"}},
		"header before certificate": {
			request(certificate(cn("web-1.example.com")), bearer(aliceToken)), alice},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := f.Caller(tt.r)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", tt.want) {
				t.Errorf("got  %#v\nwant %#v", got, tt.want)
			}
		})
	}
}

func TestCallerRefused(t *testing.T) {
	expired := cn("carol@example.com")
	expired.NotAfter = time.Now().Add(-time.Second)
	for name, tt := range map[string]struct {
		r      *http.Request
		status int
		reason string
	}{
		"nothing":              {request(), 401, "no credentials"},
		"wrong token":          {request(bearer(aliceToken + "x")), 401, "wrong token"},
		"empty token":          {request(bearer("")), 401, "wrong token"},
		"huge token":           {request(bearer(strings.Repeat("x", 100_000))), 401, "wrong token"},
		"other's name":         {request(basic("bob", aliceToken)), 401, "unknown name or wrong token"},
		"wrong password":       {request(basic("bob", bobToken+"x")), 401, "unknown name or wrong token"},
		"unknown name":         {request(basic("eve", bobToken)), 401, "unknown name or wrong token"},
		"no token of its own":  {request(basic("carol", "0123456789abcdef0123")), 401, "unknown name or wrong token"},
		"malformed":            {request(header("Authorization", "Basic ???")), 401, "malformed Basic"},
		"other scheme":         {request(header("Authorization", "Negotiate abc")), 401, "unsupported"},
		"empty header":         {request(header("Authorization", "")), 401, "unsupported"},
		"two headers":          {request(bearer(aliceToken), bearer(aliceToken)), 401, "more than one"},
		"wrong, but":           {request(certificate(cn("carol@example.com")), bearer("0123456789abcdef0")), 401, "wrong token"},
		"unknown certificate":  {request(certificate(cn("mallory"))), 401, `client certificate of "mallory"`},
		"nameless certificate": {request(certificate(cn(""))), 401, "no common name"},
		"pattern as a name":    {request(certificate(cn("*.example.com"))), 401, "no common name"},
		"empty star":           {request(certificate(cn(".example.com"))), 401, "nobody"},
		"no id":                {request(certificate(cn("a b.example.com"))), 401, "no machine's id"},
		"expired certificate":  {request(certificate(expired)), 401, "no credentials"},
		"not verified": {request(func(r *http.Request) {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cn("carol@example.com")}}
		}), 401, "no credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _, _ := newFile(t, somebody)
			got, err := f.Caller(tt.r)
			refused(t, err, tt.status, tt.reason)
			if fmt.Sprint(got) != fmt.Sprint(Caller{}) {
				t.Errorf("refused, and yet %v", got)
			}
			if strings.Contains(err.Error(), aliceToken) {
				t.Errorf("the refusal shows a token: %v", err)
			}
		})
	}
}

func TestCertificateOfTwo(t *testing.T) {
	f, _, _, _ := newFile(t, `{"principals": [
		{"name": "alice", "role": "admin", "certificate": "alice"}, {"name": "robot", "role": "viewer", "certificate": "robot.example.com"}]}`)
	_, err := f.Caller(request(certificate(cn("alice", "robot.example.com"))))
	refused(t, err, 401, "names two: alice and robot")
}
