package main

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// A site that ends answers the requests that wait, by itself: what is closed after it, the
// store's side, and the process, must not have to.
func TestSiteAnswersBeforeItEnds(t *testing.T) {
	store := dial(t, etcdtest.Start(t, etcdtest.Embedded).Endpoint)
	if _, err := store.SetMax(t.Context(), "web", 0, "test"); err != nil {
		t.Fatal(err)
	}
	s, err := newSite(siteConfig{store: store, guard: access.Anyone("127.0.0.1:0", false), wait: 20 * time.Minute, maxWaiting: 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	web := httptest.NewServer(s.handler)
	t.Cleanup(func() { cancel(); s.fleetLock.Close(); s.close(); web.Close() })
	answered := make(chan answer, 1)
	go func() {
		got, err := call(t.Context(), web.URL, fleetlock.PreRebootPath, "m", "web")
		if err != nil {
			t.Errorf("no answer: %v", err)
		}
		answered <- got
	}()
	queueOf(t, store, 1, time.Minute)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case got := <-answered:
		if got.status != 503 || got.kind != fleetlock.KindStore {
			t.Errorf("%+v", got)
		}
	case <-time.After(30 * time.Second):
		t.Error("the site has ended, and its request waits still")
	}
}
