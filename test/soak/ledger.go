package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/locksmith-reboot/locksmith"
)

// ledger keeps what the machines say they did, and finds what they may not have done. It
// knows nothing of the lock.
type ledger struct {
	mu       sync.Mutex
	groups   map[string][]locksmith.Group // of each machine
	down     map[string]bool
	allowed  map[locksmith.Group]int // a group that is not here allows none
	peak     map[locksmith.Group]int
	reboots  int
	broken   []string // promises, in words
	rollouts map[string]*rollout
	stats    map[string]line // the newest of each process
}

// rollout is the present one of a process.
type rollout struct {
	wave  int
	left  map[string]bool // machines that have not been through it
	ended chan struct{}   // closed once all have
}

func newLedger() *ledger {
	return &ledger{groups: make(map[string][]locksmith.Group), down: make(map[string]bool), allowed: make(map[locksmith.Group]int),
		peak: make(map[locksmith.Group]int), rollouts: make(map[string]*rollout), stats: make(map[string]line)}
}

// begin expects the machines to go through a rollout. The channel is closed once they have.
func (b *ledger) begin(process string, wave int, machines []member) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &rollout{wave: wave, left: make(map[string]bool), ended: make(chan struct{})}
	for _, m := range machines {
		r.left[m.ID] = true
		b.groups[m.ID] = m.Groups
	}
	b.rollouts[process] = r
	return r.ended
}

// unfinished is who has not been through a process's rollout.
func (b *ledger) unfinished(process string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.rollouts[process].left))
}

// forgetStats drops what a process that has ended said of itself.
func (b *ledger) forgetStats(process string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.stats, process)
}

// take adds what happened next.
func (b *ledger) take(l line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch l.Kind {
	case lineDown:
		b.reboots++
		b.down[l.Machine] = true
		b.count(l.Machine)
	case lineUp:
		delete(b.down, l.Machine)
	case lineAllow:
		b.allowed[l.Group] = l.Max
	case lineReleased:
		r := b.rollouts[l.Process]
		if r == nil || r.wave != l.Wave || !r.left[l.Machine] {
			return
		}
		if delete(r.left, l.Machine); len(r.left) == 0 {
			close(r.ended)
		}
	case lineStats:
		b.stats[l.Process] = l
	}
}

// count looks at the groups of a machine that has just gone down.
func (b *ledger) count(machine string) {
	for _, g := range b.groups[machine] {
		var who []string
		for m := range b.down {
			if slices.Contains(b.groups[m], g) {
				who = append(who, m)
			}
		}
		b.peak[g] = max(b.peak[g], len(who))
		if len(who) > b.allowed[g] {
			slices.Sort(who)
			b.broken = append(b.broken, fmt.Sprintf("%d of group %q are down, and %d may be: %q", len(who), g, b.allowed[g], who))
		}
	}
}

// blame notes that a promise was broken that is found elsewhere.
func (b *ledger) blame(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = append(b.broken, fmt.Sprintf(format, args...))
}

// account is what a ledger has come to.
type account struct {
	reboots int
	broken  []string
	stats   map[string]line
}

func (b *ledger) account() account {
	b.mu.Lock()
	defer b.mu.Unlock()
	return account{b.reboots, slices.Clone(b.broken), maps.Clone(b.stats)}
}
