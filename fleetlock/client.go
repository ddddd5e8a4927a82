package fleetlock

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// KindUnexpected is what a Client makes of an answer that no FleetLock server gives: a
// redirect, a success other than 200, or an error without a kind of its own.
const KindUnexpected Kind = "unexpected_answer"

// DefaultTimeout is how long a Client waits for an answer. A server may hold a request
// until a slot is free.
const DefaultTimeout = 30 * time.Minute

const (
	maxAnswer  = 64 << 10         // bytes that are read of an answer
	maxKind    = 128              // bytes of a kind
	answerTime = 10 * time.Second // for an answer's body, once its head is there
)

// Client asks a FleetLock server for the permission to reboot. Set the fields before the
// first call; calls may be made concurrently.
type Client struct {
	// URL is the server's base, http or https, with the prefix of its paths where it has
	// one: "https://fleetlock.example.org:8443/prefix". A user and password in it are
	// sent as Basic authentication, and left out of errors. Required.
	URL string

	// Username and Password, or Token, are sent instead of what is in URL: as Basic
	// authentication, or as a bearer token.
	Username, Password string
	Token              string

	// TLS is what connections over https are made with; nil: the system's authorities,
	// and no certificate. Not looked at where HTTP is set.
	TLS *tls.Config

	// HTTP makes the requests; nil: a client that waits for as long as DefaultTimeout,
	// finds out by TCP keep-alive when the server is gone, and goes through the
	// environment's proxies. Redirects are not followed, whatever it says of them.
	HTTP *http.Client

	once  sync.Once
	do    *http.Client
	base  *url.URL // without user and password
	fault error    // of the fields
}

// PreReboot asks for a slot and returns nil once the machine holds it, also where it held
// it before: only an answer with the status 200 says so. The server may hold the request
// for long.
//
// An answer of any other kind is an *Error, with the kind, value and status that the
// server gave. That the server cannot be reached, or did not answer in time, is any other
// error; it wraps ctx's where ctx has ended, and then nobody knows whether the slot was
// granted. No error shows the credentials.
func (c *Client) PreReboot(ctx context.Context, req Request) error {
	return c.call(ctx, PreRebootPath, req)
}

// SteadyState gives the machine's slot back, and returns nil once it is, also where it
// held none. Its errors are PreReboot's.
func (c *Client) SteadyState(ctx context.Context, req Request) error {
	return c.call(ctx, SteadyStatePath, req)
}

// Check says what is wrong with the Client's fields, if anything.
func (c *Client) Check() error {
	c.once.Do(c.prepare)
	return c.fault
}

// Base is the server's URL without user and password, for people; empty where Check has
// an error.
func (c *Client) Base() string {
	if c.Check() != nil {
		return ""
	}
	return c.base.String()
}

// Check says what is wrong with a request, if anything.
func (r Request) Check() error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	return checkGroup(r.Group)
}

func (c *Client) prepare() {
	u, err := parseBase(c.URL)
	switch {
	case err != nil:
		c.fault = err
		return
	case c.Token != "" && (c.Username != "" || c.Password != ""):
		c.fault = errors.New("a user with a password and a token were given: give one of them")
		return
	}
	if c.Token == "" && c.Username == "" && c.Password == "" && u.User != nil {
		c.Username = u.User.Username()
		c.Password, _ = u.User.Password()
	}
	u.User = nil
	c.base = u
	var own http.Client
	if c.HTTP != nil {
		own = *c.HTTP
	} else {
		own.Timeout, own.Transport = DefaultTimeout, newTransport(c.TLS)
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.do = &own
}

func newTransport(config *tls.Config) *http.Transport {
	dialer := net.Dialer{
		Timeout: 10 * time.Second,
		// A server that died while it held the request is noticed within about a minute.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxAnswer,
	}
}

// userinfo is what may stand between a URL's scheme and host, also of one that is not
// valid.
var userinfo = regexp.MustCompile(`^([^/]*//|).*@`)

// parseBase reads a server's URL. Its errors do not show a password.
func parseBase(s string) (*url.URL, error) {
	shown := userinfo.ReplaceAllString(s, "${1}…@")
	bad := func(why string) error {
		return fmt.Errorf("invalid URL %q of the FleetLock server: %s; must be like https://fleetlock.example.org:8443", shown, why)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, bad("it cannot be read") // the reason may have the password
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, bad("it is neither http nor https")
	case u.Hostname() == "":
		return nil, bad("it has no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, bad("it has more than a host and a path")
	}
	return u, nil
}

// call makes one request.
func (c *Client) call(ctx context.Context, path string, req Request) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := req.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	post, err := c.post(ctx, path, req)
	if err != nil {
		return err
	}
	resp, err := c.do.Do(post)
	if err != nil {
		var failed *url.Error // shows the user
		if errors.As(err, &failed) {
			err = failed.Err
		}
		// The second is what net/http says where it spoke before it was asked.
		if text := err.Error(); strings.Contains(text, "malformed HTTP response") || strings.Contains(text, "readLoopPeekFailLocked") {
			err = errors.New("it is no HTTP server (perhaps an etcd endpoint)")
		}
		return fmt.Errorf("the FleetLock server %s: %w", c.base, err)
	}
	defer resp.Body.Close()
	// Who sends the head and then nothing more is not waited for.
	defer time.AfterFunc(answerTime, cancel).Stop()
	if resp.StatusCode == http.StatusOK {
		if n := resp.ContentLength; n >= 0 && n <= maxAnswer { // for the connection's next use
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		body = nil // the status says it too
	}
	return failure(resp, body)
}

func (c *Client) post(ctx context.Context, path string, req Request) (*http.Request, error) {
	type params struct {
		ID    string `json:"id"`
		Group string `json:"group"`
	}
	body, err := json.Marshal(struct {
		Params params `json:"client_params"`
	}{params(req)})
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Fleet-Lock-Protocol", "true")
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("User-Agent", "locksmith")
	// Both calls may be repeated. Empty, it is not sent, but tells net/http that it may
	// do so where a connection that was kept open turns out to be closed.
	post.Header["Idempotency-Key"] = nil
	switch {
	case c.Token != "":
		post.Header.Set("Authorization", "Bearer "+c.Token)
	case c.Username != "" || c.Password != "":
		post.SetBasicAuth(c.Username, c.Password)
	}
	return post, nil
}

// failure is what an answer other than 200 says.
func failure(resp *http.Response, body []byte) *Error {
	kind, value := parseError(body)
	e := &Error{Kind: kind, Value: value, Status: resp.StatusCode}
	if kind != "" {
		return e
	}
	e.Kind = kindOf(resp.StatusCode)
	e.Value = cmp.Or(http.StatusText(resp.StatusCode), fmt.Sprintf("status %d", resp.StatusCode))
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		to.User = nil
		e.Value = fmt.Sprintf("it redirects to %s, which is not followed: give the URL under which it answers itself", to)
	}
	return e
}

// parseError reads an error's body. Both are empty where it is none of FleetLock's.
func parseError(body []byte) (Kind, string) {
	var doc struct {
		Kind  Kind   `json:"kind"`
		Value string `json:"value"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Kind == "" || doc.Value == "" || len(doc.Kind) > maxKind {
		return "", ""
	}
	return doc.Kind, doc.Value
}

// kindOf is what an answer's status says alone.
func kindOf(status int) Kind {
	switch status {
	case http.StatusBadRequest:
		return KindInvalid
	case http.StatusUnauthorized:
		return KindUnauthorized
	case http.StatusForbidden:
		return KindForbidden
	case http.StatusNotFound:
		return KindNotFound
	case http.StatusMethodNotAllowed:
		return KindMethod
	case http.StatusRequestEntityTooLarge:
		return KindTooLarge
	case http.StatusLocked:
		return KindFull
	case http.StatusInternalServerError:
		return KindInternal
	case http.StatusServiceUnavailable:
		return KindStore
	}
	return KindUnexpected
}
