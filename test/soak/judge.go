package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// figure is one thing that must not grow.
type figure struct {
	series string // of samples' values
	name   string
	unit   unit

	// What it may grow by, between rest and rest and over the second half of the
	// body: slack, or that share of what it was, whichever is more. Under load the
	// share is swing, where that is given: what comes and goes with rollouts and
	// faults may happen to grow for an hour, but not by much.
	slack, share, swing float64

	exact  bool // at rest it must be what it was
	noRest bool // at rest it is not compared: what is done in between changes it
	noRise bool // its growth under load is not judged: mostly there are few or none
	lowest bool // of a window the least counts, not the median: garbage lies on top
}

type unit string

const (
	number unit = ""
	mib    unit = "MiB"
)

// figures are those of a process, and of etcd.
func figures() []figure {
	var list []figure
	for _, p := range []struct {
		name, what string
		heap, own  float64
	}{
		{serverName, "locksmith-server", 4 << 20, 16 << 20}, {"rolling-1", "70 agents that reboot", 2 << 20, 8 << 20},
		{"standing", "40 agents that wait or idle", 2 << 20, 8 << 20}, {"callers", "20 agents on FleetLock", 2 << 20, 8 << 20},
		{"readers", "readers", 2 << 20, 8 << 20},
	} {
		list = append(list,
			figure{series: p.name + ".goroutines", name: p.what + ": goroutines", slack: 10, share: 0.05, swing: swing},
			figure{series: p.name + ".files", name: p.what + ": open files", slack: 10, share: 0.05, swing: swing},
			figure{series: p.name + ".heap", name: p.what + ": heap in use", unit: mib, slack: p.heap, share: 0.1, lowest: true, noRest: p.name == serverName},
			figure{series: p.name + ".own", name: p.what + ": memory of its own", unit: mib, slack: p.own, share: 0.1, noRest: true},
		)
	}
	return append(list,
		figure{series: "etcd.leases", name: "etcd: leases", exact: true, slack: 10, swing: swing},
		// A watch that its client gives up before etcd has answered stays there until
		// the connection ends, or the next event: so does the etcd client library.
		figure{series: "etcd.watchers", name: "etcd: watchers", slack: 20, share: 0.1, swing: swing},
		figure{series: "etcd.streams", name: "etcd: watch streams", exact: true, slack: 10, swing: swing},
		figure{series: "etcd.keys", name: "etcd: keys beside rings, queues, holders, presences", exact: true, slack: 2},
		figure{series: "etcd.machines", name: "etcd: presences", exact: true, noRise: true},
		figure{series: "etcd.queue", name: "etcd: queue entries", exact: true, noRise: true},
		figure{series: "etcd.holders", name: "etcd: holders", exact: true, noRise: true},
		figure{series: "etcd.used", name: "etcd: database in use", unit: mib, slack: 2 << 20, share: 0.1, noRest: true},
		figure{series: "etcd.size", name: "etcd: database", unit: mib, slack: 4 << 20, share: 0.1, noRest: true},
	)
}

// swing is that of what swings.
const swing = 0.5

// atRest is how much more than was a figure may be.
func (f figure) atRest(was float64) float64 { return max(f.slack, f.share*was) }

// underLoad is how much a figure may grow that is was in the median.
func (f figure) underLoad(was float64) float64 { return max(f.slack, cmp.Or(f.swing, f.share)*was) }

// verdict is what is thought of one figure, or of one promise.
type verdict struct {
	about   string // "at rest", "growth", "left behind", "promise"
	name    string
	unit    unit
	was     float64 // before, or the median of the second half
	is      float64 // after, or by how much it grew
	allowed float64 // of is - was, or of is
	note    string
	good    bool
}

const (
	aboutRest    = "at rest"
	aboutGrowth  = "growth"
	aboutLeft    = "left behind"
	aboutPromise = "promise"
)

// windows is how many a run is cut into.
const windows = 24

// fewest is how many windows of the second half must have values for a slope.
const fewest = 6

// shortest is how long a run must be, in seconds, for growth under load to be judged: a
// window of less than a rollout says how far that is, and a process that has just
// started grows.
const shortest = 20 * 60

// judge is all verdicts on a run.
func judge(r record) []verdict {
	verdicts := judgePromises(r)
	verdicts = append(verdicts, judgeRest(r, phaseAfter)...)
	verdicts = append(verdicts, judgeGrowth(r)...)
	return append(verdicts, judgeRest(r, phaseVacated)...)
}

// judgePromises looks at what is no figure.
func judgePromises(r record) []verdict {
	say := func(name string, good bool, note string) verdict {
		return verdict{about: aboutPromise, name: name, good: good, note: note}
	}
	const whole = "the run came to its end"
	var list []verdict
	if e := r.Ending; e == nil {
		list = append(list, say(whole, false, "nothing says why"))
	} else {
		list = append(list, say(whole, e.Short == "", e.Short))
		note := ""
		if len(e.Broken) > 0 {
			note = fmt.Sprintf("%d times, first: %s", len(e.Broken), e.Broken[0])
		}
		list = append(list, say("never more than max down", len(e.Broken) == 0, note))
		list = append(list, say("rollouts ended", e.Rollouts > 0 && e.Reboots > 0, fmt.Sprintf("%d of them, with %d reboots, through %d faults", e.Rollouts, e.Reboots, e.Faults)))
	}
	ring := 0.0
	for _, s := range r.Samples {
		ring = max(ring, s.Values["etcd.ring"])
	}
	const ringSize = 1024 // docs/design.md
	return append(list, say("no ring of history is larger than it may be", ring <= ringSize, fmt.Sprintf("the largest has %.0f entries", ring)))
}

// judgeRest holds one rest against another: that after the body against that before it,
// and what all have left against what was there when nobody had come.
func judgeRest(r record, phase string) []verdict {
	against, about := phaseBefore, aboutRest
	if phase == phaseVacated {
		against, about = phaseEmpty, aboutLeft
	}
	was, is := restOf(r, against), restOf(r, phase)
	if len(was) == 0 || len(is) == 0 {
		return []verdict{{about: about, name: "everything", note: "the run did not come that far"}}
	}
	var list []verdict
	for _, f := range figures() {
		before, ok := was[f.series]
		after, there := is[f.series]
		if f.noRest || phase == phaseVacated && !ok {
			continue
		}
		v := verdict{about: about, name: f.name, unit: f.unit, was: before, is: after, allowed: f.atRest(before)}
		switch {
		case !ok || !there:
			v.note = "not known"
		case phase == phaseVacated && f.series == "etcd.keys":
			continue // what is remembered of machines that were seen
		case phase == phaseVacated && f.series == "etcd.leases":
			v.allowed, v.note = 1, "(the server keeps one, from the first on who waits at it)"
			v.good = after-before <= v.allowed
		case f.exact:
			v.allowed, v.good = 0, after == before
		default:
			v.good = after-before <= v.allowed
		}
		list = append(list, v)
	}
	return list
}

// restOf is the median of each value over the last samples of a phase.
func restOf(r record, phase string) map[string]float64 {
	var last []sample
	for _, s := range r.Samples {
		if s.Phase == phase {
			last = append(last, s)
		}
	}
	last = last[max(0, len(last)-restSamples):]
	values := make(map[string][]float64)
	for _, s := range last {
		for what, v := range s.Values {
			values[what] = append(values[what], v)
		}
	}
	rest := make(map[string]float64)
	for what, list := range values {
		rest[what] = median(list)
	}
	return rest
}

// judgeGrowth looks at the slopes of the second half of the body.
func judgeGrowth(r record) []verdict {
	var list []verdict
	for _, f := range figures() {
		if f.noRise || r.Head.Duration < shortest {
			continue
		}
		points := secondHalf(r, f)
		v := verdict{about: aboutGrowth, name: f.name, unit: f.unit}
		if len(points) < fewest {
			v.note = fmt.Sprintf("only %d windows have values", len(points))
			list = append(list, v)
			continue
		}
		v.was = median(ys(points))
		v.is = slope(points) * (points[len(points)-1].x - points[0].x)
		v.allowed = f.underLoad(v.was)
		v.good = v.is <= v.allowed
		list = append(list, v)
	}
	return list
}

// point is the value of a window; x is its middle, in seconds since the body began.
type point struct{ x, y float64 }

func ys(points []point) []float64 {
	list := make([]float64, len(points))
	for i, p := range points {
		list[i] = p.y
	}
	return list
}

// windowsOf cuts a figure's samples of the body into windows. Those in which the process
// was not alive are missing.
func windowsOf(r record, f figure) []point {
	var start float64
	began := false
	values := make([][]float64, windows)
	for _, s := range r.Samples {
		if s.Phase != phaseBody {
			continue
		}
		if !began {
			start, began = s.At, true
		}
		i := int((s.At - start) / r.Head.Duration * windows)
		if v, ok := s.Values[f.series]; ok && i < windows { // what is later waits for the last rollout
			values[i] = append(values[i], v)
		}
	}
	var points []point
	for i, list := range values {
		if len(list) == 0 {
			continue
		}
		y := median(list)
		if f.lowest {
			y = slices.Min(list)
		}
		points = append(points, point{(float64(i) + 0.5) * r.Head.Duration / windows, y})
	}
	return points
}

func secondHalf(r record, f figure) []point {
	return slices.DeleteFunc(windowsOf(r, f), func(p point) bool { return p.x < r.Head.Duration/2 })
}

// slope is Theil's and Sen's: the median of the slopes between all pairs. Up to a third
// of the points may be anything.
func slope(points []point) float64 {
	var slopes []float64
	for i, a := range points {
		for _, b := range points[i+1:] {
			slopes = append(slopes, (b.y-a.y)/(b.x-a.x))
		}
	}
	return median(slopes)
}

// median of nothing is not a number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
