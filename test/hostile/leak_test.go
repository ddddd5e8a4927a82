package hostile

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// What the suite looks for it has to be able to find: 1 KiB for each of as many requests
// as the smallest of the attacks makes, one goroutine, one connection.
func TestLeaksAreFound(t *testing.T) {
	s := start(t, false)
	before := s.warm(t)
	heap, err := s.heap()
	if err != nil {
		t.Fatal(err)
	}
	// More of what was done before leaves nothing, or the rest of this says nothing.
	b := s.behaved()
	for range 50 {
		b.round()
	}
	b.none(t)
	eventually(t, func() error { return s.grownSince(heap) })
	s.settled(t, before, lingering)

	if _, err := s.inspected("leak 180 1024"); err != nil {
		t.Fatal(err)
	}
	if err := s.grownSince(heap); err == nil || !strings.Contains(err.Error(), "inspect.answer") {
		t.Errorf("180 KiB that leaked were not found: %v", err)
	}
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, func() error { return s.misses(before, "sockets") })
	c.Close()
	s.settled(t, before, lingering)
	if _, err := s.inspected("park 1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return s.misses(before, "inspect.park") })
}

// misses is an error unless the server is found to have more of what than before.
func (s *server) misses(before figures, what string) error {
	now, err := s.figures()
	if err != nil {
		return err
	}
	if err := now.exceeds(before, with(lingering, "net/http.(*conn).serve", 1)); err == nil || !strings.Contains(err.Error(), what) {
		return fmt.Errorf("more %s than before were not found: %v", what, err)
	}
	return nil
}

func TestParseGoroutines(t *testing.T) {
	const text = `goroutine 7 [IO wait]:
internal/poll.(*FD).Read(0x1, {0x2, 0x1000, 0x1000})
	/usr/local/go/src/internal/poll/fd_unix.go:165 +0x2ae
example.org/a.(*server).serve(0x3)
	/src/a.go:1 +0x1
created by example.org/a.Start in goroutine 1
	/src/a.go:2 +0x1

goroutine 8 [select, 2 minutes]:
example.org/a.(*desk).run(...)
	/src/a.go:3 +0x1
sync.(*WaitGroup).Go.func1()
	/usr/local/go/src/sync/waitgroup.go:258 +0x4a
created by sync.(*WaitGroup).Go in goroutine 7
	/usr/local/go/src/sync/waitgroup.go:238 +0x73

goroutine 9 [select]:
example.org/a.(*desk).run(0x1)
	/src/a.go:3 +0x1
sync.(*WaitGroup).Go.func1()
	/usr/local/go/src/sync/waitgroup.go:258 +0x4a
created by sync.(*WaitGroup).Go in goroutine 7
	/usr/local/go/src/sync/waitgroup.go:238 +0x73
`
	p := parseGoroutines(text)
	want := map[string]int{"example.org/a.(*server).serve": 1, "example.org/a.(*desk).run": 2}
	if !maps.Equal(p.count, want) {
		t.Errorf("%v, want %v", p.count, want)
	}
	one := population{count: map[string]int{"example.org/a.(*desk).run": 1}}
	for allowed, found := range map[int]bool{0: true, 1: false} {
		more := p.more(one, map[string]int{"example.org/a.(*desk).run": allowed, "example.org/a.(*server).serve": 1})
		if strings.Contains(more, "(*desk).run") != found {
			t.Errorf("%d are allowed to be there: %q", allowed, more)
		}
	}
}
