package main

import (
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// change is a machine's new state and when it was observed.
type change struct {
	at     time.Time
	status fleet.Status
}

// display shows the fleet to people.
type display interface {
	// show shows what has changed, possibly nothing: then only time has passed.
	show(changes []change, now time.Time)
	// close leaves the output where a summary can follow.
	close(now time.Time)
}

// feed carries changes from the agents, which must not wait for anybody, to a
// display that writes as fast as its output takes it.
type feed struct {
	mu      sync.Mutex
	pending []change
	ready   chan struct{} // has one element while pending may have some
	ended   chan struct{}
}

func newFeed() *feed {
	return &feed{ready: make(chan struct{}, 1), ended: make(chan struct{})}
}

func (f *feed) add(s fleet.Status) {
	f.mu.Lock()
	f.pending = append(f.pending, change{time.Now(), s})
	f.mu.Unlock()
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// end lets follow return once it has shown everything.
func (f *feed) end() { close(f.ended) }

// follow shows changes as they come, and how long things take in between.
func (f *feed) follow(d display) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-f.ready:
		case <-tick.C:
		case <-f.ended:
			last = true
		}
		f.mu.Lock()
		changes := f.pending
		f.pending = nil
		f.mu.Unlock()
		d.show(changes, time.Now())
		if last {
			d.close(time.Now())
			return
		}
	}
}

// newDisplay is a table that is redrawn where the output is a terminal that can,
// else lines. above is how many lines before it are worth keeping in sight.
func newDisplay(out outlet, lookupEnv func(string) (string, bool), s demoSettings, names []string, began time.Time, above int) display {
	term, _ := lookupEnv("TERM")
	noColor, _ := lookupEnv("NO_COLOR")
	if t, ok := terminalOf(out.Writer); ok && !s.plain && term != "" && term != "dumb" {
		return &screen{out: out, size: t.size, above: above, table: newTable(s, names, began, noColor == "")}
	}
	return newLines(out, names, began, s.stay)
}
