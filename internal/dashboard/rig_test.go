package dashboard

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// People of the tests, with their tokens.
const (
	viewerToken   = "viewer-token-of-the-tests"
	operatorToken = "operator-token-of-the-tests"
	adminToken    = "admin-token-of-the-tests"
	webToken      = "web-operator-token-of-the-tests" // limited to group web
	machineToken  = "machine-token-of-the-tests"
)

const principals = `{"principals":[
{"name":"vera","role":"viewer","token":"` + viewerToken + `"},
{"name":"otto","role":"operator","token":"` + operatorToken + `"},
{"name":"ada","role":"admin","token":"` + adminToken + `"},
{"name":"willi","role":"operator","groups":["web"],"token":"` + webToken + `"},
{"name":"node","role":"machine","token":"` + machineToken + `"}]}`

// rig is a dashboard on a real etcd.
type rig struct {
	etcd  *etcdtest.Server
	store *etcd.Store
	reads *countingStore
	url   string
	web   *httptest.Server
}

// countingStore counts what is read.
type countingStore struct {
	*etcd.Store
	counts
}

func newRig(t testing.TB, open bool) *rig {
	t.Helper()
	return newRigOn(t, open, (*etcd.Store).Follow)
}

// newRigOn is a rig that is told of changes by follow.
func newRigOn(t testing.TB, open bool, follow func(*etcd.Store, context.Context, func()) error) *rig {
	t.Helper()
	srv := etcdtest.Start(t, etcdtest.Embedded)
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{srv.Endpoint}, PresenceSettle: time.Millisecond, PresenceEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := &rig{etcd: srv, store: store, reads: &countingStore{Store: store}}
	feed := admin.NewFeed(func(ctx context.Context, changed func()) error { return follow(store, ctx, changed) })
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx) }()
	over := errors.New("the test is over")
	t.Cleanup(func() {
		stop(over)
		if err := <-ended; !errors.Is(err, over) && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	var guard Access = access.Anyone("127.0.0.1:0", false)
	if !open {
		file := filepath.Join(t.TempDir(), "access.json")
		if err := os.WriteFile(file, []byte(principals), 0o600); err != nil {
			t.Fatal(err)
		}
		if guard, err = access.Open(file, nil); err != nil {
			t.Fatal(err)
		}
	}
	h, err := New(Config{Store: r.reads, Admin: admin.New(store, nil), Feed: feed, Access: guard})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections) // those that are told of changes
	r.url, r.web = web.URL, web
	return r
}

// visitor is somebody with a browser that runs no script.
type visitor struct {
	t      testing.TB
	rig    *rig
	client *http.Client
}

// visit signs somebody in. An empty token stays outside.
func (r *rig) visit(t testing.TB, token string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, rig: r, client: &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
	if token != "" {
		if a := v.post("/sign-in", "token", token); a.status != http.StatusSeeOther {
			t.Fatalf("sign-in: %d %s", a.status, a.text())
		}
	}
	return v
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

var tags = regexp.MustCompile(`(?s)<(script|style)[^>]*>.*?</(script|style)>|<[^>]*>`)

// text is what an answer says, in one line.
func (a answer) text() string {
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(a.body, " "))), " ")
}

func (v *visitor) do(req *http.Request) answer {
	v.t.Helper()
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (v *visitor) get(path string) answer {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.rig.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(req)
}

// post sends a form, whose fields are given as name and value by turns.
func (v *visitor) post(path string, fields ...string) answer {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.rig.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(req)
}

var inputs = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"`)

// confirm opens the page that asks back and sends its form, with further fields.
func (v *visitor) confirm(path string, fields ...string) (asked, done answer) {
	v.t.Helper()
	asked = v.get(path)
	if asked.status != http.StatusOK {
		v.t.Fatalf("%s: %d %s", path, asked.status, asked.text())
	}
	var all []string
	for _, m := range inputs.FindAllStringSubmatch(asked.body, -1) {
		all = append(all, m[1], html.UnescapeString(m[2]))
	}
	action, _, _ := strings.Cut(path, "?")
	return asked, v.post(action, append(all, fields...)...)
}

// lock takes a slot for a machine as its locksmithd would.
func (r *rig) lock(t testing.TB, g locksmith.Group, id string, phase locksmith.Phase, reason string) locksmith.Slots {
	t.Helper()
	slots, err := r.store.TryAcquire(t.Context(), locksmith.Request{Groups: []locksmith.Group{g}, MachineID: id, Hostname: "host-" + id,
		By: locksmith.ByAgent, BootID: "boot-1", Reason: reason, Priority: locksmith.DefaultPriority})
	if err != nil {
		t.Fatal(err)
	}
	if phase != "" {
		if slots, err = r.store.Advance(t.Context(), slots, phase, reason); err != nil {
			t.Fatal(err)
		}
	}
	return slots
}

func (r *rig) setMax(t testing.TB, g locksmith.Group, n int) {
	t.Helper()
	if _, err := r.store.SetMax(t.Context(), g, n, "root@jump-1"); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) status(t testing.TB, g locksmith.Group) locksmith.GroupStatus {
	t.Helper()
	s, err := r.store.Status(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contains fails where an answer does not say something.
func (a answer) contains(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.text(), text) && !strings.Contains(a.body, text) {
			t.Errorf("%q is not in: %s", text, a.text())
		}
	}
}

func (a answer) lacks(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			t.Errorf("%q is in: %s", text, a.body)
		}
	}
}

func (a answer) is(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.text())
	}
}
