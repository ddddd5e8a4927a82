package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// fault is something that befalls the fleet.
type fault struct {
	kind  faultKind
	lasts time.Duration
}

type faultKind string

const (
	cutEtcd    faultKind = "all connections to etcd are cut"
	cutWeb     faultKind = "all connections to locksmith-server are cut"
	etcdAway   faultKind = "etcd cannot be reached"
	etcdDeaf   faultKind = "etcd's answers are lost"
	serverAway faultKind = "locksmith-server cannot be reached"
	pauseAll   faultKind = "locksmith-server is stopped, and goes on"
	killPart   faultKind = "rolling-2 is killed, and starts again"
	killServer faultKind = "locksmith-server is killed, and starts again"
)

// kinds are those of the whole run; the server is killed only early in it, so that one
// of its lives is long enough to be judged.
var kinds = []faultKind{cutEtcd, cutWeb, etcdAway, etcdDeaf, serverAway, pauseAll, killPart}

// killUntil is the part of a run in which the server is killed.
const killUntil = 0.3

// nextFault draws one. of is how far the run is, from 0 to 1; the longest lasts as
// long as longest: in the full form longer than leases live.
func nextFault(rng *rand.Rand, of float64, longest time.Duration) fault {
	list := kinds
	if of < killUntil {
		list = append(append([]faultKind{}, kinds...), killServer, killServer)
	}
	f := fault{kind: list[rng.IntN(len(list))]}
	f.lasts = time.Duration(float64(longest) * (0.1 + 0.9*rng.Float64()))
	if f.kind == pauseAll || f.kind == etcdDeaf {
		f.lasts /= 5 // or requests would end by their time limit
	}
	return f
}

// harass inflicts one fault after the other until over ends, and leaves none behind.
func (s *soak) harass(ctx, over context.Context, killed chan<- struct{}) error {
	start := time.Now()
	for {
		if pass(over, s.scaled(15*time.Second, time.Second)) != nil {
			return nil
		}
		f := nextFault(s.rng, time.Since(start).Seconds()/s.duration.Seconds(), s.scaled(45*time.Second, 3*time.Second))
		s.faults.Add(1)
		s.rec.event("%s, for %v", f.kind, f.lasts.Round(time.Millisecond))
		if err := s.inflict(ctx, over, f); err != nil {
			return fmt.Errorf("%s: %w", f.kind, err)
		}
		if f.kind == killPart {
			select {
			case killed <- struct{}{}:
			default: // it is not known yet that it was killed before
			}
		}
	}
}

// inflict does it, waits, and undoes it.
func (s *soak) inflict(ctx, over context.Context, f fault) error {
	switch f.kind {
	case cutEtcd:
		s.etcd.Cut()
		return nil
	case cutWeb:
		s.web.Cut()
		return nil
	case etcdAway:
		s.etcd.Down()
		defer s.etcd.Up()
	case serverAway:
		s.web.Down()
		defer s.web.Up()
	case etcdDeaf:
		s.etcd.SwallowReplies()
		defer s.etcd.Cut()
	case pauseAll:
		s.server.signal(syscall.SIGSTOP)
		defer s.server.signal(syscall.SIGCONT)
	case killPart:
		p := s.rolling[1]
		p.kill()
		s.ledger.forgetStats(p.name)
		_ = pass(over, f.lasts/3)
		return p.launch()
	case killServer:
		s.server.kill()
		_ = pass(over, f.lasts/3)
		return s.server.up(ctx)
	}
	_ = pass(over, f.lasts) // or the run is over: heal it now
	return nil
}
