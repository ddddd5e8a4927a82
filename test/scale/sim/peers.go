package sim

import "time"

// What was measured of the races: of 50 machines that asked at once, with slots for all of
// them, 5 got one from CoreOS locksmith's etcd and 3 from airlock. Here "at once" is taken
// for the tenth of a second in which 50 programs start. TestRaces holds it.
const (
	coreOSRace  = 20 * time.Millisecond
	airlockRace = 33 * time.Millisecond
)

// Locksmith is the queue, with a handoff and requests as measured by test/bench: in
// ten thousand waiting the median handoff is 3.5 ms, and a cycle is twelve reads and
// writes, a read of the policies at each of two starts, and two leases.
func Locksmith() Queue {
	return Queue{Title: "locksmith", Handoff: 3500 * time.Microsecond, Before: 6, At: 4, After: 6}
}

// CoreOS is CoreOS locksmith: pauses of 10 s, 20 s, … 300 s, without jitter.
func CoreOS() Polling {
	return Polling{Title: "CoreOS locksmith", First: 10 * time.Second, Longest: 300 * time.Second, Race: coreOSRace}
}

// Airlock is Zincati with airlock: every 300 s, and up to a tenth longer.
func Airlock() Polling {
	return Polling{Title: "airlock + Zincati", First: 300 * time.Second, Longest: 300 * time.Second, Jitter: 0.1, Race: airlockRace}
}

// Kured asks every hour by default, beginning at a random time; who loses a race tries
// again a moment later. As many may be down as the others allow, although one is its
// default.
func Kured() Polling {
	return Polling{Title: "kured", Longest: time.Hour, Phase: true}
}

// Policies are those that are compared, in the order of the tables and plots.
func Policies() []Policy { return []Policy{Locksmith(), CoreOS(), Airlock(), Kured()} }
