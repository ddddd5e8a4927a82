package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// DefaultTimeout bounds a call.
const DefaultTimeout = 10 * time.Second

// maxAnswer bounds what is read of an answer, in bytes: ten thousand machines, each with
// much to say, are a quarter of it.
const maxAnswer = 64 << 20

// ClientConfig says how to reach a server.
type ClientConfig struct {
	URL   string // required: "https://reboots.example.com:8443", perhaps with a path that goes before Prefix
	Token string // empty: none is sent

	CAFile            string // PEM; empty: the system's authorities
	CertFile, KeyFile string // PEM; of the client, both or neither

	Timeout time.Duration // of one call; 0: DefaultTimeout
	Log     *slog.Logger  // nil: discard
}

// Client does through a server what internal/etcd's Store does on etcd, but for what a
// server does not do for others: those methods return a *NeedsEtcdError. Errors that
// the server answers with are an *Error, which wraps the vocabulary's. In whose name
// something is done is the server's knowledge, so that actors are not sent. Its methods
// may be called concurrently.
type Client struct {
	base  string // without a slash at its end
	cfg   ClientConfig
	http  *http.Client
	log   *slog.Logger
	watch watchTimes
}

// NewClient prepares a client. It reads the files that cfg names and refuses what
// cannot work, but makes no call yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("invalid server URL %q: must be like https://reboots.example.com:8443", redacted(cfg.URL))
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the server's token holds a space or a character outside ASCII")
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	c := &Client{base: strings.TrimRight(cfg.URL, "/"), cfg: cfg, log: cfg.Log, watch: defaultWatchTimes}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirected POST would come back as a GET, and the token go elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// redacted is a URL without a password that somebody may have put into it.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	return text
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// NeedsEtcdError says that something is not done through a server.
type NeedsEtcdError struct{ What string }

func (e *NeedsEtcdError) Error() string {
	return e.What + " needs etcd itself, and a server does not do it for others: give an etcd endpoint instead of a server"
}

// get reads a document.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, into)
}

// post has something done.
func (c *Client) post(ctx context.Context, path string, body any) (done Done, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return done, err
	}
	return done, c.call(ctx, http.MethodPost, path, bytes.NewReader(text), &done)
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, into any) error {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(limited, method, path, "application/json", body)
	if err == nil {
		defer resp.Body.Close()
		err = c.read(resp, into)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// send makes a request. Of what comes back the status is 200.
func (c *Client) send(ctx context.Context, method, path, accept string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unanswered(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

// read takes a document out of an answer. Fields it does not know are a newer server's.
func (c *Client) read(resp *http.Response, into any) error {
	if !isMedia(resp, "application/json") {
		return c.strange(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.unanswered(err)
	case len(text) > maxAnswer:
		return fmt.Errorf("the answer of locksmith-server at %s is longer than %d MiB", c.base, maxAnswer>>20)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of locksmith-server at %s cannot be understood: %v", c.base, err)
	}
	return nil
}

func isMedia(resp *http.Response, want string) bool {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && media == want
}

// refused is an answer that is no success as an error.
func (c *Client) refused(resp *http.Response) error {
	const maxError = 1 << 20
	var doc ErrorDocument
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil || !isMedia(resp, "application/json") || json.Unmarshal(text, &doc) != nil || doc.Error.Code == "" || doc.Error.Message == "" {
		resp.Body = io.NopCloser(bytes.NewReader(text))
		return c.strange(resp)
	}
	e := doc.Error.Err(resp.StatusCode)
	switch e.Code {
	case CodeUnauthorized:
		e.Message = fmt.Sprintf("locksmith-server at %s wants to know who asks (%s): give a token or a client certificate", c.base, e.Message)
	case CodeUnavailable, CodeBusy, CodeStore, CodeInternal:
		e.Message = fmt.Sprintf("locksmith-server at %s: %s", c.base, e.Message)
	}
	return e
}

// strange is an answer that is none of locksmith-server's.
func (c *Client) strange(resp *http.Response) error {
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
		return fmt.Errorf("%s sends elsewhere, to %s: give that URL, without %s", c.base, redacted(to), Prefix)
	}
	const shown = 120
	start, _ := io.ReadAll(io.LimitReader(resp.Body, shown))
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(start), "?")), "\n")
	return fmt.Errorf("%s answers %s, and not as locksmith-server does: %q", c.base, resp.Status, line)
}

// Semaphore reads a group's semaphore. It costs as much as Status.
func (c *Client) Semaphore(ctx context.Context, group locksmith.Group) (sem locksmith.Semaphore, faults []string, err error) {
	s, err := c.Status(ctx, group)
	return s.Sem, s.Faults, err
}

// Status reads everything about a group.
func (c *Client) Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error) {
	var doc Status
	if err := c.get(ctx, PathStatus, ofGroup(group), &doc); err != nil {
		return locksmith.GroupStatus{Group: group}, err
	}
	return doc.GroupStatus()
}

// ofGroup names the group also where it is the default one: without, it is all of them
// in the history.
func ofGroup(group locksmith.Group) url.Values { return url.Values{"group": {string(group)}} }

// Groups lists the groups that the caller may see.
func (c *Client) Groups(ctx context.Context) ([]locksmith.GroupSummary, error) {
	var doc GroupList
	err := c.get(ctx, PathGroups, nil, &doc)
	return doc.Summaries(), err
}

// History reads the newest n entries of a group, at most MaxHistory.
func (c *Client) History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error) {
	query := ofGroup(group)
	query.Set("limit", strconv.Itoa(min(n, MaxHistory)))
	var doc HistoryList
	err := c.get(ctx, PathHistory, query, &doc)
	return doc.HistoryEntries(), err
}

// Machines lists the machines that the caller may see.
func (c *Client) Machines(ctx context.Context) ([]locksmith.MachineStatus, error) {
	var doc MachineList
	if err := c.get(ctx, PathMachines, nil, &doc); err != nil {
		return nil, err
	}
	var list []locksmith.MachineStatus
	for _, d := range doc.Machines {
		m, err := d.MachineStatus()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// Machine reads what is known of one machine, named by its id, its host name or the
// beginning of its id.
func (c *Client) Machine(ctx context.Context, name string) (locksmith.MachineStatus, error) {
	var doc Machine
	if err := c.get(ctx, PathMachine, url.Values{"name": {name}}, &doc); err != nil {
		return locksmith.MachineStatus{}, err
	}
	return doc.MachineStatus()
}

// Pauses lists the pauses that the caller may see.
func (c *Client) Pauses(ctx context.Context) ([]locksmith.Pause, error) {
	var doc PauseList
	if err := c.get(ctx, PathPauses, nil, &doc); err != nil {
		return nil, err
	}
	return pauses(doc.Pauses)
}

// Forget removes what is remembered of a machine, by its id.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.post(ctx, PathForget, ForgetRequest{MachineID: id})
	return err
}

// Unlock takes a machine's slot away. Of result only the outcome is sent, without what
// the server puts before it.
func (c *Client) Unlock(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error {
	reason := strings.TrimPrefix(strings.TrimPrefix(result.Outcome, locksmith.OutcomeUnlocked), ": ")
	_, err := c.post(ctx, PathUnlock, SlotRequest{Group: string(group), MachineID: machine, Reason: reason})
	return err
}

// SetMax changes how many slots a group has, and returns how many there were.
func (c *Client) SetMax(ctx context.Context, group locksmith.Group, n int, _ string) (old int, err error) {
	done, err := c.post(ctx, PathSetMax, SetMaxRequest{Group: string(group), Max: &n})
	if err == nil && done.OldMax != nil {
		old = *done.OldMax
	}
	return old, err
}

// Pause keeps everybody in the scope of p from starting a reboot. Of p only the scope,
// Until and the reason are sent.
func (c *Client) Pause(ctx context.Context, p locksmith.Pause) error {
	_, err := c.post(ctx, PathPause, PauseRequest{ScopeRequest: ScopeFrom(p.Scope), Until: Time(p.Until), Reason: p.Reason})
	return err
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, scope locksmith.PauseScope, _ string) error {
	_, err := c.post(ctx, PathResume, ScopeFrom(scope))
	return err
}

// TryAcquire holds a slot of one group for a machine until it is unlocked. Of what it
// returns only the machine and the group are known. Slots that are not locksmith.ByLock,
// and several at once, need etcd.
func (c *Client) TryAcquire(ctx context.Context, req locksmith.Request) (locksmith.Slots, error) {
	switch {
	case req.By != locksmith.ByLock:
		return locksmith.Slots{}, &NeedsEtcdError{"taking a slot for " + req.By}
	case len(req.Groups) != 1:
		return locksmith.Slots{}, &NeedsEtcdError{"taking slots of several groups at once"}
	}
	_, err := c.post(ctx, PathLock, SlotRequest{Group: string(req.Groups[0]), MachineID: req.MachineID, Reason: req.Reason})
	return locksmith.Slots{Groups: req.Groups, Record: locksmith.Holder{MachineID: req.MachineID}}, err
}

// Find needs etcd.
func (c *Client) Find(context.Context, string, []locksmith.Group) (locksmith.Slots, error) {
	return locksmith.Slots{}, &NeedsEtcdError{"finding a machine's slots"}
}

// Acquire needs etcd.
func (c *Client) Acquire(context.Context, locksmith.Request, func(string)) (locksmith.Slots, error) {
	return locksmith.Slots{}, &NeedsEtcdError{"waiting for a slot"}
}

// Advance needs etcd.
func (c *Client) Advance(context.Context, locksmith.Slots, locksmith.Phase, string) (locksmith.Slots, error) {
	return locksmith.Slots{}, &NeedsEtcdError{"starting a reboot"}
}

// Release needs etcd.
func (c *Client) Release(context.Context, locksmith.Slots, locksmith.Result) error {
	return &NeedsEtcdError{"giving a slot back"}
}
