package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Limits of one question.
const (
	maxBody      = 16 << 20 // bytes of an answer
	maxHeader    = 64 << 10 // bytes
	maxRedirects = 3
)

// client asks one Prometheus for its alerts.
type client struct {
	url            string // of the alerts, without user and password
	user, password string
	http           *http.Client
}

func newClient(u *url.URL) client {
	asked := *u
	asked.User = nil
	c := client{url: asked.JoinPath("api/v1/alerts").String()}
	if u.User != nil {
		c.user = u.User.Username()
		c.password, _ = u.User.Password()
	}
	c.http = &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			// Checks are minutes apart.
			DisableKeepAlives:      true,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
	return c
}

// checkRedirect keeps what was meant to be secret secret. Another host never gets
// the password: the http package sees to that.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case req.URL.Scheme != "https" && via[0].URL.Scheme == "https":
		return fmt.Errorf("it redirects from https to %s", req.URL.Redacted())
	}
	return nil
}

// get returns the body of a successful answer.
func (c client) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "locksmithd")
	if c.user != "" || c.password != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, failed(err)
	case resp.StatusCode != http.StatusOK:
		return nil, refusal(resp.StatusCode, body)
	case len(body) > maxBody:
		return nil, fmt.Errorf("its answer is longer than %d MiB", maxBody>>20)
	}
	return body, nil
}

// failed is err without the URL, which may be one that was redirected to. Where ctx
// ended the question, err is its cause already.
func failed(err error) error {
	var asking *url.Error
	if errors.As(err, &asking) {
		return asking.Err
	}
	return err
}

// refusal is what an answer other than 200 says, where Prometheus itself gave it.
func refusal(status int, body []byte) error {
	var answer response
	text := fmt.Sprintf("it answers %d %s", status, http.StatusText(status))
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		text += ": " + oneLine(answer.Error, 200)
	}
	return errors.New(text)
}
