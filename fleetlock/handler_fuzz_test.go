package fleetlock

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var fuzzBodies = []string{
	`{"client_params":{"id":"m1","group":"workers"}}`,
	"{\n  \"client_params\": {\n    \"id\": \"a\\u0062\",\n    \"group\": \"g.-1\"\n  }\n}\n",
	`{"x":[{"a":"}"},[],-1e5,null,true,"\\\""],"client_params":{"n":{},"id":"m","o":[[1]],"group":"g"} }`,
	`{"client_params":{"id":"m1","group":"workers","id":"m2"}}`,
	`{"client_params":{"id":"\ud800","group":"workers"}}`,
	`{"Client_params":{"ID":"m1","group":"workers"}}`,
	`{"client_params":"id"}`, `[]`, `null`, `{}`, ` `, `{"client_params":{"id":1,"group":{}}}`,
}

// checkRequest says whether a request is one that a backend may get.
func checkRequest(t *testing.T, req Request) {
	t.Helper()
	if req.ID == "" || len(req.ID) > 253 || !utf8.ValidString(req.ID) || strings.ContainsAny(req.ID, " \t\r\n\x00\x7f\u0085\u00a0\u2028\ufffd") {
		t.Errorf("id %q", req.ID)
	}
	if req.Group == "" || len(req.Group) > 253 || strings.Trim(req.Group, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
		t.Errorf("group %q", req.Group)
	}
}

// FuzzParseRequest holds the parser against encoding/json, which takes the last of two
// members and does not look at the case of names, but otherwise reads the same.
func FuzzParseRequest(f *testing.F) {
	for _, body := range fuzzBodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseRequest(body)
		var doc map[string]json.RawMessage
		var params map[string]any
		valid := json.Unmarshal(body, &doc) == nil && json.Unmarshal(doc["client_params"], &params) == nil
		id, _ := params["id"].(string)
		group, _ := params["group"].(string)
		if err == nil {
			checkRequest(t, req)
			if !valid || req != (Request{id, group}) {
				t.Errorf("%q is read as %+v, by encoding/json as %q and %q", body, req, id, group)
			}
			return
		}
		e, ok := err.(*Error)
		if !ok || e.Kind != KindInvalid || e.Value == "" || req != (Request{}) {
			t.Errorf("%q: %#v, %+v", body, err, req)
		}
		if valid && !strings.Contains(e.Value, "twice") && utf8.Valid(body) && checkID(id) == nil && checkGroup(group) == nil {
			t.Errorf("%q is refused: %v", body, err)
		}
	})
}

// checking is a backend that gets valid requests only.
type checking struct {
	t     *testing.T
	calls int
	err   error
}

func (c *checking) PreReboot(_ context.Context, req Request) error {
	c.calls++
	checkRequest(c.t, req)
	return c.err
}

func (c *checking) SteadyState(ctx context.Context, req Request) error { return c.PreReboot(ctx, req) }

// FuzzHandler looks whether everything is answered as the protocol wants it.
func FuzzHandler(f *testing.F) {
	for i, body := range fuzzBodies {
		f.Add("POST", PreRebootPath, "true", []byte(body), "", "", 0)
		f.Add([]string{"GET", "HEAD", "POST"}[i%3], SteadyStatePath, "true", []byte(body), "failed", "why \xff", 202)
	}
	f.Add("POST", "//v1/pre-reboot", "true", []byte(fuzzBodies[0]), "", "", 0)
	f.Fuzz(func(t *testing.T, method, path, header string, body []byte, kind, value string, status int) {
		r, err := http.NewRequest(method, "http://h/", io.NopCloser(strings.NewReader(string(body))))
		if err != nil {
			return // no method: net/http answers that before any handler
		}
		r.URL.Path = path
		r.Header.Set(protocolHeader, header)
		backend := &checking{t: t}
		if kind != "" || value != "" || status != 0 {
			backend.err = &Error{Kind: Kind(kind), Value: value, Status: status}
		}
		observed := 0
		h := &Handler{Backend: backend, Observe: func(call string, code int, _ time.Duration) { observed = code }}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch {
		case w.Code != observed:
			t.Errorf("status %d, observed %d", w.Code, observed)
		case w.Code == 200 && (backend.calls != 1 || backend.err != nil || r.Method != "POST" || header != "true"):
			t.Errorf("granted: %q", w.Body)
		case w.Code != 200 && (w.Code < 400 || w.Code > 599):
			t.Errorf("status %d", w.Code)
		}
		var doc struct{ Kind, Value string }
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 && (doc.Kind == "" || doc.Value == "") {
			t.Errorf("body %q", w.Body)
		}
	})
}

// The table of kinds in the documentation is that of the code.
func TestKindsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/fleetlock.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, status := range statuses {
		if row := fmt.Sprintf("\n| %d | `%s` | ", status, kind); !strings.Contains(string(doc), row) {
			t.Errorf("docs/fleetlock.md lacks the row %q", row)
		}
	}
	if rows := strings.Count(string(doc), "\n| "); rows != len(statuses)+1 {
		t.Errorf("docs/fleetlock.md has %d rows, want %d and the table's head", rows, len(statuses))
	}
}
