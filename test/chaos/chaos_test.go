package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/skip"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

var (
	seed   = flag.Uint64("seed", 1, "the schedule to run")
	seeds  = flag.Uint64("seeds", 0, "run as many schedules, from -seed on: the long form")
	length = flag.Duration("length", 20*time.Second, "how long faults are inflicted")
)

func TestMain(m *testing.M) {
	if boot := os.Getenv(chaos.RoleVariable); boot != "" {
		if err := chaos.RunMachine(context.Background(), boot); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if addr := os.Getenv(listenVariable); addr != "" {
		fmt.Fprintln(os.Stderr, listen(addr, func() { fmt.Print("\n") }))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// require ends the test where there can be no network of its own.
func require(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Loudly(t, "faults need network namespaces: run the tests as root or through sudo")
	}
	for device, what := range map[string]string{"/dev/net/tun": "TUN devices", "/dev/fuse": "file systems in programs"} {
		if _, err := os.Stat(device); err != nil {
			skip.Loudly(t, "faults need "+what+": "+err.Error())
		}
	}
	for program, debian := range map[string]string{"etcd": "etcd-server", "ip": "iproute2"} {
		if _, err := exec.LookPath(program); err != nil {
			skip.Loudly(t, fmt.Sprintf("faults need %s: apt-get install %s", program, debian))
		}
	}
}

// site is six machines in two groups, one of them in both.
func site(t *testing.T) chaos.Config {
	web, rack := []locksmith.Group{"web"}, []locksmith.Group{"rack"}
	return chaos.Config{
		Groups: [][]locksmith.Group{web, web, web, {"rack", "web"}, rack, rack},
		Max:    map[locksmith.Group]int{"web": 2, "rack": 1},
		Dir:    t.TempDir(),
	}
}

// server builds locksmith-server.
func server(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "locksmith-server")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/locksmith-server").CombinedOutput()
	if err != nil {
		t.Fatalf("building locksmith-server: %v\n%s", err, out)
	}
	return program
}

// TestSchedule runs one short schedule. A server that was killed is left to the long
// form: its requests' places in the queues lapse with its lease of 30 s only.
func TestSchedule(t *testing.T) {
	require(t)
	runSchedule(t, server(t), *seed, *length, 40*time.Second, chaos.KillServer)
}

// TestSchedules is the long form: many schedules, of all faults.
func TestSchedules(t *testing.T) {
	require(t)
	if *seeds == 0 {
		skip.LongForm(t, "make chaos")
	}
	program := server(t)
	for i := range *seeds {
		n := *seed + i
		t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) { runSchedule(t, program, n, *length, 2*time.Minute) })
	}
}

// runSchedule runs the schedule of a seed and reports what it broke.
func runSchedule(t *testing.T, server string, seed uint64, length, settle time.Duration, without ...chaos.Action) {
	cfg := site(t)
	cfg.Server, cfg.Served = server, []locksmith.Group{"web", "rack", "web"}
	cfg.Seed, cfg.Length, cfg.Settle = seed, length, settle
	cfg.Faults = chaos.Plan(seed, length, len(cfg.Groups)+len(cfg.Served), without...)
	result, err := chaos.Run(t.Context(), cfg)
	if err != nil {
		t.Error(err)
	}
	for _, v := range result.Violations {
		t.Error("a guarantee was broken:", v)
	}
	if most := len(cfg.Groups) + len(cfg.Served); result.Reboots < most {
		t.Errorf("%d reboots of %d machines: nothing was tested", result.Reboots, most)
	}
	t.Logf("%d faults, %d reboots, %d calls, %d revisions", len(cfg.Faults), result.Reboots, result.Calls, result.Revisions)
	if !t.Failed() {
		return
	}
	again, _, long := strings.Cut(t.Name(), "/")
	if again += "$"; long {
		again += " -seeds 1"
	}
	t.Logf("again: go test ./test/chaos -run %s -seed %d -length %v\n%v", again, seed, length, cfg.Faults)
	keep(t, cfg, result)
}

// keep keeps everything that happened and was logged in a test that failed.
func keep(t *testing.T, cfg chaos.Config, result chaos.Result) {
	if !t.Failed() {
		return
	}
	kept, err := os.MkdirTemp("", "locksmith-chaos-")
	must(t, err)
	must(t, result.Save(kept))
	must(t, os.CopyFS(filepath.Join(kept, "data"), os.DirFS(cfg.Dir)))
	t.Log("what happened, and all logs, are in", kept)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
