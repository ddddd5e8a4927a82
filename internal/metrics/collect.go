package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksmith-reboot/locksmith"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("locksmith_"+name, help, labels, nil)
}

// Times are seconds since the epoch, 0 where there is nothing to say.
var (
	phaseDesc      = desc("phase", "1 for the phase in which the machine is, 0 for all others.", "phase")
	phaseStartDesc = desc("phase_start_timestamp_seconds", "Since when the machine is in its phase.")
	neededDesc     = desc("reboot_needed", "1 if a trigger says that a reboot is needed.")
	neededAtDesc   = desc("reboot_needed_since_timestamp_seconds", "Since when a reboot is needed; 0 if none is.")
	blockedDesc    = desc("blocked", "1 for each condition that somebody has to end or that cannot be found out.", "by")
	pausedDesc     = desc("paused", "1 if an administrator paused this machine or a group of its.")
	dryRunDesc     = desc("dry_run", "1 with -dry-run: the machine is never rebooted.")

	openDesc      = desc("window_open", "1 inside a reboot window; always 1 without windows.")
	nextStartDesc = desc("window_next_start_timestamp_seconds", "Start of the next reboot window; 0 if there is none in sight.")
	endDesc       = desc("window_end_timestamp_seconds", "End of the present reboot window, or else of the next; 0 if there is none in sight.")

	heldDesc     = desc("slot_held", "1 if the machine holds a slot in each of its groups.")
	heldAtDesc   = desc("slot_held_since_timestamp_seconds", "Since when the machine holds its slots; 0 if it holds none.")
	rebootsDesc  = desc("reboots_total", "Reboot cycles that ended, since the machine was set up.", "outcome")
	lastAtDesc   = desc("last_reboot_timestamp_seconds", "When the last reboot was over and its checks had passed; 0 if not known.")
	lastDownDesc = desc("last_reboot_down_seconds", "How long the machine was down in the last reboot; 0 if not known.")

	triggerDesc       = desc("trigger_needed", "1 for each trigger that says that a reboot is needed.", "trigger")
	triggerFailedDesc = desc("trigger_failed", "1 for each trigger that cannot tell.", "trigger")
	triggerErrorsDesc = desc("trigger_errors_total", "Answers with an error, since locksmithd started.", "trigger")

	etcdRequestsDesc  = desc("etcd_requests_total", "Requests to etcd, since locksmithd started.")
	etcdFailuresDesc  = desc("etcd_failures_total", "Requests to etcd that failed, since locksmithd started.")
	etcdConnectedDesc = desc("etcd_connected", "1 while connected to one of the endpoints.")
)

// Describe lists what Collect sends.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	list := []*prometheus.Desc{
		phaseDesc, phaseStartDesc, neededDesc, neededAtDesc, blockedDesc, pausedDesc, dryRunDesc,
		openDesc, nextStartDesc, endDesc, heldDesc, heldAtDesc, rebootsDesc, lastAtDesc, lastDownDesc,
		triggerDesc, triggerFailedDesc, triggerErrorsDesc,
	}
	if m.etcd != nil {
		list = append(list, etcdRequestsDesc, etcdFailuresDesc, etcdConnectedDesc)
	}
	for _, d := range list {
		ch <- d
	}
}

// Collect sends what is true at this moment.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	s := m.seen
	m.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	yes := func(d *prometheus.Desc, is bool) { gauge(d, float64(number(is))) }
	each := func(send func(*prometheus.Desc, float64, ...string), d *prometheus.Desc, counts map[string]int) {
		for key, n := range counts {
			send(d, float64(n), key)
		}
	}
	now := time.Now()

	for _, p := range locksmith.Phases {
		gauge(phaseDesc, float64(number(p == s.phase)), string(p))
	}
	gauge(phaseStartDesc, seconds(s.since))
	yes(neededDesc, s.needed)
	gauge(neededAtDesc, seconds(s.neededSince))
	each(gauge, blockedDesc, s.blocked)
	yes(pausedDesc, s.paused(now))
	yes(dryRunDesc, s.dryRun)

	open, next, end := m.openings.at(now)
	yes(openDesc, open)
	gauge(nextStartDesc, seconds(next))
	gauge(endDesc, seconds(end))

	yes(heldDesc, s.held)
	gauge(heldAtDesc, seconds(s.heldSince))
	each(counter, rebootsDesc, s.outcomes)
	gauge(lastAtDesc, seconds(s.rebooted))
	gauge(lastDownDesc, s.down.Seconds())

	each(gauge, triggerDesc, s.triggers)
	each(gauge, triggerFailedDesc, s.failing)
	each(counter, triggerErrorsDesc, s.errors)
	if m.etcd != nil {
		e := m.etcd()
		counter(etcdRequestsDesc, float64(e.Requests))
		counter(etcdFailuresDesc, float64(e.Failures))
		yes(etcdConnectedDesc, e.Connected)
	}
}

// paused leaves out the pauses that are over by their own time: nobody changes the
// status at that instant.
func (s snapshot) paused(now time.Time) bool {
	for _, p := range s.pauses {
		if p.Active(now) {
			return true
		}
	}
	return false
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// openings is when windows open and close. The status has that as of its last
// change, which for an idle machine may be weeks ago. Finding it out can mean to
// go through years of windows, so it is done once for each edge.
type openings struct {
	window Window

	mu         sync.Mutex
	from       time.Time // what follows is true from here,
	until      time.Time // until here; zero: not looked yet
	open       bool
	start, end time.Time // of the next window; of the present or else the next one
}

// recheck is how long to trust what was found where no edge is in sight.
const recheck = 24 * time.Hour

func (o *openings) at(now time.Time) (open bool, next, end time.Time) {
	if o.window == nil {
		return true, time.Time{}, time.Time{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Before(o.from) || !now.Before(o.until) {
		o.look(now)
	}
	return o.open, o.start, o.end
}

func (o *openings) look(now time.Time) {
	o.from, o.open = now, o.window.Contains(now)
	o.start, o.end = o.window.Next(now)
	o.until = o.start
	if o.open {
		o.start, o.until = time.Time{}, o.end
		if !o.end.IsZero() {
			o.start, _ = o.window.Next(o.end)
		}
	}
	if o.until.IsZero() || o.until.Sub(now) > recheck {
		o.until = now.Add(recheck)
	}
}
