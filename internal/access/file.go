package access

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// File is the principals of an access file, and says who makes a request by it. It
// follows changes of the file within a second of use. Its methods may be called
// concurrently.
type File struct {
	principals *reloaded[principals]
	failures   failures
	signedOut  signedOut
	foreign    *http.CrossOriginProtection
	log        *slog.Logger
	now        func() time.Time
}

// Open reads the access file at path, up to MaxFileSize bytes. Its error says what is
// wrong with it, and in which line.
//
// A change that cannot be used leaves in force what the file held before, and is logged
// once. A nil log discards.
func Open(path string, log *slog.Logger) (*File, error) { return open(path, log, time.Now) }

func open(path string, log *slog.Logger, now func() time.Time) (*File, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &File{log: log, now: now, foreign: http.NewCrossOriginProtection(),
		principals: &reloaded[principals]{what: "access file", paths: []string{path}, maxSize: MaxFileSize,
			parse: parsePrincipals, log: log, now: now}}
	if err := f.principals.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// NeedsSignIn says that browsers have to sign in.
func (f *File) NeedsSignIn() bool { return true }

// Caller is who makes r, by the first of these that r has: an Authorization header
// (Bearer, or Basic with the principal's name and token), a session of a browser, a
// verified client certificate. A wrong header is refused, whatever else there is; a
// session that is over is not. The error is a *Refusal.
func (f *File) Caller(r *http.Request) (Caller, error) {
	from, t := peer(r), f.principals.get()
	if headers, ok := r.Header["Authorization"]; ok {
		p, err := f.byHeader(t, r, headers, from)
		if err != nil {
			return Caller{}, err
		}
		return p.caller.at(from), nil
	}
	p, ended := f.bySession(t, r)
	if p != nil {
		return p.caller.at(from), nil
	}
	if leaf := f.verified(r); leaf != nil {
		c, err := t.withCertificate(leaf)
		if err != nil {
			return Caller{}, unauthorized(err.Error())
		}
		return c.at(from), nil
	}
	if ended != nil {
		return Caller{}, ended
	}
	return Caller{}, unauthorized("no credentials: a token, a client certificate or a sign-in is needed")
}

// byHeader is who has the token in an Authorization header.
func (f *File) byHeader(t *principals, r *http.Request, headers []string, from netip.Addr) (*principal, error) {
	if len(headers) != 1 {
		return nil, unauthorized("there is more than one Authorization header")
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return f.judge(t.withToken(strings.Trim(rest, " ")), from, "wrong token")
	case strings.EqualFold(scheme, "Basic"):
		name, token, ok := r.BasicAuth()
		if !ok {
			return nil, unauthorized("malformed Basic authentication")
		}
		return f.judge(t.withPassword(name, token), from, "unknown name or wrong token")
	}
	return nil, unauthorized("unsupported kind of authorization: Bearer and Basic are known")
}

// judge refuses wrong tokens, and right ones from where too many wrong ones came.
func (f *File) judge(p *principal, from netip.Addr, wrong string) (*principal, error) {
	name := ""
	if p != nil {
		name = p.caller.Name
	}
	switch {
	case !f.failures.judge(from, name, f.now()):
		return nil, &Refusal{http.StatusForbidden, "too many failed attempts from this address: wait a few seconds"}
	case p == nil:
		return nil, unauthorized(wrong)
	}
	return p, nil
}

// at is the caller at an address.
func (c Caller) at(from netip.Addr) Caller {
	c.From = address(from)
	return c
}

// peer is the address from where r came. What proxies say of others (X-Forwarded-For)
// is not looked at: anybody can write it.
func peer(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap().WithZone("")
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	return a.String()
}

func unauthorized(reason string) *Refusal { return &Refusal{http.StatusUnauthorized, reason} }
