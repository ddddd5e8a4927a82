package admin

import (
	"maps"
	"sync"
	"time"
)

// Bounds of what refusals cost the log: so many lines of one caller in a minute, and of
// so many callers apart. All others share the lines of one.
const (
	maxLines   = 20
	maxCallers = 4096
)

// lines counts the lines of each caller, by name and address. Its zero value is empty.
type lines struct {
	mu     sync.Mutex
	of     map[string]*minute
	pruned time.Time
}

// minute is what came of one caller since a line opened it.
type minute struct {
	began            time.Time
	logged, unlogged int
}

// next says whether a refusal of caller gets a line, and how many got none since the line
// before.
func (l *lines) next(caller string, now time.Time) (logged bool, unlogged int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.of[caller]
	if m == nil && !l.room(now) {
		caller = ""
		m = l.of[caller]
	}
	switch {
	case m == nil:
		if l.of == nil {
			l.of = make(map[string]*minute)
		}
		l.of[caller] = &minute{began: now, logged: 1}
		return true, 0
	case now.Sub(m.began) >= time.Minute:
		unlogged = m.unlogged
		*m = minute{began: now, logged: 1}
		return true, unlogged
	case m.logged < maxLines:
		m.logged++
		return true, 0
	}
	m.unlogged++
	return false, 0
}

// room forgets callers whose minute is over, where there are too many, and says whether
// one more can be told apart. What nobody was told of them counts for the others.
func (l *lines) room(now time.Time) bool {
	if len(l.of) < maxCallers {
		return true
	}
	if now.Sub(l.pruned) < time.Second { // not for each of a flood
		return false
	}
	l.pruned = now
	others := l.of[""]
	maps.DeleteFunc(l.of, func(caller string, m *minute) bool {
		over := caller != "" && now.Sub(m.began) >= time.Minute
		if over && others != nil {
			others.unlogged += m.unlogged
		}
		return over
	})
	return len(l.of) < maxCallers
}
