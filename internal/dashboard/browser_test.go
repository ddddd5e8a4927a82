package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// patience is how long a browser on a busy machine is waited for. What has to be fast is
// measured.
const patience = 60 * time.Second

var (
	chromium     context.Context // one browser for all tests, nil until first used
	stopChromium func()
	chromiumOnce sync.Once
	errChromium  error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if stopChromium != nil {
		stopChromium()
	}
	os.Exit(code)
}

func startChromium() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		errChromium = errors.New("chromium is missing: install Debian's chromium")
		return
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(patience))
	allocated, stopAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stop := chromedp.NewContext(allocated, chromedp.WithErrorf(func(string, ...any) {}))
	stopChromium = func() { stop(); stopAllocator() }
	if errChromium = chromedp.Do(ctx); errChromium == nil {
		chromium = ctx
	}
}

// tab is a page of a browser of its own: cookies are nobody else's.
type tab struct {
	t   testing.TB
	ctx context.Context
	rig *rig

	mu     sync.Mutex
	faults []string // what the browser complains of
}

func (r *rig) browse(t testing.TB) *tab {
	t.Helper()
	chromiumOnce.Do(startChromium)
	if errChromium != nil {
		skip.Loudly(t, errChromium.Error())
	}
	b := &tab{t: t, rig: r}
	ctx, stop := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.listen))
	t.Cleanup(stop)
	b.ctx = ctx
	b.run(send(network.Enable, network.EnableParams{}), send(cdplog.Enable, cdp.Empty{}), send(runtime.Enable, cdp.Empty{}), size(1280, 900, false))
	ctx, cancel := context.WithTimeout(ctx, patience) // not before the tab is there: it would go with the context
	t.Cleanup(cancel)
	b.ctx = ctx
	t.Cleanup(func() {
		for _, f := range b.complaints() {
			t.Error("the browser complains:", f)
		}
	})
	return b
}

// send is a command to the browser.
func send[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// listen notes what should not be: errors, what the policy forbids, and requests to
// other servers.
func (b *tab) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = fmt.Sprintf("exception: %+v", *e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			fault = fmt.Sprintf("console: %s", e.Args[0].Value)
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			fault = fmt.Sprintf("%s %s: %s", e.Entry.Level, e.Entry.URL, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || "http://"+u.Host != b.rig.url && u.Scheme != "about" && u.Scheme != "data" { // data: the browser's own icons
			fault = "request to " + e.Request.URL
		}
	}
	if fault != "" {
		b.mu.Lock()
		b.faults = append(b.faults, fault)
		b.mu.Unlock()
	}
}

func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.faults)
}

// forgive takes away the complaints that a test expects.
func (b *tab) forgive(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = slices.DeleteFunc(b.faults, func(f string) bool { return strings.Contains(f, what) })
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%v; the page says: %s", err, b.words())
	}
}

// words are what the page says, for messages.
func (b *tab) words() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body?.innerText ?? ""`))
	return strings.Join(strings.Fields(text), " ")
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.rig.url+path), chromedp.WaitReady(chromedp.CSS("footer")))
}

// signIn signs somebody in through the form.
func (b *tab) signIn(token string) {
	b.t.Helper()
	b.open("/")
	b.run(chromedp.SendKeys(chromedp.CSS("#token"), token+"\r"), chromedp.WaitReady(chromedp.CSS(`nav[aria-label="Pages"]`)))
}

// until waits until an expression of the page is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	for {
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(10*time.Millisecond), chromedp.WithPollingTimeout(0)))
		switch {
		case err == nil:
			return
		case b.ctx.Err() != nil || !strings.Contains(err.Error(), "context") && !strings.Contains(err.Error(), "navigated"): // another page came meanwhile
			b.t.Fatalf("%v, waiting for %s; the page says: %s", err, expression, b.words())
		}
	}
}

// live waits until the page is told of changes.
func (b *tab) live() {
	b.t.Helper()
	b.until(`document.getElementById("live").dataset.state === "on"`)
}

// ask is what an action returns.
func ask[T any](b *tab, a chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.t.Fatalf("%v; the page says: %s", err, b.words())
	}
	return v
}

// eval is what an expression of the page is.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return ask(b, chromedp.Evaluate[T](expression))
}

// size is the size of the window, in CSS pixels, and its colours.
func size(width, height int64, dark bool) chromedp.Action[chromedp.Void] {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return chromedp.Steps(
		send(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500}),
		send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}))
}
