package fleetlock

import "testing"

// FuzzClientError: whatever a server answers, the client has an error with all its parts.
func FuzzClientError(f *testing.F) {
	for _, body := range []string{`{"kind":"k","value":"v"}`, `{"kind":1}`, "", "null", `{"kind":"\u0000","value":"\ud800"}`, "[]"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		kind, value := parseError(body)
		if (kind == "") != (value == "") || len(kind) > maxKind {
			t.Fatalf("%q was read as %q, %q", body, kind, value)
		}
	})
}
