package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

// connection is one machine's lock for the length of one boot.
type connection struct {
	*lockclient.Lock
	stop func()
}

func (c connection) KeepPresence(ctx context.Context, _ <-chan locksmith.Presence) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (c connection) Close() error {
	c.stop()
	return nil
}

// Simulated machines, each with the real agent and a disk of its own, reboot one after
// the other through a FleetLock server: one that lets them wait, one that answers at once,
// and one whose network loses requests and answers.
func TestFleet(t *testing.T) {
	lossy := func(s *server) {
		s.hold = 55 * time.Second
		s.after = func(string) bool { return rand.IntN(5) == 0 }
	}
	for _, tt := range []struct {
		name   string
		change func(*server)
		within time.Duration // all are through
	}{
		{"lets wait", func(s *server) { s.hold = 55 * time.Second }, 20 * time.Minute},
		{"answers at once", func(*server) {}, 4 * time.Hour},
		{"loses answers", lossy, 4 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testFleet(t, tt.change, tt.within) })
		})
	}
}

func testFleet(t *testing.T, change func(*server), within time.Duration) {
	s := newServer(t)
	change(s)
	dir := t.TempDir()
	f, err := fleet.New(fleet.Config{
		Machines: 12, Down: time.Minute, Jitter: 10 * time.Second,
		NewLock: func(name string) (fleet.Lock, error) {
			l, err := lockclient.Open(lockclient.Config{
				Client: &fleetlock.Client{URL: "http://server", HTTP: &http.Client{Transport: s}},
				ID:     name, Path: filepath.Join(dir, name+".json"),
			})
			if err != nil {
				return nil, err
			}
			m := &machine{t: t}
			return connection{l, m.run(l)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), within, fmt.Errorf("not done within %v", within))
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Error(err)
	}
	r := f.Report()
	for _, m := range r.Machines {
		if !m.RebootedOnce() {
			t.Errorf("%+v", m)
		}
	}
	if r.MaxDown("") != 1 || s.most != 1 {
		t.Errorf("%d were down at once, %d held slots", r.MaxDown(""), s.most)
	}
	s.expectHeld()
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Error(errors.Join(err, fmt.Errorf("files are left: %q", left)))
	}
}
