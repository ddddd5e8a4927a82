package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// even is a record of two hours in which each figure is as value says: x is how far the
// body is, from 0 to 1.
func even(value func(series string, x float64) float64) record {
	r := record{Head: head{Duration: 7200, Machines: 200, Seed: 1}, Ending: &ending{Reboots: 9, Rollouts: 3, Faults: 2}}
	add := func(phase string, at, x float64) {
		s := sample{At: at, Phase: phase, Values: map[string]float64{"etcd.ring": 1024}}
		for _, f := range figures() {
			if phase == phaseEmpty || phase == phaseVacated {
				if !strings.HasPrefix(f.series, "etcd.") && !strings.HasPrefix(f.series, serverName) {
					continue // there is nobody
				}
			}
			s.Values[f.series] = value(f.series, x)
		}
		r.Samples = append(r.Samples, s)
	}
	for i := range restSamples {
		add(phaseEmpty, float64(i), 0)
		add(phaseBefore, 50+float64(i), 0)
	}
	slices.SortFunc(r.Samples, func(a, b sample) int { return int(a.At - b.At) })
	for i := range 240 {
		add(phaseBody, 100+30*float64(i), float64(i)/240)
	}
	for i := range restSamples {
		add(phaseAfter, 7400+float64(i), 1)
	}
	for i := range restSamples {
		add(phaseVacated, 7500+float64(i), 1)
	}
	return r
}

// bad names the verdicts that are not good.
func bad(r record) []string {
	var list []string
	for _, v := range judge(r) {
		if !v.good {
			list = append(list, v.about+": "+v.name)
		}
	}
	return list
}

// level is about what a figure has in a real run.
func level(series string) float64 {
	switch {
	case strings.HasSuffix(series, ".heap"):
		return 20 << 20
	case strings.HasSuffix(series, ".own"), strings.HasPrefix(series, "etcd.used"), strings.HasPrefix(series, "etcd.size"):
		return 50 << 20
	}
	return 200
}

func TestFlatIsGood(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, value := range map[string]func(string, float64) float64{
		"even":    func(s string, _ float64) float64 { return level(s) },
		"shrinks": func(s string, x float64) float64 { return math.Round(level(s) * 1) },
		"the first half grows": func(s string, x float64) float64 {
			if strings.HasSuffix(s, ".own") {
				return level(s) * (1 + min(x, 0.5))
			}
			return level(s)
		},
		"noise": func(s string, x float64) float64 {
			if x == 0 || x == 1 || s == "etcd.keys" {
				return level(s)
			}
			return level(s) * (0.9 + 0.2*rng.Float64())
		},
		"a sawtooth": func(s string, x float64) float64 {
			if x == 0 || x == 1 || s == "etcd.keys" {
				return level(s)
			}
			return level(s) * (1 + math.Mod(x*80, 1)) // a rollout each 90 s
		},
		"one spike at the end": func(s string, x float64) float64 {
			if x > 0.9 && x < 0.97 && s != "etcd.keys" {
				return 5 * level(s)
			}
			return level(s)
		},
	} {
		if list := bad(even(value)); len(list) > 0 {
			t.Errorf("%s: %q", name, list)
		}
	}
}

// Each figure is found when it alone grows, by where it is looked at.
func TestGrowthIsFound(t *testing.T) {
	for _, f := range figures() {
		list := bad(even(func(s string, x float64) float64 {
			if s == f.series {
				return level(s) * math.Exp(3*x)
			}
			return level(s)
		}))
		var want []string
		if !f.noRest {
			want = append(want, "at rest: "+f.name)
		}
		if !f.noRise {
			want = append(want, "growth: "+f.name)
		}
		if !f.noRest && f.series != "etcd.keys" && (strings.HasPrefix(f.series, "etcd.") || strings.HasPrefix(f.series, serverName)) {
			want = append(want, "left behind: "+f.name)
		}
		if !slices.Equal(list, want) {
			t.Errorf("%s grows: found %q, want %q", f.series, list, want)
		}
		if len(want) == 0 {
			t.Errorf("nothing looks at %s", f.series)
		}
	}
}

// What grows in the second half alone is found there.
func TestSlowGrowthIsFound(t *testing.T) {
	list := bad(even(func(s string, x float64) float64 {
		if s == "server.own" {
			return level(s) * (1 + max(0, x-0.5))
		}
		return level(s)
	}))
	if want := []string{"growth: locksmith-server: memory of its own"}; !slices.Equal(list, want) {
		t.Errorf("found %q, want %q", list, want)
	}
}

func TestShortRunsAreJudgedAtRest(t *testing.T) {
	r := even(func(s string, x float64) float64 {
		if s == "etcd.leases" {
			return level(s) + math.Round(x)
		}
		return level(s)
	})
	r.Head.Duration = 60
	if got, want := bad(r), []string{"at rest: etcd: leases"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// What is not known is not good.
func TestMissingFigures(t *testing.T) {
	flat := func(s string, _ float64) float64 { return level(s) }
	r := even(flat)
	for _, s := range r.Samples {
		if s.Phase == phaseAfter || s.Phase == phaseBody {
			delete(s.Values, "etcd.leases")
		}
	}
	if got, want := bad(r), []string{"at rest: etcd: leases", "growth: etcd: leases"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	r = even(flat)
	r.Samples = r.Samples[:20]
	r.Ending = nil
	got := bad(r)
	for _, want := range []string{"promise: the run came to its end", "at rest: everything", "left behind: everything", "growth: etcd: leases"} {
		if !slices.Contains(got, want) {
			t.Errorf("a run that was cut short: found %q, not %q", got, want)
		}
	}
	// A server that is away for a while, with every other window.
	r = even(flat)
	for i, s := range r.Samples {
		if s.Phase == phaseBody && i/30%2 == 0 {
			clear(s.Values)
		}
	}
	if list := bad(r); len(list) > 0 {
		t.Errorf("with gaps: %q", list)
	}
}

func TestPromises(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*record)
		want  string
	}{
		"too many down": {func(r *record) { r.Ending.Broken = []string{"4 of web"} }, "promise: never more than max down"},
		"no rollout":    {func(r *record) { r.Ending.Rollouts = 0 }, "promise: rollouts ended"},
		"cut short":     {func(r *record) { r.Ending.Short = "a signal" }, "promise: the run came to its end"},
		"a long ring":   {func(r *record) { r.Samples[9].Values["etcd.ring"] = 1025 }, "promise: no ring of history is larger than it may be"},
	} {
		r := even(func(s string, _ float64) float64 { return level(s) })
		tt.spoil(&r)
		if got := bad(r); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: found %q, want %q", name, got, tt.want)
		}
	}
}

func TestSlope(t *testing.T) {
	var points []point
	for i := range 12 {
		points = append(points, point{float64(i), 3 * float64(i)})
	}
	points[2].y, points[7].y, points[11].y = 1e9, -1e9, 1e9
	if got := slope(points); got != 3 {
		t.Errorf("slope %g, want 3", got)
	}
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{[]float64{5}, 5}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(tt.of); got != tt.want {
			t.Errorf("median of %v: %g, want %g", tt.of, got, tt.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// A window is its least value where garbage lies on top, else its median.
func TestWindows(t *testing.T) {
	r := even(func(s string, x float64) float64 { return math.Floor(x*24) + math.Mod(math.Round(x*240), 10) })
	for _, tt := range []struct {
		f    figure
		want float64
	}{{figure{series: "server.heap", lowest: true}, 3}, {figure{series: "server.heap"}, 3 + 4.5}} {
		points := windowsOf(r, tt.f)
		if len(points) != windows || math.Abs(points[3].y-tt.want) > 0.01 || points[3].x != 3.5*300 {
			t.Errorf("%d windows, the fourth %+v, want %g", len(points), points[3], tt.want)
		}
	}
	if half := secondHalf(r, figure{series: "server.heap"}); len(half) != windows/2 || half[0].x != 12.5*300 {
		t.Errorf("the second half is %+v", half)
	}
}
