package main

import (
	"context"
	"slices"
	"time"
)

// restSamples is how many samples say what rest is.
const restSamples = 5

// restEvery is the time between two of them.
const restEvery = 2 * time.Second

// restLimit is how long it may take until all is at rest: the leases of what was killed
// have to end, connections to be given up, garbage to be collected.
const restLimit = 3 * time.Minute

// restCounts are what must stand still before everything is taken to be at rest.
var restCounts = []string{"etcd.leases", "etcd.watchers", "etcd.streams", "etcd.queue", "etcd.holders", "etcd.machines", "etcd.keys",
	"server.goroutines", "server.files"}

// rest waits until all is as in the phase before with which this one is compared, or,
// where there is none, until nothing moves; at most for restLimit. The last samples of
// the phase are what is judged.
func (s *soak) rest(ctx context.Context, phase string) error {
	limit, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	var recent []sample
	err := until(limit, restEvery, func() bool {
		for _, p := range s.parts() {
			if p.process != nil {
				p.say(wordCollect)
			}
		}
		recent = append(recent, s.sampler.take(ctx, phase))
		if len(recent) > restSamples {
			recent = recent[1:]
		}
		return len(recent) == restSamples && s.restful(phase, recent)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil { // the verdicts say what does not rest
		s.rec.event("not at rest within %v", restLimit)
	}
	return nil
}

func (s *soak) restful(phase string, recent []sample) bool {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if phase == phaseEmpty || phase == phaseBefore {
		return still(recent)
	}
	return !slices.ContainsFunc(judgeRest(s.rec.rec, phase), func(v verdict) bool { return !v.good })
}

// still says whether nothing moves.
func still(samples []sample) bool {
	for _, what := range restCounts {
		first, ok := samples[0].Values[what]
		for _, one := range samples {
			if v, there := one.Values[what]; !ok || !there || v != first {
				return false
			}
		}
	}
	return true
}
