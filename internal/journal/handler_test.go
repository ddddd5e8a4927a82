package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/journal"
)

// logger logs to s, and what s does not take to the text.
func logger(t *testing.T, s *standIn) (*slog.Logger, *journal.Handler, *bytes.Buffer) {
	t.Helper()
	var text bytes.Buffer
	h := journal.New(journal.Config{Path: s.path, Level: slog.LevelDebug, Fallback: &text})
	t.Cleanup(func() { h.Close() })
	return slog.New(h), h, &text
}

func TestContractOfHandlers(t *testing.T) {
	s := listen(t)
	_, h, _ := logger(t, s)
	slogtest.Run(t, func(*testing.T) slog.Handler { return h }, func(t *testing.T) map[string]any {
		e := s.next(t)
		result := map[string]any{slog.LevelKey: e.one("PRIORITY")}
		result[slog.MessageKey], _, _ = strings.Cut(e.one("MESSAGE"), " (")
		if _, ok := e["SYSLOG_TIMESTAMP"]; ok {
			result[slog.TimeKey] = e.one("SYSLOG_TIMESTAMP")
		}
		for name, value := range e.ours() {
			at := result
			path := strings.Split(strings.TrimPrefix(name, "LOCKSMITH_"), "_")
			for _, group := range path[:len(path)-1] {
				if at[group] == nil {
					at[group] = make(map[string]any)
				}
				at = at[group].(map[string]any)
			}
			at[strings.ToLower(path[len(path)-1])] = value
		}
		return result
	})
}

type broken struct{}

func (broken) String() string { panic("no such thing") }

type explosive struct{}

func (*explosive) Error() string { panic("boom") }

// What people read, and what programs select by.
func TestRecords(t *testing.T) {
	s := listen(t)
	log, _, _ := logger(t, s)
	machine := log.With("machine", "m1", "group", "")
	tests := []struct {
		name     string
		log      func()
		message  string
		priority string
		fields   map[string]string
	}{
		{"waiting", func() {
			machine.Info("waiting", "event", "waiting", "phase", "window", "status", "window opens Thu 23:00")
		}, "waiting: window opens Thu 23:00 (phase window)", "6", map[string]string{
			"LOCKSMITH_MACHINE": "m1", "LOCKSMITH_GROUP": "", "LOCKSMITH_EVENT": "waiting",
			"LOCKSMITH_PHASE": "window", "LOCKSMITH_STATUS": "window opens Thu 23:00"}},
		{"another phase", func() { log.Info("phase", "phase", "queued", "from", "needed", "reason", "kernel 6.1") },
			"phase queued: kernel 6.1 (from needed)", "6", map[string]string{
				"LOCKSMITH_PHASE": "queued", "LOCKSMITH_FROM": "needed", "LOCKSMITH_REASON": "kernel 6.1"}},
		{"an error", func() { log.Warn("etcd is away", "error", errors.New("refused"), "endpoints", []string{"a", "b"}) },
			"etcd is away: refused (endpoints a, b)", "4", map[string]string{
				"LOCKSMITH_ERROR": "refused", "LOCKSMITH_ENDPOINTS": "a, b"}},
		{"a pause", func() {
			log.Info("paused", "event", "paused", "pause", "group lb paused by alice: freeze", "phase", "window")
		},
			"paused: group lb paused by alice: freeze (phase window)", "6", map[string]string{"LOCKSMITH_EVENT": "paused",
				"LOCKSMITH_PAUSE": "group lb paused by alice: freeze", "LOCKSMITH_PHASE": "window"}},
		{"several lines", func() { log.Error("check failed", "reason", "disk full:\n  /var\n\n/tmp\n") },
			"check failed: disk full: | /var | /tmp", "3", map[string]string{"LOCKSMITH_REASON": "disk full:\n  /var\n\n/tmp\n"}},
		{"what a terminal must not get", func() { log.Debug("hook", "status", "\x1b[2Jbad\xff\u202e") },
			`hook: \x1b[2Jbad\xff\u202e`, "7", map[string]string{"LOCKSMITH_STATUS": "\x1b[2Jbad\xff\u202e"}},
		{"a forged field", func() { log.Info("x", "reason", "a\nPRIORITY=0") },
			"x: a | PRIORITY=0", "6", map[string]string{"LOCKSMITH_REASON": "a\nPRIORITY=0"}},
		{"names", func() { log.Info("x", "blocked-by", 1, "é", true, strings.Repeat("long", 30), 3) },
			"x (blocked-by 1, é true, " + strings.Repeat("long", 30) + " 3)", "6", map[string]string{
				"LOCKSMITH_BLOCKED_BY": "1", "LOCKSMITH__": "true", "LOCKSMITH_" + strings.Repeat("LONG", 13) + "LO": "3"}},
		{"kinds", func() { log.Info("x", "t", time.Unix(0, 0).UTC(), "d", 90*time.Second, "e", "") },
			`x (t 1970-01-01T00:00:00Z, d 1m30s, e "")`, "6", map[string]string{
				"LOCKSMITH_T": "1970-01-01T00:00:00Z", "LOCKSMITH_D": "1m30s", "LOCKSMITH_E": ""}},
		{"groups", func() { log.WithGroup("etcd").With("a", 1).Info("x", "b", 2, slog.Group("tls", "c", 3)) },
			"x (etcd.b 2, etcd.tls.c 3)", "6", map[string]string{
				"LOCKSMITH_ETCD_A": "1", "LOCKSMITH_ETCD_B": "2", "LOCKSMITH_ETCD_TLS_C": "3"}},
		{"panics", func() { log.Info("x", "error", (*explosive)(nil), "b", broken{}) },
			"x: !PANIC: boom (b %!v(PANIC=String method: no such thing))", "6", map[string]string{
				"LOCKSMITH_ERROR": "!PANIC: boom", "LOCKSMITH_B": "%!v(PANIC=String method: no such thing)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.log()
			e := s.next(t)
			if got := e.one("MESSAGE"); got != tt.message {
				t.Errorf("MESSAGE\ngot  %s\nwant %s", got, tt.message)
			}
			if e.one("PRIORITY") != tt.priority || e.one("SYSLOG_IDENTIFIER") != "locksmithd" {
				t.Errorf("got %q", e)
			}
			if diff := cmp.Diff(tt.fields, e.ours()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMessageID(t *testing.T) {
	s := listen(t)
	log, _, _ := logger(t, s)
	const started = "c1ce56645c9c4bbe9dca8437742cabaf" // never another one: people select by it
	log.Info("up", "event", "started")
	if got := s.next(t).one("MESSAGE_ID"); got != started {
		t.Errorf("got %s", got)
	}
	log.With("event", "started").Info("up")
	if got := s.next(t).one("MESSAGE_ID"); got != started {
		t.Errorf("the logger's event: got %s", got)
	}
	log.Info("remark")
	log.Info("up", "event", "no such event")
	log.WithGroup("g").Info("up", "event", "started")
	for range 3 {
		if e := s.next(t); e["MESSAGE_ID"] != nil {
			t.Errorf("got %q", e)
		}
	}
}

// What is derived from one logger does not show in another.
func TestSiblings(t *testing.T) {
	s := listen(t)
	log, _, _ := logger(t, s)
	base := log.WithGroup("a").WithGroup("b").WithGroup("c").With("k", 0)
	one, two := base.WithGroup("one").With("x", 1), base.WithGroup("two").With("y", 2)
	one.Info("m", "z", 3)
	two.Info("m", slog.Group("g", "z", 4))
	for _, want := range []map[string]string{
		{"LOCKSMITH_A_B_C_K": "0", "LOCKSMITH_A_B_C_ONE_X": "1", "LOCKSMITH_A_B_C_ONE_Z": "3"},
		{"LOCKSMITH_A_B_C_K": "0", "LOCKSMITH_A_B_C_TWO_Y": "2", "LOCKSMITH_A_B_C_TWO_G_Z": "4"},
	} {
		if diff := cmp.Diff(want, s.next(t).ours()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLevels(t *testing.T) {
	s := listen(t)
	h := journal.New(journal.Config{Path: s.path, Identifier: "rebootlockd"})
	defer h.Close()
	log := slog.New(h)
	log.Debug("not this")
	for level, want := range map[slog.Level]string{slog.LevelInfo + 2: "5", slog.LevelError + 4: "2"} {
		log.Log(t.Context(), level, "this")
		if e := s.next(t); e.one("PRIORITY") != want || e.one("SYSLOG_IDENTIFIER") != "rebootlockd" {
			t.Errorf("level %v: got %q", level, e)
		}
	}
}

// A record that is longer than a datagram may be goes as a file.
func TestOversize(t *testing.T) {
	s := listen(t)
	log, _, text := logger(t, s)
	var args []any
	for i := range 20 {
		args = append(args, fmt.Sprintf("part%d", i), strings.Repeat("x", 60<<10))
	}
	log.Info("big", args...)
	e := s.next(t)
	if len(e.ours()) != 20 || len(e.one("LOCKSMITH_PART7")) != 60<<10 || text.Len() > 0 {
		t.Errorf("%d fields came, %d bytes of text", len(e.ours()), text.Len())
	}
	if m := e.one("MESSAGE"); len(m) > 64<<10 {
		t.Errorf("a message of %d bytes", len(m))
	}
	log.Info("cut", "status", strings.Repeat("é", 40<<10))
	e = s.next(t)
	if v := e.one("LOCKSMITH_STATUS"); len(v) > 64<<10 || !strings.HasSuffix(v, "é…") {
		t.Errorf("a value of %d bytes that ends in %q", len(v), v[len(v)-8:])
	}
	if m := e.one("MESSAGE"); len(m) > 2<<10 || !strings.HasSuffix(m, "é…") {
		t.Errorf("a message of %d bytes", len(m))
	}
}

func TestConcurrentRecords(t *testing.T) {
	s := listen(t)
	log, _, _ := logger(t, s)
	base := log.With("a", 1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			own := base.With("worker", i)
			for n := range 20 {
				own.Info("x", "n", n)
			}
		})
	}
	seen := make(map[string]bool)
	for range 8 * 20 {
		e := s.next(t)
		seen[e.one("LOCKSMITH_WORKER")+"/"+e.one("LOCKSMITH_N")] = true
	}
	wg.Wait()
	if len(seen) != 8*20 {
		t.Errorf("%d different records", len(seen))
	}
}
