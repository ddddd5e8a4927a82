// Package metrics shows what locksmithd does as Prometheus metrics: for the control
// socket, and over TCP where that is asked for. docs/metrics.md has their table.
//
// The package must not know how the daemon comes to what it shows: it is handed
// the agent's status after each change, and functions for the rest. What it
// keeps is small, since the daemon runs on every machine and is idle nearly always.
package metrics

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// Config is what does not change while the daemon runs, and where the rest comes
// from.
type Config struct {
	Version  string // of locksmithd
	Machine  string // its id
	Strategy locksmith.Strategy
	Groups   []locksmith.Group

	Window Window           // nil: always open
	Etcd   func() EtcdStats // nil: etcd is not used and has no metrics

	Log *slog.Logger // nil: discard
}

// Window answers when reboots are allowed, as agent.Window does. A zero start or
// end means that there is none in sight.
type Window interface {
	Contains(t time.Time) bool
	Next(t time.Time) (start, end time.Time)
}

// EtcdStats is how the daemon fares with etcd, since it started.
type EtcdStats struct {
	Requests  uint64
	Failures  uint64 // of these
	Connected bool   // at this moment
}

// Metrics is a registry of its own and what feeds it. It may be used concurrently.
type Metrics struct {
	log       *slog.Logger
	registry  *prometheus.Registry
	scrapes   chan struct{} // has a place for each that is being answered
	durations *prometheus.HistogramVec
	etcd      func() EtcdStats
	openings  openings

	mu   sync.Mutex
	seen snapshot // replaced as a whole
}

// snapshot is what is shown of a status, with its labels bounded.
type snapshot struct {
	phase       locksmith.Phase
	since       time.Time
	needed      bool
	neededSince time.Time
	held        bool
	heldSince   time.Time
	dryRun      bool
	pauses      []locksmith.Pause
	rebooted    time.Time // the last one
	down        time.Duration
	blocked     map[string]int
	outcomes    map[string]int
	triggers    map[string]int // 1 for those that say reboot needed
	failing     map[string]int // 1 for those that cannot tell
	errors      map[string]int
}

// New returns metrics that know no status yet.
func New(c Config) *Metrics {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), scrapes: make(chan struct{}, maxScrapes), log: c.Log, etcd: c.Etcd, openings: openings{window: c.Window}}
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "locksmith_phase_duration_seconds",
		Help:    "How long phases that ended took, since locksmithd started.",
		Buckets: []float64{1, 10, 60, 300, 900, 3600, 4 * 3600, 86400, 7 * 86400},
	}, []string{"phase"})
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "locksmith_info",
		Help: "Always 1; the labels say what runs where.",
		ConstLabels: prometheus.Labels{
			"version": label(c.Version), "machine": label(c.Machine), "strategy": label(string(c.Strategy)),
			"groups": printable(locksmith.JoinGroups(c.Groups)),
		},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.durations, info, process{}, m)
	return m
}

// Changed takes the agent's status. It does not block, and keeps nothing of s that
// its owner could change.
func (m *Metrics) Changed(s agent.Status) {
	next := snapshot{
		phase: s.Phase, since: s.Since, needed: s.Needed, neededSince: s.NeededSince,
		held: s.Held, heldSince: s.HeldSince, dryRun: s.DryRun, pauses: slices.Clone(s.Pauses),
		blocked: make(map[string]int), outcomes: map[string]int{"rebooted": 0, "aborted": 0},
		triggers: make(map[string]int), failing: make(map[string]int), errors: make(map[string]int),
	}
	for _, c := range s.Conditions {
		if c.State == locksmith.CondBlocked || c.State == locksmith.CondUnknown {
			next.blocked[label(blocker(c.Name))] = 1
		}
	}
	for outcome, n := range s.Outcomes {
		kind, _, _ := strings.Cut(outcome, ":")
		next.outcomes[label(kind)] += n
	}
	for name, answer := range s.Triggers {
		key := label(name)
		next.triggers[key] = max(next.triggers[key], number(strings.HasPrefix(answer, "needed")))
		next.failing[key] = max(next.failing[key], number(strings.HasPrefix(answer, "error")))
		next.errors[key] += s.TriggerErrs[name]
	}
	for _, counts := range []*map[string]int{&next.blocked, &next.outcomes, &next.triggers, &next.failing, &next.errors} {
		*counts = few(*counts)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next.rebooted, next.down = m.seen.rebooted, m.seen.down
	if p := s.LastReboot; p != nil && p.Outcome == "rebooted" {
		next.rebooted, next.down = p.Time, p.Down
	}
	if was := m.seen; was.phase != "" && was.phase != next.phase {
		m.durations.WithLabelValues(string(was.phase)).Observe(max(0, next.since.Sub(was.since).Seconds()))
	}
	m.seen = next
}

// maxSeries bounds the series of one metric whose labels come from outside.
const maxSeries = 20

// others is the label of all series beyond them.
const others = "others"

// few keeps the first series in alphabetical order and adds up the others.
func few(counts map[string]int) map[string]int {
	if len(counts) <= maxSeries {
		return counts
	}
	kept := make(map[string]int, maxSeries)
	for i, key := range slices.Sorted(maps.Keys(counts)) {
		if i < maxSeries-1 {
			kept[key] = counts[key]
			continue
		}
		kept[others] += counts[key]
	}
	return kept
}

// blocker is who blocks, without what is different each time: "apt-get (pid 812)"
// is apt-get.
func blocker(name string) string {
	name, _, _ = strings.Cut(name, " (")
	return name
}

// maxLabel bounds a label, in bytes.
const maxLabel = 64

// label makes a short name for a series.
func label(s string) string {
	if s = printable(s); s == "" {
		return "none"
	}
	end := min(len(s), maxLabel)
	for end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// printable is s as a label may be: the exposition format wants UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "_"))
}

func number(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
