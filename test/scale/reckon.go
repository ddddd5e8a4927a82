package main

import (
	"fmt"
	"math"
	"strings"
)

// What is reckoned: a fleet of this size, of which a hundredth may be down, each for three
// minutes, at servers that take so many connections each, which is their default.
const (
	reckonFleet       = 100_000.0
	reckonShare       = 0.01
	reckonDown        = 180.0 // s
	reckonConnections = 16_000.0
	// reckonAgain is how long a fleet takes to ask again where its servers were away, s.
	reckonAgain = 60.0
)

// reckoning says what the fleet would need, from what was measured with smaller ones.
func reckoning(r result) (string, error) {
	var missing error
	v := func(name string) float64 {
		f, err := r.figure(name)
		if err != nil {
			missing = err
		}
		return f.Measured
	}
	busiest, err := r.figure("etcd's processor time while all wait")
	if err != nil {
		return "", err
	}
	const kB, perGB = 1.0, 1024.0 * 1024
	grants := reckonFleet / (reckonDown / reckonShare)
	cores := busiest.Measured / 100 * reckonFleet / float64(busiest.Machines)
	cycles, repeats := v("FleetLock, complete cycles"), v("FleetLock, a holder asks again")
	waits, entry := v("FleetLock, memory of each of 5000 that wait")*kB, v("memory of etcd for a queue entry")
	agent, back, rate := v("memory of etcd for it"), v("requests by each after the restart"), v("requests in the worst second")
	servers := math.Ceil(reckonFleet / reckonConnections)
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("Directly on etcd, each agent waiting (measured with %d):", busiest.Machines)
	line("")
	line("- memory of etcd: 100,000 x %.0f kB = %.0f GB;", agent, reckonFleet*agent/perGB)
	line("- keep-alives: 100,000 x %.2f %% of a core / %d = %.1f cores for doing nothing;", busiest.Measured, busiest.Machines, cores)
	line("- after a restart: 100,000 x %.1f requests, at the %.0f a second that were seen, %.0f s.", back, rate, reckonFleet*back/rate)
	line("")
	line("With `locksmith-server` in front, the machines speaking FleetLock:")
	line("")
	line("- connections: 100,000 / 16,000 that a server takes by default = %.0f servers, and one more to spare;", servers)
	line("- memory of each: 100,000 / %.0f x %.1f KiB = %.0f MiB;", servers, waits, reckonFleet/servers*waits/1024)
	line("- grants: 100,000 in %.0f s = %.1f a second, each with its release, of the %.0f cycles a second that one server with its etcd was seen to do: %.2f %%;",
		reckonDown/reckonShare, grants, cycles, 100*grants/cycles)
	line("- who asks again, all within %.0f s: %.0f a second, of the %.0f that one server was seen to answer: %.0f %% of each;",
		reckonAgain, reckonFleet/reckonAgain, repeats, 100*reckonFleet/reckonAgain/servers/repeats)
	line("- memory of etcd: 100,000 entries x %.1f kB = %.2f GB, and %.0f connections.", entry, reckonFleet*entry/perGB, servers+1)
	return out.String(), missing
}
