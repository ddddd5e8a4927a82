package etcd

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// messages hands what is logged to the test.
type messages struct{ got chan string }

func (m messages) Enabled(context.Context, slog.Level) bool { return true }
func (m messages) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m messages) WithGroup(string) slog.Handler            { return m }
func (m messages) Handle(_ context.Context, r slog.Record) error {
	m.got <- r.Message
	return nil
}

// A watch follows changes, says when etcd went away, and goes on when it is back.
func TestWatchStatus(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Debian)
	log := messages{make(chan string, 100)}
	s := dial(t, srv.Endpoint, func(c *Config) { c.Log = slog.New(log) })
	g := newGroup(t)
	seen := make(chan int, 100)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.WatchStatus(ctx, g, func(st locksmith.GroupStatus) error { seen <- st.Sem.Max; return nil })
	}()
	expect := func(max int) {
		t.Helper()
		for timeout := time.After(30 * time.Second); ; {
			select {
			case got := <-seen:
				if got == max {
					return
				}
			case <-timeout:
				t.Fatalf("max %d not seen", max)
			}
		}
	}
	said := func(message string) {
		t.Helper()
		for timeout := time.After(30 * time.Second); ; {
			select {
			case got := <-log.got:
				if got == message {
					return
				}
			case <-timeout:
				t.Fatalf("not said: %s", message)
			}
		}
	}
	expect(1)
	setMax(t, dial(t, srv.Endpoint), g, 2)
	expect(2)
	srv.Stop()
	said("etcd is away, what was read last may not be true any more")
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	said("etcd is back")
	setMax(t, dial(t, srv.Endpoint), g, 3)
	expect(3)
	cancel(errStopped)
	if err := <-done; !errors.Is(err, errStopped) {
		t.Errorf("ended with %v", err)
	}
}
