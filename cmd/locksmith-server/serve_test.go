package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Everything is there, on one address, and locksmithctl's store is the same.
func TestServesAll(t *testing.T) {
	p := startServer(t, filepath.Join(t.TempDir(), "data"))
	store := dial(t, p.etcd)
	if got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m1", "web"); err != nil || got.status != http.StatusNotFound ||
		!strings.Contains(got.value, "locksmithctl -group web set-max 1") {
		t.Errorf("an unknown group: %+v, %v", got, err)
	}
	for _, g := range []locksmith.Group{"", "web"} {
		if _, err := store.SetMax(t.Context(), g, 1, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for _, group := range []string{"default", "web"} {
		if got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m1", group); err != nil || got.status != http.StatusOK {
			t.Errorf("group %s: %+v, %v", group, got, err)
		}
	}
	st, err := store.Status(t.Context(), "")
	if err != nil || len(st.Holders) != 1 || st.Holders[0].By != locksmith.ByFleetLock || st.Holders[0].Address != "127.0.0.1" {
		t.Errorf("holders %+v, %v", st.Holders, err)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/": "<html", "/api/v1/groups": `"group":"web"`,
		"/api/v1/openapi.json": `"openapi"`, "/metrics": `locksmith_server_info{version=`,
	} {
		if status, body := get(t, p.url+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s, want %s", path, status, body, want)
		}
	}
	_, figures := get(t, p.url+"/metrics")
	for _, want := range []string{`locksmith_fleetlock_requests_total{call="pre-reboot",code="200"} 2`, `locksmith_server_requests_total{code="200",kind="api"} 2`} {
		if !strings.Contains(figures, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if status, _ := p.stop(t); status != 0 || !strings.Contains(p.stderr.String(), `msg=stopped cause="stopped by SIGTERM"`) || strings.Contains(p.stderr.String(), "level=ERROR") {
		t.Errorf("exit status %d\n%s", status, p.stderr)
	}
}

// Whatever was granted before the power goes is held after it.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	acknowledged := make(map[string]bool)
	for round := range 3 {
		p := startServer(t, dir, "-create-groups")
		store := dial(t, p.etcd)
		if _, err := store.SetMax(t.Context(), "web", 1_000_000, "test"); err != nil {
			t.Fatal(err)
		}
		if st, err := store.Status(t.Context(), "web"); err != nil {
			t.Fatal(err)
		} else {
			held := make(map[string]bool)
			for _, h := range st.Holders {
				held[h.MachineID] = h.Recorded
			}
			for id := range acknowledged {
				if !held[id] {
					t.Errorf("%s was granted a slot, and does not hold it", id)
				}
			}
			if len(st.Faults) > 0 {
				t.Error(st.Faults)
			}
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		enough := make(chan struct{})
		for c := range 30 {
			wg.Go(func() {
				for n := 0; ; n++ {
					id := fmt.Sprintf("r%d-c%d-%d", round, c, n)
					if got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, id, "web"); err != nil || got.status != http.StatusOK {
						return
					}
					mu.Lock()
					acknowledged[id] = true
					if len(acknowledged) == (round+1)*300 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		<-p.ended
	}
	p := startServer(t, dir)
	st, err := dial(t, p.etcd).Status(t.Context(), "web")
	if err != nil || len(st.Holders) < len(acknowledged) || len(st.Faults) > 0 {
		t.Errorf("%d holders of %d, %v, %v", len(st.Holders), len(acknowledged), st.Faults, err)
	}
}

// However many ask whichever server, no more than max are down.
func TestTwoServersOneStore(t *testing.T) {
	const clients, most = 300, 7
	srv := etcdtest.Start(t, etcdtest.Debian)
	servers := []*process{
		launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", srv.Endpoint),
		launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", srv.Endpoint),
	}
	if _, err := dial(t, srv.Endpoint).SetMax(t.Context(), "web", most, "test"); err != nil {
		t.Fatal(err)
	}
	var down, worst, failed atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			id := fmt.Sprintf("m%d", c)
			got, err := call(t.Context(), servers[c%2].url, fleetlock.PreRebootPath, id, "web")
			if err != nil || got.status != http.StatusOK {
				failed.Add(1)
				t.Logf("%s: %+v, %v", id, got, err)
				return
			}
			now := down.Add(1)
			for seen := worst.Load(); now > seen && !worst.CompareAndSwap(seen, now); seen = worst.Load() {
			}
			down.Add(-1) // before the slot is given back
			if got, err := call(t.Context(), servers[(c+1)%2].url, fleetlock.SteadyStatePath, id, "web"); err != nil || got.status != http.StatusOK {
				failed.Add(1)
				t.Logf("%s: %+v, %v", id, got, err)
			}
		})
	}
	wg.Wait()
	if worst.Load() > most || worst.Load() == 0 || failed.Load() > 0 {
		t.Errorf("at most %d were down at once, max is %d; %d failed", worst.Load(), most, failed.Load())
	}
	st, err := dial(t, srv.Endpoint).Status(t.Context(), "web")
	if err != nil || len(st.Holders) != 0 || len(st.Queue) != 0 || st.Sem.Semaphore != most {
		t.Errorf("left: %+v, %v", st, err)
	}
}

// A store that is away at the start or later is said within five seconds, and found
// again when it is back.
func TestStoreAway(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Debian)
	if _, err := dial(t, srv.Endpoint).SetMax(t.Context(), "web", 1, "test"); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	p := launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", srv.Endpoint)
	away := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, path := range []string{fleetlock.PreRebootPath, fleetlock.SteadyStatePath} {
			wg.Go(func() {
				began := time.Now()
				got, err := call(t.Context(), p.url, path, "m1", "web")
				if took := time.Since(began); err != nil || got.status < 500 || took > 5*time.Second {
					t.Errorf("%s: %+v, %v after %v", path, got, err, took)
				}
			})
		}
		wg.Wait()
		if status, _ := get(t, p.url+"/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("ready: %d", status)
		}
		if status, _ := get(t, p.url+"/healthz"); status != http.StatusOK {
			t.Errorf("healthy: %d", status)
		}
	}
	back := func() {
		t.Helper()
		if err := srv.Restart(); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; {
			got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m1", "web")
			if err != nil || time.Since(began) > time.Minute {
				t.Fatalf("%+v, %v", got, err)
			}
			if got.status == http.StatusOK {
				break
			}
		}
		for began := time.Now(); ; {
			if status, _ := get(t, p.url+"/readyz"); status == http.StatusOK {
				return
			} else if time.Since(began) > time.Minute {
				t.Fatalf("ready: %d", status)
			}
		}
	}
	away()
	back()
	srv.Stop()
	away()
	back()
}

// A store that will never answer is no reason to end: somebody may see to it.
func TestStoreRefuses(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	users := srv.Client(t)
	_, added := users.UserAdd(t.Context(), "root", "right")
	_, granted := users.UserGrantRole(t.Context(), "root", "root")
	_, enabled := users.AuthEnable(t.Context())
	if err := errors.Join(added, granted, enabled); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-endpoint", "http://no-such-host.invalid:2379"},
		{"-endpoint", srv.Endpoint, "-etcd-username", "nobody", "-etcd-password", "wrong"},
	} {
		p := launchServer(t, append(args, "-listen", "127.0.0.1:0")...)
		if status, _ := get(t, p.url+"/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("%q: ready: %d", args, status)
		}
		if got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m1", "web"); err != nil || got.status < 500 {
			t.Errorf("%q: %+v, %v", args, got, err)
		}
		if slices.Contains(args, "-etcd-username") {
			p.stderr.await(t, `changes in the store are not followed, trying again`)
		}
		if status, took := p.stop(t); status != 0 || took > 5*time.Second {
			t.Errorf("%q: exit status %d after %v", args, status, took)
		}
	}
}

// A server that is told to stop answers those who wait, and does not wait for those
// who only watch.
func TestStopWithWaiters(t *testing.T) {
	p := startServer(t, filepath.Join(t.TempDir(), "data"))
	store := dial(t, p.etcd)
	if _, err := store.SetMax(t.Context(), "web", 0, "test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const waiters = 40
	queued := make(chan struct{})
	var once sync.Once
	go store.WatchStatus(ctx, "web", func(st locksmith.GroupStatus) error {
		if len(st.Queue) == waiters {
			once.Do(func() { close(queued) })
		}
		return nil
	})
	events, err := http.Get(p.url + "/api/v1/events") //nolint:bodyclose // it is to be open when the server stops
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	answers := make(chan answer, waiters)
	for i := range waiters {
		go func() {
			got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, fmt.Sprintf("m%d", i), "web")
			if err != nil {
				t.Errorf("m%d: %v", i, err)
			}
			answers <- got
		}()
	}
	select {
	case <-queued:
	case <-time.After(time.Minute):
		t.Fatal("they do not all wait")
	}
	status, took := p.stop(t)
	if status != 0 || took > 3*time.Second {
		t.Errorf("exit status %d after %v", status, took)
	}
	for range waiters {
		if got := <-answers; got.status != http.StatusServiceUnavailable || got.kind != fleetlock.KindStore {
			t.Errorf("%+v", got)
		}
	}
	t.Logf("stopped after %v", took)
}

func TestOnlyOnePerDirectoryAndPort(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, data)
	other := filepath.Join(t.TempDir(), "other")
	fails(t, `another server runs with its data in -data-dir \S+ \(process `+fmt.Sprint(p.cmd.Process.Pid)+`\): stop it first, or give another directory`,
		"-data-dir", data, "-listen", "127.0.0.1:0", "-etcd-listen", "off")
	address := reserve(t)
	fails(t, `cannot listen at -listen `+address+`: bind: address already in use; stop what listens there, or choose another address`,
		"-data-dir", other, "-listen", address)
	fails(t, `cannot listen at -etcd-listen `+address+`: bind: address already in use; stop what listens there, or choose another address, or none at all: -etcd-listen off`,
		"-data-dir", other, "-listen", "127.0.0.1:0", "-etcd-listen", address)
	if err := os.Chmod(other, 0o750); err != nil {
		t.Fatal(err)
	}
	fails(t, `-data-dir: others may enter `+other+` \(its mode is 0750\), and so change every lock: chmod 700 it, or give another one`,
		"-data-dir", other, "-listen", "127.0.0.1:0")
	fails(t, `access file.*no such file.*|.*no such file or directory`, "-data-dir", other, "-listen", "127.0.0.1:0", "-access-file", "/nonexistent")
}

// Without its own address etcd is there for this server alone, and for nobody else on
// the machine.
func TestEtcdOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := launchServer(t, "-data-dir", dir, "-listen", "127.0.0.1:0", "-etcd-listen", "off", "-create-groups")
	if p.etcd != "" {
		t.Errorf("etcd is at %s", p.etcd)
	}
	if got, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m1", "web"); err != nil || got.status != http.StatusOK {
		t.Errorf("%+v, %v", got, err)
	}
	for _, path := range []string{dir, etcdDir(dir), etcdSocket(dir), filepath.Join(etcdDir(dir), "peer.sock")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	listening, err := os.ReadFile("/proc/" + fmt.Sprint(p.cmd.Process.Pid) + "/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, socket := range socketsOf(t, p.cmd.Process.Pid) {
		for line := range strings.Lines(string(listening)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && f[9] == socket {
				sockets++
			}
		}
	}
	if sockets != 1 {
		t.Errorf("it listens at %d ports, want 1", sockets)
	}
}

// socketsOf is the inodes of a process's sockets.
func socketsOf(t *testing.T, pid int) (inodes []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(link, "socket:[") {
			inodes = append(inodes, strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]"))
		}
	}
	return inodes
}

// Beyond loopback etcd takes only clients with a certificate.
func TestEtcdWithTLS(t *testing.T) {
	ca := etcdtest.NewCA(t)
	cert, key := ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	p := launchServer(t, "-data-dir", filepath.Join(t.TempDir(), "data"), "-listen", "127.0.0.1:0", "-etcd-listen", "0.0.0.0:0",
		"-tls-cert", cert, "-tls-key", key, "-client-ca", ca.File)
	if !strings.HasPrefix(p.url, "https://127.0.0.1:") || !strings.HasPrefix(p.etcd, "https://") {
		t.Fatalf("listens at %s, etcd at %s", p.url, p.etcd)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.etcd, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "https://127.0.0.1:" + port
	with, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}, CAFile: ca.File, CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	if _, err := with.SetMax(t.Context(), "web", 2, "test"); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	without, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}, CAFile: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	if _, _, err := without.Semaphore(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "rejected our certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	if status, _ := p.stop(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// The service manager hears when the server is ready, that it lives, and that it stops.
func TestServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	p := launch(t, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=300000"},
		"-data-dir", filepath.Join(t.TempDir(), "data"), "-listen", "127.0.0.1:0", "-etcd-listen", "off")
	await := func(want string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(time.Minute))
		for buf := make([]byte, 4096); ; {
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("waited for %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	await("READY=1")
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("STOPPING=1")
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestInsecureIsSaid(t *testing.T) {
	p := launchServer(t, "-data-dir", filepath.Join(t.TempDir(), "data"), "-listen", "0.0.0.0:0", "-etcd-listen", "0.0.0.0:0", "-insecure-listen")
	p.stop(t)
	for _, want := range []string{"everybody who reaches this server may take slots", "everybody who reaches the embedded etcd may change everything", "authorization=none"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// A name for the address is judged by what it means.
func TestListenByName(t *testing.T) {
	if _, err := net.LookupHost("localhost"); err != nil {
		t.Fatal(err)
	}
	p := launchServer(t, "-data-dir", filepath.Join(t.TempDir(), "data"), "-listen", "localhost:0", "-etcd-listen", "off")
	if status, _ := get(t, p.url+"/api/v1/groups"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if status, _ := p.stop(t); status != 0 {
		t.Error(errors.New("exit status"), status)
	}
}
