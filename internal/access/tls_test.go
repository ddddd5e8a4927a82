package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// files are a server's, at paths that stay while what they hold changes.
type files struct {
	cert, key, ca string
	log           *log
}

func newFiles(t *testing.T, ca, clients *etcdtest.CA) *files {
	dir := t.TempDir()
	f := &files{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), ca: filepath.Join(dir, "ca.pem"), log: new(log)}
	f.renew(t, ca)
	if clients != nil {
		move(t, clients.File, f.ca)
	}
	return f
}

// renew puts a new certificate in place, its two files one after the other.
func (f *files) renew(t *testing.T, ca *etcdtest.CA) {
	cert, key := ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	move(t, cert, f.cert)
	move(t, key, f.key)
}

// move puts a copy of a file in place at once.
func move(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(data))
}

// serve answers with the common name of the client's verified certificate, or "nobody".
func serve(t *testing.T, cfg *tls.Config) (url string) {
	t.Helper()
	return serveWith(t, cfg, func(r *http.Request) string {
		if len(r.TLS.VerifiedChains) > 0 {
			return r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		return "nobody"
	})
}

func serveWith(t *testing.T, cfg *tls.Config, answer func(*http.Request) string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: cfg, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer(r)) })}
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String()
}

// client trusts ca and has a certificate of its own, if clients is given.
func client(t *testing.T, ca, clients *etcdtest.CA, name string) *http.Client {
	cfg := &tls.Config{RootCAs: ca.Pool, ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	if clients != nil {
		cert, key := clients.Issue(t, name, time.Now().Add(time.Hour))
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		// Given whatever CAs the server names, as a client would that is after a hole.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

type reply struct {
	text   string
	serial string // of the server's certificate
	proto  string
	old    bool // the connection's TLS session is an earlier one's
}

func get(c *http.Client, url string) (reply, error) {
	resp, err := c.Get(url)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{string(text), resp.TLS.PeerCertificates[0].SerialNumber.String(), resp.Proto, resp.TLS.DidResume}, err
}

// must get an answer of the server with that text.
func must(t *testing.T, c *http.Client, url, want string) reply {
	t.Helper()
	r, err := get(c, url)
	if err != nil {
		t.Fatal(err)
	}
	if r.text != want {
		t.Fatalf("the client is %s, want %s", r.text, want)
	}
	return r
}

// due lets the next handshake look at the files, without waiting for it.
func due[T any](l *reloaded[T]) { l.next.Store(0) }

// newTLS is TLS with what it looks at.
func newTLS(t *testing.T, f *files, withCA bool) (*tls.Config, func()) {
	t.Helper()
	cfg := TLSConfig{CertFile: f.cert, KeyFile: f.key, Log: f.log.logger()}
	if withCA {
		cfg.ClientCAFile = f.ca
	}
	s, err := newServerTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s.config(), func() {
		due(s.pair)
		if s.clients != nil {
			due(s.clients)
		}
	}
}

func TestTLSRenewed(t *testing.T) {
	ca := etcdtest.NewCA(t)
	f := newFiles(t, ca, nil)
	cfg, look := newTLS(t, f, false)
	url := serve(t, cfg)
	before := client(t, ca, nil, "")
	first := must(t, before, url, "nobody")
	if first.proto != "HTTP/2.0" {
		t.Errorf("over %s", first.proto)
	}

	f.renew(t, ca)
	look()
	second := must(t, client(t, ca, nil, ""), url, "nobody")
	if second.serial == first.serial {
		t.Error("a new client sees the old certificate")
	}
	if r := must(t, before, url, "nobody"); r.serial != first.serial {
		t.Error("the connected client was cut off")
	}

	// Half a renewal, or none that can be used, leaves what was there.
	cert, key := ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	for _, change := range []func(){
		func() { move(t, cert, f.cert) },
		func() { write(t, f.key, "rubbish") },
		func() { _ = os.Remove(f.key) },
	} {
		errs := len(f.log.lines("level=ERROR"))
		change()
		for range 3 {
			look()
			if r := must(t, client(t, ca, nil, ""), url, "nobody"); r.serial != second.serial {
				t.Error("another certificate is in force")
			}
		}
		if n := len(f.log.lines("level=ERROR")) - errs; n != 1 {
			t.Errorf("%d errors in the log, want 1: %s", n, f.log.lines("level=ERROR"))
		}
	}
	move(t, key, f.key)
	look()
	if r := must(t, client(t, ca, nil, ""), url, "nobody"); r.serial == second.serial {
		t.Error("the whole pair is not in force")
	}
}

// Without client certificates there is nothing that a ticket could hide.
func TestTLSTickets(t *testing.T) {
	ca := etcdtest.NewCA(t)
	cfg, _ := newTLS(t, newFiles(t, ca, nil), false)
	url := serve(t, cfg)
	c := client(t, ca, nil, "")
	must(t, c, url, "nobody")
	c.CloseIdleConnections()
	if r := must(t, c, url, "nobody"); !r.old {
		t.Error("the session was not resumed: then the next test proves nothing")
	}
}

func TestTLSClients(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, oldCA, newCA := etcdtest.NewCA(t), etcdtest.NewCA(t), etcdtest.NewCA(t)
			f := newFiles(t, ca, oldCA)
			cfg, look := newTLS(t, f, true)
			url := serve(t, cfg)
			with := func(clients *etcdtest.CA, name string) *http.Client {
				c := client(t, ca, clients, name)
				c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
				return c
			}
			old, next, none := with(oldCA, "old"), with(newCA, "new"), with(nil, "")
			must(t, old, url, "old")
			must(t, none, url, "nobody")
			if r, err := get(next, url); err == nil {
				t.Errorf("a client of an unknown CA is let in: %+v", r)
			}
			old.CloseIdleConnections()
			if r := must(t, old, url, "old"); r.old {
				t.Error("a client with a certificate comes back on a ticket")
			}

			move(t, newCA.File, f.ca)
			look()
			must(t, next, url, "new")
			must(t, old, url, "old") // its connection is open still
			old.CloseIdleConnections()
			if r, err := get(old, url); err == nil {
				t.Errorf("a client of a CA that is gone is let in: %+v", r)
			}
			must(t, none, url, "nobody")

			write(t, f.ca, "rubbish")
			look()
			next.CloseIdleConnections()
			must(t, next, url, "new")
			if n := len(f.log.lines("holds no PEM certificate")); n != 1 {
				t.Errorf("%d errors in the log", n)
			}
		})
	}
}

// An expired client certificate of the right CA is refused.
func TestTLSExpiredClient(t *testing.T) {
	ca := etcdtest.NewCA(t)
	cfg, _ := newTLS(t, newFiles(t, ca, ca), true)
	url := serve(t, cfg)
	cert, key := ca.Issue(t, "late", time.Now().Add(-time.Hour))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, ca, nil, "")
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	if r, err := get(c, url); err == nil {
		t.Errorf("let in: %+v", r)
	}
}

func TestTLSVersions(t *testing.T) {
	ca := etcdtest.NewCA(t)
	for _, withCA := range []bool{false, true} {
		cfg, _ := newTLS(t, newFiles(t, ca, ca), withCA)
		addr := strings.TrimPrefix(serve(t, cfg), "https://")
		for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			d := tls.Dialer{Config: &tls.Config{RootCAs: ca.Pool, MinVersion: version, MaxVersion: version, NextProtos: []string{"http/1.1"}}}
			conn, err := d.DialContext(context.Background(), "tcp", addr)
			if (err == nil) != ok {
				t.Errorf("%s: error %v", tls.VersionName(version), err)
			}
			if err == nil {
				if p := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "http/1.1" {
					t.Errorf("protocol %q", p)
				}
				conn.Close()
			}
		}
	}
}

// Handshakes go on while the files change under them.
func TestTLSDuringUse(t *testing.T) {
	ca := etcdtest.NewCA(t)
	f := newFiles(t, ca, ca)
	cfg, look := newTLS(t, f, true)
	url := serve(t, cfg)
	stop := make(chan struct{})
	var users sync.WaitGroup
	for range 2 {
		c := client(t, ca, ca, "somebody")
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r, err := get(c, url); err != nil || r.text != "somebody" {
					t.Errorf("%+v, error %v", r, err)
					return
				}
				c.CloseIdleConnections()
			}
		})
	}
	for range 5 {
		f.renew(t, ca)
		look()
		must(t, client(t, ca, nil, ""), url, "nobody")
	}
	close(stop)
	users.Wait()
}

func TestTLSRefused(t *testing.T) {
	ca, other := etcdtest.NewCA(t), etcdtest.NewCA(t)
	f, g := newFiles(t, ca, ca), newFiles(t, other, nil)
	broken := filepath.Join(t.TempDir(), "broken.pem")
	write(t, broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for name, tt := range map[string]struct {
		cfg  TLSConfig
		want string
	}{
		"nothing":        {TLSConfig{}, `must be given together: have certificate "" and key ""`},
		"no key":         {TLSConfig{CertFile: f.cert}, "must be given together"},
		"no file":        {TLSConfig{CertFile: f.cert + "x", KeyFile: f.key}, "TLS certificate: open " + f.cert + "x: no such file"},
		"other's key":    {TLSConfig{CertFile: f.cert, KeyFile: g.key}, "TLS certificate " + f.cert + " with key " + g.key + ": tls: private key does not match"},
		"no CA":          {TLSConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.key}, "TLS client CA " + f.key + ": holds no PEM certificate"},
		"broken CA":      {TLSConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: broken}, "TLS client CA " + broken + ": certificate 1: x509"},
		"CA a directory": {TLSConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: filepath.Dir(f.ca)}, "is no regular file"},
	} {
		if _, err := TLS(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v\nwant %s", name, err, tt.want)
		}
	}
}

// From a real handshake to who it is.
func TestCallerOverTLS(t *testing.T) {
	ca := etcdtest.NewCA(t)
	cfg, _ := newTLS(t, newFiles(t, ca, ca), true)
	file, _, _, _ := newFile(t, somebody)
	url := serveWith(t, cfg, func(r *http.Request) string {
		c, err := file.Caller(r)
		if err != nil {
			return err.Error()
		}
		return c.Actor() + " as " + c.Machine
	})
	for name, want := range map[string]string{"web-1.example.com": "fleet@127.0.0.1 as web-1", "carol@example.com": "carol@127.0.0.1 as ", "x.org": `nobody is known by the client certificate of "x.org"`} {
		must(t, client(t, ca, ca, name), url, want)
	}
	must(t, client(t, ca, nil, ""), url, "no credentials: a token, a client certificate or a sign-in is needed")
}
