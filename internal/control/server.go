package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// Server answers on the control socket. All functions are required but where it
// says otherwise, and are called concurrently.
type Server struct {
	// Status is what the daemon says of itself.
	Status func() agent.Status

	// Why says why this machine has or has not rebooted. It may ask etcd, so it
	// is called by one at a time and at most once a second, however many ask. Its
	// context ends with the server or after five seconds, and it then returns with
	// what it has. nil: there is no such answer.
	Why func(ctx context.Context) locksmith.Why

	// Metrics answers with the daemon's metrics. nil: there are none.
	Metrics http.Handler

	// Request notes that this machine needs a reboot, for the reason given
	// (valid UTF-8 without control characters, never empty).
	Request func(reason string) error

	// Cancel takes an earlier Request back.
	Cancel func() error

	Log *slog.Logger // nil: discard
}

// Serve listens on path and answers until ctx ends, which is no error. See
// Listen for what becomes of a socket that is there already.
func (s *Server) Serve(ctx context.Context, path string) error {
	l, err := Listen(path)
	if err != nil {
		return err
	}
	return s.ServeOn(ctx, l)
}

// ServeOn answers on l until ctx ends, which is no error, and closes l. Requests
// that are being answered then get two seconds to end.
func (s *Server) ServeOn(ctx context.Context, l *Listener) error {
	srv := &http.Server{
		Handler:           s.handler(ctx),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*peerConn); ok {
				return context.WithValue(ctx, peerKey{}, p.uid)
			}
			return ctx
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("control socket: %w", err)
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

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	read := func(path string, h http.HandlerFunc) {
		mux.HandleFunc(http.MethodGet+" "+path, h)
		mux.HandleFunc(path, notAllowed("GET, HEAD"))
	}
	read(pathStatus, s.status)
	if s.Why != nil {
		read(pathWhy, whyHandler(ctx, s.Why, s.state))
	} else {
		mux.HandleFunc(pathWhy, missing("this locksmithd does not say why"))
	}
	if s.Metrics != nil {
		read(pathMetrics, s.Metrics.ServeHTTP)
	} else {
		mux.HandleFunc(pathMetrics, missing("this locksmithd has no metrics"))
	}
	mux.HandleFunc(http.MethodPost+" "+pathNeedReboot, rootOnly(s.needReboot))
	mux.HandleFunc(http.MethodDelete+" "+pathNeedReboot, rootOnly(s.cancelReboot))
	mux.HandleFunc(pathNeedReboot, notAllowed("DELETE, POST"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no such path; there are %s, %s, %s and %s", pathStatus, pathWhy, pathNeedReboot, pathMetrics))
	})
	return mux
}

// state is what an answer to why is about: where the machine is, and what it waits for.
func (s *Server) state() string {
	is := s.Status()
	return fmt.Sprint(is.Phase, is.Since.UnixNano(), is.Needed, is.Held, is.Waiting)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	respond(w, http.StatusOK, s.Status())
}

func (s *Server) needReboot(w http.ResponseWriter, r *http.Request) {
	reason, status, err := readReason(w, r)
	if err != nil {
		fail(w, status, err)
		return
	}
	if err := s.Request(reason); err != nil {
		s.log().Error("a request for a reboot could not be noted", "error", err)
		fail(w, http.StatusInternalServerError, err)
		return
	}
	s.log().Info("reboot requested over the control socket", "reason", reason)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) cancelReboot(w http.ResponseWriter, r *http.Request) {
	if err := s.Cancel(); err != nil {
		s.log().Error("a request for a reboot could not be taken back", "error", err)
		fail(w, http.StatusInternalServerError, err)
		return
	}
	s.log().Info("request for a reboot taken back over the control socket")
	w.WriteHeader(http.StatusNoContent)
}

// readReason reads the body of a request for a reboot. On failure it returns
// the status to answer with.
func readReason(w http.ResponseWriter, r *http.Request) (reason string, status int, err error) {
	var body needReboot
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err = dec.Decode(&body)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows after the object")
		}
	}
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return "", http.StatusRequestEntityTooLarge, fmt.Errorf("body is too long: at most %d bytes are allowed", maxBody)
	} else if err != nil {
		return "", http.StatusBadRequest, fmt.Errorf(`body must be {"reason":"…"}: %v`, err)
	}
	reason, err = checkReason(body.Reason)
	return reason, http.StatusBadRequest, err
}

// checkReason refuses what would not be one readable line.
func checkReason(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "requested by an administrator", nil
	case len(s) > MaxReason:
		return "", fmt.Errorf("reason is %d bytes long, at most %d are allowed", len(s), MaxReason)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", fmt.Errorf("reason %q must be one line of UTF-8 without control characters", s)
	}
	return s, nil
}

// peerKey is the context key of the peer's uid, a uint32.
type peerKey struct{}

// rootOnly lets only requests through whose peer is known to be root.
func rootOnly(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if uid, known := r.Context().Value(peerKey{}).(uint32); !known || uid != 0 {
			fail(w, http.StatusForbidden, fmt.Errorf("%w: only root may request or cancel a reboot", ErrNotAllowed))
			return
		}
		h(w, r)
	}
}

func missing(what string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusNotFound, errors.New(what)) }
}

func notAllowed(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		fail(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed on %s, only %s", r.Method, r.URL.Path, allow))
	}
}

func fail(w http.ResponseWriter, status int, err error) {
	respond(w, status, failure{Error: err.Error()})
}

func respond(w http.ResponseWriter, status int, body any) { encode(status, body).write(w) }

// response is what is written to a peer.
type response struct {
	status int
	body   []byte
}

// encode makes body JSON. What has none, such as a time after the year 9999, is an
// internal error.
func encode(status int, body any) response {
	b, err := json.Marshal(body)
	if err != nil {
		return encode(http.StatusInternalServerError, failure{Error: err.Error()})
	}
	return response{status, append(b, '\n')}
}

func (r response) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // a peer that is gone is not our trouble
}
