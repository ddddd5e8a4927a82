package machines_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

const serverUnit = "locksmith-server.service"

// serverLayer is what a machine with locksmith-server has installed, which listens at
// an address of the host's, whose network the machines share.
func serverLayer(t *testing.T, address string) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(within(t, 5*limit), "go", "build", "-o", filepath.Join(dir, "usr/bin/locksmith-server"), "./cmd/locksmith-server")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	unit, err := os.ReadFile("../../dist/" + serverUnit)
	must(t, err)
	for name, text := range map[string]string{
		"etc/systemd/system/" + serverUnit:          string(unit),
		"etc/locksmith-server/locksmith-server.env": "LOCKSMITH_SERVER_LISTEN=" + address + "\nLOCKSMITH_SERVER_ETCD_LISTEN=off\nLOCKSMITH_SERVER_CREATE_GROUPS=true\n",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// TestServerUnit runs locksmith-server as it is shipped: as a user that is made as it
// starts, in its sandbox; killed, told to stop, and restored by root.
func TestServerUnit(t *testing.T) {
	t.Parallel()
	machines.Require(t)
	for _, suite := range []machines.Suite{machines.Bookworm, machines.Trixie} {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			testServerUnit(t, suite)
		})
	}
}

func testServerUnit(t *testing.T, suite machines.Suite) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	f := machines.ForTest(t, machines.Config{Suite: suite, Layers: []string{serverLayer(t, address)}})
	m := add(t, f, "s1")[0]
	must(t, f.Start(within(t, 3*limit), m))
	must(t, l.Close())
	exec := func(command ...string) string {
		t.Helper()
		out, err := m.Exec(within(t, 2*limit), command...)
		if err != nil {
			t.Fatalf("%v\n%s", err, m.Journal(t.Context(), serverUnit))
		}
		return strings.TrimSpace(string(out))
	}
	steps := func(path, id string) int {
		t.Helper()
		for began := time.Now(); ; {
			status, err := fleetLock(t, "http://"+address+path, id)
			if err == nil {
				return status
			}
			if time.Since(began) > limit {
				t.Fatal(err)
			}
		}
	}

	exec("systemctl", "start", serverUnit) // returns when it says that it is ready
	if got := steps("/v1/pre-reboot", "m1"); got != http.StatusOK {
		t.Errorf("a free slot: %d", got)
	}
	exec("locksmith-server", "snapshot", "/root/one.snap")
	if mode := exec("stat", "-L", "-c", "%u %a", "/var/lib/locksmith-server"); !strings.HasSuffix(mode, " 700") || strings.HasPrefix(mode, "0 ") {
		t.Errorf("the owner and the mode of the data directory are %s", mode)
	}

	// Killed, it is started again, with all it had.
	pid := exec("systemctl", "show", "-P", "MainPID", serverUnit)
	exec("systemctl", "kill", "-s", "KILL", serverUnit)
	if got := steps("/v1/pre-reboot", "m1"); got != http.StatusOK {
		t.Errorf("after kill -9, for the holder: %d", got)
	}
	if now := exec("systemctl", "show", "-P", "MainPID", serverUnit); now == pid {
		t.Error("it was not killed")
	}

	began := time.Now()
	exec("systemctl", "stop", serverUnit)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it stopped after %v", took)
	}
	if result := exec("systemctl", "show", "-P", "Result", serverUnit); result != "success" {
		t.Errorf("it ended with %s", result)
	}

	// What root restores belongs to the server's user when it starts: in the directory
	// that there was, and where there is none.
	for _, gone := range []string{"/var/lib/locksmith-server/etcd", "/var/lib/locksmith-server /var/lib/private/locksmith-server"} {
		exec(append([]string{"rm", "-rf"}, strings.Fields(gone)...)...)
		exec("locksmith-server", "restore", "/root/one.snap")
		exec("systemctl", "start", serverUnit)
		if got := steps("/v1/pre-reboot", "m1"); got != http.StatusLocked {
			t.Errorf("restored without %s, while it is paused: %d", gone, got)
		}
		if got := held(t, address); !strings.Contains(got, `"group":"web","max":1,"held":1`) {
			t.Errorf("restored without %s: %s", gone, got)
		}
		if got := steps("/v1/steady-state", "m1"); got != http.StatusOK {
			t.Errorf("restored without %s: %d", gone, got)
		}
		exec("systemctl", "stop", serverUnit)
	}
	if t.Failed() {
		t.Log(m.Journal(t.Context(), serverUnit))
	}

	out, err := m.Exec(within(t, limit), "systemd-analyze", "security", "--no-pager", serverUnit)
	must(t, err)
	exposed(t, string(suite), out)
}

// held is what the server says of its groups.
func held(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, limit), http.MethodGet, "http://"+address+"/api/v1/groups", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(text)
}

// fleetLock makes a FleetLock request and returns its status. Its error is that of a
// server that does not answer.
func fleetLock(t *testing.T, url, id string) (int, error) {
	t.Helper()
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":"web"}}`, id)
	req, err := http.NewRequestWithContext(within(t, limit), http.MethodPost, url, bytes.NewReader([]byte(body)))
	must(t, err)
	req.Header.Set("fleet-lock-protocol", "true")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
