package fleetlock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// statuses are the kinds' status codes.
var statuses = map[Kind]int{
	KindInvalid:      http.StatusBadRequest,
	KindUnauthorized: http.StatusUnauthorized,
	KindForbidden:    http.StatusForbidden,
	KindNoGroup:      http.StatusNotFound,
	KindNotFound:     http.StatusNotFound,
	KindMethod:       http.StatusMethodNotAllowed,
	KindHeld:         http.StatusConflict,
	KindTooLarge:     http.StatusRequestEntityTooLarge,
	KindFull:         http.StatusLocked,
	KindPaused:       http.StatusLocked,
	KindInternal:     http.StatusInternalServerError,
	KindStore:        http.StatusServiceUnavailable,
	KindBusy:         http.StatusServiceUnavailable,
}

// statusOf is the status of an error's answer, never one that a client could take for a
// grant or follow somewhere else.
func statusOf(e *Error) int {
	if e.Status >= 400 && e.Status <= 599 {
		return e.Status
	}
	if status, ok := statuses[e.Kind]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// answerLimit is how long a client may take to read its answer.
const answerLimit = 10 * time.Second

// answer is what a client is told.
type answer struct {
	status int
	code   int // what Observe is told: the status or StatusClientGone
	body   []byte
	length []string // of the body, as a header's value
}

func newAnswer(status int, body string) answer {
	return answer{status, status, []byte(body), []string{strconv.Itoa(len(body))}}
}

// What is the same in many answers is made once. Header values are only read.
var (
	contentJSON = []string{"application/json"}
	allowPost   = []string{http.MethodPost}
	wantBasic   = []string{`Basic realm="locksmith"`}

	heldAnswer  = newAnswer(http.StatusOK, `{"held":true}`+"\n")
	freedAnswer = newAnswer(http.StatusOK, `{"held":false}`+"\n")
)

func (a answer) reader() *bytes.Reader { return bytes.NewReader(a.body) }

func (a answer) setHeader(h http.Header) {
	h["Content-Type"] = contentJSON
	h["Content-Length"] = a.length
	switch a.status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = wantBasic
	case http.StatusMethodNotAllowed:
		h["Allow"] = allowPost
	}
}

// refuse is the answer of an error.
func refuse(e *Error) answer {
	kind, value := e.Kind, e.Value
	if kind == "" {
		kind = KindInternal
	}
	if value == "" {
		value = string(kind)
	}
	var body strings.Builder
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // people read it in a terminal
	// Two strings always encode.
	_ = enc.Encode(struct {
		Kind  Kind   `json:"kind"`
		Value string `json:"value"`
	}{kind, value})
	return newAnswer(statusOf(e), body.String())
}

// outcome is the answer to a request that ended with err, or without. What is not to be
// told is logged.
func (q *held) outcome(err error) answer {
	var e *Error
	var p *panicked
	switch {
	case err == nil && q.call == callSteadyState:
		return freedAnswer
	case err == nil:
		return heldAnswer
	case errors.As(err, &p):
	case errors.As(err, &e):
		return refuse(e)
	case q.ctx != nil && q.ctx.Err() != nil:
		a := refuse(stopping())
		if context.Cause(q.ctx) == errGone {
			a.code = StatusClientGone
		}
		return a
	}
	q.logFault(err)
	return refuse(&Error{Kind: KindInternal, Value: "the server failed; its log says why"})
}

func (q *held) logFault(err error) {
	if q.h.Log == nil {
		return
	}
	args := []any{"call", q.call, "group", q.req.Group, "machine", q.req.ID, "error", err}
	var p *panicked
	if errors.As(err, &p) {
		args = append(args, "stack", string(p.stack))
	}
	q.h.Log.Error("a FleetLock request failed", args...)
}

// answer answers through net/http.
func (q *held) answer(w http.ResponseWriter, err error) {
	a := q.outcome(err)
	defer q.observe(a.code)
	// A client that does not read its answer must not keep anything here.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerLimit))
	a.setHeader(w.Header())
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a client that is gone is not our trouble
}

func (q *held) observe(code int) {
	if q.h.Observe != nil {
		q.h.Observe(q.call, code, time.Since(q.start))
	}
}
