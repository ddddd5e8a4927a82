package main

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// queueOf waits until n places are in the queue of web.
func queueOf(t *testing.T, store *etcd.Store, n int, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	reached := fmt.Errorf("%d wait", n)
	if err := store.WatchStatus(ctx, "web", func(st locksmith.GroupStatus) error {
		if len(st.Queue) == n {
			return reached
		}
		return nil
	}); err != reached {
		t.Fatalf("after %v there are not %d places in the queue: %v", limit, n, err)
	}
}

// The places of the requests that wait at a server go with it: at once where it is told to
// stop, and with its lease where it is killed.
func TestPlacesGoWithTheServer(t *testing.T) {
	first := startServer(t, filepath.Join(t.TempDir(), "data"), "-create-groups")
	store := dial(t, first.etcd)
	if _, err := store.SetMax(t.Context(), "web", 0, "test"); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]struct {
		end   func(*process)
		limit time.Duration
	}{
		"stopped": {func(p *process) { p.stop(t) }, time.Second},
		"killed":  {func(p *process) { p.cmd.Process.Kill(); <-p.ended }, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", first.etcd, "-queue-lease", "5s")
			for i := range 3 {
				go call(t.Context(), p.url, fleetlock.PreRebootPath, fmt.Sprintf("m%d", i), "web") // until the server ends
			}
			queueOf(t, store, 3, time.Minute)
			end.end(p)
			queueOf(t, store, 0, end.limit)
		})
	}
}
