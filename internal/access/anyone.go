package access

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Everyone lets everybody do everything, for where no authorization is configured.
type Everyone struct {
	host  string // the host part of what is listened on
	local bool   // requests for other hosts are refused
}

// Anyone is for a server that listens on listen, HOST:PORT, without any authorization.
// Unless insecure, requests must be made to localhost, to a loopback address, or to HOST.
//
// That is against DNS rebinding: a page from evil.example, in a browser on this machine,
// may let its own name point to 127.0.0.1, and is then of the same origin as this
// server, to which it can do whatever the user could. Its requests still carry the
// name: Host: evil.example.
func Anyone(listen string, insecure bool) *Everyone {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		host = listen
	}
	return &Everyone{host: host, local: !insecure}
}

// NeedsSignIn says that nobody has to sign in.
func (e *Everyone) NeedsSignIn() bool { return false }

// Caller is Anonymous, from wherever r came. The error is a *Refusal.
func (e *Everyone) Caller(r *http.Request) (Caller, error) {
	if e.local && !e.meant(r.Host) {
		return Caller{}, &Refusal{http.StatusForbidden, fmt.Sprintf("this server is not known as %s: without authorization it answers "+
			"requests to localhost and loopback addresses only", clip(r.Host))}
	}
	return Caller{Name: Anonymous, Role: RoleAdmin, Open: true}.at(peer(r)), nil
}

// meant says whether a Host header is one of ours.
func (e *Everyone) meant(header string) bool {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return host != "" && (isLoopback(host) || strings.EqualFold(host, e.host))
}

// SignIn returns who r is from anyway, and starts no session.
func (e *Everyone) SignIn(_ http.ResponseWriter, r *http.Request, _ string) (Caller, error) {
	return e.Caller(r)
}

// SignOut does nothing: there are no sessions.
func (e *Everyone) SignOut(http.ResponseWriter, *http.Request) {}

// isLoopback says whether only this machine reaches host. Names other than localhost
// are not looked up: what they mean may change.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// CheckListen says what is wrong with listening on addr, HOST:PORT, if anything. Where
// no authorization is configured only this machine may reach it, unless insecure.
//
// As localhost can stand for any address, call it again with the listener's own.
func CheckListen(addr string, configured, insecure bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return fmt.Errorf("invalid listening address %q: must be HOST:PORT, as in 127.0.0.1:8080 or [::]:8080", addr)
	}
	if configured || insecure || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("listening on %q without authorization would let everybody who reaches it unlock, pause and take slots: "+
		"give -access-file, or listen on 127.0.0.1:%s, or accept it with -insecure-listen", addr, port)
}
