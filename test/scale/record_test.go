package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page shows what was recorded.
func TestPageIsCurrent(t *testing.T) {
	r, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := fillPage(string(page), r)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != want {
		t.Error("docs/performance.md does not show what is recorded: run make scale-plots")
	}
}

func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "measured.json")
	first := result{Figures: []figure{{Name: "a", Machines: 100, Measured: 1}, {Name: "a", Machines: 1000, Measured: 2}},
		Restarts: []series{{Machines: 1000}}}
	second := result{Figures: []figure{{Name: "a", Machines: 1000, Measured: 3}, {Name: "b", Machines: 100, Measured: 4}},
		Restarts: []series{{Machines: 100}, {Machines: 1000, Away: 5}}}
	for _, r := range []result{first, second} {
		if err := r.record(file); err != nil {
			t.Fatal(err)
		}
	}
	got := first.with(second)
	if len(got.Figures) != 3 || got.Figures[0].Measured != 1 || got.Figures[1].Measured != 3 || got.Figures[2].Measured != 4 {
		t.Errorf("figures: %+v", got.Figures)
	}
	if len(got.Restarts) != 2 || got.Restarts[0].Machines != 100 || got.Restarts[1].Away != 5 {
		t.Errorf("restarts: %+v", got.Restarts)
	}
	if f, err := got.figure("a"); err != nil || f.Machines != 1000 {
		t.Errorf("the largest fleet is %+v, %v", f, err)
	}
	if _, err := got.figure("c"); err == nil {
		t.Error("a figure is found that was not recorded")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.record(file); err == nil {
		t.Error("a file that cannot be read is written over")
	}
}

// Without a figure there is no reckoning, and the page stays as it is.
func TestReckoning(t *testing.T) {
	names := map[string]float64{"etcd's processor time while all wait": 40, "FleetLock, complete cycles": 5000, "FleetLock, a holder asks again": 20_000,
		"FleetLock, memory of each of 5000 that wait": 16, "memory of etcd for a queue entry": 2, "memory of etcd for it": 200,
		"requests by each after the restart": 6, "requests in the worst second": 3000}
	var r result
	for name, v := range names {
		r.Figures = append(r.Figures, figure{Name: name, Machines: 10_000, Measured: v})
	}
	text, err := reckoning(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100,000 x 200 kB = 19 GB", "= 4.0 cores", "200 s", "= 7 servers", "x 16.0 KiB = 223 MiB", "= 5.6 a second", "1667 a second", "= 0.19 GB, and 8 connections"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for i := range r.Figures {
		less := result{Figures: append(append([]figure{}, r.Figures[:i]...), r.Figures[i+1:]...)}
		if _, err := reckoning(less); err == nil {
			t.Errorf("reckoned without %q", r.Figures[i].Name)
		}
	}
}

// Where marks are missing nothing is written.
func TestPageWithoutMarks(t *testing.T) {
	if _, err := fillPage("# Performance\n", result{}); err == nil {
		t.Error("a page without marks is filled")
	}
}

func TestGrowth(t *testing.T) {
	text, err := growth(result{Figures: []figure{{Name: "a", Machines: 100, Measured: 1.5, Unit: "kB"}, {Name: "a", Machines: 10_000, Measured: 2, Unit: "kB"}, {Name: "rollout", Machines: 100}, {Name: "b", Machines: 20}}})
	if want := "| a | 1.50 kB | – | 2 kB |\n"; err != nil || !strings.HasSuffix(text, "|---|---|---|---|\n"+want) {
		t.Errorf("%s%v", text, err)
	}
}

func TestRates(t *testing.T) {
	run := series{Machines: 10, Samples: []sample{{}, {At: 0.5, Requests: 100}, {At: 1, Requests: 300}, {At: 1.5, Requests: 300}, {At: 2, Requests: 310, Connections: 10}, {At: 70, Requests: 400}}}
	if got := run.rates(); len(got) != 2 || got[0].Y != 300 || got[1].Y != 10 {
		t.Errorf("rates: %+v", got)
	}
	if got := run.worst(func(s sample) float64 { return s.Requests }); got != 300 {
		t.Errorf("the worst second has %g", got)
	}
	if got := kept(map[string]int64{"a": 1, "b": 2, "c": 3}, map[string]int64{"a": 1, "b": 5}); got != 1 {
		t.Errorf("%d kept their places", got)
	}
}
