package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/metrics"
)

// serve serves m on a free port. What it returns ends that, and is called anyway.
func serve(t *testing.T, m *metrics.Metrics) (address string, stop func()) {
	t.Helper()
	l, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func ask(t *testing.T, method, url string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestServe(t *testing.T) {
	address, stop := serve(t, metrics.New(config()))
	tests := []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/metrics", 200, "\nlocksmith_slot_held 0\n"},
		{"GET", "/metrics?collect[]=x", 200, "\nlocksmith_slot_held 0\n"},
		{"HEAD", "/metrics", 200, ""},
		{"GET", "/", 200, "locksmithd: metrics are at /metrics\n"},
		{"POST", "/metrics", 405, ""},
		{"GET", "/v1/status", 404, ""},
		{"POST", "/v1/need-reboot", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
	}
	for _, tt := range tests {
		status, header, body := ask(t, tt.method, "http://"+address+tt.path)
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, body)
		}
		if tt.path == "/metrics" && status == 200 && (header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || header.Get("Content-Encoding") != "") {
			t.Errorf("header %q", header)
		}
	}
	stop()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("still listening after the end")
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	l, err := metrics.Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	const form = "must be host:port or :port, such as 127.0.0.1:9480"
	for address, want := range map[string]string{
		"":                    `metrics address "": ` + form,
		"9480":                `metrics address "9480": ` + form,
		"localhost:":          `metrics address "localhost:": ` + form,
		"http://localhost:80": `metrics address "http://localhost:80": ` + form,
		":99999":              `metrics address ":99999": listen tcp: address 99999: invalid port`,
		":" + port:            fmt.Sprintf(`metrics address ":%s": listen tcp :%s: bind: address already in use`, port, port),
	} {
		l, err := metrics.Listen(address)
		if err == nil {
			l.Close()
			t.Errorf("%q was accepted", address)
		} else if err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestListenerThatEnds(t *testing.T) {
	l, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := metrics.New(config()).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// A fifth scrape at a time is told to come again, on whichever way in.
func TestScrapesAtATime(t *testing.T) {
	c := config()
	collecting, release := make(chan struct{}), make(chan struct{})
	c.Etcd = func() metrics.EtcdStats {
		collecting <- struct{}{}
		<-release
		return metrics.EtcdStats{}
	}
	m := metrics.New(c)
	address, _ := serve(t, m)
	scrape := func() int {
		rec := httptest.NewRecorder()
		m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		return rec.Code
	}
	codes := make(chan int, 4)
	for range 4 {
		go func() { codes <- scrape() }()
		<-collecting
	}
	if status, _, body := ask(t, "GET", "http://"+address+"/metrics"); status != 503 || body != "4 scrapes are being answered; try again\n" {
		t.Errorf("got %d %s", status, body)
	}
	close(release)
	for range 4 {
		if code := <-codes; code != 200 {
			t.Errorf("got %d", code)
		}
	}
	go scrape()
	<-collecting // there is room again
}

// Those who connect and say nothing are few, and not for long.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, metrics.New(config()))
	var wg sync.WaitGroup
	for range 16 { // all there may be
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wg.Go(func() {
			c.SetReadDeadline(time.Now().Add(60 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a silent connection: %v", err)
			}
		})
	}
	if status, _, _ := ask(t, "GET", "http://"+address+"/metrics"); status != 200 {
		t.Errorf("got %d", status)
	}
	wg.Wait()
}
