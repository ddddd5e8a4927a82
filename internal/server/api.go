package server

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// description is the API's OpenAPI description. A test holds it against the answers.
//
//go:embed openapi.json
var description []byte

// resource is a path of the API. One of read, act and serve is set.
type resource struct {
	params []string // of the query; others are refused
	read   func(ctx context.Context, q query) (doc any, err error)
	act    func(ctx context.Context, who access.Caller, body []byte) (api.Done, error)
	serve  http.HandlerFunc // does everything itself
}

// query is one request to read something.
type query struct {
	r      *http.Request
	who    access.Caller
	values url.Values
}

// api is everything below api.Prefix.
func (s *server) api() map[string]resource {
	return map[string]resource{
		api.PathGroups:   {read: s.groups},
		api.PathStatus:   {read: s.status, params: []string{"group"}},
		api.PathHolders:  {read: s.holders, params: []string{"group"}},
		api.PathQueue:    {read: s.queue, params: []string{"group"}},
		api.PathMachines: {read: s.machines},
		api.PathMachine:  {read: s.machine, params: []string{"name"}},
		api.PathHistory:  {read: s.history, params: []string{"group", "limit"}},
		api.PathPauses:   {read: s.pauses},
		api.PathWhoami:   {read: whoami},
		api.PathEvents:   {serve: s.serveEvents},
		api.PathOpenAPI:  {serve: serveDescription},

		api.PathUnlock: {act: action(s.unlock)},
		api.PathLock:   {act: action(s.lock)},
		api.PathSetMax: {act: action(s.setMax)},
		api.PathPause:  {act: action(s.pause)},
		api.PathResume: {act: action(s.resume)},
		api.PathForget: {act: action(s.forget)},
	}
}

func (s *server) serveAPI(w http.ResponseWriter, r *http.Request) {
	res, ok := s.resources[r.URL.Path]
	if !ok {
		s.noPath(w, r)
		return
	}
	allowed := []string{http.MethodGet, http.MethodHead}
	if res.act != nil {
		allowed = []string{http.MethodPost}
	}
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.fail(w, r, KindAPI, api.CodeMethod, fmt.Sprintf("%s does not take %.20q: use %s", r.URL.Path, r.Method, allowed[0]))
		return
	}
	if res.serve != nil {
		res.serve(w, r)
		return
	}
	var doc any
	who, err := s.caller(r)
	if err == nil {
		if res.act != nil {
			doc, err = s.doAct(w, r, res, who)
		} else {
			doc, err = s.doRead(r, res, who)
		}
	}
	if err != nil {
		s.answerError(w, s.explain(err))
		return
	}
	s.answer(w, http.StatusOK, doc)
}

func (s *server) doRead(r *http.Request, res resource, who access.Caller) (any, error) {
	values, err := parseQuery(r, res.params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience(r.Context(), s.limit)
	defer cancel()
	return res.read(ctx, query{r, who, values})
}

func (s *server) doAct(w http.ResponseWriter, r *http.Request, res resource, who access.Caller) (any, error) {
	if _, err := parseQuery(r, nil); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience(r.Context(), s.limit)
	defer cancel()
	return res.act(ctx, who, body)
}

// errStopping is why a request's context ends when the server does.
var errStopping = errors.New("the server stops")

// patience is the context of a short request: it ends when its client goes away, but not
// when the server stops, which waits for it.
func patience(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), errStopping) {
			cancel()
		}
	})
	return limited, func() { stop(); cancel() }
}

// parseQuery refuses parameters that are not known, and those given twice: a group
// misspelt would be the default group.
func parseQuery(r *http.Request, params []string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query cannot be read: %v", err)
	}
	for name, list := range values {
		switch {
		case len(params) == 0:
			return nil, invalid("%s takes no query, not %.40q", r.URL.Path, name)
		case !slices.Contains(params, name):
			return nil, invalid("unknown parameter %.40q: %s takes %s", name, r.URL.Path, strings.Join(params, " and "))
		case len(list) > 1:
			return nil, invalid("parameter %s is given %d times: give it once", name, len(list))
		}
	}
	return values, nil
}

// readBody reads what is sent with an action. Only JSON is taken, and only as JSON: a
// page of another site could send anything else without asking.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, &problem{api.CodeMediaType, fmt.Sprintf("the body must be JSON, sent with Content-Type: application/json, not %.60q", r.Header.Get("Content-Type"))}
	}
	tooLarge := &problem{api.CodeTooLarge, fmt.Sprintf("the body is longer than %d bytes", api.MaxBody)}
	if r.ContentLength > api.MaxBody {
		w.Header().Set("Connection", "close") // or the rest of it would have to be read
		return nil, tooLarge
	}
	if rec, ok := w.(*recorder); ok {
		w = rec.ResponseWriter // the server's own closes the connection
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, invalid("the body did not come whole")
	}
	return body, nil
}

// action reads an action's body, strictly: one object, nothing unknown, nothing after.
func action[T any](do func(context.Context, access.Caller, T) (api.Done, error)) func(context.Context, access.Caller, []byte) (api.Done, error) {
	return func(ctx context.Context, who access.Caller, body []byte) (api.Done, error) {
		var in T
		if err := decode(body, &in); err != nil {
			return api.Done{}, err
		}
		return do(ctx, who, in)
	}
}

func decode(body []byte, into any) error {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0 || body[0] != '{':
		return invalid("the body must be a JSON object")
	case !utf8.Valid(body):
		return invalid("the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid("the body cannot be used: %s must not be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return invalid("the body cannot be used: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body cannot be used: more follows after the object")
	}
	return nil
}

// serveDescription tells strangers too: it is the same for every server.
func serveDescription(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(description))
}
