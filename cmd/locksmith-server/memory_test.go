package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// What a burst left behind goes back to the system soon after, without the runtime's own
// collections, of which there is none at rest for two minutes.
func TestMemoryIsGivenBack(t *testing.T) {
	released := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	// A collection while the burst is there would count it as used until the next one.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	burst[0][0] = 1
	before := released()
	burst = nil
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- giveBackMemory(ctx, 50*time.Millisecond) }()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(30 * time.Second); released() < before+48<<20; {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d bytes given back, want most of %d", int64(released()-before), 64<<20)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
