// Package embedded runs an etcd server inside the process, for those who have no
// etcd of their own: small fleets, the demo, and tests. It checks and restores its
// snapshots too. It knows nothing of what is stored in it. Only locksmith-server and
// tests link it; it is large.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Config says where the server keeps its data and where it listens.
type Config struct {
	Dir    string // required; made if it is not there, mode 0700
	Listen string // HOST:PORT for clients; empty: a free port on loopback, or none where Socket is given
	TLS    TLS    // of Listen; the zero value: plain text
	Socket string // path of a unix socket for clients, for whoever may enter its directory; empty: none

	// NoSync leaves out fsync. A crash of the machine may then lose what was
	// acknowledged: for tests only.
	NoSync bool

	// BcryptCost is how dear it is to try passwords, of etcd's users; 0: etcd's
	// default.
	BcryptCost uint

	Log *slog.Logger // etcd's errors, and its warnings as debug messages; nil: discard
}

// TLS names PEM files. A renewed certificate is used from the next connection on.
type TLS struct {
	CertFile, KeyFile string // both or neither
	ClientCAFile      string // whose certificates clients must have; empty: they need none
}

// How etcd is run. What is kept of the past serves nobody here: watches resume within
// seconds, there are no followers, and the history is a ring of keys. Kept small, it
// costs neither disk nor memory, however large the documents are that change.
const (
	compaction     = "5m"
	quota          = 8 << 30 // bytes; etcd's own, 2 GiB, is an outage within the reach of a busy store
	snapshotCount  = 5000    // changes between two snapshots; at most so many are read again at a start
	catchUpEntries = 100     // changes kept in memory beyond that
)

// longestSocket is what the kernel takes as the path of a unix socket.
const longestSocket = 107

// Server is a running etcd of one member.
type Server struct {
	cfg  Config
	etcd *embed.Etcd
	dir  *lock

	closing atomic.Bool
	mu      sync.Mutex
	grpc    []*grpc.Server
}

// InUseError says that another process runs on the same data directory.
type InUseError struct {
	Dir string
	PID string // of the process, as it wrote it down; may be empty
}

func (e *InUseError) Error() string {
	by := "another process"
	if e.PID != "" {
		by = "process " + e.PID
	}
	return fmt.Sprintf("the data directory %s is in use by %s: stop that first, or choose another directory", e.Dir, by)
}

// Start runs a server and returns when it takes requests. ctx bounds the start
// alone. It returns an *InUseError where another server has the directory, and wraps
// the system's error where it cannot listen.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no data directory given")
	}
	if cfg.Listen == "" && cfg.Socket == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Listen == "" && cfg.TLS != (TLS{}) {
		return nil, errors.New("embedded etcd: TLS without an address to listen at")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	held, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, dir: held}
	if err := s.start(ctx, cfg); err != nil {
		held.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg Config) error {
	c, err := etcdConfig(cfg, zapTo(cfg.Log, &s.closing))
	if err != nil {
		return err
	}
	c.ServiceRegister = func(g *grpc.Server) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grpc = append(s.grpc, g)
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("embedded etcd in %s at %s: %w", cfg.Dir, cfg.Listen, err)
	}
	for _, socket := range cfg.sockets() {
		if err := os.Chmod(socket, 0o600); err != nil {
			e.Close()
			return fmt.Errorf("embedded etcd: %w", err)
		}
	}
	select {
	case <-e.Server.ReadyNotify():
		s.etcd = e
		return nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped by itself")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Close()
	return fmt.Errorf("embedded etcd in %s did not start: %w", cfg.Dir, err)
}

func etcdConfig(cfg Config, log *zap.Logger) (*embed.Config, error) {
	c := embed.NewConfig()
	c.Dir, c.Name = cfg.Dir, memberName
	for _, socket := range cfg.sockets() {
		if len(socket) > longestSocket {
			return nil, fmt.Errorf("embedded etcd: the path %s of its socket is too long: at most %d bytes are allowed", socket, longestSocket)
		}
	}
	c.ListenClientUrls = nil
	if cfg.Listen != "" {
		c.ListenClientUrls = append(c.ListenClientUrls, url.URL{Scheme: "http", Host: cfg.Listen})
	}
	if cfg.TLS.CertFile != "" {
		c.ListenClientUrls[0].Scheme = "https"
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = cfg.TLS.CertFile, cfg.TLS.KeyFile
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = cfg.TLS.ClientCAFile, cfg.TLS.ClientCAFile != ""
		c.TlsMinVersion = "TLS1.2"
	}
	// What it says of itself where clients ask for the members; nobody here does.
	c.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:2379"}}
	if cfg.Socket != "" {
		c.ListenClientUrls = append(c.ListenClientUrls, url.URL{Scheme: "unix", Path: cfg.Socket})
	}
	// Once HTTP has an address of its own, the others speak gRPC alone. Where both are
	// at one address, a connection that never says anything keeps the server from
	// closing for ever.
	c.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: httpSocket(cfg.Dir)}}
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ConnectionTimeout(handshakeLimit)}
	// There are no peers, and nobody else on the machine may speak as one. The
	// library takes the path from the host.
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket(cfg.Dir)}}
	c.AdvertisePeerUrls = []url.URL{memberURL}
	c.InitialCluster = c.InitialClusterFromName(c.Name)

	c.UnsafeNoFsync = cfg.NoSync
	if cfg.BcryptCost > 0 {
		c.BcryptCost = cfg.BcryptCost
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, compaction
	c.QuotaBackendBytes = quota
	c.SnapshotCount, c.SnapshotCatchUpEntries = snapshotCount, catchUpEntries
	c.EnableGRPCGateway = false // JSON over HTTP: nobody's client here
	c.LogLevel = "warn"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return c, nil
}

// memberURL stands for the only member's address.
var memberURL = url.URL{Scheme: "http", Host: "localhost:2380"}

const memberName = "default"

// handshakeLimit bounds how long a new connection may take to say what it is, and so
// how long one that never does can hold up the end.
const handshakeLimit = 2500 * time.Millisecond

func peerSocket(dir string) string { return filepath.Join(dir, "peer.sock") }
func httpSocket(dir string) string { return filepath.Join(dir, "http.sock") }

// HTTPSocket is the path of the unix socket at which etcd's own pages are, such as
// /metrics. They are not at its endpoint.
func (s *Server) HTTPSocket() string { return httpSocket(s.cfg.Dir) }

// sockets are all sockets of a server.
func (c Config) sockets() []string {
	list := []string{peerSocket(c.Dir), httpSocket(c.Dir)}
	if c.Socket != "" {
		list = append(list, c.Socket)
	}
	return list
}

// Endpoint is the URL for clients: where it listens for them, or else its socket.
func (s *Server) Endpoint() string {
	scheme := "http://"
	if s.cfg.TLS.CertFile != "" {
		scheme = "https://"
	}
	if a := s.Address(); a != nil {
		return scheme + a.String()
	}
	return SocketEndpoint(s.cfg.Socket)
}

// SocketEndpoint is the URL of a server's socket.
func SocketEndpoint(path string) string { return "unix://" + path }

// Address is where it listens for clients over TCP; nil: nowhere.
func (s *Server) Address() net.Addr {
	for _, l := range s.etcd.Clients {
		if l.Addr().Network() == "tcp" {
			return l.Addr()
		}
	}
	return nil
}

// Revision is the newest revision of the store.
func (s *Server) Revision() int64 { return s.etcd.Server.KV().Rev() }

// Err reports what went wrong while it runs.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and returns when it has stopped. Its data stays. Requests
// under way fail, and watches end: etcd by itself would wait for them for seconds.
func (s *Server) Close() {
	s.closing.Store(true)
	s.mu.Lock()
	servers := s.grpc
	s.mu.Unlock()
	for _, g := range servers {
		g.Stop()
	}
	s.etcd.Close()
	s.dir.release()
}
