package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sessionTime is how long browsers stay signed in.
const sessionTime = 12 * time.Hour

// clockSkew is how far the clocks of two servers may be apart.
const clockSkew = 5 * time.Minute

// maxSession bounds the value of a session's cookie, in bytes.
const maxSession = 256

// Names of the session's cookie. The prefix makes browsers refuse it from others than
// this very host, and without TLS.
const (
	cookieName    = "locksmith"
	tlsCookieName = "__Host-locksmith"
)

// SignIn starts a session of a browser for who has the token, with a cookie in w, and
// returns who that is. The error is a *Refusal; w is untouched then.
func (f *File) SignIn(w http.ResponseWriter, r *http.Request, token string) (Caller, error) {
	from := peer(r)
	p, err := f.judge(f.principals.get().withToken(strings.TrimSpace(token)), from, "wrong token")
	if err != nil {
		return Caller{}, err
	}
	if p.caller.Role == RoleMachine {
		return Caller{}, &Refusal{http.StatusForbidden, "this is a machine's token, machines cannot sign in"}
	}
	c := p.caller.at(from)
	setCookie(w, r, f.newSession(p), int(sessionTime/time.Second))
	f.log.Info("signed in", "by", c.Name, "from", c.From)
	return c, nil
}

// newSession is the value of a cookie that was not signed out: two sessions that began in
// the same second would have the same one.
func (f *File) newSession(p *principal) string {
	for expiry := f.now().Add(sessionTime); ; expiry = expiry.Add(-time.Second) {
		if value := p.session(expiry); !f.signedOut.has(value) {
			return value
		}
	}
}

// SignOut ends the session in the browser that made r, if there is one, and whoever has
// a copy of its cookie is refused from then on.
func (f *File) SignOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie(r)); err == nil {
		if p, err := f.principals.get().withSession(cookie.Value, f.now()); err == nil {
			f.signedOut.add(cookie.Value, f.now())
			f.log.Info("signed out", "by", p.caller.Name, "from", p.caller.at(peer(r)).From)
		}
	}
	setCookie(w, r, "", -1)
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie(r), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
}

func sessionCookie(r *http.Request) string {
	if r.TLS != nil {
		return tlsCookieName
	}
	return cookieName
}

// bySession is whose session r belongs to. It is nil without an error where r has none.
func (f *File) bySession(t *principals, r *http.Request) (*principal, error) {
	cookie, err := r.Cookie(sessionCookie(r))
	if err != nil || cookie.Value == "" {
		return nil, nil
	}
	p, err := t.withSession(cookie.Value, f.now())
	switch {
	case err != nil:
		return nil, unauthorized(err.Error())
	case f.signedOut.has(cookie.Value):
		return nil, unauthorized(errSessionEnded.Error())
	case f.foreign.Check(r) != nil || embedded(r):
		return nil, &Refusal{http.StatusForbidden, "another site made this request in the name of " + p.caller.Name}
	}
	return p, nil
}

// embedded says that a page of another site made a request, other than by leading the
// user here. Browsers do not send the cookie along then; this is for those that do.
func embedded(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// verified is the client certificate that TLS has verified, if any. A connection may
// outlast it.
func (f *File) verified(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if f.now().After(leaf.NotAfter) {
		return nil
	}
	return leaf
}

// session is the value of a cookie, NAME.EXPIRY.MAC, that says who its browser is until
// when. Every server with the same access file can check it, and nothing of it is kept:
// the key comes from the principal's token, so that the session ends with that.
func (p *principal) session(expiry time.Time) string {
	seconds := strconv.FormatInt(expiry.Unix(), 10)
	return encode([]byte(p.caller.Name)) + "." + seconds + "." + encode(p.mac(seconds))
}

func (p *principal) mac(expiry string) []byte {
	key := hmac.New(sha256.New, p.token[:])
	key.Write([]byte("locksmith browser session 1"))
	mac := hmac.New(sha256.New, key.Sum(nil))
	mac.Write([]byte(p.caller.Name + "\x00" + expiry))
	return mac.Sum(nil)
}

var (
	errNoSession    = errors.New("this is no session of ours any more: sign in again")
	errSessionEnded = errors.New("the session has ended: sign in again")
)

// withSession is whose session a cookie's value is.
func (t *principals) withSession(value string, now time.Time) (*principal, error) {
	parts := strings.Split(value[:min(len(value), maxSession)], ".")
	if len(parts) != 3 || len(value) > maxSession {
		return nil, errNoSession
	}
	name, err := decode(parts[0])
	mac, err2 := decode(parts[2])
	seconds, err3 := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || err2 != nil || err3 != nil {
		return nil, errNoSession
	}
	p := t.byName[string(name)]
	if p == nil || !p.hasToken() || p.caller.Role == RoleMachine || !hmac.Equal(mac, p.mac(parts[1])) {
		return nil, errNoSession
	}
	left := time.Unix(seconds, 0).Sub(now)
	if left <= 0 || left > sessionTime+clockSkew {
		return nil, errSessionEnded
	}
	return p, nil
}

var base64url = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return base64url.EncodeToString(b) }

func decode(s string) ([]byte, error) { return base64url.DecodeString(s) }
