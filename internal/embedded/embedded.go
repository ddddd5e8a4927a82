// Package embedded runs an etcd server inside the process, for those who have no
// etcd of their own: the demo, small fleets, and tests. It knows nothing of what
// is stored in it. Only locksmith-server and tests link it; it is large.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Config says where the server keeps its data and where it listens.
type Config struct {
	Dir    string // required; made if it is not there, mode 0700
	Listen string // HOST:PORT for clients; empty: a free port on loopback

	// NoSync leaves out fsync. A crash of the machine may then lose what was
	// acknowledged: for tests only.
	NoSync bool

	// BcryptCost is how dear it is to try passwords, of etcd's users; 0: etcd's
	// default.
	BcryptCost uint
}

// Server is a running etcd of one member.
type Server struct{ etcd *embed.Etcd }

// Start runs a server and returns when it takes requests. ctx bounds the start
// alone.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no data directory given")
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: %v", err)
	}
	client := url.URL{Scheme: "http", Host: cfg.Listen}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"} // there are no peers
	c := embed.NewConfig()
	c.Dir = cfg.Dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = cfg.NoSync
	if cfg.BcryptCost > 0 {
		c.BcryptCost = cfg.BcryptCost
	}
	// Old revisions serve nobody: watches resume within minutes, history is a
	// ring of keys.
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	c.LogLevel = "error"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop()) // errors come back from Start and with requests
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd in %s at %s: %w", cfg.Dir, cfg.Listen, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return &Server{e}, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped by itself")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Close()
	return nil, fmt.Errorf("embedded etcd in %s did not start: %w", cfg.Dir, err)
}

// Endpoint is the URL for clients.
func (s *Server) Endpoint() string { return "http://" + s.etcd.Clients[0].Addr().String() }

// Revision is the newest revision of the store.
func (s *Server) Revision() int64 { return s.etcd.Server.KV().Rev() }

// Err reports what went wrong while it runs.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and returns when it has stopped. Its data stays.
func (s *Server) Close() { s.etcd.Close() }
