package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory is given back to the system where a server that is at rest has more than spare
// of it: what thousands of requests that came at once left behind. It is at rest if it
// has used less than little since the last look.
const (
	restCheck = 5 * time.Second
	spare     = 8 << 20
	little    = 4 << 20
)

// giveBackMemory looks every so often for such memory, until ctx ends. The runtime would
// keep it until its next collections, which at rest are minutes apart.
func giveBackMemory(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},              // ever
		{Name: "/gc/heap/live:bytes"},                // after the last collection
		{Name: "/memory/classes/heap/objects:bytes"}, // with those that nobody needs any more
		{Name: "/memory/classes/heap/free:bytes"},
	}
	for used := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(samples)
		allocs, live, objects, free := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64()
		if allocs-used < little && max(objects, live)-live+free > spare {
			debug.FreeOSMemory()
		}
		used = allocs
	}
}
