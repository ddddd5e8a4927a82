package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// maxResponse bounds what a client reads of a response, in bytes. A thousand
// holders in each of ten groups fit.
const maxResponse = 8 << 20

// Client asks the locksmithd of this machine. Its calls take as long as their
// contexts allow.
type Client struct {
	Path string // the socket; empty means DefaultPath
}

// Status is what the daemon says of itself. It returns an error wrapping
// ErrNotRunning where nobody answers.
func (c Client) Status(ctx context.Context) (agent.Status, error) {
	return get[agent.Status](ctx, c, pathStatus, "a status")
}

// Why is why this machine has or has not rebooted, as the daemon knows it. It
// returns an error wrapping ErrNotRunning where nobody answers.
func (c Client) Why(ctx context.Context) (locksmith.Why, error) {
	return get[locksmith.Why](ctx, c, pathWhy, "a why")
}

// NeedReboot tells the daemon that this machine needs a reboot. The reason is
// for people; empty means that none is given. It returns an error wrapping
// ErrNotRunning where nobody answers, and ErrNotAllowed unless called by root.
func (c Client) NeedReboot(ctx context.Context, reason string) error {
	body, err := json.Marshal(needReboot{Reason: reason})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPost, pathNeedReboot, body)
	return err
}

// CancelReboot takes an earlier NeedReboot back; there need not have been one.
// Its errors are those of NeedReboot.
func (c Client) CancelReboot(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, pathNeedReboot, nil)
	return err
}

// get reads the answer at path; what names it.
func get[T any](ctx context.Context, c Client, path, what string) (T, error) {
	var answer, none T
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return none, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return none, fmt.Errorf("locksmithd at %s: answer is not %s: %v", c.path(), what, err)
	}
	return answer, nil
}

func (c Client) path() string {
	if c.Path == "" {
		return DefaultPath
	}
	return c.Path
}

// do performs one request on a connection of its own and returns the body of a
// success.
func (c Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	// The host is only there because HTTP wants one.
	req, err := http.NewRequestWithContext(ctx, method, "http://locksmithd"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.path())
		},
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, c.translate(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, c.translate(err)
	}
	if len(answer) > maxResponse {
		return nil, fmt.Errorf("locksmithd at %s: answer is longer than %d bytes", c.path(), maxResponse)
	}
	if resp.StatusCode >= 300 {
		return nil, c.refusal(resp.StatusCode, answer)
	}
	return answer, nil
}

// translate says what a failed connection means.
func (c Client) translate(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens on %s; start it with: systemctl start locksmithd", ErrNotRunning, c.path())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: no access to %s; run as root", ErrNotAllowed, c.path())
	}
	return fmt.Errorf("locksmithd at %s did not answer: %v", c.path(), err)
}

// refusal turns a response that reports a failure into an error.
func (c Client) refusal(status int, answer []byte) error {
	var f failure
	if err := json.Unmarshal(answer, &f); err != nil || f.Error == "" {
		return fmt.Errorf("locksmithd at %s answered %d %s", c.path(), status, http.StatusText(status))
	}
	if status == http.StatusForbidden {
		return fmt.Errorf("%w: %s", ErrNotAllowed, strings.TrimPrefix(f.Error, ErrNotAllowed.Error()+": "))
	}
	return errors.New(f.Error)
}
