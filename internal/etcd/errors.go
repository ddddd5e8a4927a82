package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith"
)

var (
	errDisconnected = errors.New("the connection is lost")
	errWatchClosed  = errors.New("the watch was closed")
	errWatchRefused = errors.New("etcd refused a watch, as it does when a token has lapsed")
	errLeaseLost    = errors.New("the lease of the queue entry expired")
	errEntryLost    = errors.New("the queue entry is gone")
)

// Error is a request to etcd that failed, in words for people.
type Error struct {
	msg       string
	transient bool
	err       error
}

func (e *Error) Error() string { return e.msg }
func (e *Error) Unwrap() error { return e.err }

// Transient says whether waiting may cure it: etcd away, without a leader, or
// full. A wrong password is not cured by waiting.
func (e *Error) Transient() bool { return e.transient }

// explain translates what a request returned. It is the one place where etcd's
// errors become ours; what is ours already, and the caller's own end of patience,
// pass unchanged.
func (s *Store) explain(ctx context.Context, err error) error {
	var mine *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mine), isDomain(err):
		return err
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case errors.Is(err, errLeaseLost), errors.Is(err, errEntryLost), errors.Is(err, errWatchClosed),
		errors.Is(err, errWatchRefused):
		return &Error{msg: err.Error(), transient: true, err: err}
	}
	if msg, transient, ok := s.known(err); ok {
		return &Error{msg: msg, transient: transient, err: err}
	}
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		msg, transient := s.diagnose(err)
		return &Error{msg: msg, transient: transient, err: err}
	}
	return &Error{msg: fmt.Sprintf("etcd: %v (%s)", plain(err), s.tried()), err: err}
}

// codeOf is gRPC's code of a request's error. A limit that passed is DeadlineExceeded
// whoever noticed it first: etcd 3.4 reports it without a code.
func codeOf(err error) codes.Code {
	var e rpctypes.EtcdError
	switch {
	case err == nil:
		return codes.OK
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		plain(err) == context.DeadlineExceeded.Error(), plain(err) == context.Canceled.Error():
		return codes.DeadlineExceeded
	case errors.As(err, &e):
		return e.Code()
	}
	return status.Code(err)
}

// refusal is why something is not done that was asked for, in words for people.
type refusal string

func (r refusal) Error() string { return string(r) }

// Refused says that what is stored forbids it, and nothing failed.
func (r refusal) Refused() bool { return true }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// isDomain says whether err is an outcome of ours and no failure of etcd's.
func isDomain(err error) bool {
	var full *locksmith.FullError
	var unreadable *locksmith.UnreadableError
	var paused *locksmith.PausedError
	var refused refusal
	return errors.As(err, &full) || errors.As(err, &unreadable) || errors.As(err, &paused) || errors.As(err, &refused) || errors.Is(err, locksmith.ErrHolderExists) ||
		errors.Is(err, locksmith.ErrNotHolder) || errors.Is(err, locksmith.ErrSlotLost) ||
		errors.Is(err, locksmith.ErrNotPaused) || errors.Is(err, locksmith.ErrUnknownMachine)
}

// known is for what etcd itself said.
func (s *Store) known(err error) (msg string, transient, ok bool) {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(rpctypes.Error(err), t) || errors.Is(err, t) || plain(err) == plain(t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(rpctypes.ErrAuthFailed):
		return fmt.Sprintf("etcd refused user %q: unknown user or wrong password (%s)", s.cfg.Username, s.tried()), false, true
	case s.cfg.Username != "" && is(rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken): // time and again
		return fmt.Sprintf("etcd does not take the tokens that it gives user %q (%s)", s.cfg.Username, s.tried()), true, true
	case is(rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken):
		return fmt.Sprintf("etcd wants a user: set the etcd user name and password (%s)", s.tried()), false, true
	case is(rpctypes.ErrPermissionDenied):
		who := fmt.Sprintf("user %q has", s.cfg.Username)
		if s.cfg.Username == "" {
			who = "the client certificate's user has"
		}
		return fmt.Sprintf("etcd denied permission: %s no readwrite role for the prefix %s", who, prefix), false, true
	case is(rpctypes.ErrNoSpace):
		return fmt.Sprintf("etcd is out of space and takes no writes (alarm NOSPACE): compact and defragment it, or raise its quota, then disarm the alarm (%s)", s.tried()), true, true
	case is(rpctypes.ErrNoLeader, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutWaitAppliedIndex,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrLeaderChanged, rpctypes.ErrNotCapable, rpctypes.ErrUnhealthy):
		return fmt.Sprintf("etcd has no leader or lost its quorum: %s (%s)", plain(err), s.tried()), true, true
	case is(rpctypes.ErrTooManyRequests, rpctypes.ErrCompacted, rpctypes.ErrFutureRev, rpctypes.ErrLeaseNotFound,
		rpctypes.ErrAuthOldRevision):
		return fmt.Sprintf("etcd: %s (%s)", plain(err), s.tried()), true, true
	}
	return "", false, false
}

// refused says whether etcd itself said that a change was not carried out, and
// would not be if it came again at once.
func refused(err error) bool {
	switch codeOf(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition, codes.NotFound:
		return true
	case codes.ResourceExhausted:
		return !errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyRequests)
	}
	return false
}

// plain is the server's own sentence, without gRPC's wrapping.
func plain(err error) string {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return strings.TrimPrefix(e.Error(), "etcdserver: ")
	}
	msg := err.Error()
	if st, ok := status.FromError(err); ok {
		msg = st.Message()
	}
	if _, desc, ok := strings.Cut(msg, " desc = "); ok { // of a watch that was cancelled: nothing but text
		msg = desc
	}
	return strings.TrimPrefix(msg, "etcdserver: ")
}

func (s *Store) tried() string {
	if len(s.cfg.Endpoints) == 0 { // a shared client: whoever made it knows where it goes
		return "over a shared connection"
	}
	return "tried " + strings.Join(s.cfg.Endpoints, ", ")
}

// diagnose asks each endpoint's own socket why there was no answer: gRPC reports
// a refused connection, a wrong authority and a silent server all alike as a
// deadline that passed. transient is false if at every endpoint the files or the
// names given are the fault.
//
// What was found holds for a while, for failures of the same kind: each look is one more
// connection to an etcd that may have too many already, and all who wait in a large
// fleet would open one at every try.
func (s *Store) diagnose(err error) (msg string, transient bool) {
	if len(s.cfg.Endpoints) == 0 {
		return "no answer from etcd: " + plain(err), true
	}
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	if kind := codeOf(err); kind != s.found.kind || time.Since(s.found.at) > probeAgain {
		s.found.msg, s.found.transient = s.probeAll()
		s.found.kind, s.found.at = kind, time.Now()
	}
	return s.found.msg, s.found.transient
}

// diagnosis is what diagnose found last.
type diagnosis struct {
	mu        sync.Mutex
	kind      codes.Code // of the failure
	at        time.Time  // zero: never
	msg       string
	transient bool
}

// probeAgain is for how long a diagnosis holds.
const probeAgain = 10 * time.Second

func (s *Store) probeAll() (msg string, transient bool) {
	parts := make([]string, len(s.cfg.Endpoints))
	passing := make([]bool, len(parts))
	var wg sync.WaitGroup
	for i, e := range s.cfg.Endpoints {
		wg.Go(func() {
			var why string
			why, passing[i] = s.probe(e)
			parts[i] = e + " " + why
		})
	}
	wg.Wait()
	return "no answer from etcd: " + strings.Join(parts, "; "), slices.Contains(passing, true)
}

// probeLimit is what asking an endpoint may add to a call that has failed.
const probeLimit = 2 * time.Second

// probe says in a few words what a fresh connection to endpoint meets, and
// whether that may pass.
func (s *Store) probe(endpoint string) (why string, passing bool) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "is no URL", false
	}
	deadline := time.Now().Add(probeLimit)
	network, address := "tcp", u.Host
	if u.Scheme == "unix" {
		network, address = "unix", u.Path
	}
	conn, err := (&net.Dialer{Deadline: deadline}).Dial(network, address)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("has a host name that does not resolve (%s)", dns.Err), dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection", true
	case err != nil:
		return "cannot be reached (" + lastPart(err) + ")", true
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	if u.Scheme == "https" {
		if why, passing := s.probeTLS(conn, u.Hostname()); why != "" {
			return why, passing
		}
	} else if speaksTLS(conn) {
		return "speaks TLS: use https://" + u.Host, false
	}
	return fmt.Sprintf("accepts connections but did not answer within %v (lost quorum, overload, or not etcd's client port)", s.cfg.Timeout), true
}

// speaksTLS says whether a TLS server is at the other end of conn. Nothing is told
// to it, so it is not verified.
func speaksTLS(conn net.Conn) bool {
	err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	return err == nil || strings.Contains(err.Error(), "remote error: tls")
}

// probeTLS says what is wrong with TLS, "" if nothing is, and whether that may
// pass: certificates that do not fit will not.
func (s *Store) probeTLS(conn net.Conn, host string) (why string, passing bool) {
	cfg := s.tls.config()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.ServerName = host
	cfg.NextProtos = []string{"h2"}
	c := tls.Client(conn, cfg)
	err := c.Handshake()
	if err == nil {
		// With TLS 1.3 a server that rejects our certificate says so only
		// after the handshake; one that is content sends its settings.
		_, err = c.Read(make([]byte, 1))
	}
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case err == nil, errors.As(err, &timeout) && timeout.Timeout():
		return "", true
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		// An http endpoint does so, but a proxy without a server behind it too.
		return "hung up during the TLS handshake (if it does not speak TLS, use http://)", true
	case errors.As(err, &record):
		return "does not speak TLS: use http://", false
	case errors.As(err, &unknown):
		return "has a certificate of an authority that is not trusted: check the etcd CA file", false
	case errors.As(err, &verify):
		return "has a certificate that is not valid: " + verify.Err.Error(), false
	case strings.Contains(err.Error(), "remote error: tls"):
		return "rejected our certificate: check the etcd certificate and key files (" + lastPart(err) + ")", false
	}
	return "failed the TLS handshake (" + lastPart(err) + ")", false
}

// lastPart is the innermost cause of a network error.
func lastPart(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// transient says whether an error that went through explain may pass by itself.
func transient(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.transient
}
