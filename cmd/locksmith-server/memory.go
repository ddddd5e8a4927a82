package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory is given back to the system where a server that is at rest has more than this
// to spare: what thousands of requests that came at once left behind.
const (
	restCheck = 5 * time.Second
	spare     = 8 << 20
)

// giveBackMemory looks every so often for such memory, until ctx ends. The runtime would
// keep it until its next collections, which at rest are minutes apart.
func giveBackMemory(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},                // after the last collection
		{Name: "/memory/classes/heap/objects:bytes"}, // with those that nobody needs any more
		{Name: "/memory/classes/heap/free:bytes"},
	}
	for collections := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(samples)
		atRest := samples[0].Value.Uint64() == collections
		if live, objects := samples[1].Value.Uint64(), samples[2].Value.Uint64(); atRest && objects > live &&
			objects-live+samples[3].Value.Uint64() > spare {
			debug.FreeOSMemory()
			metrics.Read(samples[:1])
		}
		collections = samples[0].Value.Uint64()
	}
}
