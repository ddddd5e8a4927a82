package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith/test/scale/plot"
)

// sample is what was counted up to a moment after etcd's process was started again.
type sample struct {
	At          float64 `json:"at_s"`
	Requests    float64 `json:"requests"`    // that etcd received, keep-alives too
	Connections float64 `json:"connections"` // that the machines made
}

// series is one restart.
type series struct {
	Machines int      `json:"machines"`
	Away     float64  `json:"away_s"`
	Samples  []sample `json:"samples"`
}

const sampleEvery = 250 * time.Millisecond

// restart kills etcd, starts it again, and looks at what comes then.
func (c *crowd) restart(ctx context.Context) error {
	before, err := countsOf(ctx, c.server)
	if err != nil {
		return err
	}
	places, err := c.places(ctx)
	if err != nil {
		return err
	}
	was, err := c.state(askState)
	if err != nil {
		return err
	}
	c.server.Stop()
	if err := c.pass(ctx, c.away); err != nil {
		return err
	}
	run := series{Machines: c.order.Machines, Away: c.away.Seconds()}
	start := time.Now()
	if err := c.server.Resume(); err != nil {
		return err
	}
	back, err := c.sample(ctx, &run, start, was, before.watches)
	if err != nil {
		return err
	}
	c.result.Restarts = append(c.result.Restarts, run)
	now, err := c.places(ctx)
	if err != nil {
		return err
	}
	return c.afterRestart(run, back, kept(places, now))
}

// sample fills run until all watches have stood for a while, and returns when they first did.
func (c *crowd) sample(ctx context.Context, run *series, start time.Time, was state, watches float64) (back time.Duration, err error) {
	run.Samples = append(run.Samples, sample{})
	err = c.await(ctx, fmt.Sprintf("%g watches again", watches), sampleEvery, func() (bool, error) {
		s, err := c.state(askState)
		if err != nil {
			return false, err
		}
		at := time.Since(start)
		now, err := countsOf(ctx, c.server)
		if err != nil { // it does not answer yet
			return false, nil
		}
		run.Samples = append(run.Samples, sample{At: at.Seconds(), Requests: now.requests + now.keepAlives, Connections: float64(s.Connections - was.Connections)})
		c.reached = fmt.Sprintf("%.0f s after etcd came back %.0f of %.0f watches stood", at.Seconds(), now.watches, watches)
		switch {
		case now.watches < watches:
			back = 0
		case back == 0:
			back = at
		}
		return back > 0 && at-back > c.watched, nil
	})
	return back, err
}

// places are the queue entries, by key, with the revisions that order them.
func (c *crowd) places(ctx context.Context) (map[string]int64, error) {
	resp, err := c.client.Get(ctx, queuePrefix(""), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	places := make(map[string]int64)
	for _, kv := range resp.Kvs {
		places[string(kv.Key)] = kv.CreateRevision
	}
	return places, nil
}

// kept counts those who have the place that they had.
func kept(before, now map[string]int64) (n int) {
	for key, place := range before {
		if now[key] == place {
			n++
		}
	}
	return n
}

// afterRestart takes the figures of a restart.
func (c *crowd) afterRestart(run series, back time.Duration, kept int) error {
	n, last := float64(c.order.Machines), run.Samples[len(run.Samples)-1]
	c.figure("etcd killed: until all are back", back.Seconds(), "s",
		fmt.Sprintf("away for %v; from the start of its process until all watches stand; %d of %d places in the queue kept", c.away, kept, c.order.Machines-1))
	requests, connections := run.worst(func(s sample) float64 { return s.Requests }), run.worst(func(s sample) float64 { return s.Connections })
	c.figure("requests in the worst second", requests, "/s", "keep-alives too")
	c.figure("requests by each after the restart", last.Requests/n, "requests/machine", "in all, keep-alives too")
	c.figure("connections in the worst second", connections, "/s", "")
	c.figure("connections by each after the restart", last.Connections/n, "connections/machine", "in all")
	if kept < c.order.Machines-1 {
		c.say("%d machines lost their places in the queue", c.order.Machines-1-kept)
	}
	return c.granted(1)
}

// worst is the most that came in a second, on average over one that lies between samples.
func (r series) worst(value func(sample) float64) (most float64) {
	for i, from := range r.Samples {
		for _, to := range r.Samples[i+1:] {
			if d := to.At - from.At; d >= 1 {
				most = max(most, (value(to)-value(from))/d)
				break
			}
		}
	}
	return most
}

// rates are the requests a second, from one second to the next.
func (r series) rates() (points []plot.Point) {
	from := r.Samples[0]
	for _, to := range r.Samples[1:] {
		if to.At-from.At < 1 || to.At > restartShown {
			continue
		}
		// Where nothing comes the line is at the foot of a logarithmic axis.
		points = append(points, plot.Point{X: to.At, Y: min(max(1, (to.Requests-from.Requests)/(to.At-from.At)), restartMost)})
		from = to
	}
	return points
}

// What the drawing reaches to: seconds, and requests a second.
const (
	restartShown = 60
	restartMost  = 10_000
)

// restartChart draws what etcd is asked after it was killed, for fleets of each size.
func restartChart(runs []series) plot.Chart {
	c := plot.Chart{Title: "Requests to an etcd that is back, a second", Note: fmt.Sprintf("killed, and %g s later started again; keep-alives count; measured", runs[0].Away),
		X: plot.Axis{Label: "seconds since its process started", Linear: true, Ticks: []plot.Tick{{At: 0, Label: "0"}, {At: 10, Label: "10"}, {At: 20, Label: "20"},
			{At: 30, Label: "30"}, {At: 40, Label: "40"}, {At: 50, Label: "50"}, {At: restartShown, Label: "60"}}},
		Y: plot.Axis{Label: "requests a second", Ticks: []plot.Tick{{At: 1, Label: "≤ 1"}, {At: 10, Label: "10"}, {At: 100, Label: "100"}, {At: 1000, Label: "1,000"}, {At: restartMost, Label: "≥ 10,000"}}}}
	for _, run := range runs {
		if points := run.rates(); len(points) > 0 {
			c.Lines = append(c.Lines, plot.Line{Name: fmt.Sprintf("%d machines", run.Machines), Points: points})
		}
	}
	return c
}
