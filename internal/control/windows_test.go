package control_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
)

func TestWindows(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		name        string
		status      agent.Status
		allow, deny []string
		err         string
	}{
		{"none", agent.Status{}, nil, nil, ""},
		{"both", agent.Status{Windows: []string{"03:00 2h UTC"}, DenyWindows: []string{"Fri UTC"}, WindowStart: start},
			[]string{"03:00 2h UTC"}, []string{"Fri UTC"}, ""},
		{"deny windows only", agent.Status{DenyWindows: []string{"Fri UTC"}, WindowStart: start}, nil, []string{"Fri UTC"}, ""},
		{"of an older daemon", agent.Status{WindowStart: start}, nil, nil, "does not tell its windows; restart it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := control.Client{Path: serveStatus(t, tt.status)}
			allow, deny, err := c.Windows(t.Context())
			if (err == nil) != (tt.err == "") || err != nil && !strings.HasSuffix(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if !slices.Equal(allow, tt.allow) || !slices.Equal(deny, tt.deny) {
				t.Errorf("got %q and %q", allow, deny)
			}
		})
	}
	c := control.Client{Path: filepath.Join(t.TempDir(), "none.sock")}
	if _, _, err := c.Windows(t.Context()); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("nobody listens: got %v", err)
	}
}

// serveStatus answers with s for as long as the test runs.
func serveStatus(t *testing.T, s agent.Status) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "locksmithd.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	none := func() error { return nil }
	srv := &control.Server{Status: func() agent.Status { return s }, Request: func(string) error { return nil }, Cancel: none}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeOn(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	return path
}
