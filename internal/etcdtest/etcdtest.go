// Package etcdtest runs real etcd servers for tests: the embedded one and Debian's
// etcd-server as a process of its own, both of which can be stopped and started
// again at the same address, and a proxy that cuts connections where it hurts.
package etcdtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith/internal/embedded"
)

// Kind is a kind of server.
type Kind string

// The kinds.
const (
	Embedded Kind = "embedded" // etcd 3.7, in this process
	Debian   Kind = "debian"   // Debian's etcd-server: 3.4 on bookworm
)

// Kinds lists all kinds.
var Kinds = []Kind{Embedded, Debian}

// bcryptCost is the least there is: under the race detector a login would take
// seconds.
const bcryptCost = 4

// Server is an etcd with data of its own.
type Server struct {
	Endpoint string

	kind     Kind
	dir      string
	listen   string
	name     string // of the member; empty: a cluster of its own
	peer     string // its address for other members, of a Debian etcd
	cluster  string // all members, as --initial-cluster wants them
	tls      *tls.Config
	extra    []string
	embedded *embedded.Server
	process  *exec.Cmd
}

// Start runs a server until the test ends. args are further arguments for
// Debian's.
func Start(t testing.TB, kind Kind, args ...string) *Server {
	t.Helper()
	s, err := New(kind, t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// New runs a server with its data in dir, until Stop.
func New(kind Kind, dir string, args ...string) (*Server, error) {
	s := &Server{kind: kind, dir: dir, extra: args}
	if err := s.Restart(); err != nil {
		return nil, err
	}
	return s, nil
}

// Restart starts a stopped server again, at the same address with the same data.
func (s *Server) Restart() error {
	if s.kind == Embedded {
		if s.listen == "" {
			s.listen = net.JoinHostPort(ownIP(), "0")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		e, err := embedded.Start(ctx, embedded.Config{Dir: s.dir, Listen: s.listen, NoSync: true, BcryptCost: bcryptCost})
		if err != nil {
			return err
		}
		s.embedded, s.Endpoint = e, e.Endpoint()
		s.listen = s.Endpoint[len("http://"):]
		return nil
	}
	if err := s.startProcess(); err != nil {
		return err
	}
	return s.awaitReady()
}

func (s *Server) startProcess() error {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("etcd is missing: install Debian's etcd-server (%v)", err)
	}
	if s.listen == "" {
		ip := ownIP()
		if s.tls != nil { // certificates are for an address that is known before
			ip = "127.0.0.1"
		}
		if s.listen, err = freeAddress(ip); err != nil {
			return err
		}
	}
	if s.name == "" {
		if s.peer, err = freeAddress(ownIP()); err != nil {
			return err
		}
		s.name, s.cluster = "default", "default=http://"+s.peer
	}
	if s.tls != nil {
		s.Endpoint = "https://" + s.listen
	} else {
		s.Endpoint = "http://" + s.listen
	}
	log, err := os.OpenFile(s.dir+"/etcd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, append([]string{"--name", s.name, "--data-dir", s.dir + "/data",
		"--listen-client-urls", s.Endpoint, "--advertise-client-urls", s.Endpoint,
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		"--initial-cluster", s.cluster, "--logger", "zap", "--bcrypt-cost", fmt.Sprint(bcryptCost)}, s.extra...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process = cmd
	return nil
}

// awaitReady returns when the server answers a linearizable read.
func (s *Server) awaitReady() error {
	c, err := s.newClient()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if _, err = c.Get(ctx, "ready"); err == nil || errors.Is(err, rpctypes.ErrUserEmpty) {
			return nil
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(s.dir + "/etcd.log")
			return fmt.Errorf("etcd at %s does not answer: %v\n%s", s.Endpoint, err, log)
		}
	}
}

// Stop ends the server and waits for it; its data stays. Stopping twice does
// nothing.
func (s *Server) Stop() {
	if s.embedded != nil {
		s.embedded.Close()
		s.embedded = nil
	}
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
		s.process = nil
	}
}

// Client is a client of the server's, until the test ends.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := s.newClient()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *Server) newClient() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint}, TLS: s.tls, Logger: zap.NewNop()})
}

// Address is the server's HOST:PORT.
func (s *Server) Address() string {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// ownIP is a loopback address that nobody else uses. A port there is still free
// when its server was stopped and starts again: on 127.0.0.1 any connection may
// have got it as its own end meanwhile.
func ownIP() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

func freeAddress(ip string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
