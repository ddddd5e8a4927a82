package hostile

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// limit is within what anything has to happen that has to happen at all. A machine with
// more to do than this suite must not make it fail.
const limit = 2 * time.Minute

// behaved is a machine that reboots again and again, and somebody who looks at the
// status meanwhile, each request on a connection of its own.
type behaved struct {
	url    string
	client *http.Client

	took  []time.Duration // until each request was served
	again int             // how often one was asked again
	wrong []error
}

// during runs attack with a client that behaves beside it, which fails the test where it
// is not served, or refused.
func (s *server) during(t testing.TB, attack func()) *behaved {
	t.Helper()
	b := s.behaved()
	// A first round before anything is wrong: the server knows who this is, which matters
	// where somebody guesses tokens from the same address.
	b.round()
	b.took = nil
	over := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			b.round()
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond): // a client, not a flood
			}
		}
	})
	attack()
	close(over)
	beside.Wait()
	b.none(t)
	return b
}

func (s *server) behaved() *behaved {
	return &behaved{url: s.url, client: newClient(s.tls)}
}

func newClient(secure *tls.Config) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}}
}

// none fails the test with the first of what went wrong.
func (b *behaved) none(t testing.TB) {
	t.Helper()
	for _, err := range b.wrong[:min(len(b.wrong), 5)] {
		t.Errorf("a client that behaves: %v", err)
	}
}

// String says how a client was served.
func (b *behaved) String() string {
	if len(b.took) == 0 {
		return "not served"
	}
	slices.Sort(b.took)
	return fmt.Sprintf("%d served, median %v, worst %v, %d asked again", len(b.took),
		b.took[len(b.took)/2].Round(100*time.Microsecond), b.took[len(b.took)-1].Round(time.Millisecond), b.again)
}

// round is one reboot, looked at.
func (b *behaved) round() {
	body := slotBody("well-behaved", "good")
	b.ask(http.MethodPost, "/v1/pre-reboot", machineToken, body)
	b.ask(http.MethodGet, "/api/v1/status?group=good", adminToken, "")
	b.ask(http.MethodPost, "/v1/steady-state", machineToken, body)
	b.ask(http.MethodGet, "/healthz", "", "")
}

// slotBody is the body of a FleetLock request.
func slotBody(id, group string) string {
	return fmt.Sprintf(`{"client_params":{"id":%q,"group":%q}}`, id, group)
}

// ask asks until it is served, as a client does that is told to come again, or is not
// told anything.
func (b *behaved) ask(method, path, token, body string) {
	began := time.Now()
	err := b.request(method, path, token, body)
	for ; isTransient(err) && time.Since(began) < limit; err = b.request(method, path, token, body) {
		b.again++
	}
	if err != nil {
		b.wrong = append(b.wrong, fmt.Errorf("%s after %v: %w", path, time.Since(began), err))
		return
	}
	b.took = append(b.took, time.Since(began))
}

// refusal is an answer other than 200.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %.500s", r.code, r.text) }

func isTransient(err error) bool {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.code == http.StatusServiceUnavailable || r.code == http.StatusGatewayTimeout
	}
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout() || err != nil && hungUp(err)
}

func (b *behaved) request(method, path, token, body string) error {
	_, err := fetch(b.client, method, b.url+path, token, body)
	return err
}

// fetch makes a request and returns the body of the answer. Its error is a *refusal where
// that is not 200.
func fetch(client *http.Client, method, url, token, body string) ([]byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodPost {
		req.Header.Set("fleet-lock-protocol", "true")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &refusal{resp.StatusCode, string(bytes.TrimSpace(text))}
	}
	return text, err
}
