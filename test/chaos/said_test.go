package chaos_test

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

func TestCheckSaid(t *testing.T) {
	const endpoint = "http://10.77.0.1:2379"
	for _, c := range []struct {
		name   string
		text   string
		change func(*chaos.Said)
		want   string // "": it is fine
	}{
		{"etcd is away", "Error locking: no answer from etcd: " + endpoint + " refused the connection\n", nil, ""},
		{"names the group", "Error locking: no slot is free in group tools\n", nil, ""},
		{"everybody is concerned", "Error locking: all groups paused by chaos: a fault\n", nil, ""},
		{"what scripts read", "Error locking: semaphore is at 0\n", nil, ""},
		{"what scripts read, and more", "Error locking: semaphore is at 0 or so\n", nil, "names none of"},
		{"raw code", "Error locking: rpc error: code = Unavailable desc = " + endpoint + " is away", nil, `has "rpc error" in it`},
		{"bare code", "Error locking: " + endpoint + ": code = 14", nil, `has "code = " in it`},
		{"deadline alone", "Error locking: context deadline exceeded", nil, `has "context deadline exceeded" in it`},
		{"deadline with a name", "Error locking: " + endpoint + ": context deadline exceeded", nil, `not for people`},
		{"Go's own", `Error locking: Get "http://10.77.0.1": dial tcp 10.77.0.1:2379: connect: refused`, nil, `has "dial tcp" in it`},
		{"a connection that broke", "Error locking: no answer from http://10.77.0.1:2379: EOF", nil, `has "EOF" in it`},
		{"a panic", "panic: assignment to entry in nil map\n\ngoroutine 1 [running]:", nil, `has "panic" in it`},
		{"a panic, and success", "panic: x", func(s *chaos.Said) { s.Failed = false }, `has "panic" in it`},
		{"a mistake of ours", "Error locking: group tools: %!s(<nil>)", nil, `has "%!" in it`},
		{"nothing", "\n", nil, "says nothing"},
		{"no cause", "Error locking group tools", nil, "names no cause"},
		{"an empty cause", "Error locking group tools: ", nil, "names no cause"},
		{"names nothing", "Error locking: it is full", nil, `names none of`},
		{"names it only as what was asked", "Error locking " + endpoint + ": it is full", nil, "names none of"},
		{"several lines", "Error locking: group tools\nis full", nil, "longer than a line"},
		{"killed", "Error locking: group tools is full", func(s *chaos.Said) { s.Status = -1 }, "ended with status -1"},
		{"status 0 of a failure", "Error locking: group tools is full", func(s *chaos.Said) { s.Status = 0 }, "ended with status 0"},
		{"too late", "Error locking: group tools is full", func(s *chaos.Said) { s.Took = time.Minute }, "took 1m0s"},
		{"success, too late", "", func(s *chaos.Said) { s.Failed, s.Took = false, time.Minute }, "took 1m0s"},
		{"success", "", func(s *chaos.Said) { s.Failed, s.Status = false, 0 }, ""},
	} {
		s := chaos.Said{Names: []string{endpoint, "tools"}, Failed: true, Status: 1, Error: c.text, Took: time.Second}
		if c.change != nil {
			c.change(&s)
		}
		if got := chaos.CheckSaid(s); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
