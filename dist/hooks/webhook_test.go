package hooks_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

const webhook = "check.d/90-webhook"

// service is a real web server for the real curl.
func service(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		skip.Loudly(t, "curl is not installed")
	}
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL + `/hook?key="\`
}

// settings writes webhook.conf for the service at url.
func (m *machine) settings(url, more string) {
	m.t.Helper()
	m.file("conf/webhook.conf", "WEBHOOK_URL='"+url+"'\n"+more, 0o600)
}

func TestWebhook(t *testing.T) {
	requests := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	url := service(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- string(body)
		w.WriteHeader(http.StatusNoContent)
	})
	m := newMachine(t)
	m.settings(url, "")
	hostname, err := os.Hostname()
	m.must(err)
	for _, tt := range []struct {
		name   string
		groups string
		want   []any
	}{{webhook, "lb,rack7", []any{"lb", "rack7"}}, {"prepare.d/90-webhook", "", []any{""}}, {"restore.d/90-webhook", `a"b`, []any{`a"b`}}} {
		reason := `kernel "6.1" \ <é> $HOME` + "\x01\t\n."
		m.passes(tt.name, "LOCKSMITH_REASON="+reason, "LOCKSMITH_GROUPS="+tt.groups, "LOCKSMITH_OUTCOME=rebooted")
		r, body := <-requests, <-bodies
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header["Authorization"] != nil || r.RequestURI != `/hook?key="\` {
			t.Errorf("got %s %s %v", r.Method, r.RequestURI, r.Header)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		step, _, _ := strings.Cut(tt.name, ".d/")
		want := map[string]any{"step": step, "phase": "preparing", "machine": "69d2", "hostname": hostname,
			"groups": tt.want, "reason": `kernel "6.1" \ <é> $HOME.`, "outcome": "rebooted"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		m.forgotten()
	}
}

func TestWebhookRefuses(t *testing.T) {
	url := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ok" {
			return
		}
		w.Header().Set("Location", "/ok")
		code := http.StatusForbidden
		if strings.HasPrefix(r.URL.Path, "/moved") {
			code = http.StatusFound
		}
		w.WriteHeader(code)
		io.WriteString(w, "frozen until\n"+strings.Repeat("x", 5000))
	})
	m := newMachine(t)
	m.settings(url, "")
	m.fails(webhook, "webhook answered 403: frozen until xxx")
	m.settings(strings.Replace(url, "/hook", "/moved", 1), "")
	m.fails(webhook, "webhook answered 302: ")
	m.settings("file:///etc/passwd", "")
	m.fails(webhook, "curl: (1) Protocol \"file\"")
	m.forgotten()
}

// The token goes to the service, and neither into a list of processes nor into the
// environment.
func TestWebhookToken(t *testing.T) {
	const token = `s3cret"\`
	var got atomic.Value
	url := service(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
	m := newMachine(t)
	curl, err := exec.LookPath("curl")
	m.must(err)
	m.tool("curl", "env >>$dir/calls\nexec "+curl+` "$@"`)
	file := m.file("token", token+"\n", 0o600)
	m.settings(url, "WEBHOOK_TOKEN_FILE="+file+"\n")
	m.passes(webhook)
	if got.Load() != "Bearer "+token {
		t.Errorf("the service got %q", got.Load())
	}
	calls, err := os.ReadFile(m.dir + "/calls")
	m.must(err)
	if s := string(calls); strings.Contains(s, "s3cret") || strings.Contains(s, "/hook?key") || !strings.HasPrefix(s, "curl --disable --globoff --config ") {
		t.Errorf("curl was called with\n%s", s)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		m.must(os.Chmod(file, mode))
		m.fails(webhook, "only root may read it: chown root "+file+"; chmod 600 "+file)
	}
	m.must(os.Remove(file))
	m.fails(webhook, "No such file or directory")
	m.forgotten()
}

// What may pass is tried again, and no longer than it may take.
func TestWebhookTriesAgain(t *testing.T) {
	var calls atomic.Int32
	hang := make(chan struct{})
	url := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := calls.Add(1); {
		case strings.HasPrefix(r.URL.Path, "/hang"):
			<-hang
		case n == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "starting")
		}
	})
	t.Cleanup(func() { close(hang) }) // before the server closes, which waits for its answers
	m := newMachine(t)
	m.settings(url, "WEBHOOK_RETRIES=1\n")
	m.passes(webhook)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	m.settings(strings.Replace(url, "/hook", "/hang", 1), "WEBHOOK_RETRIES=0\nWEBHOOK_TIMEOUT=1\n")
	m.fails(webhook, "curl: (28)")
	calls.Store(0)
	m.settings(url, "WEBHOOK_RETRIES=0\n")
	m.fails(webhook, "webhook answered 503: starting")
	m.settings("http://127.0.0.1:1/", "WEBHOOK_RETRIES=0\n")
	m.fails(webhook, "curl: (7)")
}

func TestWebhookSettings(t *testing.T) {
	m := newMachine(t)
	m.tool("curl", "")
	m.fails(webhook, "webhook.conf does not exist: it must set WEBHOOK_URL")
	m.settings("", "")
	m.fails(webhook, "webhook.conf must set WEBHOOK_URL")
	m.settings("http://x", "WEBHOOK_RETRIES=many\n")
	m.fails(webhook, `must be numbers, not "many"`)
	m.called()
}
