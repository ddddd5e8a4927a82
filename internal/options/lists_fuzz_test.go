package options

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// oneUsageError checks that an error is about the command line, in one line.
func oneUsageError(t *testing.T, given string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*UsageError](err); !ok || strings.ContainsAny(err.Error(), "\r\n") {
		t.Fatalf("%q: %#v, want one line", given, err)
	}
}

// A list of endpoints, however it is spread over options, names each once: a scheme, a
// host and nothing else. Read again it is the same.
func FuzzEndpoints(f *testing.F) {
	f.Add("http://127.0.0.1:2379", "https://[::1]:1, https://a")
	f.Add("http://u:p@h", "")
	f.Add("http://h", "ftp://h")
	f.Add(" , ", "")
	f.Add("http://h:x", "http://h/%zz?q#f")
	f.Add("http://\n", "HTTP://h")
	f.Fuzz(func(t *testing.T, a, b string) {
		list, err := endpoints([]string{a, b})
		if err != nil {
			oneUsageError(t, a+","+b, err)
			return
		}
		for i, e := range list {
			u, err := url.Parse(e)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
				t.Fatalf("%q is taken as an endpoint: %v", e, err)
			}
			if slices.Contains(list[:i], e) || strings.ContainsAny(e, ", \t\r\n") {
				t.Fatalf("%q, %q are read as %q", a, b, list)
			}
		}
		again, err := endpoints(list)
		if err != nil || !slices.Equal(again, list) || len(list) == 0 {
			t.Fatalf("%q, %q are read as %q, and those as %q, %v", a, b, list, again, err)
		}
	})
}

// A server's address is one that can be asked, or what is wrong with it is said in one
// line, and without the password that may be in it.
func FuzzServerURL(f *testing.F) {
	f.Add("https://reboots.example.com:8443/locks")
	f.Add("https://alice:correct-horse@h")
	f.Add("//h")
	f.Add("http://h:port")
	f.Add("http://\x7f")
	f.Fuzz(func(t *testing.T, text string) {
		err := checkServer(text)
		u, bad := url.Parse(text)
		if err == nil {
			if bad != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
				t.Fatalf("%q is taken", text)
			}
			return
		}
		if strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatalf("%q: more than one line: %q", text, err)
		}
		if bad != nil || u.User == nil {
			return
		}
		// What comes after it may look like it, if need be as an escape.
		if secret, _ := u.User.Password(); len(secret) > 8 && strings.Contains(err.Error(), secret) && !strings.Contains(u.Redacted(), secret) {
			t.Fatalf("%q: the password is in %q", text, err)
		}
	})
}

// An option's variable is a name that a shell can set, and different prefixes do not mix.
func FuzzVariable(f *testing.F) {
	f.Add("locksmith-server", "etcd-cafile")
	f.Add("ß", "ı")
	f.Fuzz(func(t *testing.T, program, option string) {
		name := Variable(Prefix(program), option)
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || !strings.HasPrefix(name, Prefix(program)) {
			t.Fatalf("%q of %q is %q", option, program, name)
		}
		if again := Variable("", name); again != name {
			t.Fatalf("%q is %q", name, again)
		}
	})
}
