package control

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Whatever is posted as a request for a reboot: it is one readable line, or it is
// refused with a status and one line.
func FuzzNeedReboot(f *testing.F) {
	for _, body := range []string{`{"reason":"kernel"}`, `{}`, `null`, `{"reason":null}`, `{"reason":"a\nb"}`, `{"reason":"\ud800"}`, "{\"reason\":\"\xff\"}",
		`{"reason":" "}`, `{"reason":1}`, `{"x":1}`, `{"x\n":1}`, `{"reason":"a"}{}`, `[]`, ``, "{\"reason\":\"\u2028\"}",
		`{"reason":"` + strings.Repeat("x", MaxReason+1) + `"}`, `{"reason":"` + strings.Repeat(" ", maxBody) + `"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, reason := 0, ""
		s := &Server{Request: func(r string) error { calls, reason = calls+1, r; return nil }}
		w := httptest.NewRecorder()
		s.needReboot(w, httptest.NewRequest("POST", pathNeedReboot, strings.NewReader(string(body))))
		if w.Code == 204 {
			if calls != 1 || reason == "" || len(reason) > MaxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
				t.Fatalf("%q became %d requests, for %q", body, calls, reason)
			}
			if len(body) > maxBody {
				t.Fatalf("%d bytes were taken", len(body))
			}
			return
		}
		var failed failure
		if err := json.Unmarshal(w.Body.Bytes(), &failed); err != nil || failed.Error == "" || strings.ContainsAny(failed.Error, "\r\n") {
			t.Fatalf("%q is answered with %q", body, w.Body)
		}
		if calls != 0 || w.Code != 400 && w.Code != 413 {
			t.Fatalf("%q is answered with %d after %d requests", body, w.Code, calls)
		}
	})
}
