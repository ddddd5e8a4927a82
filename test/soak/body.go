package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// body has rollouts, faults, administrators and readers for as long as the run is to
// last, and ends when the last rollout has.
func (s *soak) body(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over, end := context.WithTimeout(ctx, s.duration) // nothing new begins after it
	defer end()
	s.readers.say(wordRead)
	var wg sync.WaitGroup
	work := func(do func() error) {
		wg.Go(func() {
			if err := do(); err != nil {
				cancel(err)
			}
		})
	}
	killed := make(chan struct{}, 1) // rolling-2 was
	for i, p := range s.rolling {
		work(func() error {
			if i == 1 {
				return s.roll(ctx, over, p, killed)
			}
			return s.roll(ctx, over, p, nil)
		})
	}
	sampling, stopSampling := context.WithCancel(ctx)
	var samples sync.WaitGroup
	samples.Go(func() { s.sampleUntil(sampling) })
	work(func() error { return s.harass(ctx, over, killed) })
	work(func() error { return s.administer(ctx, over) })
	work(func() error { return s.guard(over) })
	wg.Wait()
	select {
	case <-killed: // after its last rollout
		work(func() error { return s.finish(ctx, s.rolling[1], s.begin(s.rolling[1])) })
		wg.Wait()
	default:
	}
	stopSampling()
	samples.Wait()
	s.readers.say(wordRest)
	return context.Cause(ctx)
}

func (s *soak) sampleUntil(ctx context.Context) {
	for tick := time.NewTicker(s.every()); ; {
		s.sampler.take(ctx, phaseBody)
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// roll has a part go through rollouts until over ends, and the last one to its end. A
// part that was killed begins anew.
func (s *soak) roll(ctx, over context.Context, p *part, killed <-chan struct{}) error {
	for over.Err() == nil {
		ended := s.begin(p)
		again := true
		for again {
			again = false
			done := make(chan error, 1)
			waiting, stop := context.WithCancel(ctx)
			go func() { done <- s.finish(waiting, p, ended) }()
			select {
			case err := <-done:
				stop()
				if err != nil {
					return err
				}
			case <-killed:
				stop()
				<-done
				ended, again = s.begin(p), true
			}
		}
		s.rec.event("rollout %d of %s has ended", p.wave, p.name)
		_ = pass(over, s.scaled(30*time.Second, time.Second)) // or it is over
	}
	return nil
}

// guard finds processes that end by themselves.
func (s *soak) guard(over context.Context) error {
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-tick.C:
		case <-over.Done():
			tick.Stop()
			return nil
		}
		for _, p := range slices.Concat(s.sampler.processes, []*process{s.server.process}) {
			if p.died() {
				return fmt.Errorf("%s has ended by itself: see %s", p.name, p.log)
			}
		}
	}
}
