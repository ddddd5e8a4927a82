package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/metadata"
)

// Defaults of Config.
const (
	DefaultTimeout        = 10 * time.Second
	DefaultLeaseTTL       = 30 * time.Second
	DefaultPresenceSettle = 2 * time.Second
	DefaultPresenceEvery  = 10 * time.Second
)

// Config says how to reach etcd.
type Config struct {
	Endpoints []string // required: URLs such as https://10.0.0.1:2379

	CAFile   string // PEM; empty: the system's authorities
	CertFile string // PEM; of the client, together with KeyFile
	KeyFile  string

	Username string // together with Password
	Password string

	Timeout  time.Duration // of one call; 0: DefaultTimeout
	LeaseTTL time.Duration // of queue entries and presence, whole seconds; 0: DefaultLeaseTTL

	PresenceSettle time.Duration // from a change of the presence until it is written; 0: DefaultPresenceSettle
	PresenceEvery  time.Duration // between two such writes, at least; 0: DefaultPresenceEvery

	Log         *slog.Logger      // nil: discard
	DialOptions []grpc.DialOption // for tests and measurements; nil: none
}

// Store is the reboot lock of all groups. Its methods may be called at the same
// time from many goroutines.
//
// Every method makes requests only until its context ends, and none that is not a
// wait takes longer than Config.Timeout. Errors are one line for people; those to
// branch on are named at each method and inspected with errors.Is and errors.As.
type Store struct {
	cfg  Config
	log  *slog.Logger
	tls  *tlsFiles
	mu   sync.Mutex
	cl   *clientv3.Client // nil until first used
	own  bool             // Close closes cl
	keep *leaseKeeper

	policies  policyCache
	stats     stats
	unsettled unsettled
	found     diagnosis

	streams atomic.Int64 // counts those whose tokens had lapsed
}

// reconnect bounds how long a client stays away from an etcd that is back: gRPC
// itself would go up to two minutes. Its jitter spreads a fleet's reconnects. An etcd
// that ten thousand come back to at once takes its time to greet each: who gave up
// after a few seconds and came again would be greeted later still.
var reconnect = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.4, MaxDelay: 10 * time.Second},
	MinConnectTimeout: 20 * time.Second,
})

// window is how much an answer may be ahead of its reader, in bytes. A window that gRPC
// itself adapts costs a ping, and its answer, at nearly every message: half of what an
// idle daemon sends.
const window = 1 << 20

// failFast makes a request to an etcd that refuses connections fail at once. The
// client library would hold it until its time limit; what is worth repeating is
// repeated here, and people are told sooner. A request also has the connection
// tried again without waiting for its backoff, so that an etcd that is back is
// found by the next try.
var failFast = grpc.WithChainUnaryInterceptor(
	func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if cc.GetState() == connectivity.TransientFailure {
			cc.ResetConnectBackoff()
		}
		return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
	})

// gRPC would write to standard error. Its logger must be set before it is first
// used, be it by an etcd server in the same process: hence not at the first Dial.
func init() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// Dial prepares a Store of its own connection. It reads the files that cfg names
// and refuses what cannot work, but calls no etcd yet.
func Dial(cfg Config) (*Store, error) {
	if err := checkEndpoints(cfg.Endpoints); err != nil {
		return nil, err
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, errors.New("etcd user name and password must be given together")
	}
	files, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	s := New(nil, cfg)
	s.own, s.tls = true, files
	return s, nil
}

// New is a Store on a client that others use too and that the caller closes.
// Of cfg it needs the durations, Log, and Endpoints for error messages.
func New(client *clientv3.Client, cfg Config) *Store {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = DefaultLeaseTTL
	}
	if cfg.PresenceSettle == 0 {
		cfg.PresenceSettle = DefaultPresenceSettle
	}
	if cfg.PresenceEvery == 0 {
		cfg.PresenceEvery = DefaultPresenceEvery
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, log: cfg.Log, cl: client}
	s.keep = &leaseKeeper{store: s, mu: newGate()}
	return s
}

// Close leaves every queue, withdraws the presence and closes the connection.
// Slots stay held.
func (s *Store) Close() error {
	s.keep.drop(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.own || s.cl == nil {
		return nil
	}
	err := s.cl.Close()
	s.cl = nil
	if errors.Is(err, context.Canceled) { // of the client's own context, which Close cancels
		err = nil
	}
	return err
}

// client returns the connection, and makes it at the first use. It calls no etcd.
func (s *Store) client() (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cl != nil {
		return s.cl, nil
	}
	opts := []grpc.DialOption{reconnect, s.stats.option(), failFast, grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window)}
	if s.cfg.Username != "" {
		l := &login{user: s.cfg.Username, password: s.cfg.Password, timeout: s.cfg.Timeout, renewing: newGate()}
		opts = append(opts, l.options()...)
	}
	cl, err := clientv3.New(clientv3.Config{
		Endpoints: s.cfg.Endpoints,
		TLS:       s.tls.config(),
		// A peer that vanished without a word is found within 20 s; etcd
		// refuses pings more often than every 5 s. One that is merely busy
		// must not be left for it: the new connection is more work than the ping.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		// Reads are repeated for about as long as an election takes; a refused
		// connection is reported after that and not at the time limit.
		MaxUnaryRetries:    readTries,
		BackoffWaitBetween: readPause,
		DialOptions:        append(opts, s.cfg.DialOptions...),
		Logger:             zap.NewNop(), // errors come back with the calls
	})
	if err != nil {
		return nil, err
	}
	s.cl = cl
	return cl, nil
}

// limit bounds one request by the store's timeout.
func (s *Store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// txn carries out one transaction. Its error is etcd's own, for callers to
// classify; what leaves the package goes through explain.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, then, els []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	return cl.Txn(ctx).If(cmps...).Then(then...).Else(els...).Commit()
}

// Reads are tried again for about as long as an election takes.
const (
	readTries = 15
	readPause = 100 * time.Millisecond
)

// read is txn for one that only reads, which the client itself does not repeat.
func (s *Store) read(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	for try := 1; ; try++ {
		resp, err := s.txn(ctx, nil, ops, nil)
		if err == nil || try == readTries || codeOf(err) != codes.Unavailable {
			return resp, err
		}
		if !pause(ctx, readPause) {
			return nil, err
		}
	}
}

// change is txn for one that writes: once sent it is not cancelled, only limited,
// because a cancelled request may be carried out at any later time.
func (s *Store) change(ctx context.Context, cmps []clientv3.Cmp, then, els []clientv3.Op) (*clientv3.TxnResponse, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	sent := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		sent, cancel = context.WithDeadline(sent, deadline)
		defer cancel()
	}
	return s.txn(sent, cmps, then, els)
}

// get reads one key or range.
func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	return cl.Get(ctx, key, opts...)
}

// watch follows a key or range from now on: it returns once the server has begun
// to deliver what comes after the reads that came before. The watch ends with an
// error, instead of silence, when the member that serves it loses its leader.
func (s *Store) watch(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.WatchChan, error) {
	return s.watchFrom(ctx, 0, key, opts...)
}

// watchFrom is watch from a revision on, which may be past; 0: from now on.
func (s *Store) watchFrom(ctx context.Context, revision int64, key string, opts ...clientv3.OpOption) (clientv3.WatchChan, error) {
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		stream := s.streams.Load()
		events := cl.Watch(onStream(clientv3.WithRequireLeader(ctx), stream), key, append(opts, clientv3.WithRev(revision), clientv3.WithCreatedNotify())...)
		resp, open := <-events
		err := watchErr(ctx, resp, open)
		if again || !errors.Is(err, errWatchRefused) {
			return events, err
		}
		// A read tells a lapsed token from no permission. If it was the token
		// of a stream that other watches keep open, it takes another stream.
		if _, err := s.get(ctx, key, append(opts, clientv3.WithCountOnly())...); err != nil {
			return nil, err
		}
		s.streams.CompareAndSwap(stream, stream+1)
	}
}

// onStream names the stream that a watch goes over: the client library has one for
// each set of metadata. The first has no name.
func onStream(ctx context.Context, stream int64) context.Context {
	if stream == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "locksmith-stream", strconv.FormatInt(stream, 10))
}

// watchErr is the reason why a watch's channel delivered resp or was closed.
func watchErr(ctx context.Context, resp clientv3.WatchResponse, open bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch err := resp.Err(); {
	case err == nil:
	case slices.Contains([]string{plain(rpctypes.ErrPermissionDenied), plain(rpctypes.ErrInvalidAuthToken), plain(rpctypes.ErrUserEmpty)}, plain(err)):
		return errWatchRefused
	default:
		return fmt.Errorf("watch: %w", err)
	}
	if !open {
		return errWatchClosed
	}
	return nil
}

// followConnection calls tell when the connection goes and when it comes back,
// until ctx ends: those who only watch would not notice.
func (s *Store) followConnection(ctx context.Context, tell func(away bool)) {
	cl, err := s.client()
	if err != nil {
		return
	}
	conn, away := cl.ActiveConnection(), false
	for state := conn.GetState(); ; state = conn.GetState() {
		switch {
		case state == connectivity.TransientFailure && !away, state == connectivity.Ready && away:
			away = !away
			tell(away)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}
