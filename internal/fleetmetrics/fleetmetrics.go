// Package fleetmetrics shows locksmith-server and the groups that it keeps as Prometheus
// metrics. docs/metrics.md has their table.
//
// It must not know how the server comes to what it shows: it is handed functions that
// read, and is told of each request. However many groups, machines and kinds of
// requests there are, the series are few: what is beyond a bound is added up.
package fleetmetrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/locksmith-reboot/locksmith"
)

// Bounds of what a scrape costs.
const (
	readTime   = 3 * time.Second // for one look at the store
	readEvery  = time.Second     // at most so often, however many scrape
	maxScrapes = 4               // at a time; more are told to come again
	maxKinds   = 20              // of requests; more are one
	maxGroups  = 200             // with series of their own
	maxHolders = 100             // with series of their own
)

// Config is where the metrics come from.
type Config struct {
	Version string // of locksmith-server

	// Read reads the status of all groups. Required. It must return soon after its
	// context ends; an error means that the store is away.
	Read func(ctx context.Context) ([]locksmith.GroupStatus, error)

	// Waiting is how many FleetLock requests wait for a slot now, by group; nil: none.
	Waiting func() map[locksmith.Group]int

	Log *slog.Logger // nil: discard
}

// Metrics is a registry of its own and what feeds it. It may be used concurrently.
type Metrics struct {
	log      *slog.Logger
	registry *prometheus.Registry
	scrapes  chan struct{} // has a place for each that is being answered

	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	fleetlock *prometheus.CounterVec
	answers   *prometheus.HistogramVec
	failures  prometheus.Counter
	kinds     names

	fleet fleet
}

// New returns metrics of a server that has answered nothing yet. It panics without Read.
func New(c Config) *Metrics {
	if c.Read == nil {
		panic("fleetmetrics: Config.Read is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{log: c.Log, registry: prometheus.NewRegistry(), scrapes: make(chan struct{}, maxScrapes),
		requests: counters("server_requests_total", "Requests that were answered, since locksmith-server started.", "kind", "code"),
		durations: histograms("server_request_duration_seconds", "How long requests took to answer.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "kind"),
		fleetlock: counters("fleetlock_requests_total", "FleetLock requests that were answered, since locksmith-server started.", "call", "code"),
		answers: histograms("fleetlock_request_duration_seconds", "How long FleetLock requests took to answer; with call pre-reboot and outcome ok, from the request to the grant.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 10, 30, 60, 300, 1800}, "call", "outcome"),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "locksmith_server_store_failures_total",
			Help: "Scrapes for which the groups could not be read, since locksmith-server started."}),
	}
	m.fleet = fleet{read: c.Read, waiting: c.Waiting, failed: m.storeAway, now: time.Now, turn: make(chan struct{}, 1)}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "locksmith_server_info",
		Help: "Always 1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": label(c.Version)}},
		func() float64 { return 1 })
	m.registry.MustRegister(m.requests, m.durations, m.fleetlock, m.answers, m.failures, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &m.fleet)
	for _, call := range calls {
		m.answers.WithLabelValues(call, "ok") // so that rates begin at the first request
	}
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "locksmith_" + name, Help: help}, labels)
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "locksmith_" + name, Help: help, Buckets: buckets}, labels)
}

// Observe counts a request that was answered. kind is one of few fixed names; code is
// HTTP's.
func (m *Metrics) Observe(kind string, code int, took time.Duration) {
	kind = m.kinds.bound(kind)
	m.requests.WithLabelValues(kind, status(code)).Inc()
	m.durations.WithLabelValues(kind).Observe(took.Seconds())
}

// calls are FleetLock's, in the words of package fleetlock.
var calls = []string{"pre-reboot", "steady-state"}

// clientGone is package fleetlock's code of a request whose client did not wait for the
// answer.
const clientGone = 499

// FleetLock counts a FleetLock request that was answered. call is "pre-reboot" or
// "steady-state", anything else counts as "other"; code is HTTP's, or 499 where the
// client went away before.
func (m *Metrics) FleetLock(call string, code int, took time.Duration) {
	if call != calls[0] && call != calls[1] {
		call = "other"
	}
	outcome := "ok"
	switch {
	case code == clientGone:
		outcome = "gone"
	case code >= 500:
		outcome = "failed"
	case code >= 300:
		outcome = "refused"
	}
	m.fleetlock.WithLabelValues(call, status(code)).Inc()
	m.answers.WithLabelValues(call, outcome).Observe(took.Seconds())
}

// status is a code as a label. Only those that HTTP knows are told apart, and clientGone.
func status(code int) string {
	if http.StatusText(code) == "" && code != clientGone {
		return others
	}
	return strconv.Itoa(code)
}

// names lets so many different names through.
type names struct {
	mu   sync.RWMutex
	seen map[string]string
}

// bound is the label of a name: others for those that come after many others.
func (n *names) bound(name string) string {
	n.mu.RLock()
	known, ok := n.seen[name]
	n.mu.RUnlock()
	if ok {
		return known
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) >= maxKinds-1 {
		return others
	}
	if n.seen == nil {
		n.seen = make(map[string]string)
	}
	n.seen[name] = label(name)
	return n.seen[name]
}

func (m *Metrics) storeAway(err error) {
	m.failures.Inc()
	m.log.Warn("groups not read for metrics", "error", err)
}

// Handler answers scrapes in Prometheus' text format, at most four at a time over all
// uses of it. While the store is away it answers without what is of groups, and says so
// in locksmith_server_store_reachable.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case m.scrapes <- struct{}{}:
			defer func() { <-m.scrapes }()
		default:
			http.Error(w, fmt.Sprintf("%d scrapes are being answered; try again", maxScrapes), http.StatusServiceUnavailable)
			return
		}
		families, err := m.registry.Gather()
		if err != nil {
			m.log.Warn("metrics not collected", "error", err)
			http.Error(w, "metrics not collected; the log says why", http.StatusInternalServerError)
			return
		}
		format := expfmt.NewFormat(expfmt.TypeTextPlain)
		w.Header().Set("Content-Type", string(format))
		encoder := expfmt.NewEncoder(w, format)
		for _, family := range families {
			if encoder.Encode(family) != nil {
				return // the peer is gone
			}
		}
	})
}
