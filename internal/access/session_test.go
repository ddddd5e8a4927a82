package access

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func overTLS(r *http.Request) { r.TLS = new(tls.ConnectionState) }

// signIn returns the cookie that f sets for a token.
func signIn(t *testing.T, f *File, token string, with ...func(*http.Request)) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if _, err := f.SignIn(w, request(with...), token); err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0]
}

func with(c *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value}) }
}

func TestSession(t *testing.T) {
	f, path, c, l := newFile(t, somebody)
	cookie := signIn(t, f, " "+aliceToken+"\n")
	if cookie.Name != "locksmith" || cookie.Path != "/" || cookie.Domain != "" || !cookie.HttpOnly || cookie.Secure ||
		cookie.SameSite != http.SameSiteStrictMode || cookie.MaxAge != 12*60*60 {
		t.Errorf("cookie %s", cookie)
	}
	got, err := f.Caller(request(with(cookie), from("10.9.9.9:1")))
	if err != nil || got.Name != "alice" || got.Role != RoleOperator || len(got.Groups) != 2 || got.From != "10.9.9.9" {
		t.Errorf("%+v, error %v", got, err)
	}
	if len(l.lines("signed in")) != 1 || len(l.lines(aliceToken)) > 0 {
		t.Errorf("log: %s", l.lines(""))
	}

	// Another server with the same file knows the session.
	other, err := open(path, nil, c.now)
	if err != nil {
		t.Fatal(err)
	}
	known(t, other, request(with(cookie)), true)

	c.pass(sessionTime - time.Second)
	known(t, f, request(with(cookie)), true)
	c.pass(time.Second)
	_, err = f.Caller(request(with(cookie)))
	refused(t, err, 401, "has ended")
	// Which leaves the browser's other credentials.
	known(t, f, request(with(cookie), bearer(bobToken)), true)
	leaf := cn("carol@example.com")
	leaf.NotAfter = c.now().Add(time.Hour)
	certified := request(certificate(leaf))
	certified.AddCookie(&http.Cookie{Name: tlsCookieName, Value: cookie.Value})
	known(t, f, certified, true)
}

func TestSessionTLS(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	cookie := signIn(t, f, aliceToken, overTLS)
	if cookie.Name != "__Host-locksmith" || !cookie.Secure || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("cookie %s", cookie)
	}
	known(t, f, request(with(cookie), overTLS), true)
	known(t, f, request(with(cookie)), false)
	plain := signIn(t, f, aliceToken)
	known(t, f, request(with(plain), overTLS), false) // anybody on the way could have set it
}

func TestSignOut(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	for _, with := range []func(*http.Request){overTLS, func(*http.Request) {}} {
		cookie := signIn(t, f, aliceToken, with)
		w := httptest.NewRecorder()
		f.SignOut(w, request(with))
		out := w.Result().Cookies()
		if len(out) != 1 || out[0].Name != cookie.Name || out[0].MaxAge >= 0 || out[0].Value != "" || out[0].Path != cookie.Path || out[0].Secure != cookie.Secure {
			t.Errorf("cookie %v", out)
		}
		known(t, f, request(with, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookie.Name}) }), false)
	}
}

// Who has a copy of the cookie of a session that was signed out is refused. Others of the
// same principal, also one that begins in the same second, are not.
func TestSignedOut(t *testing.T) {
	f, _, c, l := newFile(t, somebody)
	out := signIn(t, f, aliceToken)
	c.pass(time.Second)
	other := signIn(t, f, aliceToken)
	f.SignOut(httptest.NewRecorder(), request(with(out)))
	again := signIn(t, f, aliceToken)
	f.SignOut(httptest.NewRecorder(), request(with(again)))
	again = signIn(t, f, aliceToken)
	_, err := f.Caller(request(with(out)))
	refused(t, err, 401, "has ended")
	known(t, f, request(with(again)), true)
	if again.Value == other.Value { // its session ended with that of the same second
		t.Error("a session that was signed out began anew")
	}
	if len(l.lines("signed out")) != 2 {
		t.Errorf("log: %s", l.lines(""))
	}

	// What is no session takes no place among those that have ended, and who ends too
	// many of them loses the oldest.
	f.SignOut(httptest.NewRecorder(), request(with(&http.Cookie{Name: out.Name, Value: out.Value + "x"})))
	if n := len(f.signedOut.until); n != 2 {
		t.Errorf("%d are remembered", n)
	}
	for i := range maxSignedOut - 2 {
		f.signedOut.add(strconv.Itoa(i), c.now().Add(time.Second))
	}
	oldest := c.now().Add(-time.Minute)
	f.signedOut.add("oldest", oldest)
	if n := len(f.signedOut.until); n != maxSignedOut || f.signedOut.has("oldest") || !f.signedOut.has(out.Value) {
		t.Errorf("%d are remembered", n)
	}
	f.signedOut.add("later", c.now().Add(sessionTime+clockSkew+2*time.Second))
	if n := len(f.signedOut.until); n != 1 {
		t.Errorf("%d are remembered after they have ended", n)
	}
}

func TestSignInRefused(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	for token, want := range map[string]struct {
		status int
		reason string
	}{
		"":                       {401, "wrong token"},
		"wrong-0123456789abcdef": {401, "wrong token"},
		machineToken:             {403, "machines cannot sign in"},
	} {
		w := httptest.NewRecorder()
		_, err := f.SignIn(w, request(), token)
		refused(t, err, want.status, want.reason)
		if len(w.Result().Cookies()) > 0 {
			t.Errorf("a cookie for %q", token)
		}
	}
}

// What ends somebody's session before its time.
func TestSessionEnds(t *testing.T) {
	for name, next := range map[string]string{
		"gone":        onlyBob,
		"other token": strings.Replace(somebody, aliceToken, "alice-new-0123456789abcdef", 1),
		"a machine":   strings.Replace(somebody, `"role": "operator"`, `"role": "machine"`, 1),
		"no token":    `{"principals": [{"name": "alice", "role": "operator", "certificate": "alice"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			f, path, c, _ := newFile(t, somebody)
			cookie := signIn(t, f, aliceToken)
			write(t, path, next)
			c.pass(checkEvery)
			_, err := f.Caller(request(with(cookie)))
			refused(t, err, 401, "sign in again")
		})
	}
	f, path, c, _ := newFile(t, somebody)
	cookie := signIn(t, f, aliceToken)
	write(t, path, strings.Replace(somebody, `"role": "operator", "groups": ["web", ""]`, `"role": "viewer"`, 1))
	c.pass(checkEvery)
	if got, err := f.Caller(request(with(cookie))); err != nil || got.Role != RoleViewer || got.Groups != nil {
		t.Errorf("another role: %+v, error %v", got, err)
	}
}

func TestSessionForged(t *testing.T) {
	f, _, c, _ := newFile(t, somebody)
	cookie := signIn(t, f, aliceToken)
	name, rest, _ := strings.Cut(cookie.Value, ".")
	expiry, mac, _ := strings.Cut(rest, ".")
	later := strconv.FormatInt(c.now().Add(sessionTime+time.Second).Unix(), 10)
	byBob := &principal{caller: Caller{Name: "alice"}, token: digestOf(bobToken)}
	p := f.principals.get().byName["alice"]
	values := []string{
		"x", ".", "..", "...", name, name + "." + expiry, name + "." + expiry + ".", rest, cookie.Value + ".", cookie.Value + "." + mac,
		"." + cookie.Value,
		encode([]byte("bob")) + "." + expiry + "." + mac,
		encode([]byte("eve")) + "." + expiry + "." + mac,
		name + "." + later + "." + mac,
		name + ".+" + expiry + "." + mac,
		name + ".0" + expiry + "." + mac,
		name + ".99999999999999999999999." + mac,
		name + "." + expiry + "." + mac[1:],
		name + "." + expiry + "." + encode(make([]byte, 32)),
		byBob.session(c.now().Add(time.Hour)),
		(&principal{caller: Caller{Name: "alice"}}).session(c.now().Add(time.Hour)),
		(&principal{caller: Caller{Name: "carol"}}).session(c.now().Add(time.Hour)), // who has no token
		p.session(c.now()),                                                          // over
		p.session(c.now().Add(24 * time.Hour)),                                      // longer than any
		p.session(time.Unix(-1, 0)),
		loose(cookie.Value),
		strings.Repeat("a", 10_000),
		cookie.Value + strings.Repeat("A", maxSession),
	}
	for i := range cookie.Value {
		values = append(values, cookie.Value[:i])
		flipped := []byte(cookie.Value)
		if flipped[i] ^= 1; flipped[i] != ';' {
			values = append(values, string(flipped))
		}
	}
	for _, v := range values {
		got, err := f.Caller(request(header("Cookie", "locksmith="+v)))
		if err == nil {
			t.Errorf("%q makes %+v", v, got)
			continue
		}
		refused(t, err, 401, "")
	}
	known(t, f, request(with(cookie)), true)
}

// loose is another text for the same bytes, where bits at the end are not looked at.
func loose(value string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(value) - 1
	return value[:last] + string(digits[strings.IndexByte(digits, value[last])|1])
}

// A cookie does nothing in requests that other sites make.
func TestSessionCrossSite(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	cookie := signIn(t, f, aliceToken)
	post := func(r *http.Request) { r.Method = "POST" }
	for name, tt := range map[string]struct {
		with []func(*http.Request)
		ok   bool
	}{
		"own page":              {[]func(*http.Request){header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Mode", "cors")}, true},
		"typed":                 {[]func(*http.Request){header("Sec-Fetch-Site", "none"), header("Sec-Fetch-Mode", "navigate")}, true},
		"link":                  {[]func(*http.Request){header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "navigate")}, true},
		"foreign picture":       {[]func(*http.Request){header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "no-cors")}, false},
		"own form":              {[]func(*http.Request){post, header("Sec-Fetch-Site", "same-origin")}, true},
		"own form, old":         {[]func(*http.Request){post, header("Origin", "http://locksmith.example.com")}, true},
		"no browser":            {[]func(*http.Request){post}, true},
		"foreign form":          {[]func(*http.Request){post, header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "navigate")}, false},
		"sibling's form":        {[]func(*http.Request){post, header("Sec-Fetch-Site", "same-site"), header("Sec-Fetch-Mode", "navigate")}, false},
		"foreign form, old":     {[]func(*http.Request){post, header("Origin", "http://evil.example")}, false},
		"form of no known site": {[]func(*http.Request){post, header("Origin", "null")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Caller(request(append(tt.with, with(cookie))...))
			if tt.ok && err != nil {
				t.Error(err)
			} else if !tt.ok {
				refused(t, err, 403, "another site made this request in the name of alice")
			}
		})
	}
}

func FuzzSession(f *testing.F) {
	path := f.TempDir() + "/access.json"
	write(f, path, somebody)
	file, err := Open(path, nil)
	if err != nil {
		f.Fatal(err)
	}
	principals := file.principals.get()
	now := time.Now()
	good := principals.byName["alice"].session(now.Add(time.Hour))
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("YWxpY2U.1.")
	f.Fuzz(func(t *testing.T, value string) {
		p, err := principals.withSession(value, now)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v and %v", p, err)
		}
		if p != nil && value != good {
			t.Errorf("%q makes %s", value, p.caller.Name)
		}
	})
}
