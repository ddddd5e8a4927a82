package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// oneProblem checks that an error is a client's own fault, told in one line.
func oneProblem(t *testing.T, sent any, err error) {
	t.Helper()
	p, ok := errors.AsType[*problem](err)
	if !ok || p.code != api.CodeInvalid || p.text == "" || strings.ContainsAny(p.text, "\r\n\x00\x1b") {
		t.Fatalf("%q: %#v, want one line about what is invalid", sent, err)
	}
}

// taken passes a body through the parser of one action, and what it takes through JSON
// and the parser again: that must be the same.
func taken[T any](t *testing.T, body []byte) (in T, ok bool) {
	t.Helper()
	act := action(func(_ context.Context, _ access.Caller, got T) (api.Done, error) {
		in, ok = got, true
		return api.Done{}, nil
	})
	if _, err := act(t.Context(), access.Caller{}, body); err != nil {
		if ok {
			t.Fatalf("%q is refused (%v) and acted upon", body, err)
		}
		oneProblem(t, body, err)
		return in, false
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var again T
	if err := decode(text, &again); err != nil {
		t.Fatalf("%q is taken as %s, which is refused: %v", body, text, err)
	}
	if diff := cmp.Diff(in, again); diff != "" {
		t.Fatalf("%q is taken as %s, and that as another:\n%s", body, text, diff)
	}
	return in, true
}

// Whatever is sent with an action is refused in one line, or names groups, machines
// and scopes that the store takes.
func FuzzActionBody(f *testing.F) {
	for _, body := range []string{`{"group":"lb","machineID":"m","reason":"r"}`, `{"max":1}`, `{"max":null}`, `{"max":1e99}`, `{"max":1}{}`,
		`{"scope":"group","group":"a","until":"2026-12-24T18:00:00Z","reason":"r"}`, `{"scope":"machine","machineID":"m"}`, `{"scope":"all","until":"x"}`,
		`{"machineID":"\ud800"}`, "{\"machineID\":\"\xff\"}", `{"machineID":["m"]}`, `{"more\n":1}`, ` [] `, `null`, ``} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if in, ok := taken[api.SlotRequest](t, body); ok {
			g, err := slot(in)
			if err != nil {
				oneProblem(t, body, err)
			} else if back, err := locksmith.ParseGroup(string(g)); err != nil || back != g || locksmith.CheckMachineID(in.MachineID) != nil {
				t.Fatalf("%q is taken as machine %q of group %q", body, in.MachineID, g)
			}
		}
		taken[api.SetMaxRequest](t, body)
		taken[api.ForgetRequest](t, body)
		if in, ok := taken[api.PauseRequest](t, body); ok {
			checkScope(t, body, in.ScopeRequest)
		}
		if in, ok := taken[api.ScopeRequest](t, body); ok {
			checkScope(t, body, in)
		}
	})
}

// checkScope looks whether a scope is exactly one of the three, and is said as it was read.
func checkScope(t *testing.T, body []byte, in api.ScopeRequest) {
	t.Helper()
	scope, err := in.PauseScope()
	if err != nil {
		if strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
			t.Fatalf("%q: %q", body, err)
		}
		return
	}
	if scope.All && (scope.Group != "" || scope.Machine != "") || scope.Machine != "" && scope.Group != "" {
		t.Fatalf("%q is read as %+v", body, scope)
	}
	if again, err := api.ScopeFrom(scope).PauseScope(); err != nil || again != scope {
		t.Fatalf("%q is read as %+v, and that as %+v, %v", body, scope, again, err)
	}
}

// A query has the known parameters, each once, or is refused in one line.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"group=lb&limit=3", "group=a&group=b", "grop=a", "group=%zz", "limit=%0a", "a;b", "&&=", "group"} {
		f.Add(query, true)
	}
	f.Add("x=1", false)
	f.Fuzz(func(t *testing.T, query string, some bool) {
		r := httptest.NewRequest("GET", api.PathHistory, nil)
		r.URL.RawQuery = query
		var params []string
		if some {
			params = []string{"group", "limit"}
		}
		values, err := parseQuery(r, params)
		if err != nil {
			oneProblem(t, query, err)
			return
		}
		for name, list := range values {
			if !some || name != "group" && name != "limit" || len(list) != 1 {
				t.Fatalf("%q is read as %q", query, values)
			}
		}
	})
}
