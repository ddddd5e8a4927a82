package fleetlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// held is a request that the backend has. The backend is asked in a goroutine of its own,
// which outlives net/http's where the request has to wait.
type held struct {
	h     *Handler
	call  string
	req   Request
	start time.Time

	ctx    context.Context // the backend's
	cancel context.CancelCauseFunc

	done chan struct{} // closed once err is known, unless there is a conn by then

	mu   sync.Mutex // guards the following
	conn *detached  // who asks the backend writes the answer there
	err  error      // what the backend said
}

// heldContext ends by itself and has the values of another context, which ends when
// net/http's handler does.
type heldContext struct {
	context.Context
	values context.Context
}

func (c heldContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // first: context looks in here for what ends it
		return v
	}
	return c.values.Value(key)
}

// begin asks the backend. Its error says why that is not done.
func (q *held) begin(values context.Context) error {
	inside := q.inside()
	if n := inside.Add(1); q.h.MaxWaiting > 0 && n > int64(q.h.MaxWaiting) {
		inside.Add(-1)
		return &Error{Kind: KindBusy, Value: fmt.Sprintf("%d %s requests are being served already, no more are taken; ask again later", q.h.MaxWaiting, q.call)}
	}
	life, err := q.h.enter()
	if err != nil {
		inside.Add(-1)
		return err
	}
	own, cancel := context.WithCancelCause(life)
	q.ctx, q.cancel = heldContext{own, values}, cancel
	go q.run()
	return nil
}

func (q *held) inside() interface{ Add(int64) int64 } {
	if q.call == callSteadyState {
		return &q.h.giving
	}
	return &q.h.taking
}

// run asks the backend, and answers where net/http does not.
func (q *held) run() {
	defer q.h.running.Done()
	err := q.ask()
	q.inside().Add(-1)
	q.mu.Lock()
	q.err = err
	conn := q.conn
	if conn == nil {
		close(q.done)
	}
	q.mu.Unlock()
	if conn != nil {
		q.answerOn(conn, err)
	}
}

func (q *held) ask() (err error) {
	defer recovered(&err)
	if q.call == callSteadyState {
		return q.h.Backend.SteadyState(q.ctx, q.req)
	}
	return q.h.Backend.PreReboot(q.ctx, q.req)
}

// moment is how long a request stays with net/http: longer than one takes that need not
// wait, so that its connection can be used again.
const moment = 100 * time.Millisecond

// serve waits for the backend's answer, in net/http's goroutine.
func (q *held) serve(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(moment)
	defer timer.Stop()
	for {
		select {
		case <-q.done:
			q.finish(w)
			return
		case <-r.Context().Done():
			cause := context.Cause(r.Context())
			if cause == context.Canceled { // net/http's, where the connection is lost
				cause = errGone
			}
			q.cancel(cause)
			<-q.done
			q.finish(w)
			return
		case <-timer.C:
			if q.detach(w, r) {
				return
			}
		}
	}
}

// finish answers through net/http.
func (q *held) finish(w http.ResponseWriter) {
	defer q.cancel(nil)
	var p *panicked
	if errors.As(q.err, &p) && p.value == http.ErrAbortHandler {
		panic(http.ErrAbortHandler)
	}
	q.answer(w, q.err)
}

// detached is a connection that net/http has let go of.
type detached struct {
	net.Conn
	header http.Header // what others set for the answer
	minor  int         // of the version of HTTP/1
}

// detach takes the connection from net/http, whose buffers and goroutine are free then.
// It returns false where that need not be done any more, or cannot be: HTTP/2 has no
// connection for one request.
func (q *held) detach(w http.ResponseWriter, r *http.Request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.done:
		return false
	default:
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	q.conn = &detached{Conn: c, minor: r.ProtoMinor}
	if len(w.Header()) > 0 {
		q.conn.header = w.Header().Clone()
	}
	q.h.running.Add(1) // run has not ended, so Close waits already
	go q.watch(c)
	return true
}

// maxAfter is how many bytes a client may send after its request.
const maxAfter = 64 << 10

// watch ends the request once its client is gone. What a client sends after its request
// it has to send again, as always where an answer closes the connection.
func (q *held) watch(c net.Conn) {
	defer q.h.running.Done()
	var buf [64]byte
	for n := 0; n < maxAfter; {
		m, err := c.Read(buf[:])
		if err != nil {
			break
		}
		n += m
	}
	q.cancel(errGone)
}

// answerOn answers without net/http, and closes the connection.
func (q *held) answerOn(c *detached, err error) {
	defer q.cancel(nil)
	defer c.Close()
	a := q.outcome(err)
	defer q.observe(a.code)
	var p *panicked
	if errors.As(err, &p) && p.value == http.ErrAbortHandler {
		return
	}
	resp := http.Response{StatusCode: a.status, ProtoMajor: 1, ProtoMinor: c.minor, Close: true,
		Header: c.header, ContentLength: int64(len(a.body)), Body: io.NopCloser(a.reader())}
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	a.setHeader(resp.Header)
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_ = c.SetWriteDeadline(time.Now().Add(answerLimit))
	_ = resp.Write(c) // a client that is gone is not our trouble
}

// panicked is a panic as an error.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// recovered, deferred, makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicked{p, debug.Stack()}
	}
}
