package metrics_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/metrics"
)

const machine = "69d27b356a94476da859461d3a3bc6fd"

// config is that of a machine with all there is.
func config() metrics.Config {
	return metrics.Config{
		Version: "v1.2.3", Machine: machine, Strategy: locksmith.StrategyEtcdLock, Groups: []locksmith.Group{"lb", "rack 7"},
		Etcd: func() metrics.EtcdStats { return metrics.EtcdStats{Requests: 1234, Failures: 5, Connected: true} },
	}
}

// busy is a status in which every metric has something to say.
func busy(since time.Time) agent.Status {
	return agent.Status{
		Phase: locksmith.PhaseQueued, Since: since, Needed: true, NeededSince: since.Add(-time.Hour),
		Held: true, HeldSince: since.Add(time.Minute), DryRun: true,
		Pauses: []locksmith.Pause{{Scope: locksmith.PauseScope{All: true}}},
		Conditions: []locksmith.Condition{
			{Name: locksmith.CondNeed, State: locksmith.CondMet}, {Name: "20-backup", State: locksmith.CondBlocked},
			{Name: "apt-get (pid 812)", State: locksmith.CondBlocked}, {Name: locksmith.CondSlot, State: locksmith.CondWaiting},
			{Name: locksmith.CondChecks, State: locksmith.CondUnknown}, {Name: locksmith.CondVerify, State: locksmith.CondPending},
		},
		Triggers:    map[string]string{"file:/run/reboot-required": "needed: libc6", "uptime": "not needed", "update-engine": "error: no bus"},
		TriggerErrs: map[string]int{"update-engine": 7},
		Outcomes:    map[string]int{"rebooted": 3, "aborted": 1, "aborted: window closed": 1},
		LastReboot:  &agent.Past{Time: since.Add(-24 * time.Hour), Outcome: "rebooted", Down: 42500 * time.Millisecond},
	}
}

// scrape is what Prometheus would read.
func scrape(t *testing.T, m *metrics.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %q: %s", rec.Code, rec.Header(), rec.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// samples are the values of the families named, as the text format writes them.
func samples(t *testing.T, m *metrics.Metrics, names ...string) map[string]float64 {
	t.Helper()
	got := make(map[string]float64)
	families := scrape(t, m)
	for _, name := range names {
		for _, s := range families["locksmith_"+name].GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			got[key] = s.GetGauge().GetValue() + s.GetCounter().GetValue()
		}
	}
	return got
}

func TestAMachineThatWaits(t *testing.T) {
	m := metrics.New(config())
	since := time.Unix(1_700_000_000, 500_000_000)
	m.Changed(busy(since))
	at := 1_700_000_000.5
	want := map[string]float64{
		"info{groups=lb,rack 7,machine=" + machine + ",strategy=etcd-lock,version=v1.2.3}": 1,
		"phase_start_timestamp_seconds": at, "reboot_needed": 1, "reboot_needed_since_timestamp_seconds": at - 3600,
		"blocked{by=20-backup}": 1, "blocked{by=apt-get}": 1, "blocked{by=checks}": 1,
		"paused": 1, "dry_run": 1, "slot_held": 1, "slot_held_since_timestamp_seconds": at + 60,
		"window_open": 1, "window_next_start_timestamp_seconds": 0, "window_end_timestamp_seconds": 0,
		"reboots_total{outcome=rebooted}": 3, "reboots_total{outcome=aborted}": 2,
		"last_reboot_timestamp_seconds": at - 86400, "last_reboot_down_seconds": 42.5,
		"trigger_needed{trigger=file:/run/reboot-required}": 1, "trigger_needed{trigger=uptime}": 0, "trigger_needed{trigger=update-engine}": 0,
		"trigger_failed{trigger=file:/run/reboot-required}": 0, "trigger_failed{trigger=uptime}": 0, "trigger_failed{trigger=update-engine}": 1,
		"trigger_errors_total{trigger=file:/run/reboot-required}": 0, "trigger_errors_total{trigger=uptime}": 0,
		"trigger_errors_total{trigger=update-engine}": 7,
		"etcd_requests_total":                         1234, "etcd_failures_total": 5, "etcd_connected": 1,
	}
	for _, p := range locksmith.Phases {
		want["phase{phase="+string(p)+"}"] = 0
	}
	want["phase{phase=queued}"] = 1
	var names []string
	for key := range want {
		name, _, _ := strings.Cut(key, "{")
		names = append(names, name)
	}
	if diff := cmp.Diff(want, samples(t, m, names...)); diff != "" {
		t.Error(diff)
	}
}

// Before the first status, and where nothing is the matter, all is zero, and
// counters that are going to be there are.
func TestAnIdleMachine(t *testing.T) {
	m := metrics.New(metrics.Config{})
	names := []string{"phase_start_timestamp_seconds", "reboot_needed", "reboot_needed_since_timestamp_seconds", "blocked", "paused", "slot_held", "slot_held_since_timestamp_seconds"}
	want := map[string]float64{"phase_start_timestamp_seconds": 0, "reboot_needed": 0, "reboot_needed_since_timestamp_seconds": 0,
		"paused": 0, "slot_held": 0, "slot_held_since_timestamp_seconds": 0}
	if diff := cmp.Diff(want, samples(t, m, names...)); diff != "" {
		t.Error(diff)
	}
	m.Changed(agent.Status{Phase: locksmith.PhaseIdle})
	if diff := cmp.Diff(want, samples(t, m, names...)); diff != "" {
		t.Error(diff)
	}
	zero := map[string]float64{"reboots_total{outcome=rebooted}": 0, "reboots_total{outcome=aborted}": 0}
	if diff := cmp.Diff(zero, samples(t, m, "reboots_total", "etcd_requests_total", "etcd_connected")); diff != "" {
		t.Error(diff)
	}
}

// A cycle that was given up is none of the reboots, and does not hide the last one.
func TestLastReboot(t *testing.T) {
	m := metrics.New(config())
	at := time.Unix(1_700_000_000, 0)
	want := map[string]float64{"last_reboot_timestamp_seconds": 1_700_000_000, "last_reboot_down_seconds": 30}
	for _, past := range []agent.Past{
		{Time: at, Outcome: "rebooted", Down: 30 * time.Second},
		{Time: at.Add(time.Hour), Outcome: "aborted: the window closed", Down: time.Second},
	} {
		m.Changed(agent.Status{LastReboot: &past})
		if diff := cmp.Diff(want, samples(t, m, "last_reboot_timestamp_seconds", "last_reboot_down_seconds")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestPhaseDurations(t *testing.T) {
	m := metrics.New(config())
	at := time.Unix(1_700_000_000, 0)
	enter := func(p locksmith.Phase, after time.Duration) {
		at = at.Add(after)
		m.Changed(agent.Status{Phase: p, Since: at})
	}
	enter(locksmith.PhaseIdle, 0)
	enter(locksmith.PhaseWindow, 2*time.Hour)
	m.Changed(agent.Status{Phase: locksmith.PhaseWindow, Since: at, Waiting: "something else"})
	enter(locksmith.PhaseQueued, 30*time.Second)
	enter(locksmith.PhaseWindow, time.Second)
	enter(locksmith.PhaseIdle, 90*time.Second)
	enter(locksmith.PhaseNeeded, -time.Hour) // the clock was set back
	got := make(map[string]string)
	for _, s := range scrape(t, m)["locksmith_phase_duration_seconds"].GetMetric() {
		h := s.GetHistogram()
		text := fmt.Sprintf("%d in %v s:", h.GetSampleCount(), h.GetSampleSum())
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				text += fmt.Sprint(" ", b.GetCumulativeCount())
			}
		}
		got[s.GetLabel()[0].GetValue()] = text
	}
	want := map[string]string{
		"idle":   "2 in 7200 s: 1 1 1 1 1 1 2 2 2",
		"window": "2 in 120 s: 0 0 1 2 2 2 2 2 2",
		"queued": "1 in 1 s: 1 1 1 1 1 1 1 1 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// window is open every hour for ten minutes.
type window struct {
	mu    sync.Mutex
	asked int
}

func (w *window) Contains(t time.Time) bool { return t.Sub(t.Truncate(time.Hour)) < 10*time.Minute }

func (w *window) Next(t time.Time) (start, end time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	start = t.Truncate(time.Hour)
	if !w.Contains(t) {
		start = start.Add(time.Hour)
	}
	return start, start.Add(10 * time.Minute)
}

// An idle machine's status may not change for weeks; its windows do.
func TestWindowsAndPausesGoOnByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(window)
		c := config()
		c.Window = w
		m := metrics.New(c)
		begin := time.Now().Truncate(time.Hour).Add(time.Hour)
		m.Changed(agent.Status{Pauses: []locksmith.Pause{{Until: begin.Add(5 * time.Minute).Unix()}}})
		unix := float64(begin.Unix())
		for _, tt := range []struct {
			at                      time.Duration
			open, next, end, paused float64
		}{
			{0, 1, unix + 3600, unix + 600, 1},
			{5*time.Minute - 1, 1, unix + 3600, unix + 600, 1},
			{5 * time.Minute, 1, unix + 3600, unix + 600, 0},
			{10 * time.Minute, 0, unix + 3600, unix + 4200, 0},
			{time.Hour - 1, 0, unix + 3600, unix + 4200, 0},
			{time.Hour, 1, unix + 7200, unix + 4200, 0},
		} {
			time.Sleep(time.Until(begin.Add(tt.at)))
			want := map[string]float64{"window_open": tt.open, "window_next_start_timestamp_seconds": tt.next, "window_end_timestamp_seconds": tt.end, "paused": tt.paused}
			if diff := cmp.Diff(want, samples(t, m, slices.Collect(maps.Keys(want))...)); diff != "" {
				t.Errorf("after %v: %s", tt.at, diff)
			}
		}
		asked := w.asked
		for range 100 {
			scrape(t, m)
		}
		if w.asked != asked {
			t.Errorf("the windows were gone through %d more times, with no edge between", w.asked-asked)
		}
	})
}

// closed never opens again.
type closed struct{}

func (closed) Contains(time.Time) bool               { return false }
func (closed) Next(time.Time) (start, end time.Time) { return }

func TestNoWindowInSight(t *testing.T) {
	c := config()
	c.Window = closed{}
	want := map[string]float64{"window_open": 0, "window_next_start_timestamp_seconds": 0, "window_end_timestamp_seconds": 0}
	if diff := cmp.Diff(want, samples(t, metrics.New(c), slices.Collect(maps.Keys(want))...)); diff != "" {
		t.Error(diff)
	}
}

// Names come from files and commands of the site: they are neither many nor long
// nor broken for Prometheus.
func TestLabelsAreBounded(t *testing.T) {
	c := config()
	c.Version = "v1\n\"\xff"
	m := metrics.New(c)
	s := agent.Status{Triggers: map[string]string{"": "not needed", "a\nb\xff\"\\": "not needed", strings.Repeat("é", 100): "not needed"},
		Outcomes: map[string]int{}}
	for i := range 100 {
		s.Conditions = append(s.Conditions, locksmith.Condition{Name: fmt.Sprintf("hook-%02d", i), State: locksmith.CondBlocked})
		s.Outcomes[fmt.Sprintf("x-%02d: why", i)] = 2
	}
	m.Changed(s)
	blocked := samples(t, m, "blocked")
	if len(blocked) != 20 || blocked["blocked{by=hook-18}"] != 1 || blocked["blocked{by=others}"] == 0 {
		t.Errorf("%d series: %v", len(blocked), blocked)
	}
	outcomes := samples(t, m, "reboots_total")
	sum := 0.0
	for _, n := range outcomes {
		sum += n
	}
	if len(outcomes) != 20 || sum != 200 {
		t.Errorf("%d series, in all %v: %v", len(outcomes), sum, outcomes)
	}
	want := map[string]float64{"trigger_needed{trigger=none}": 0, "trigger_needed{trigger=a_b_\"\\}": 0, "trigger_needed{trigger=" + strings.Repeat("é", 32) + "}": 0}
	if diff := cmp.Diff(want, samples(t, m, "trigger_needed")); diff != "" {
		t.Error(diff)
	}
	s.Conditions = nil
	m.Changed(s)
	if blocked := samples(t, m, "blocked"); len(blocked) != 0 {
		t.Errorf("what does not block any more is still there: %v", blocked)
	}
}

// The agent goes on with its maps while a scrape is answered.
func TestChangesWhileScraped(t *testing.T) {
	m := metrics.New(config())
	var wg sync.WaitGroup
	wg.Go(func() {
		s := busy(time.Unix(1_700_000_000, 0))
		for i := range 200 {
			s.Phase = locksmith.Phases[i%len(locksmith.Phases)]
			m.Changed(s)
			s.Outcomes["rebooted"]++
			s.TriggerErrs["uptime"]++
			s.Triggers["uptime"] = "needed: now"
			s.Conditions[0].State, s.Pauses[0].Until = locksmith.CondBlocked, int64(i)
			s.LastReboot.Down++
		}
	})
	for range 3 {
		wg.Go(func() {
			for range 30 {
				scrape(t, m)
			}
		})
	}
	wg.Wait()
}

func TestProcess(t *testing.T) {
	families := scrape(t, metrics.New(config()))
	value := func(name string) float64 {
		s := families[name].GetMetric()
		if len(s) != 1 {
			t.Fatalf("%s: %d series", name, len(s))
		}
		return s[0].GetGauge().GetValue() + s[0].GetCounter().GetValue()
	}
	if v := value("process_resident_memory_bytes"); v < 1<<20 || v > 1<<32 {
		t.Errorf("resident: %v bytes", v)
	}
	if v := value("process_cpu_seconds_total"); v <= 0 || v > 1e5 {
		t.Errorf("CPU: %v s", v)
	}
	if ago := float64(time.Now().Unix()) - value("process_start_time_seconds"); ago < -1 || ago > 3600 {
		t.Errorf("started %v s ago", ago)
	}
	if v := value("go_goroutines"); v < 1 || v > 1000 {
		t.Errorf("%v goroutines", v)
	}
	before := value("process_open_fds")
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	families = scrape(t, metrics.New(config()))
	if after := value("process_open_fds"); after != before+1 {
		t.Errorf("%v files were open, and with one more %v", before, after)
	}
}

// all is every family there is.
func all(t *testing.T) map[string]*dto.MetricFamily {
	m := metrics.New(config())
	m.Changed(agent.Status{Phase: locksmith.PhaseNeeded})
	m.Changed(busy(time.Unix(1_700_000_000, 0)))
	return scrape(t, m)
}

func TestConventions(t *testing.T) {
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(all(t)))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The table in docs/metrics.md is what there is.
func TestTable(t *testing.T) {
	var want strings.Builder
	families := all(t)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Table\n")
	var got strings.Builder
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "#") { // locksmith-server's are another table
			break
		}
		if strings.HasPrefix(line, "| `") {
			got.WriteString(line)
		}
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("docs/metrics.md is not what there is: %s\nthe table has to be:\n%s", diff, &want)
	}
}
