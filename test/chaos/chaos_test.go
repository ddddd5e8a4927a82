package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/skip"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

var (
	seed   = flag.Uint64("seed", 1, "the schedule to run")
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
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		skip.Loudly(t, "faults need TUN devices: "+err.Error())
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
		Settle: 40 * time.Second,
		Dir:    t.TempDir(),
	}
}

func TestSchedule(t *testing.T) {
	require(t)
	cfg := site(t)
	cfg.Seed, cfg.Length = *seed, *length
	cfg.Faults = chaos.Plan(*seed, *length, 3, len(cfg.Groups))
	result, err := chaos.Run(t.Context(), cfg)
	if err != nil {
		t.Error(err)
	}
	for _, v := range result.Violations {
		t.Error("a guarantee was broken:", v)
	}
	if len(result.Lines) > 0 && result.Reboots < len(cfg.Groups) {
		t.Errorf("%d reboots: nothing was tested", result.Reboots)
	}
	t.Logf("%d faults, %d reboots, %d revisions", len(cfg.Faults), result.Reboots, result.Revisions)
	if t.Failed() {
		t.Logf("again: go test ./test/chaos -run TestSchedule -seed %d -length %v\n%v", *seed, *length, cfg.Faults)
	}
	if dir := os.Getenv("LOCKSMITH_CHAOS_KEEP"); dir != "" {
		must(t, result.Save(dir))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
