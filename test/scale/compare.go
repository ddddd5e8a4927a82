package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith/test/scale/plot"
	"github.com/locksmith-reboot/locksmith/test/scale/sim"
)

// The fleets that are compared on virtual time: all of their machines learn within a
// minute that they need a reboot, and are down for three minutes, give or take a quarter.
const (
	compareDown   = 3 * time.Minute
	compareSpread = 0.25
	compareArrive = time.Minute
	compareSeed   = 1
)

var compareSizes = []int{10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000}

// outcome is one fleet's way under one policy. Times are in seconds.
type outcome struct {
	Policy     string  `json:"policy"`
	Machines   int     `json:"machines"`
	Max        int     `json:"max"`
	Ideal      float64 `json:"ideal_s"`
	Makespan   float64 `json:"makespan_s"`
	WaitP50    float64 `json:"wait_p50_s"`
	WaitP99    float64 `json:"wait_p99_s"`
	WaitMost   float64 `json:"wait_max_s"`
	PerMachine float64 `json:"requests_per_machine"`
	Peak       int     `json:"requests_in_worst_second"`
	Most       int     `json:"most_down"`
}

// compare runs fleets of all sizes, a share of which may be down, under all policies.
func compare(sizes []int, share float64) ([]outcome, error) {
	policies := sim.Policies()
	out := make([]outcome, len(sizes)*len(policies))
	var group errgroup.Group
	for i, n := range sizes {
		cfg := sim.Config{Machines: n, Max: max(1, int(float64(n)*share)), Down: compareDown, Spread: compareSpread,
			Arrive: compareArrive, Seed: compareSeed}
		for j, p := range policies {
			group.Go(func() (err error) {
				out[i*len(policies)+j], err = runPolicy(cfg, p)
				return err
			})
		}
	}
	return out, group.Wait()
}

func runPolicy(cfg sim.Config, p sim.Policy) (outcome, error) {
	ideal, err := sim.Ideal(cfg)
	if err != nil {
		return outcome{}, err
	}
	r, err := sim.Run(cfg, p)
	if err != nil {
		return outcome{}, err
	}
	if r.Most > cfg.Max {
		return outcome{}, fmt.Errorf("%s let %d of %d machines be down at once, %d may be", p.Name(), r.Most, cfg.Machines, cfg.Max)
	}
	waits := r.Waits()
	return outcome{
		Policy: p.Name(), Machines: cfg.Machines, Max: cfg.Max, Ideal: ideal.Seconds(), Makespan: r.Makespan.Seconds(),
		WaitP50: sim.Quantile(waits, 0.5).Seconds(), WaitP99: sim.Quantile(waits, 0.99).Seconds(), WaitMost: sim.Quantile(waits, 1).Seconds(),
		PerMachine: r.PerMachine(), Peak: r.Peak, Most: r.Most,
	}, nil
}

func printOutcomes(w io.Writer, outcomes []outcome) {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINES\tMAX\tPOLICY\tMAKESPAN\tx IDEAL\tWAIT P50\tP99\tMAX\tREQUESTS\tIN WORST SECOND\tMOST DOWN")
	for _, o := range outcomes {
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%.2f\t%s\t%s\t%s\t%.1f\t%d\t%d\n", o.Machines, o.Max, o.Policy, clock(o.Makespan), o.Makespan/o.Ideal,
			clock(o.WaitP50), clock(o.WaitP99), clock(o.WaitMost), o.PerMachine, o.Peak, o.Most)
	}
	t.Flush()
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// clock writes seconds as hours and minutes.
func clock(seconds float64) string {
	minutes := int(seconds/60 + 0.5)
	return fmt.Sprintf("%d:%02d", minutes/60, minutes%60)
}

// drawing is one of the plots in the documentation.
type drawing struct {
	file  string
	share float64
	chart func([]outcome) plot.Chart
}

var drawings = []drawing{
	{"scale-makespan-1.svg", 0.01, makespans},
	{"scale-makespan-5.svg", 0.05, makespans},
	{"scale-requests-1.svg", 0.01, requests},
}

// draw makes all plots, by the names of their files.
func draw(sizes []int) (map[string][]byte, error) {
	runs, files := make(map[float64][]outcome), make(map[string][]byte)
	for _, d := range drawings {
		if runs[d.share] == nil {
			outcomes, err := compare(sizes, d.share)
			if err != nil {
				return nil, err
			}
			runs[d.share] = outcomes
		}
		svg, err := plot.SVG(d.chart(runs[d.share]))
		if err != nil {
			return nil, err
		}
		files[d.file] = svg
	}
	r, err := recorded()
	if err != nil || len(r.Restarts) == 0 {
		return files, err
	}
	files["scale-restart.svg"], err = plot.SVG(restartChart(r.Restarts))
	return files, err
}

// writePlots writes all plots to a directory.
func writePlots(dir string) error {
	files, err := draw(compareSizes)
	if err != nil {
		return err
	}
	return plot.Write(dir, files)
}

var machinesAxis = plot.Axis{Label: "machines in the fleet", Ticks: []plot.Tick{
	{At: 10, Label: "10"}, {At: 100, Label: "100"}, {At: 1000, Label: "1,000"}, {At: 10_000, Label: "10,000"}, {At: 100_000, Label: "100,000"}}}

func conditions(outcomes []outcome) string {
	largest := outcomes[len(outcomes)-1]
	return fmt.Sprintf("max %d %%, at least 1; down for 3 min ± 25 %%; all need it within a minute; virtual time", 100*largest.Max/largest.Machines)
}

// makespans draws how long each policy takes for fleets of each size, and the ideal.
func makespans(outcomes []outcome) plot.Chart {
	c := plot.Chart{Title: "Time until every machine has rebooted", Note: conditions(outcomes), X: machinesAxis,
		Y: plot.Axis{Label: "hours", Ticks: []plot.Tick{{At: 900, Label: "¼"}, {At: 1800, Label: "½"}, {At: 3600, Label: "1"}, {At: 7200, Label: "2"},
			{At: 14_400, Label: "4"}, {At: 28_800, Label: "8"}, {At: 57_600, Label: "16"}, {At: 115_200, Label: "32"}}},
		Lines: lines(outcomes, func(o outcome) float64 { return o.Makespan })}
	ideal := plot.Line{Name: "ideal", Dashed: true}
	for _, o := range outcomes {
		if o.Policy == outcomes[0].Policy {
			ideal.Points = append(ideal.Points, plot.Point{X: float64(o.Machines), Y: o.Ideal})
		}
	}
	c.Lines = append(c.Lines, ideal)
	return c
}

// requests draws what each policy asks of the store.
func requests(outcomes []outcome) plot.Chart {
	return plot.Chart{Title: "Requests to the store for each machine", Note: conditions(outcomes), X: machinesAxis,
		Y: plot.Axis{Label: "requests", Ticks: []plot.Tick{{At: 2, Label: "2"}, {At: 5, Label: "5"}, {At: 10, Label: "10"}, {At: 20, Label: "20"},
			{At: 50, Label: "50"}, {At: 100, Label: "100"}, {At: 200, Label: "200"}}},
		Lines: lines(outcomes, func(o outcome) float64 { return o.PerMachine })}
}

// lines has one line for each policy, in the order in which they come.
func lines(outcomes []outcome, value func(outcome) float64) []plot.Line {
	var list []plot.Line
	index := make(map[string]int)
	for _, o := range outcomes {
		i, known := index[o.Policy]
		if !known {
			i = len(list)
			index[o.Policy] = i
			list = append(list, plot.Line{Name: o.Policy})
		}
		list[i].Points = append(list[i].Points, plot.Point{X: float64(o.Machines), Y: value(o)})
	}
	return list
}
