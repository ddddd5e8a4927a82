package etcd

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// planned is one key that a copy writes.
type planned struct {
	key, value string

	ring     string // the history that an entry belongs to; empty: no entry
	revision int64  // of an entry, in the store that is copied
}

// copyPlan lists what is copied of a store, in the order in which it is written:
// what keeps machines from rebooting first, the histories last. What belongs to
// processes that run is left out: queues, and what stands on a lease.
func (s *Store) copyPlan(ctx context.Context) ([]planned, error) {
	stages := make([][]*mvccpb.KeyValue, 3) // semaphores and policies, holder records, all but the histories
	rings := make(map[string][]*mvccpb.KeyValue)
	counters := make(map[string]bool)
	_, err := s.pages(ctx, prefix+"/", 0, func(kv *mvccpb.KeyValue) {
		key := string(kv.Key)
		base, rest := splitKey(key)
		kind, _, below := strings.Cut(rest, "/")
		switch {
		case passing(kv):
		case kind == "history" && below:
			rings[base] = append(rings[base], kv)
		case rest == "semaphore", rest == "policy", kind == "machine-policy":
			stages[0] = append(stages[0], kv)
		case kind == "holders":
			stages[1] = append(stages[1], kv)
		default:
			stages[2] = append(stages[2], kv)
		}
		counters[key] = true
	})
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	var plan []planned
	for _, kvs := range stages {
		slices.SortStableFunc(kvs, byRevision)
		for _, kv := range kvs {
			plan = append(plan, planned{key: string(kv.Key), value: string(kv.Value)})
		}
	}
	return append(plan, planRings(rings, counters)...), nil
}

// planRings lays the entries of each history out anew. Their places follow the
// Version of the group's semaphore (or of the count of refusals), which begins again
// with the copy: the newest entry goes where that version points, and the others
// before it, so that the next change takes the place of the oldest.
func planRings(rings map[string][]*mvccpb.KeyValue, exists map[string]bool) []planned {
	var plan []planned
	for _, base := range slices.Sorted(maps.Keys(rings)) {
		kvs := rings[base]
		slices.SortStableFunc(kvs, byRevision)
		at := 0
		if exists[base+"/semaphore"] || base+"/history/" == refusalsPrefix && exists[refusalsCount] {
			at = 1 // the version of a key that is written once
		}
		for i, kv := range kvs {
			place := (at - (len(kvs) - 1 - i) + 2*historySize) % historySize
			plan = append(plan, planned{key: fmt.Sprintf("%s/history/%04d", base, place), value: string(kv.Value), ring: base, revision: kv.ModRevision})
		}
	}
	slices.SortStableFunc(plan, func(a, b planned) int { return cmp.Compare(a.revision, b.revision) })
	return plan
}

func byRevision(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }

// splitKey splits a key of ours into its base, of a group, of all groups or the
// prefix, and the rest.
func splitKey(key string) (base, rest string) {
	if name, ok := strings.CutPrefix(key, groupsPrefix); ok {
		name, rest, _ = strings.Cut(name, "/")
		return groupsPrefix + name, rest
	}
	if rest, ok := strings.CutPrefix(key, prefix+"/all/"); ok {
		return prefix + "/all", rest
	}
	return prefix, strings.TrimPrefix(key, prefix+"/")
}

// passing says whether a key belongs to a process that runs: it stands on a lease, or
// is a queue's.
func passing(kv *mvccpb.KeyValue) bool {
	key := string(kv.Key)
	_, rest := splitKey(key)
	kind, _, _ := strings.Cut(rest, "/")
	return kv.Lease != 0 || kind == "queue" || kind == "tail" || strings.HasPrefix(key, presencePrefix()) || key == copyMarker
}

// Bounds of one transaction of a copy: below etcd's default limits.
const (
	maxCopied      = 100
	maxCopiedBytes = 1 << 20
)

// batchOf is how many keys of the plan are written together. No two entries of one
// history are among them: those of one revision have no order. Refusals stand beside
// those of every group.
func batchOf(plan []planned) int {
	size, rings, mixed := 0, make(map[string]bool), false
	for i, p := range plan {
		size += len(p.key) + len(p.value)
		refusal := p.ring+"/history/" == refusalsPrefix
		if i == maxCopied || i > 0 && (size > maxCopiedBytes || p.ring != "" && (rings[p.ring] || refusal || mixed)) {
			return i
		}
		rings[p.ring], mixed = true, mixed || refusal
	}
	return len(plan)
}
