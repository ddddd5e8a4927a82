package etcd

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// historyDoc is the stored form of locksmith.HistoryEntry: times for every
// language, durations in milliseconds.
type historyDoc struct {
	Time     time.Time        `json:"time"`
	Actor    string           `json:"actor"`
	Action   locksmith.Action `json:"action"`
	Machine  string           `json:"machine,omitempty"`
	Hostname string           `json:"hostname,omitempty"`
	Outcome  string           `json:"outcome,omitempty"`
	HeldMS   int64            `json:"heldMs,omitempty"`
	DownMS   int64            `json:"downMs,omitempty"`
}

func (d historyDoc) document() string {
	d.Time = d.Time.UTC()
	return mustJSON(d)
}

// History reads the newest n entries of a group's ring of 1024, newest first. An
// entry that cannot be read is an *locksmith.UnreadableError.
func (s *Store) History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error) {
	resp, err := s.get(ctx, historyPrefix(group), clientv3.WithPrefix())
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	// By revision, not by key: the ring starts again when the semaphore's key
	// was deleted.
	slices.SortFunc(resp.Kvs, func(a, b *mvccpb.KeyValue) int { return int(b.ModRevision - a.ModRevision) })
	var entries []locksmith.HistoryEntry
	for _, kv := range resp.Kvs[:max(0, min(n, len(resp.Kvs)))] {
		e, err := parseHistory(kv)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// parseHistory reads an entry. Durations that no entry of ours has are refused, as
// they would wrap around.
func parseHistory(kv *mvccpb.KeyValue) (locksmith.HistoryEntry, error) {
	var d historyDoc
	if err := decode(kv, &d); err != nil {
		return locksmith.HistoryEntry{}, err
	}
	if limit := int64(math.MaxInt64 / time.Millisecond); min(d.HeldMS, d.DownMS) < 0 || max(d.HeldMS, d.DownMS) > limit {
		return locksmith.HistoryEntry{}, &locksmith.UnreadableError{Key: string(kv.Key), Err: errors.New("a duration is out of range")}
	}
	return locksmith.HistoryEntry{
		Time: d.Time, Actor: d.Actor, Action: d.Action, Machine: d.Machine, Hostname: d.Hostname, Outcome: d.Outcome,
		Held: time.Duration(d.HeldMS) * time.Millisecond, Down: time.Duration(d.DownMS) * time.Millisecond,
		Revision: kv.ModRevision,
	}, nil
}
