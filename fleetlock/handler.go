package fleetlock

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What Handler.Observe is told a request was.
const (
	callPreReboot   = "pre-reboot"
	callSteadyState = "steady-state"
	callOther       = "other" // no call of the protocol: an unknown path
)

// StatusClientGone is what Handler.Observe is told instead of a status where the client
// went away before its answer.
const StatusClientGone = 499

// Handler answers FleetLock's requests, of which a Backend decides. Set the fields
// before the first request; the methods may be called concurrently.
//
// It has to see each request at its own path, PreRebootPath or SteadyStatePath, and wants
// to see all others below /v1/, too, which it answers in the protocol's form. Nothing
// before it may redirect: a client's library makes a GET of a redirected POST.
// http.ServeMux does redirect paths like //v1/pre-reboot, so mount it before one, by
// strings.HasPrefix on the path.
//
// A request may be held for long. What limits it is the backend alone: the server's read
// and write time-outs, which should be set, end with the request's body. The backend's
// context ends as soon as the client goes away.
//
// A request over HTTP/1 that is held for longer than a moment is taken out of net/http,
// which would keep three times as much memory for it. Its ServeHTTP has returned by then,
// http.Server.Shutdown does not wait for it, and its connection is closed after its
// answer, which has the headers that were set before ServeHTTP. So before a server stops,
// Close is called. A ResponseWriter that wraps net/http's needs a method Unwrap, as for
// http.NewResponseController.
type Handler struct {
	// Backend keeps the slots. Required.
	Backend Backend

	// Admit says whether a request may be made, and returns the context whose values the
	// Backend gets, derived from the request's. Its error is an *Error; any other is
	// answered as KindInternal. Nil admits everybody.
	Admit func(r *http.Request, req Request) (context.Context, error)

	// MaxWaiting is how many requests the Backend has at a time, of each call: who gives
	// a slot back is never kept out by those who wait for one. More are answered at once,
	// as KindBusy. 0: any number.
	MaxWaiting int

	// Observe is told of each request when it has its answer: "pre-reboot",
	// "steady-state" or "other" (no path of the protocol), the status or
	// StatusClientGone, and how long it took. May be nil.
	Observe func(call string, code int, took time.Duration)

	// Log gets what is answered as KindInternal, whose cause is not told to the client.
	// Nil discards.
	Log *slog.Logger

	taking, giving atomic.Int64 // requests inside the backend

	mu      sync.Mutex // guards the following
	life    context.Context
	end     context.CancelCauseFunc
	running sync.WaitGroup // goroutines of requests; not added to once life has ended
}

var (
	errStopping = errors.New("the server is stopping")
	errGone     = errors.New("the client went away")
)

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &held{h: h, call: callOf(r.URL.Path), start: time.Now(), done: make(chan struct{})}
	values, err := h.receive(w, r, q)
	if err == nil {
		err = q.begin(values)
	}
	if err != nil {
		q.answer(w, err)
		return
	}
	q.serve(w, r)
}

func callOf(path string) string {
	switch path {
	case PreRebootPath:
		return callPreReboot
	case SteadyStatePath:
		return callSteadyState
	}
	return callOther
}

// receive reads and admits a request.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, q *held) (values context.Context, err error) {
	if q.req, err = accept(w, r, q.call); err != nil || h.Admit == nil {
		return r.Context(), err
	}
	defer recovered(&err)
	return h.Admit(r, q.req)
}

// live is the context of all requests.
func (h *Handler) live() context.Context {
	if h.life == nil {
		h.life, h.end = context.WithCancelCause(context.Background())
	}
	return h.life
}

// Close ends all requests that are held, waits until they have been answered, and has
// later ones answered at once (all of them as KindStore).
func (h *Handler) Close() {
	h.mu.Lock()
	h.live()
	h.end(errStopping)
	h.mu.Unlock()
	h.running.Wait()
}

// enter counts a request in. Who entered calls running.Done.
func (h *Handler) enter() (context.Context, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	life := h.live()
	if life.Err() != nil {
		return nil, stopping()
	}
	h.running.Add(1)
	return life, nil
}

func stopping() *Error {
	return &Error{Kind: KindStore, Value: "the server is stopping; ask again"}
}
