package server

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/locksmith-reboot/locksmith/internal/api"
)

// ServeHTTP is what surrounds every request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.now()
	kind, handle := s.route(r)
	rec := &recorder{ResponseWriter: w}
	setHeaders(rec.Header(), kind, r.TLS != nil)
	defer func() {
		if rec.hijacked {
			return
		}
		if isEvents(rec.Header()) {
			kind = KindEvents
		}
		took := s.now().Sub(start)
		s.cfg.Observe(kind, rec.status(), took)
		s.log.Debug("answered", "method", r.Method, "path", r.URL.Path, "status", rec.status(), "took", took, "from", r.RemoteAddr)
	}()
	defer s.catch(rec, r, kind)
	if err := s.origins.Check(r); err != nil {
		s.fail(rec, r, kind, api.CodeForbidden, "this request comes from another site's page, and is refused")
		return
	}
	handle(rec, r)
}

// catch answers a request whose handler panicked. Where something was written already
// the connection is closed instead.
func (s *server) catch(rec *recorder, r *http.Request, kind string) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		s.log.Error("a request ended in a panic", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
	if v == http.ErrAbortHandler || rec.code != 0 || rec.hijacked {
		if rec.code == 0 {
			rec.code = http.StatusInternalServerError
		}
		panic(http.ErrAbortHandler)
	}
	clear(rec.Header())
	setHeaders(rec.Header(), kind, r.TLS != nil)
	s.fail(rec, r, kind, api.CodeInternal, internalText)
}

// setHeaders are what a browser needs to know. The dashboard has a policy of its own.
func setHeaders(h http.Header, kind string, secure bool) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if kind != KindDashboard {
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
	}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	code     int  // 0: nothing yet
	hijacked bool // the answer comes later, and from elsewhere
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack is how FleetLock's handler takes a request that it holds. When that is answered,
// FleetLockConfig.Observe is told.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = w.hijacked || err == nil
	return c, rw, err
}

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// status is what a client sees: without a word from the handler, 200.
func (w *recorder) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

func isEvents(h http.Header) bool { return strings.HasPrefix(h.Get("Content-Type"), eventStream) }

const eventStream = "text/event-stream"
