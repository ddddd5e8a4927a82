package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// internalText is told where the cause is for the log only.
const internalText = "internal error: the server's log says more"

// problem is what is wrong with a request.
type problem struct {
	code api.Code
	text string
}

func (p *problem) Error() string { return p.text }

func invalid(format string, args ...any) error {
	return &problem{api.CodeInvalid, fmt.Sprintf(format, args...)}
}

// explain is an error as clients are told it. What nobody foresaw is logged instead.
func (s *server) explain(err error) api.ErrorBody {
	var (
		wrong     *problem
		forbidden *admin.Forbidden
		unusable  *admin.Invalid
		passing   interface{ Transient() bool }
		refused   interface{ Refused() bool }
	)
	if body, ok := api.ErrorFrom(err); ok {
		return body
	}
	say := func(code api.Code) api.ErrorBody { return api.ErrorBody{Code: code, Message: err.Error()} }
	switch {
	case errors.As(err, &wrong):
		return say(wrong.code)
	case errors.As(err, &forbidden):
		return say(api.CodeForbidden)
	case errors.As(err, &unusable):
		return say(api.CodeInvalid)
	case errors.As(err, &passing) && passing.Transient():
		return say(api.CodeUnavailable)
	case errors.As(err, &passing):
		return say(api.CodeStore)
	case errors.As(err, &refused) && refused.Refused():
		return say(api.CodeConflict)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return api.ErrorBody{Code: api.CodeUnavailable, Message: "the store did not answer in time"}
	}
	s.log.Error("a request failed", "error", err)
	return api.ErrorBody{Code: api.CodeInternal, Message: internalText}
}

// answer writes a document.
func (s *server) answer(w http.ResponseWriter, status int, doc any) {
	text, err := json.Marshal(doc)
	if err != nil {
		s.log.Error("an answer cannot be written", "error", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":{"code":"internal_error","message":"`+internalText+`"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a peer that is gone needs no answer
}

func (s *server) answerError(w http.ResponseWriter, body api.ErrorBody) {
	if body.Code == api.CodeUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="locksmith"`)
	}
	s.answer(w, body.Code.Status(), api.ErrorDocument{Error: body})
}

// fail answers with an error in the form that clients of this kind understand.
func (s *server) fail(w http.ResponseWriter, r *http.Request, kind string, code api.Code, text string) {
	switch kind {
	case KindFleetLock:
		kinds := map[api.Code]fleetlock.Kind{api.CodeForbidden: fleetlock.KindForbidden, api.CodeNotFound: fleetlock.KindNotFound}
		as, ok := kinds[code]
		if !ok {
			as = fleetlock.KindInternal
		}
		s.answer(w, code.Status(), map[string]string{"kind": string(as), "value": text})
	case KindAPI, KindMetrics, KindOther:
		s.answerError(w, api.ErrorBody{Code: code, Message: text})
	default:
		http.Error(w, text, code.Status())
	}
}

func (s *server) noFleetLock(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, KindFleetLock, api.CodeNotFound, "this server does not speak FleetLock")
}

func (s *server) noPath(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, KindOther, api.CodeNotFound, "no such path; the API is below "+api.Prefix+"/, as "+api.PathOpenAPI+" describes it")
}
