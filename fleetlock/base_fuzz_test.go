package fleetlock

import (
	"strings"
	"testing"
)

// A server's URL is one that requests can be made to, and what may be a password in one
// that is not is not shown.
func FuzzBase(f *testing.F) {
	for _, text := range []string{"https://fleetlock.example.org:8443", "http://[::1]:80/a/b", "ftp://x", "https://", "https://h?q", "https://h#f", "http://%zz", "\x7f"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseBase(text)
		if err == nil && (u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "") {
			t.Fatalf("%q is read as %+v", text, u)
		}
		if err != nil && (u != nil || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Fatalf("%q: %v, %q", text, u, err)
		}
		secret := "https://user:geheim@" + text
		if _, err := parseBase(secret); err != nil && strings.Contains(err.Error(), "geheim") {
			t.Fatalf("%q: the password is in %q", secret, err)
		}
	})
}
