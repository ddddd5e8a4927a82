package bus

import (
	"context"
	"errors"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func TestKnown(t *testing.T) {
	d := dbustest.New(t)
	b := newBus(t, d.Address())
	known := func(name string, want bool) {
		t.Helper()
		if got, err := b.Known(t.Context(), name); got != want || err != nil {
			t.Errorf("Known(%s) = %v, %v", name, got, err)
		}
	}
	known(echoName, false)
	conn := d.Serve(echoName, say(t))
	known(echoName, true)
	conn.Close()
	known("org.freedesktop.DBus", true)
	known("org.example.Started", false)

	known("no name", false)

	d.Stop()
	if known, err := b.Known(t.Context(), echoName); known || !errors.Is(err, ErrAway) {
		t.Errorf("without a bus: %v, %v", known, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Known(ctx, echoName); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// A service that is not running, but could be.
func TestKnownStartable(t *testing.T) {
	d := dbustest.Stopped(t)
	d.Startable("org.example.Started")
	d.Start()
	b := newBus(t, d.Address())
	for name, want := range map[string]bool{"org.example.Started": true, "org.example.Other": false} {
		if known, err := b.Known(t.Context(), name); known != want || err != nil {
			t.Errorf("Known(%s) = %v, %v", name, known, err)
		}
	}
}
