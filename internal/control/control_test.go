package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// asNobody makes the test binary a client of the socket it names, so that a
// test can ask as another user.
const asNobody = "CONTROL_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(asNobody); path != "" {
		askEverything(path)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// askEverything prints what each call answers, a line each.
func askEverything(path string) {
	c := control.Client{Path: path}
	s, err := c.Status(context.Background())
	fmt.Printf("status %s %v\n", s.MachineID, err)
	why, err := c.Why(context.Background())
	fmt.Printf("why %s %v\n", why.Machine.MachineID, err)
	err = c.NeedReboot(context.Background(), "mischief")
	fmt.Printf("need %v %t\n", err, errors.Is(err, control.ErrNotAllowed))
	err = c.CancelReboot(context.Background())
	fmt.Printf("cancel %v %t\n", err, errors.Is(err, control.ErrNotAllowed))
}

// daemon is what the server under test was told.
type daemon struct {
	path string
	stop func()
	why  locksmith.Why
	bare bool // without what is optional

	mu       sync.Mutex
	requests []string
	cancels  int
	refuse   error
}

func (d *daemon) request(reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, reason)
	return d.refuse
}

func (d *daemon) cancel() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancels++
	return d.refuse
}

func (d *daemon) told() ([]string, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests, d.cancels
}

var status = agent.Status{
	MachineID: "69d27b356a94476da859461d3a3bc6fd", BootID: "b1", Groups: []locksmith.Group{"web"},
	Strategy: locksmith.StrategyEtcdLock, Phase: locksmith.PhaseQueued, Needed: true, Reason: "because",
	Triggers: map[string]string{"control": "not needed"},
}

var why = locksmith.Why{
	Time: 1397496396,
	Machine: locksmith.MachineStatus{
		Presence: locksmith.Presence{MachineID: "69d27b356a94476da859461d3a3bc6fd", Groups: []locksmith.Group{"web"}, Phase: locksmith.PhaseQueued,
			Conditions: []locksmith.Condition{{Name: locksmith.CondSlot, State: locksmith.CondWaiting, Text: "3rd of 12 in group web"}}},
		Present: true,
	},
	Places: []locksmith.Place{{Group: "web", Max: 1, Position: 3, Waiting: 12, Holders: []locksmith.HolderStatus{
		{Holder: locksmith.Holder{MachineID: "web-4", Phase: locksmith.PhaseVerifying}, Recorded: true}}}},
}

// start serves on a socket that users other than the test's can reach.
func start(t *testing.T, setup ...func(*daemon)) *daemon {
	t.Helper()
	d := &daemon{path: filepath.Join(openDir(t), "locksmithd.sock"), why: why}
	for _, f := range setup {
		f(d)
	}
	l, err := control.Listen(d.path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &control.Server{
		Status: func() agent.Status { return status }, Request: d.request, Cancel: d.cancel,
		Why:     func(context.Context) locksmith.Why { return d.why },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "locksmith_up 1\n") }),
	}
	if d.bare {
		srv.Why, srv.Metrics = nil, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeOn(ctx, l) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	t.Cleanup(d.stop)
	return d
}

// openDir is a directory that every user may enter; t.TempDir is for its owner.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needRoot ends tests that only root can run: loudly, and in CI as a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Loudly(t, "needs root, to talk to the socket as root and as nobody")
	}
}

func TestRootStatusAndRequests(t *testing.T) {
	needRoot(t)
	d := start(t)
	c := control.Client{Path: d.path}
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(status, got); diff != "" {
		t.Error(diff)
	}
	for _, reason := range []string{"kernel  5.10 → 6.1", "  ", strings.Repeat("x", control.MaxReason)} {
		if err := c.NeedReboot(t.Context(), reason); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CancelReboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, cancels := d.told()
	want := []string{"kernel  5.10 → 6.1", "requested by an administrator", strings.Repeat("x", control.MaxReason)}
	if diff := cmp.Diff(want, requests); diff != "" || cancels != 1 {
		t.Errorf("cancelled %d times; %s", cancels, diff)
	}
}

func TestFailureOfTheDaemonReachesTheClient(t *testing.T) {
	needRoot(t)
	d := start(t)
	d.refuse = errors.New("disk full")
	c := control.Client{Path: d.path}
	for _, err := range []error{c.NeedReboot(t.Context(), "r"), c.CancelReboot(t.Context())} {
		if err == nil || err.Error() != "disk full" {
			t.Errorf("got %v", err)
		}
	}
}

func TestAnotherUserReadsButDoesNotAct(t *testing.T) {
	needRoot(t)
	d := start(t)
	// The test binary lies in a directory that only its owner may enter.
	binary := filepath.Join(filepath.Dir(d.path), "client")
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, own, 0o755); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), binary)
	child.Dir = filepath.Dir(d.path)
	child.Env = append(os.Environ(), asNobody+"="+d.path)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const want = "status 69d27b356a94476da859461d3a3bc6fd <nil>\n" +
		"why 69d27b356a94476da859461d3a3bc6fd <nil>\n" +
		"need not allowed: only root may request or cancel a reboot true\n" +
		"cancel not allowed: only root may request or cancel a reboot true\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
	if requests, cancels := d.told(); len(requests) != 0 || cancels != 0 {
		t.Errorf("another user's requests were carried out: %v, %d", requests, cancels)
	}
}

func TestRefusals(t *testing.T) {
	needRoot(t)
	d := start(t)
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"unknown field", "POST", "/v1/need-reboot", `{"reason":"r","force":true}`, 400, `body must be {"reason":"…"}: json: unknown field "force"`},
		{"empty body", "POST", "/v1/need-reboot", ``, 400, `body must be {"reason":"…"}: EOF`},
		{"wrong type", "POST", "/v1/need-reboot", `{"reason":1}`, 400, `body must be {"reason":"…"}: json: cannot unmarshal number into Go struct field needReboot.reason of type string`},
		{"two objects", "POST", "/v1/need-reboot", `{"reason":"r"}{}`, 400, `body must be {"reason":"…"}: more follows after the object`},
		{"two lines", "POST", "/v1/need-reboot", `{"reason":"a\nb"}`, 400, `reason "a\nb" must be one line of UTF-8 without control characters`},
		{"long reason", "POST", "/v1/need-reboot", `{"reason":"` + strings.Repeat("x", control.MaxReason+1) + `"}`, 400, `reason is 501 bytes long, at most 500 are allowed`},
		{"long body", "POST", "/v1/need-reboot", `{"reason":"` + strings.Repeat("x", 5000) + `"}`, 413, `body is too long: at most 4096 bytes are allowed`},
		{"GET does not act", "GET", "/v1/need-reboot", ``, 405, `method GET is not allowed on /v1/need-reboot, only DELETE, POST`},
		{"POST status", "POST", "/v1/status", ``, 405, `method POST is not allowed on /v1/status, only GET, HEAD`},
		{"POST why", "POST", "/v1/why", ``, 405, `method POST is not allowed on /v1/why, only GET, HEAD`},
		{"DELETE metrics", "DELETE", "/metrics", ``, 405, `method DELETE is not allowed on /metrics, only GET, HEAD`},
		{"unknown path", "GET", "/v2/status", ``, 404, `no such path; there are /v1/status, /v1/why, /v1/need-reboot and /metrics`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := request(t, d.path, tt.method, tt.path, tt.body)
			var got map[string]string
			if err := json.Unmarshal([]byte(resp.body), &got); err != nil {
				t.Fatalf("%v: %s", err, resp.body)
			}
			if resp.status != tt.status || got["error"] != tt.want || len(got) != 1 {
				t.Errorf("got %d %q", resp.status, got)
			}
		})
	}
	if requests, cancels := d.told(); len(requests) != 0 || cancels != 0 {
		t.Errorf("a refused request was carried out: %v, %d", requests, cancels)
	}
}

func TestStatusFieldNames(t *testing.T) {
	d := start(t)
	const want = `{"machineID":"69d27b356a94476da859461d3a3bc6fd","bootID":"b1","groups":["web"],"strategy":"etcd-lock",` +
		`"phase":"queued","since":"0001-01-01T00:00:00Z","needed":true,"reason":"because","held":false,"triggers":{"control":"not needed"}}` + "\n"
	resp := request(t, d.path, "GET", "/v1/status", "")
	if diff := cmp.Diff(want, resp.body); diff != "" || resp.status != 200 {
		t.Errorf("%d %s", resp.status, diff)
	}
}

func TestWhy(t *testing.T) {
	d := start(t)
	got, err := control.Client{Path: d.path}.Why(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(why, got); diff != "" {
		t.Error(diff)
	}
}

// A group of thousands does not make the answer unreadable; one that is endless is
// refused.
func TestLongAnswer(t *testing.T) {
	many := func(n int) func(*daemon) {
		return func(d *daemon) {
			d.why.Places = []locksmith.Place{{Holders: slices.Repeat([]locksmith.HolderStatus{
				{Holder: locksmith.Holder{MachineID: "m", Reason: strings.Repeat("x", 500)}}}, n)}}
		}
	}
	got, err := control.Client{Path: start(t, many(10_000)).path}.Why(t.Context())
	if err != nil || len(got.Places[0].Holders) != 10_000 {
		t.Errorf("got %d places, %v", len(got.Places), err)
	}
	path := start(t, many(20_000)).path
	_, err = control.Client{Path: path}.Why(t.Context())
	if want := "locksmithd at " + path + ": answer is longer than 8388608 bytes"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	d := start(t)
	if resp := request(t, d.path, "GET", "/metrics", ""); resp.status != 200 || resp.body != "locksmith_up 1\n" {
		t.Errorf("got %d %q", resp.status, resp.body)
	}
}

func TestServerWithoutWhatIsOptional(t *testing.T) {
	d := start(t, func(d *daemon) { d.bare = true })
	for path, want := range map[string]string{
		"/v1/why":  `{"error":"this locksmithd does not say why"}` + "\n",
		"/metrics": `{"error":"this locksmithd has no metrics"}` + "\n",
	} {
		if resp := request(t, d.path, "GET", path, ""); resp.status != 404 || resp.body != want {
			t.Errorf("%s: got %d %s", path, resp.status, resp.body)
		}
	}
	if _, err := (control.Client{Path: d.path}).Why(t.Context()); err == nil || err.Error() != "this locksmithd does not say why" {
		t.Errorf("got %v", err)
	}
}

type response struct {
	status int
	body   string
}

func request(t *testing.T, socket, method, path, body string) response {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, string(got)}
}
