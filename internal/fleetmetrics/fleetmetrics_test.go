package fleetmetrics_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleetmetrics"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// reads is a store with these groups.
func reads(groups ...locksmith.GroupStatus) func(context.Context) ([]locksmith.GroupStatus, error) {
	return func(context.Context) ([]locksmith.GroupStatus, error) { return groups, nil }
}

// group is one with these holders, at so many slots.
func group(name locksmith.Group, max int, holders ...locksmith.HolderStatus) locksmith.GroupStatus {
	g := locksmith.GroupStatus{Group: name, Exists: true, Holders: holders}
	g.Sem, _ = locksmith.NewSemaphore().SetMax(100)
	for _, h := range holders {
		g.Sem, _ = g.Sem.Lock(h.MachineID)
	}
	g.Sem, _ = g.Sem.SetMax(max)
	return g
}

func holder(id string, since int64, by string, phase locksmith.Phase, present bool) locksmith.HolderStatus {
	return locksmith.HolderStatus{Recorded: true, Present: present,
		Holder: locksmith.Holder{MachineID: id, Hostname: "host-" + id, StartTime: since, By: by, Phase: phase, PhaseTime: since}}
}

// text is what Prometheus would read.
func text(t *testing.T, m *fleetmetrics.Metrics) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %q: %s", rec.Code, rec.Header(), rec.Body)
	}
	return rec.Body.String()
}

func scrape(t *testing.T, m *fleetmetrics.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// samples are the series of the families whose names begin so, without that beginning,
// all or those of these names; a histogram's is its count.
func samples(t *testing.T, m *fleetmetrics.Metrics, prefix string, names ...string) map[string]float64 {
	t.Helper()
	got := make(map[string]float64)
	for name, f := range scrape(t, m) {
		short, ok := strings.CutPrefix(name, prefix)
		if !ok || len(names) > 0 && !slices.Contains(names, short) {
			continue
		}
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := short
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			got[key] = s.GetGauge().GetValue() + s.GetCounter().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	return got
}

// busy is a fleet in which every metric has something to say.
func busy(now time.Time) []locksmith.GroupStatus {
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	web := group("web", 2,
		holder("a", ago(time.Hour), locksmith.ByAgent, locksmith.PhaseFailed, true),
		holder("b", ago(2*time.Hour), locksmith.ByAgent, locksmith.PhasePreparing, false),
		holder("c", ago(time.Minute), locksmith.ByFleetLock, locksmith.PhaseAcquired, false))
	web.Queue = []locksmith.Waiter{{MachineID: "d", Since: ago(time.Minute)}, {MachineID: "e", Since: ago(time.Hour)}, {MachineID: "f"}}
	web.Pauses = []locksmith.Pause{{At: ago(3 * time.Hour)}, {At: ago(9 * time.Hour), Until: ago(time.Minute)}, {Scope: locksmith.PauseScope{All: true}, At: ago(2 * time.Hour)}}
	web.Faults = []string{"holders are not sorted"}
	none := group("", 3, locksmith.HolderStatus{Holder: locksmith.Holder{MachineID: "g"}}, holder("h", ago(time.Hour), locksmith.ByLock, "", false))
	return []locksmith.GroupStatus{web, none}
}

func TestGroups(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	ago := func(d time.Duration) float64 { return float64(now.Add(-d).Unix()) }
	m := fleetmetrics.New(fleetmetrics.Config{Version: "v1.2.3", Read: reads(busy(now)...),
		Waiting: func() map[locksmith.Group]int { return map[locksmith.Group]int{"web": 3, "": 1} }})
	want := map[string]float64{
		"slots_max{group=web}": 2, "slots_held{group=web}": 3, "slots_free{group=web}": 0, "queue_length{group=web}": 3, "faults{group=web}": 1,
		"oldest_waiter_since_timestamp_seconds{group=web}": ago(time.Hour), "oldest_holder_since_timestamp_seconds{group=web}": ago(2 * time.Hour),
		"newest_holder_since_timestamp_seconds{group=web}": ago(time.Minute), "paused_since_timestamp_seconds{group=web}": ago(3 * time.Hour),
		"holders_stale{group=web}": 1, "holders_failed{group=web}": 1,

		"slots_max{group=default group}": 3, "slots_held{group=default group}": 2, "slots_free{group=default group}": 1, "queue_length{group=default group}": 0, "faults{group=default group}": 0,
		"oldest_waiter_since_timestamp_seconds{group=default group}": 0, "oldest_holder_since_timestamp_seconds{group=default group}": ago(time.Hour),
		"newest_holder_since_timestamp_seconds{group=default group}": ago(time.Hour), "paused_since_timestamp_seconds{group=default group}": 0,
		"holders_stale{group=default group}": 1, "holders_failed{group=default group}": 0,
	}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_group_")); diff != "" {
		t.Error(diff)
	}
	want = map[string]float64{
		"{group=web,hostname=host-a,machine=a,state=failed}":            ago(time.Hour),
		"{group=web,hostname=host-b,machine=b,state=stale}":             ago(2 * time.Hour),
		"{group=web,hostname=host-c,machine=c,state=ok}":                ago(time.Minute),
		"{group=default group,hostname=,machine=g,state=stale}":         0,
		"{group=default group,hostname=host-h,machine=h,state=by hand}": ago(time.Hour),
	}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_holder_since_timestamp_seconds")); diff != "" {
		t.Error(diff)
	}
	want = map[string]float64{"{group=web}": 3, "{group=default group}": 1}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_fleetlock_requests_waiting")); diff != "" {
		t.Error(diff)
	}
	want = map[string]float64{"groups": 2, "info{version=v1.2.3}": 1, "store_failures_total": 0, "store_reachable": 1}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_server_")); diff != "" {
		t.Error(diff)
	}
}

func TestRequests(t *testing.T) {
	m := fleetmetrics.New(fleetmetrics.Config{Read: reads()})
	m.Observe("api", 200, time.Millisecond)
	m.Observe("api", 200, time.Second)
	m.Observe("api", 503, time.Second)
	m.Observe("dashboard", 7, -time.Second)
	m.FleetLock("pre-reboot", 200, 90*time.Second)
	m.FleetLock("pre-reboot", 423, 55*time.Second)
	m.FleetLock("pre-reboot", 499, 7*time.Second)
	m.FleetLock("steady-state", 503, time.Second)
	m.FleetLock("../etc", 302, time.Second)
	want := map[string]float64{
		"requests_total{code=200,kind=api}": 2, "requests_total{code=503,kind=api}": 1, "requests_total{code=others,kind=dashboard}": 1,
		"request_duration_seconds{kind=api}": 3, "request_duration_seconds{kind=dashboard}": 1,
	}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_server_", "requests_total", "request_duration_seconds")); diff != "" {
		t.Error(diff)
	}
	want = map[string]float64{
		"requests_total{call=pre-reboot,code=200}": 1, "requests_total{call=pre-reboot,code=423}": 1,
		"requests_total{call=pre-reboot,code=499}": 1, "request_duration_seconds{call=pre-reboot,outcome=gone}": 1,
		"requests_total{call=steady-state,code=503}": 1, "requests_total{call=other,code=302}": 1,
		"request_duration_seconds{call=pre-reboot,outcome=ok}": 1, "request_duration_seconds{call=pre-reboot,outcome=refused}": 1,
		"request_duration_seconds{call=steady-state,outcome=ok}": 0, "request_duration_seconds{call=steady-state,outcome=failed}": 1,
		"request_duration_seconds{call=other,outcome=refused}": 1,
	}
	if diff := cmp.Diff(want, samples(t, m, "locksmith_fleetlock_")); diff != "" {
		t.Error(diff)
	}
	for _, s := range scrape(t, m)["locksmith_fleetlock_request_duration_seconds"].GetMetric() {
		if h := s.GetHistogram(); h.GetSampleSum() == 90 {
			if b := h.GetBucket(); b[13].GetCumulativeCount() != 0 || b[14].GetUpperBound() != 300 || b[14].GetCumulativeCount() != 1 {
				t.Errorf("90 s: %v", b)
			}
			return
		}
	}
	t.Error("no grant of 90 s")
}

// While the store is away there is nothing of groups, and what was true once is not
// shown as if it were.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		m := fleetmetrics.New(fleetmetrics.Config{Read: func(ctx context.Context) ([]locksmith.GroupStatus, error) {
			if !away.Load() {
				return busy(time.Now()), nil
			}
			<-ctx.Done() // the store does not answer
			return nil, context.Cause(ctx)
		}})
		for _, gone := range []bool{false, true, false} {
			away.Store(gone)
			began := time.Now()
			groups := samples(t, m, "locksmith_group_")
			if took := time.Since(began); gone && took != 3*time.Second || !gone && took != 0 {
				t.Errorf("away %t: %v for a scrape", gone, took)
			}
			if gone != (len(groups) == 0) {
				t.Errorf("away %t: %v", gone, groups)
			}
			want := map[string]float64{"reachable": 1}
			if gone {
				want["reachable"] = 0
			}
			if diff := cmp.Diff(want, samples(t, m, "locksmith_server_store_", "reachable")); diff != "" {
				t.Errorf("away %t: %s", gone, diff)
			}
			time.Sleep(2 * time.Second)
		}
		if n := samples(t, m, "locksmith_server_store_")["failures_total"]; n != 1 {
			t.Errorf("%v failures", n)
		}
	})
}

// However many scrape, the store is asked once a second.
func TestScrapesDoNotLoadTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int32
		m := fleetmetrics.New(fleetmetrics.Config{Read: func(context.Context) ([]locksmith.GroupStatus, error) {
			reads.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		}})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					text(t, m)
				}
			})
		}
		wg.Wait()
		if n := reads.Load(); n != 1 {
			t.Errorf("%d reads for 40 scrapes in a second", n)
		}
		time.Sleep(time.Second)
		text(t, m)
		if n := reads.Load(); n != 2 {
			t.Errorf("%d reads after a second", n)
		}
	})
}

// A fifth scrape at a time is told to come again.
func TestScrapesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleetmetrics.New(fleetmetrics.Config{Read: func(context.Context) ([]locksmith.GroupStatus, error) {
			time.Sleep(time.Second)
			return nil, errors.New("away")
		}})
		codes := make(map[int]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				rec := httptest.NewRecorder()
				m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
				mu.Lock()
				defer mu.Unlock()
				codes[rec.Code]++
			})
		}
		wg.Wait()
		if codes[200] != 4 || codes[503] != 2 {
			t.Errorf("got %v", codes)
		}
		text(t, m) // there is room again
	})
}

// Series are few and labels short, whatever there is.
func TestBounds(t *testing.T) {
	var groups []locksmith.GroupStatus
	waiting := make(map[locksmith.Group]int)
	now := time.Now()
	for i := range 1000 {
		name := locksmith.Group(fmt.Sprintf("g%03d", i))
		h := holder(fmt.Sprintf("m%03d", i), now.Unix()-60, locksmith.ByAgent, locksmith.PhaseAcquired, true)
		if i%10 == 9 {
			h.Phase = locksmith.PhaseFailed
		}
		h.Hostname = strings.Repeat("é", 200) + "\n\"\xff"
		groups, waiting[name] = append(groups, group(name, 2, h)), 1
	}
	m := fleetmetrics.New(fleetmetrics.Config{Read: reads(groups...), Waiting: func() map[locksmith.Group]int { return waiting }})
	for i := range 5000 {
		m.Observe(fmt.Sprint("kind", i), i, time.Second)
		m.FleetLock(fmt.Sprint("call", i), i, time.Second)
	}
	got := samples(t, m, "locksmith_group_")
	if len(got) != 11*200 || got["slots_max{group=others}"] != 801*2 || got["holders_failed{group=others}"] != 81 {
		t.Errorf("%d series, others %v %v", len(got), got["slots_max{group=others}"], got["holders_failed{group=others}"])
	}
	if got := samples(t, m, "locksmith_fleetlock_requests_waiting"); len(got) != 200 || got["{group=others}"] != 801 {
		t.Errorf("%d series of waiting: %v", len(got), got["{group=others}"])
	}
	got = samples(t, m, "locksmith_holder_")
	for key := range got {
		if !strings.Contains(key, "state=failed") || strings.Count(key, "é") != 126 {
			t.Errorf("%s although others failed", key)
		}
	}
	if len(got) != 100 {
		t.Errorf("%d series of holders", len(got))
	}
	if got := samples(t, m, "locksmith_server_re"); len(got) > 20*65+20 || len(got) < 20 {
		t.Errorf("%d series of requests", len(got))
	}
}

// Requests are counted while scrapes are answered.
func TestConcurrent(t *testing.T) {
	m := fleetmetrics.New(fleetmetrics.Config{Read: reads(busy(time.Now())...)})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				m.Observe(fmt.Sprint(i, n%7), 200, time.Millisecond)
				m.FleetLock("pre-reboot", 200, time.Millisecond)
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for range 10 {
				text(t, m)
			}
		})
	}
	wg.Wait()
	if n := samples(t, m, "locksmith_fleetlock_requests_total")["{call=pre-reboot,code=200}"]; n != 4000 {
		t.Errorf("%v grants", n)
	}
}

// all is a server in which every family has a series.
func all() *fleetmetrics.Metrics {
	now := time.Now()
	m := fleetmetrics.New(fleetmetrics.Config{Version: "v1.2.3", Read: reads(busy(now)...),
		Waiting: func() map[locksmith.Group]int { return map[locksmith.Group]int{"web": 3} }})
	m.Observe("api", 200, time.Millisecond)
	m.FleetLock("pre-reboot", 200, time.Millisecond)
	return m
}

func TestConventions(t *testing.T) {
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(scrape(t, all())))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		skip.Loudly(t, "promtool is missing (Debian's package prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text(t, all()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestWithoutRead(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("made without Read")
		}
	}()
	fleetmetrics.New(fleetmetrics.Config{})
}

// The table in docs/metrics.md is what there is, but for what the Prometheus library
// says of every Go program.
func TestTable(t *testing.T) {
	var want strings.Builder
	families := scrape(t, all())
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, "locksmith_") {
			continue
		}
		f := families[name]
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n### The server's table\n")
	if !ok {
		t.Fatal("docs/metrics.md has no section for the server's table")
	}
	var got strings.Builder
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "#") {
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
