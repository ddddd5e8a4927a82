package etcd

import (
	"cmp"
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
	Group    *locksmith.Group `json:"group,omitempty"` // of a refusal; elsewhere the key says it

	// More are the further changes of the same transaction, which has one place in
	// the ring, in the order in which they were made; they have no More themselves.
	More []historyDoc `json:"more,omitempty"`
}

func (d historyDoc) document() string {
	d.Time = d.Time.UTC()
	for i := range d.More {
		d.More[i].Time = d.More[i].Time.UTC()
	}
	return mustJSON(d)
}

// History reads the newest n entries of a group, newest first: its ring of 1024, and
// what locksmith-server refused there. An entry that cannot be read is an
// *locksmith.UnreadableError.
func (s *Store) History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error) {
	if n <= 0 {
		return nil, nil
	}
	resp, err := s.read(ctx, []clientv3.Op{newestOp(historyPrefix(group), n), newestOp(refusalsPrefix, historySize)})
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	entries, err := readHistory(resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return nil, err
	}
	refusals, err := readHistory(resp.Responses[1].GetResponseRange().Kvs)
	if err != nil {
		return nil, err
	}
	for _, e := range refusals {
		if e.Group != nil && *e.Group == group {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b locksmith.HistoryEntry) int { return cmp.Compare(b.Revision, a.Revision) })
	return entries[:min(n, len(entries))], nil
}

// newestOp reads the n newest entries below a prefix. By revision, not by key: a
// group's ring starts again when the semaphore's key was deleted.
func newestOp(prefix string, n int) clientv3.Op {
	return clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(int64(n)))
}

func readHistory(kvs []*mvccpb.KeyValue) ([]locksmith.HistoryEntry, error) {
	var entries []locksmith.HistoryEntry
	for _, kv := range kvs {
		changes, err := parseHistory(kv)
		if err != nil {
			return nil, err
		}
		entries = append(entries, changes...)
	}
	return entries, nil
}

// parseHistory reads what one place of a ring holds, newest first: the changes of one
// transaction, mostly one.
func parseHistory(kv *mvccpb.KeyValue) ([]locksmith.HistoryEntry, error) {
	var d historyDoc
	if err := decode(kv, &d); err != nil {
		return nil, err
	}
	entries := make([]locksmith.HistoryEntry, 0, 1+len(d.More))
	for _, d := range append([]historyDoc{d}, d.More...) {
		e, err := d.entry(kv)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	slices.Reverse(entries)
	return entries, nil
}

// entry is what the document, which kv holds, says of its first change. Durations that
// no entry of ours has are refused, as they would wrap around.
func (d historyDoc) entry(kv *mvccpb.KeyValue) (locksmith.HistoryEntry, error) {
	if limit := int64(math.MaxInt64 / time.Millisecond); min(d.HeldMS, d.DownMS) < 0 || max(d.HeldMS, d.DownMS) > limit {
		return locksmith.HistoryEntry{}, &locksmith.UnreadableError{Key: string(kv.Key), Err: errors.New("a duration is out of range")}
	}
	return locksmith.HistoryEntry{
		Group: d.Group, Time: d.Time, Actor: d.Actor, Action: d.Action, Machine: d.Machine, Hostname: d.Hostname, Outcome: d.Outcome,
		Held: time.Duration(d.HeldMS) * time.Millisecond, Down: time.Duration(d.DownMS) * time.Millisecond,
		Revision: kv.ModRevision,
	}, nil
}
