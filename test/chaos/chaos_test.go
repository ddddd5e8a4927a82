package chaos_test

import (
	"context"
	"errors"
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
	seed    = flag.Uint64("seed", 1, "the schedule to run")
	seeds   = flag.Uint64("seeds", 0, "run as many schedules, from -seed on: the long form")
	length  = flag.Duration("length", 20*time.Second, "how long faults are inflicted")
	summary = flag.String("summary", "", "the file to which the long form adds a line about itself")
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
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
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

// built is the directory of the programs, once they are needed. It goes with TestMain.
var built string

// programs builds locksmith-server and locksmithctl, once for all tests, and returns the
// directory. It is called by one test at a time.
func programs(t *testing.T) string {
	t.Helper()
	if built != "" {
		return built
	}
	dir, err := os.MkdirTemp("", "locksmith-chaos-programs-")
	must(t, err)
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../../cmd/locksmith-server", "../../cmd/locksmithctl").CombinedOutput()
	if err != nil {
		_ = os.RemoveAll(dir)
		t.Fatalf("building the programs: %v\n%s", err, out)
	}
	built = dir
	return built
}

// TestSchedule runs one short schedule. A server that was killed is left to the long
// form: its requests' places in the queues lapse with its lease only.
func TestSchedule(t *testing.T) {
	require(t)
	runSchedule(t, programs(t), *seed, *length, 90*time.Second, chaos.KillServer)
}

// TestSchedules is the long form: many schedules, of all faults, several at a time
// (-parallel). Each has a network of its own, so that they share nothing but the time
// of the processors.
func TestSchedules(t *testing.T) {
	require(t)
	if *seeds == 0 {
		skip.LongForm(t, "make chaos")
	}
	dir := programs(t)
	sum := chaos.NewSummary(time.Now())
	t.Cleanup(func() { tell(t, sum) }) // when all have ended
	for i := range *seeds {
		n := *seed + i
		t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) {
			t.Parallel()
			faults, result := runSchedule(t, dir, n, *length, 2*time.Minute)
			sum.Add(n, faults, result, t.Failed())
		})
	}
}

// tell says what the long form has shown, and adds it to the file that is asked for.
func tell(t *testing.T, sum *chaos.Summary) {
	now := time.Now()
	t.Log("what users were told of failures:\n" + sum.Messages())
	t.Log("all schedules:\n" + sum.Text(now))
	if *summary == "" {
		return
	}
	must(t, os.MkdirAll(filepath.Dir(*summary), 0o755))
	f, err := os.OpenFile(*summary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	_, err = fmt.Fprintln(f, sum.Line(now))
	must(t, errors.Join(err, f.Close()))
}

// runSchedule runs the schedule of a seed and reports what it broke, in one piece,
// because others report meanwhile.
func runSchedule(t *testing.T, programs string, seed uint64, length, settle time.Duration, without ...chaos.Action) (chaos.Schedule, chaos.Result) {
	cfg := site(t)
	cfg.Server, cfg.Control = filepath.Join(programs, "locksmith-server"), filepath.Join(programs, "locksmithctl")
	cfg.Served = []locksmith.Group{"web", "rack", "web"}
	cfg.Seed, cfg.Length, cfg.Settle = seed, length, settle
	cfg.Faults = chaos.Plan(seed, length, len(cfg.Groups)+len(cfg.Served), without...)
	result, err := chaos.Run(t.Context(), cfg)
	var wrong []string
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, v := range result.Violations {
		wrong = append(wrong, "a guarantee was broken: "+v)
	}
	if most := len(cfg.Groups) + len(cfg.Served); result.Reboots < most {
		wrong = append(wrong, fmt.Sprintf("%d reboots of %d machines: nothing was tested", result.Reboots, most))
	}
	t.Logf("%d faults, %d reboots, %d calls, %d commands, %d revisions, settled after %v",
		len(cfg.Faults), result.Reboots, result.Calls, len(result.Said), result.Revisions, result.Settled.Round(time.Millisecond))
	if wrong != nil {
		wrong = append(wrong, again(t, cfg), keep(cfg, result))
		t.Error(strings.Join(wrong, "\n"))
	}
	return cfg.Faults, result
}

// again says how to run the schedule once more, and what is in it.
func again(t *testing.T, cfg chaos.Config) string {
	run, _, long := strings.Cut(t.Name(), "/")
	if run += "$"; long {
		run += " -seeds 1"
	}
	return fmt.Sprintf("again: go test ./test/chaos -run %s -seed %d -length %v\n%v", run, cfg.Seed, cfg.Length, cfg.Faults)
}

// keep saves everything that happened and was logged, and says where it is.
func keep(cfg chaos.Config, result chaos.Result) string {
	kept, err := os.MkdirTemp("", fmt.Sprintf("locksmith-chaos-%d-", cfg.Seed))
	if err == nil {
		err = errors.Join(result.Save(kept), os.CopyFS(filepath.Join(kept, "data"), os.DirFS(cfg.Dir)))
	}
	if err != nil {
		return fmt.Sprintf("what happened could not be kept: %v", err)
	}
	return "what happened, and all logs, are in " + kept
}

// keepFailed is keep for a test that failed.
func keepFailed(t *testing.T, cfg chaos.Config, result chaos.Result) {
	if t.Failed() {
		t.Log(keep(cfg, result))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
