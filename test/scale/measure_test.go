package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// The short form of the real thing: a hundred machines wait, and a hundred reboot.
func TestHundredMachines(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-quick", "-json", "-only", "waiting,rollouts", "-dir", t.TempDir()}, nil, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	var r result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	// The program itself fails where a release wakes more than one, or more are down than
	// may be. What is counted does not depend on how busy this machine is; times and
	// rates do, so of them it only matters that they were taken.
	anything := [2]float64{0, 1e9}
	limits := map[string][2]float64{
		"until all are in the queue":              anything,
		"requests to get there":                   {8, 30},
		"memory of a waiting agent":               {10, 1000},
		"memory of etcd for it":                   {10, 2000},
		"keep-alives while all wait":              anything,
		"etcd's processor time while all wait":    anything,
		"until a machine is down after a release": anything,
		"requests that a release sets going":      {5, 60},
		"until all know of a pause":               anything,
		"until all know of its end":               anything,
		"etcd killed: until all are back":         anything,
		"requests in the worst second":            {1, 40 * 100},
		"connections in the worst second":         {1, 3 * 100},
		"requests by each after the restart":      {4, 40},
		"connections by each after the restart":   {0.9, 3},
		"rollout, 20 at a time":                   {5, 1e9},
		"rollout, 20 at a time, etcd":             {14, 60},
		"rollout, 20 at a time, presence":         {1, 8},
		"waiting, processors that others had":     {0, 100},

		"rollout, 20 at a time, processors that others had": {0, 100},
	}
	seen := make(map[string]bool)
	for _, f := range r.Figures {
		limit, ok := limits[f.Name]
		if !ok || f.Machines != 100 {
			t.Errorf("unexpected: %+v", f)
		}
		seen[f.Name] = true
		if f.Measured < limit[0] || f.Measured > limit[1] {
			t.Errorf("%s: %g %s, want %g to %g", f.Name, f.Measured, f.Unit, limit[0], limit[1])
		}
	}
	for name := range limits {
		if !seen[name] {
			t.Errorf("%s was not measured", name)
		}
	}
}

// The program is its own helper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == agentsArg {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestCounts(t *testing.T) {
	var c counts
	for line := range strings.Lines(`# HELP grpc_server_msg_received_total Total.
grpc_server_msg_received_total{grpc_method="Txn",grpc_type="unary"} 3
grpc_server_msg_received_total{grpc_method="Watch",grpc_type="bidi_stream"} 4
grpc_server_msg_received_total{grpc_method="LeaseKeepAlive",grpc_type="bidi_stream"} 5
etcd_debugging_mvcc_watcher_total 6
process_resident_memory_bytes 2.5e+07
process_cpu_seconds_total 0.25
grpc_server_msg_sent_total{grpc_method="Txn"} 9
`) {
		if err := c.add(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
	}
	if want := (counts{requests: 7, keepAlives: 5, watches: 6, resident: 2.5e7, cpu: 0.25}); c != want {
		t.Errorf("read %+v, want %+v", c, want)
	}
	if err := c.add("process_cpu_seconds_total many"); err == nil {
		t.Error("a metric that is no number is accepted")
	}
}

func TestIdealOfRollouts(t *testing.T) {
	for want, r := range map[int]rollout{100: {1000, 1, 10}, 101: {1001, 1, 10}, 34: {999, 3, 10}, 1: {5, 5, 1}} {
		if got := r.ideal(); got != time.Duration(want)*rolloutDown {
			t.Errorf("%+v: %v, want %d times %v", r, got, want, rolloutDown)
		}
	}
}

// A rollout in which too many were down, or one did not reboot, is no figure.
func TestRolloutIsChecked(t *testing.T) {
	r := rollout{100, 1, 20}
	for want, end := range map[string]state{
		"21 machines of a group were down at once, of which 20 may be": {Most: 21},
		"1 machines did not reboot exactly once: [m7]":                 {Most: 20, Unproven: []string{"m7"}},
	} {
		if err := r.check(end); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := r.check(state{Most: 20}); err != nil {
		t.Error(err)
	}
}

// A fleet that is not done in time is given up with a word about how far it came.
func TestLimit(t *testing.T) {
	s := &scale{limit: time.Millisecond}
	err := s.within(t.Context(), "waiting", 10_000, func(ctx context.Context) error {
		s.reached = "7 were there"
		return s.await(ctx, "the others", time.Microsecond, func() (bool, error) { return false, nil })
	})
	if err == nil || !strings.Contains(err.Error(), "waiting: this machine does not carry 10000 machines within 1ms (-limit): 7 were there; of ") {
		t.Errorf("error: %v", err)
	}
	if len(s.result.Figures) != 0 {
		t.Errorf("figures: %+v", s.result.Figures)
	}
}

func TestFiguresAsTable(t *testing.T) {
	var out bytes.Buffer
	printFigures(&out, []figure{{Name: "a", Machines: 10, Measured: 3, Unit: "s", Ideal: 2}, {Name: "b", Machines: 100, Measured: 1.234, Unit: "kB", Note: "free"}})
	want := strings.TrimPrefix(`
MACHINES  FIGURE  MEASURED  IDEAL  RATIO  NOTE
10        a       3 s       2 s    1.50
100       b       1.23 kB                 free
`, "\n")
	if out.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", out.String(), want)
	}
}
