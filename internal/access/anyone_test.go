package access

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnyone(t *testing.T) {
	host := func(h string) *http.Request { return request(func(r *http.Request) { r.Host = h }) }
	for _, tt := range []struct {
		listen   string
		insecure bool
		host     string
		ok       bool
	}{
		{"127.0.0.1:8080", false, "127.0.0.1:8080", true},
		{"127.0.0.1:8080", false, "127.0.0.1", true},
		{"127.0.0.1:8080", false, "127.8.8.8:9", true}, // a tunnel's other end
		{"127.0.0.1:8080", false, "localhost:8080", true},
		{"127.0.0.1:8080", false, "LocalHost", true},
		{"127.0.0.1:8080", false, "[::1]:8080", true},
		{"127.0.0.1:8080", false, "[::1]", true},
		{"127.0.0.1:8080", false, "[::ffff:127.0.0.1]:80", true},
		{"locks.internal:8080", false, "locks.internal:8080", true},
		{"127.0.0.1:8080", false, "evil.example:8080", false},
		{"127.0.0.1:8080", false, "localhost.evil.example", false},
		{"127.0.0.1:8080", false, "127.0.0.1.evil.example", false},
		{"127.0.0.1:8080", false, "evil.example:127.0.0.1", false},
		{"127.0.0.1:8080", false, "10.0.0.7:8080", false},
		{"127.0.0.1:8080", false, "0.0.0.0:8080", false},
		{"127.0.0.1:8080", false, "2130706433", false},
		{"127.0.0.1:8080", false, "", false},
		{":8080", false, ":8080", false},
		{":8080", false, "", false},
		{"0.0.0.0:8080", true, "locks.example.com", true},
		{"0.0.0.0:8080", true, "", true},
	} {
		e := Anyone(tt.listen, tt.insecure)
		c, err := e.Caller(host(tt.host))
		if !tt.ok {
			refused(t, err, 403, "not known as")
			continue
		}
		if err != nil || c.Name != Anonymous || c.From != "10.0.0.7" || c.Role != RoleAdmin || !c.Open || c.Groups != nil || c.Machine != "" {
			t.Errorf("%s asked as %s: %+v, error %v", tt.listen, tt.host, c, err)
		}
	}
	e := Anyone("127.0.0.1:8080", false)
	if e.NeedsSignIn() {
		t.Error("needs a sign-in")
	}
	if c, err := e.SignIn(nil, host("localhost"), ""); err != nil || !c.Open {
		t.Errorf("%+v, error %v", c, err)
	}
	e.SignOut(nil, nil)
}

func TestCheckListen(t *testing.T) {
	for addr, local := range map[string]bool{
		"127.0.0.1:8080": true, "localhost:8080": true, "[::1]:8080": true, "127.1.2.3:0": true, "[::ffff:127.0.0.1]:80": true, "localhost:http": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "10.0.0.1:8080": false, "locks.example.com:8080": false, "localhost.example.com:80": false,
	} {
		err := CheckListen(addr, false, false)
		if (err == nil) != local {
			t.Errorf("%s: error %v", addr, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "give -access-file, or listen on 127.0.0.1:80") || !strings.Contains(err.Error(), "-insecure-listen")) {
			t.Errorf("%s: error %v does not say what to do", addr, err)
		}
		for _, how := range [][2]bool{{true, false}, {false, true}, {true, true}} {
			if err := CheckListen(addr, how[0], how[1]); err != nil {
				t.Errorf("%s, %v: %v", addr, how, err)
			}
		}
	}
	for _, addr := range []string{"", "8080", "127.0.0.1", "127.0.0.1:", "[::1]", "::1:8080", "localhost:99999", "localhost:no-such-port"} {
		if err := CheckListen(addr, true, true); err == nil || !strings.Contains(err.Error(), "must be HOST:PORT") {
			t.Errorf("%q: error %v", addr, err)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, h := range []string{"localhost", "[::1]:80", "evil.example:80", "127.0.0.1.evil.example", "[127.0.0.1", "::1"} {
		f.Add(h)
	}
	e := Anyone("127.0.0.1:8080", false)
	f.Fuzz(func(t *testing.T, host string) {
		c, err := e.Caller(request(func(r *http.Request) { r.Host = host }))
		if err == nil && !c.Open {
			t.Error("neither refused nor let in")
		}
		lower := strings.ToLower(host)
		if err == nil && !strings.Contains(lower, "localhost") && !strings.Contains(host, "127.") && !strings.Contains(host, ":") {
			t.Errorf("%q is let in", host)
		}
	})
}
