package trigger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// Whatever stands in the file of an administrator's request: it is one for a boot with a
// line of text, or an error in one line, which is never a need. What is requested is read.
func FuzzRequest(f *testing.F) {
	for _, doc := range []string{`{"bootID":"b","reason":"kernel"}`, `{"bootID":"b"}`, `{"bootID":"b","reason":"a\nb"}`, `{"bootID":"b","reason":"\ud800"}`,
		`{"bootID":"other","reason":"x"}`, `{"bootID":"b","reason":"x"}{}`, `{"x":1}`, "{\"bootID\":\"b\",\"reason\":\"\xff\"}", `null`, ``} {
		f.Add([]byte(doc), "why")
	}
	path := filepath.Join(f.TempDir(), "request.json")
	f.Fuzz(func(t *testing.T, doc []byte, reason string) {
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		c := NewControl(path, "b")
		need, _ := c.read()
		if need.Err != nil && (need.Needed || strings.ContainsAny(need.Err.Error(), "\r\n")) {
			t.Fatalf("%q is read as %+v", doc, need)
		}
		if need.Needed && (need.Reason == "" || len(need.Reason) > MaxReason || strings.ContainsFunc(need.Reason, unicode.IsControl)) {
			t.Fatalf("%q is read as %+v", doc, need)
		}
		if err := c.Request(reason); err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: %q", reason, err)
			}
			return
		}
		if need, _ = c.read(); !need.Needed || need.Err != nil || reason != "" && need.Reason != reason {
			t.Fatalf("%q was requested, and is read as %+v", reason, need)
		}
	})
}
