package fleetmetrics

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksmith-reboot/locksmith"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("locksmith_"+name, help, labels, nil)
}

// Times are seconds since the epoch, 0 where there is nothing to say.
var (
	reachableDesc = desc("server_store_reachable", "1 if the groups could be read for this scrape; without it there are no metrics of groups.")
	groupsDesc    = desc("server_groups", "How many groups there are.")
	waitingDesc   = desc("fleetlock_requests_waiting", "FleetLock requests that this server holds until a slot is free.", "group")

	maxDesc    = desc("group_slots_max", "How many machines of the group may be down at a time.", "group")
	heldDesc   = desc("group_slots_held", "How many slots are held.", "group")
	freeDesc   = desc("group_slots_free", "How many slots are free.", "group")
	queueDesc  = desc("group_queue_length", "How many machines wait for a slot.", "group")
	waiterDesc = desc("group_oldest_waiter_since_timestamp_seconds", "Since when the one that waits longest does; 0 if nobody waits.", "group")
	oldestDesc = desc("group_oldest_holder_since_timestamp_seconds", "Since when the slot is held that is held longest; 0 if none is or nobody knows.", "group")
	newestDesc = desc("group_newest_holder_since_timestamp_seconds", "When the newest of the present holders got its slot; 0 if there is none or nobody knows.", "group")
	staleDesc  = desc("group_holders_stale", "How many holders are silent that should not be.", "group")
	failedDesc = desc("group_holders_failed", "How many holders failed their checks after the reboot and keep their slot.", "group")
	pausedDesc = desc("group_paused_since_timestamp_seconds", "Since when reboots are paused, in the group or in all; 0 if they are not.", "group")
	faultsDesc = desc("group_faults", "How many things are inconsistent in what is stored of the group.", "group")

	holderDesc = desc("holder_since_timestamp_seconds", "Since when a machine holds its slot, 0 if nobody knows; at most 100 of them, first those that need a look.",
		"group", "machine", "hostname", "state")
)

// fleet collects what is of groups, as of at most a second ago.
type fleet struct {
	read    func(context.Context) ([]locksmith.GroupStatus, error)
	waiting func() map[locksmith.Group]int
	failed  func(error)
	now     func() time.Time

	turn   chan struct{} // has one place: who reads, while others wait for what it finds
	at     time.Time     // of the last look, zero: none
	groups []locksmith.GroupStatus
	err    error
}

// Describe lists what Collect sends.
func (f *fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{reachableDesc, groupsDesc, waitingDesc, maxDesc, heldDesc, freeDesc, queueDesc, waiterDesc,
		oldestDesc, newestDesc, staleDesc, failedDesc, pausedDesc, faultsDesc, holderDesc} {
		ch <- d
	}
}

// look is the status of all groups, read anew if the last look is a second old.
func (f *fleet) look() ([]locksmith.GroupStatus, error) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if !f.at.IsZero() && f.now().Sub(f.at) < readEvery {
		return f.groups, f.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	f.groups, f.err = f.read(ctx)
	f.at = f.now()
	if f.err != nil {
		f.failed(f.err)
	}
	return f.groups, f.err
}

// Collect sends what is true at this moment.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if f.waiting != nil {
		for name, n := range f.held() {
			gauge(waitingDesc, float64(n), name)
		}
	}
	groups, err := f.look()
	if err != nil {
		gauge(reachableDesc, 0)
		return
	}
	gauge(reachableDesc, 1)
	gauge(groupsDesc, float64(len(groups)))
	now := f.now()
	for name, s := range summaries(groups, now) {
		gauge(maxDesc, float64(s.max), name)
		gauge(heldDesc, float64(s.held), name)
		gauge(freeDesc, float64(s.free), name)
		gauge(queueDesc, float64(s.queue), name)
		gauge(waiterDesc, float64(s.waiter), name)
		gauge(oldestDesc, float64(s.oldest), name)
		gauge(newestDesc, float64(s.newest), name)
		gauge(staleDesc, float64(s.stale), name)
		gauge(failedDesc, float64(s.failed), name)
		gauge(pausedDesc, float64(s.paused), name)
		gauge(faultsDesc, float64(s.faults), name)
	}
	for labels, since := range holders(groups, now) {
		gauge(holderDesc, float64(since), labels.group, labels.machine, labels.hostname, labels.state)
	}
}

// held is the waiting FleetLock requests by label, bounded.
func (f *fleet) held() map[string]int {
	waiting := f.waiting()
	groups := make([]locksmith.Group, 0, len(waiting))
	for g := range waiting {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	counts := make(map[string]int)
	for i, g := range groups {
		counts[groupLabel(g, i)] += waiting[g]
	}
	return counts
}

// summary is what is shown of one group, or of several under one label.
type summary struct {
	max, held, free, queue, stale, failed, faults int
	waiter, oldest, newest, paused                int64 // seconds since the epoch
}

func summaries(groups []locksmith.GroupStatus, now time.Time) map[string]*summary {
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b locksmith.GroupStatus) int { return cmp.Compare(a.Group, b.Group) })
	all := make(map[string]*summary)
	for i, g := range groups {
		name := groupLabel(g.Group, i)
		if all[name] == nil {
			all[name] = new(summary)
		}
		all[name].add(g, now)
	}
	return all
}

func (s *summary) add(g locksmith.GroupStatus, now time.Time) {
	s.max += g.Sem.Max
	s.held += len(g.Sem.Holders)
	s.free += max(0, g.Sem.Semaphore)
	s.queue += len(g.Queue)
	s.faults += len(g.Faults)
	for _, w := range g.Queue {
		s.waiter = earlier(s.waiter, w.Since)
	}
	for _, h := range g.Holders {
		s.oldest = earlier(s.oldest, h.StartTime)
		s.newest = max(s.newest, h.StartTime)
		switch state(h, now) {
		case "stale":
			s.stale++
		case "failed":
			s.failed++
		}
	}
	for _, p := range g.Pauses {
		if p.Active(now) {
			s.paused = earlier(s.paused, max(1, p.At)) // a pause without a time is one
		}
	}
}

// earlier is the earlier of two times of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// state is how a holder is: "failed", "stale", "ok", or "by hand" where its slot is not
// held for a reboot.
func state(h locksmith.HolderStatus, now time.Time) string {
	switch {
	case h.Own() && h.Phase == locksmith.PhaseFailed:
		return "failed"
	case h.Stale(now):
		return "stale"
	case h.Recorded && !(locksmith.Request{By: h.By}).Reboots():
		return "by hand"
	}
	return "ok"
}

// holderLabels are those of one holder.
type holderLabels struct{ group, machine, hostname, state string }

// holders are the first of them with since when they hold their slots: those that need
// a look before those that do not, and the longest first.
func holders(groups []locksmith.GroupStatus, now time.Time) map[holderLabels]int64 {
	type one struct {
		holderLabels
		since int64
	}
	var all []one
	for _, g := range groups {
		for _, h := range g.Holders {
			all = append(all, one{holderLabels{label(g.Group.String()), label(h.MachineID), label(h.Hostname), state(h, now)}, h.StartTime})
		}
	}
	order := []string{"failed", "stale", "ok", "by hand"}
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.state), slices.Index(order, b.state)), cmp.Compare(a.since, b.since),
			cmp.Compare(a.group, b.group), cmp.Compare(a.machine, b.machine))
	})
	kept := make(map[holderLabels]int64)
	for _, h := range all {
		if len(kept) == maxHolders {
			break
		}
		kept[h.holderLabels] = h.since
	}
	return kept
}

// others is the label of all that are beyond a bound.
const others = "others"

// groupLabel is that of the group at this place of the alphabet.
func groupLabel(g locksmith.Group, place int) string {
	if place >= maxGroups-1 {
		return others
	}
	return label(g.String())
}

// maxLabel bounds a label, in bytes: all that a group or machine may be called.
const maxLabel = 253

// label is s as a label may be: the exposition format wants UTF-8, and escapes the rest.
func label(s string) string {
	s = strings.ToValidUTF8(s, "_")
	if len(s) <= maxLabel {
		return s
	}
	end := maxLabel
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
