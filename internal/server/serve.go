package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// DefaultMaxConnections is how many connections are open at a time.
const DefaultMaxConnections = 20_000

// ServeConfig says how to serve.
type ServeConfig struct {
	TLS            *tls.Config  // nil: plain text; else with a certificate, or a function that returns one
	MaxConnections int          // 0: DefaultMaxConnections; others wait in the kernel's queue
	Log            *slog.Logger // nil: discard
}

// limits are those of a connection. Requests that are held, and streams, set deadlines of
// their own through http.ResponseController.
type limits struct {
	header time.Duration // to send a request's header, and for TLS' handshake
	read   time.Duration // to send all of it
	write  time.Duration // from the header until the answer is written
	idle   time.Duration
	stop   time.Duration // for requests that are being answered, once the server stops
}

// Idle connections stay for longer than the minute after which most proxies give up theirs,
// because a request on one that the server just closes is lost; and not for much longer,
// because one of HTTP/2 that its client ends with a request under way starts net/http's timer
// for idle ones once more, which keeps its memory for that long.
var defaultLimits = limits{header: 10 * time.Second, read: 30 * time.Second, write: 30 * time.Second, idle: 75 * time.Second, stop: 5 * time.Second}

const maxHeader = 16 << 10 // bytes

// Serve answers on l until ctx ends, which is no error, and closes l. Requests that are
// held then end by their contexts; the others get five seconds.
func Serve(ctx context.Context, l net.Listener, h http.Handler, cfg ServeConfig) error {
	return serve(ctx, l, h, cfg, defaultLimits)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, cfg ServeConfig, limits limits) error {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	held, release := context.WithCancelCause(context.WithoutCancel(ctx))
	defer release(errStopping)
	srv := newHTTPServer(held, h, cfg, limits)
	ended := make(chan error, 1)
	address := l.Addr()
	go func() {
		l := netutil.LimitListener(l, cfg.MaxConnections)
		if srv.TLSConfig != nil {
			ended <- srv.ServeTLS(l, "", "")
		} else {
			ended <- srv.Serve(l)
		}
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serving on %s: %w", address, err)
	case <-ctx.Done():
	}
	release(errStopping)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), limits.stop)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		cfg.Log.Warn("not every request ended in time", "error", err)
		srv.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", address, err)
	}
	return nil
}

func newHTTPServer(base context.Context, h http.Handler, cfg ServeConfig, limits limits) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.header,
		ReadTimeout:       limits.read,
		WriteTimeout:      limits.write,
		IdleTimeout:       limits.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          250,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			// A connection has a buffer of the largest frame that anybody announced on
			// it. net/http's own limit is 1 MiB; this is the least that the protocol has.
			MaxReadFrameSize: 16 << 10,
			// A peer that vanished without a word, while a request of its is held.
			SendPingTimeout:  30 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: limits.write,
		},
	}
	if cfg.TLS != nil {
		srv.TLSConfig = cfg.TLS.Clone()
		srv.TLSConfig.MinVersion = max(srv.TLSConfig.MinVersion, tls.VersionTLS12)
	}
	return srv
}
