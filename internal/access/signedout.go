package access

import (
	"maps"
	"sync"
	"time"
)

// maxSignedOut bounds how many ended sessions are remembered, each of at most maxSession
// bytes.
const maxSignedOut = 10_000

// signedOut remembers the sessions that were ended before their time, by the values of
// their cookies, until they would have ended by themselves. Only who has a token puts
// something in. It is this process's own: another server with the same access file, and
// this one once it was restarted, knows nothing of it. Its zero value is empty.
type signedOut struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (s *signedOut) add(session string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	s.until[session] = now.Add(sessionTime + clockSkew)
	if len(s.until) <= maxSignedOut {
		return
	}
	maps.DeleteFunc(s.until, func(_ string, until time.Time) bool { return !now.Before(until) })
	if len(s.until) <= maxSignedOut {
		return
	}
	first := session
	for other, until := range s.until {
		if until.Before(s.until[first]) {
			first = other
		}
	}
	delete(s.until, first)
}

func (s *signedOut) has(session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, has := s.until[session]
	return has
}
