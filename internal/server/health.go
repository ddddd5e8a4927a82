package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// healthz says that the process answers.
func healthz(w http.ResponseWriter, r *http.Request) { plain(w, r, http.StatusOK, "ok\n") }

func plain(w http.ResponseWriter, r *http.Request, status int, text string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		status, text = http.StatusMethodNotAllowed, "use GET\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// Bounds of what strangers may ask of the store through /readyz.
const (
	readyLimit = 3 * time.Second
	readyFor   = time.Second // so long an answer serves others too
)

// readiness says whether the store answers. Strangers may ask: they are not told why it
// does not.
type readiness struct {
	check func(context.Context) error
	log   *slog.Logger
	now   func() time.Time

	mu   sync.Mutex
	at   time.Time // of the last answer, zero before the first
	last error
}

func (h *readiness) serve(w http.ResponseWriter, r *http.Request) {
	if err := h.ask(r.Context()); err != nil {
		plain(w, r, http.StatusServiceUnavailable, "not ready: the store does not answer\n")
		return
	}
	plain(w, r, http.StatusOK, "ready\n")
}

func (h *readiness) ask(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && h.now().Sub(h.at) < readyFor {
		return h.last
	}
	// Who asked may go away, and others wait for the same answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyLimit)
	defer cancel()
	err := h.check(ctx)
	switch {
	case err != nil && h.last == nil:
		h.log.Warn("not ready", "error", err)
	case err == nil && h.last != nil:
		h.log.Info("ready again")
	}
	h.at, h.last = h.now(), err
	return err
}

// metrics are for those who may see every group.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Metrics == nil {
		s.fail(w, r, KindMetrics, api.CodeNotFound, "this server has no metrics")
		return
	}
	who, err := s.caller(r)
	if err == nil && !who.Everywhere() {
		err = s.forbid(r, &admin.Forbidden{Who: who, What: "see the metrics", In: "all groups"}, nil)
	}
	if err != nil {
		s.answerError(w, s.explain(err))
		return
	}
	s.cfg.Metrics.ServeHTTP(w, r)
}
