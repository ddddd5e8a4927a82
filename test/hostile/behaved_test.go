package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is within what a client that behaves is served, each of its requests.
const patience = time.Second

// behaved is a machine that reboots again and again, and somebody who looks at the
// status meanwhile, each request on a connection of its own.
type behaved struct {
	url    string
	client *http.Client

	mu      sync.Mutex
	served  int
	slowest time.Duration
	wrong   []error
}

// during runs attack with a client that behaves beside it, which fails the test where it
// is not served in time, or not at all.
func (s *server) during(t testing.TB, attack func()) {
	t.Helper()
	b := &behaved{url: s.url, client: newClient(s.tls)}
	// A first round before anything is wrong: the server knows who this is, which matters
	// where somebody guesses tokens from the same address.
	b.round()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			b.round()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // a client, not a flood
			}
		}
	}()
	attack()
	cancel()
	<-done
	b.client.CloseIdleConnections()
	for _, err := range b.wrong[:min(len(b.wrong), 5)] {
		t.Errorf("a client that behaves: %v", err)
	}
	t.Logf("a client that behaves was served %d times, after %v at most", b.served, b.slowest.Round(time.Millisecond))
	if b.served < 8 {
		t.Errorf("a client that behaves was served %d times only", b.served)
	}
}

func newClient(secure *tls.Config) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}}
}

// round is one reboot, looked at.
func (b *behaved) round() {
	body := `{"client_params":{"id":"well-behaved","group":"good"}}`
	b.ask(http.MethodPost, "/v1/pre-reboot", machineToken, body)
	b.ask(http.MethodGet, "/api/v1/status?group=good", adminToken, "")
	b.ask(http.MethodPost, "/v1/steady-state", machineToken, body)
	b.ask(http.MethodGet, "/healthz", "", "")
}

func (b *behaved) ask(method, path, token, body string) {
	began := time.Now()
	err := b.request(method, path, token, body)
	took := time.Since(began)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.wrong = append(b.wrong, fmt.Errorf("%s after %v: %w", path, took, err))
	case took > patience:
		b.wrong = append(b.wrong, fmt.Errorf("%s was answered after %v", path, took))
	default:
		b.served++
	}
	b.slowest = max(b.slowest, took)
}

func (b *behaved) request(method, path, token, body string) error {
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(path, "/v1/") {
		req.Header.Set("fleet-lock-protocol", "true")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + strings.TrimSpace(string(text)))
	}
	return err
}
