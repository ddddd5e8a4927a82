package dashboard

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/access"
)

// wire is what was sent to a browser.
type wire struct {
	mu     sync.Mutex
	text   strings.Builder
	broken bool
	header http.Header
	until  time.Time // a write may take; zero: for ever
	free   bool      // something was written that might have taken for ever
}

func (w *wire) Header() http.Header { return w.header }
func (w *wire) WriteHeader(int)     {}
func (w *wire) Flush()              {}

func (w *wire) SetWriteDeadline(until time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = until
	return nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return 0, http.ErrHandlerTimeout
	}
	w.free = w.free || w.until.IsZero()
	return w.text.Write(p)
}

func (w *wire) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), what)
}

// door lets in whoever, until it is shut.
type door struct {
	Access
	mu   sync.Mutex
	shut bool
}

func (d *door) Caller(*http.Request) (access.Caller, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return access.Caller{}, &access.Refusal{Status: http.StatusUnauthorized, Reason: "no more"}
	}
	return access.Caller{Name: "vera", Role: access.RoleViewer}, nil
}

// follow runs the words to one browser in a bubble, and returns once they end.
func follow(t *testing.T, test func(w *wire, guard *door, changes chan struct{}, leave context.CancelFunc)) {
	synctest.Test(t, func(t *testing.T) {
		w, guard, changes := &wire{header: http.Header{}}, &door{}, make(chan struct{}, 1)
		d := &dashboard{cfg: Config{Access: guard}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var ended sync.WaitGroup
		ended.Go(func() { d.follow(ctx, &stream{w, http.NewResponseController(w)}, nil, changes) })
		synctest.Wait()
		if w.count("event: change") != 1 {
			t.Errorf("at the beginning: %q", w.text.String())
		}
		test(w, guard, changes, cancel)
		ended.Wait() // in a bubble this fails at once where nothing can end it any more
	})
}

func TestABrowserIsToldAtOnceButNotTooOften(t *testing.T) {
	follow(t, func(w *wire, _ *door, changes chan struct{}, leave context.CancelFunc) {
		time.Sleep(time.Second)
		changes <- struct{}{}
		synctest.Wait()
		if n := w.count("event: change"); n != 2 {
			t.Errorf("after a change: %d", n)
		}
		for range 1000 { // for ten seconds
			select {
			case changes <- struct{}{}:
			default:
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.count("event: change") - 2; n < 38 || n > 40 {
			t.Errorf("%d words in ten seconds", n)
		}
		leave()
	})
}

func TestABrowserIsKeptAlive(t *testing.T) {
	follow(t, func(w *wire, _ *door, _ chan struct{}, leave context.CancelFunc) {
		time.Sleep(time.Minute + time.Second)
		if n := w.count(": keep-alive"); n != 4 {
			t.Errorf("%d in a minute", n)
		}
		leave()
	})
}

// A deadline that is still set when it passes ends a stream of HTTP/2, which browsers speak
// over TLS, whether something is written or not.
func TestOnlyWritesHaveADeadline(t *testing.T) {
	follow(t, func(w *wire, _ *door, changes chan struct{}, leave context.CancelFunc) {
		for range 3 {
			w.mu.Lock()
			if !w.until.IsZero() || w.free {
				t.Errorf("a deadline is set while nothing is written: %v; none was while something was: %v", !w.until.IsZero(), w.free)
			}
			w.mu.Unlock()
			time.Sleep(time.Second)
			changes <- struct{}{}
			synctest.Wait()
		}
		leave()
	})
}

func TestWhoMayNotLookAnyMoreIsToldNoMore(t *testing.T) {
	follow(t, func(_ *wire, guard *door, _ chan struct{}, _ context.CancelFunc) {
		guard.mu.Lock()
		guard.shut = true
		guard.mu.Unlock()
	})
}

func TestABrowserThatIsGoneIsNoticed(t *testing.T) {
	follow(t, func(w *wire, _ *door, _ chan struct{}, _ context.CancelFunc) {
		w.mu.Lock()
		w.broken = true
		w.mu.Unlock()
	})
}

func TestChangesArriveOverHTTP(t *testing.T) {
	r := newRig(t, false)
	v := r.visit(t, viewerToken)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatal(got)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() {
		for lines.Scan() {
			if lines.Text() == "event: change" {
				return
			}
		}
		t.Fatal(lines.Err())
	}
	next()
	start := time.Now()
	r.setMax(t, "web", 3)
	next()
	if took := time.Since(start); took > time.Second {
		t.Errorf("%v after the change", took)
	}
}

func TestTooManyLivePagesAreAnswered(t *testing.T) {
	guard := &door{}
	views, err := parseViews()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, true)
	d := &dashboard{cfg: Config{Access: guard}, views: views, reads: newReads(r.store, nil)}
	d.live.Store(maxLive)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	guard.Access = access.Anyone("127.0.0.1:1", false)
	d.log = slog.New(slog.DiscardHandler)
	w := &wire{header: http.Header{}}
	d.tell(w, req)
	if w.count("Too many pages are open") == 0 || d.live.Load() != maxLive {
		t.Error(w.text.String(), d.live.Load())
	}
}

// A browser sends no body. Of one whose body does not come it would not be seen that it
// has gone.
func TestLivePagesTakeNoBody(t *testing.T) {
	r := newRig(t, false)
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /live HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: 10\r\n\r\n", viewerToken)
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}
