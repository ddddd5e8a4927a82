package etcd

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Stats is what a Store's own connection has been through since it was made. What
// goes over a connection that New was given is not counted.
type Stats struct {
	Requests      uint64    // sent and ended; a repeated one counts again, watches and keep-alives do not
	Failures      uint64    // those of them that etcd did not answer, or answered with an error
	Connected     bool      // to one of the endpoints at this moment
	LastError     string    // of the last failure, in etcd's words; empty: none
	LastErrorTime time.Time // zero: none
}

// Stats may be called at any time; it makes no request.
func (s *Store) Stats() Stats {
	// In the opposite order of their writing: a failure that counts has its error
	// told, and is one of the requests.
	st := Stats{Failures: s.stats.failures.Load()}
	st.Requests = s.stats.requests.Load()
	if last := s.stats.last.Load(); last != nil {
		st.LastError, st.LastErrorTime = plain(last.err), last.at
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Connected = s.cl != nil && s.cl.ActiveConnection().GetState() == connectivity.Ready
	return st
}

type stats struct {
	requests, failures atomic.Uint64
	last               atomic.Pointer[failure]
}

type failure struct {
	err error
	at  time.Time
}

// option counts the requests of a connection. One that its caller gave up is no
// failure.
func (st *stats) option() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			st.requests.Add(1)
			if err != nil && context.Cause(ctx) != context.Canceled {
				st.last.Store(&failure{err, time.Now()})
				st.failures.Add(1)
			}
			return err
		})
}
