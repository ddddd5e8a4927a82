package control

import (
	"strings"
	"testing"
)

// Whatever answers at the socket, a refusal is an error that says something.
func FuzzRefusal(f *testing.F) {
	f.Add(403, []byte(`{"error":"only root may: run as root"}`))
	f.Add(500, []byte(`{"error":""}`))
	f.Add(200, []byte("null"))
	f.Add(-1, []byte(`{"error":1}`))
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		err := Client{}.refusal(status, answer)
		if err == nil || strings.TrimSpace(err.Error()) == "" && strings.TrimSpace(string(answer)) == "" {
			t.Fatalf("%d %q is refused with %v", status, answer, err)
		}
	})
}
