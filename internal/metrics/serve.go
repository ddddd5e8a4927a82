package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
)

// maxScrapes bounds the scrapes at a time, over all ways in. More are told to come
// again.
const maxScrapes = 4

// maxConnections bounds the open connections: they may come from the whole network.
const maxConnections = 16

// Handler answers scrapes in Prometheus' text format, at most four at a time over
// all uses of it. It speaks neither OpenMetrics nor protobuf and does not compress:
// the answer is a few kilobytes, and the memory for more would be resident on every
// machine.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case m.scrapes <- struct{}{}:
			defer func() { <-m.scrapes }()
		default:
			http.Error(w, fmt.Sprintf("%d scrapes are being answered; try again", maxScrapes), http.StatusServiceUnavailable)
			return
		}
		families, err := m.registry.Gather()
		if err != nil {
			m.log.Warn("metrics not collected", "error", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		format := expfmt.NewFormat(expfmt.TypeTextPlain)
		w.Header().Set("Content-Type", string(format))
		encoder := expfmt.NewEncoder(w, format)
		for _, family := range families {
			if encoder.Encode(family) != nil {
				return // the peer is gone
			}
		}
	})
}

// Listen takes address, "host:port" or ":port" for all addresses of the machine, so
// that one that cannot be had is refused at start.
func Listen(address string) (net.Listener, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, fmt.Errorf("metrics address %q: must be host:port or :port, such as 127.0.0.1:9480", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w", address, err)
	}
	return l, nil
}

// Serve answers GET /metrics on l until ctx ends, which is no error, and closes l.
// Scrapes that are being answered then get two seconds to end.
func (m *Metrics) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           routes(m.Handler()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	// A connection for each scrape: nobody can occupy one for long, and between
	// two scrapes there is none to keep memory for.
	srv.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(limit(l, maxConnections)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		srv.Close()
	}
	<-ended
	return nil
}

func routes(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "locksmithd: metrics are at /metrics\n")
	})
	return mux
}

// limited accepts connections only while less than a number of them are open.
// Others wait in the kernel's queue.
type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	close  func() error
}

func limit(l net.Listener, n int) *limited {
	closed := make(chan struct{})
	return &limited{l, make(chan struct{}, n), closed, sync.OnceValue(func() error {
		close(closed)
		return l.Close()
	})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	leave := sync.OnceFunc(func() { <-l.places })
	c, err := l.Listener.Accept()
	if err != nil {
		leave()
		return nil, err
	}
	return &placed{c, leave}, nil
}

func (l *limited) Close() error { return l.close() }

// placed is a connection that gives its place back.
type placed struct {
	net.Conn
	leave func()
}

func (c *placed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
