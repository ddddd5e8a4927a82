package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func newClient(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestNewClientRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]ClientConfig{
		`invalid server URL ""`:                                    {},
		`invalid server URL "ftp://x"`:                             {URL: "ftp://x"},
		`invalid server URL "x:1"`:                                 {URL: "x:1"},
		`invalid server URL "http:"`:                               {URL: "http://"},
		`invalid server URL "http://x?y=1"`:                        {URL: "http://x?y=1"},
		`invalid server URL "http://alice:xxxxx@x"`:                {URL: "http://alice:secret@x"},
		"the server's token holds a space":                         {URL: "http://x", Token: "two words"},
		"a client certificate and its key belong together":         {URL: "https://x", CertFile: empty},
		"the server's CA file " + empty + " holds no PEM":          {URL: "https://x", CAFile: empty},
		"reading the server's CA file: open missing: no such file": {URL: "https://x", CAFile: "missing"},
		"reading the client certificate " + empty + " and its key": {URL: "https://x", CertFile: empty, KeyFile: empty},
	} {
		if _, err := NewClient(cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "words") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What is no locksmith-server's answer is told in one line, whatever it is.
func TestStrangeAnswers(t *testing.T) {
	tests := []struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere/api/v1", http.StatusFound)
		}, "sends elsewhere, to https://elsewhere/api/v1"},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "nothing\nhere", 404) }, `answers 404 Not Found, and not as locksmith-server does: "nothing"`},
		{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, `answers 200 OK, and not as locksmith-server does: "<html>"`},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"groups":`)
		}, "cannot be understood"},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"groups":3}`)
		}, "cannot be understood"},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(500)
			fmt.Fprint(w, `{"error":{}}`)
		}, "answers 500 Internal Server Error, and not as locksmith-server does"},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(418)
			fmt.Fprint(w, `{"error":{"code":"teapot","message":"short and stout"}}`)
		}, "short and stout"},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			spaces := bytes.Repeat([]byte(" "), 1<<20)
			for range maxAnswer>>20 + 1 {
				if _, err := w.Write(spaces); err != nil {
					return
				}
			}
		}, "is longer than 64 MiB"},
		{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "no answer from locksmith-server at http://127.0.0.1:"},
	}
	for _, tt := range tests {
		srv := httptest.NewServer(http.HandlerFunc(tt.answer))
		_, err := newClient(t, ClientConfig{URL: srv.URL + "/", Token: "s3cret"}).Groups(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %s", err, tt.want)
		}
		srv.Close()
	}
}

// Why there is no answer is said in words.
func TestNoAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	breaks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{")) // and no more
	}))
	defer breaks.Close()
	for url, want := range map[string]string{
		breaks.URL:                         "it closed the connection before it had answered",
		"http://" + silent.Addr().String(): "it did not answer within 300ms",
		closed.URL:                         "it refused the connection",
		"http://nowhere.invalid":           "its host name does not resolve",
		strings.Replace(plain.URL, "http", "https", 1): "it does not speak TLS: use http://",
		secure.URL: "its certificate is of an authority that is not trusted",
		strings.Replace(secure.URL, "https", "http", 1): "answers 400 Bad Request",
	} {
		cfg := ClientConfig{URL: url, Timeout: time.Minute} // the others answer, however busy the machine is
		if strings.HasSuffix(url, silent.Addr().String()) {
			cfg.Timeout = 300 * time.Millisecond
		}
		_, err := newClient(t, cfg).Groups(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no patience"))
	if _, err := newClient(t, ClientConfig{URL: plain.URL}).Groups(ctx); err == nil || err.Error() != "no patience" {
		t.Error(err)
	}
}

// Who speaks HTTP/2 at once, as etcd may, is no HTTP server: whether that arrives before
// the request is sent or after it.
func TestNoHTTPServer(t *testing.T) {
	for _, first := range []bool{true, false} {
		url, hungUp := noHTTPServer(t, first)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
			if first { // the client has read it by then
				<-hungUp
			}
		}})
		_, err := newClient(t, ClientConfig{URL: url}).Groups(ctx)
		if want := "no answer from locksmith-server at " + url + ": it is no HTTP server (perhaps an etcd endpoint)"; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// noHTTPServer answers the first who connects in HTTP/2, and that before it is asked or
// not. hungUp is closed when the other one has.
func noHTTPServer(t *testing.T, first bool) (url string, hungUp <-chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	end := make(chan struct{})
	go func() {
		defer close(end)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if !first {
			_, _ = conn.Read(make([]byte, 1))
		}
		_, _ = io.WriteString(conn, "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00") // its settings
		if !first {                                                                              // no such request
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	return "http://" + l.Addr().String(), end
}

// What a client sends: its token, its certificate, and below the URL's own path.
func TestWhatIsSent(t *testing.T) {
	var got *http.Request
	var body string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"action":"pause","oldMax":3}`)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	file := func(name string, blocks ...*pem.Block) string {
		var b bytes.Buffer
		for _, block := range blocks {
			if err := pem.Encode(&b, block); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := file("ca", &pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c := newClient(t, ClientConfig{URL: srv.URL + "/reboots/", Token: "s3cret", CAFile: ca})
	err := c.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{Group: "lb"}, Until: 4e9, Reason: "x", By: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	if got.URL.Path != "/reboots/api/v1/pause" || got.Header.Get("Authorization") != "Bearer s3cret" || got.Header.Get("Content-Type") != "application/json" ||
		got.ProtoMajor != 1 || body != `{"scope":"group","group":"lb","until":"2096-10-02T07:06:40Z","reason":"x"}` {
		t.Errorf("%v %s", got, body)
	}
	if old, err := c.SetMax(t.Context(), "", 5, "somebody"); err != nil || old != 3 || body != `{"max":5}` {
		t.Errorf("%d %v %s", old, err, body)
	}
	if _, err := c.History(t.Context(), "", 5000); err != nil || got.URL.RawQuery != "group=&limit=1024" {
		t.Errorf("%v %s", err, got.URL.RawQuery)
	}
}

// Events come in any form that their standard allows.
func TestReadEvents(t *testing.T) {
	text := ": hello\n\nevent: change\ndata: {\"a\":\ndata: 1}\n\nid: 7\nevent:unknown\ndata:x\n\nevent: no data\n\ndata: last, but not ended"
	var got []string
	heard := 0
	err := readEvents(strings.NewReader(text), 1<<10, func() { heard++ }, func(name string, data []byte) error {
		got = append(got, name+"|"+string(data))
		return nil
	})
	if want := "[change|{\"a\":\n1} unknown|x]"; err != nil || fmt.Sprint(got) != want || heard != 13 {
		t.Errorf("%v, %d lines, %v", got, heard, err)
	}
	err = readEvents(strings.NewReader("data: "+strings.Repeat("x", 2<<10)), 1<<10, func() {}, nil)
	if err == nil {
		t.Error("a line without an end is read to its end")
	}
}

// A server that says nothing any more is left for another try.
func TestWatchOfASilentServer(t *testing.T) {
	connections := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections <- struct{}{}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: change\ndata: {\"group\":\"\",\"max\":1}\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	c := newClient(t, ClientConfig{URL: srv.URL})
	c.watch = watchTimes{silence: 50 * time.Millisecond, pauseMin: time.Millisecond, pauseMax: time.Millisecond, maxLength: 1 << 20}
	enough, states := errors.New("enough"), 0
	err := c.WatchStatus(t.Context(), "", func(locksmith.GroupStatus) error {
		if states++; states == 3 {
			return enough
		}
		return nil
	})
	if err != enough || len(connections) != 3 {
		t.Errorf("%v after %d connections", err, len(connections))
	}
}
