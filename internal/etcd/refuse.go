package etcd

import (
	"context"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// Refuse notes in the history that somebody was refused something. The entry's Group
// may be nil; it need not exist. The newest 1024 of all groups together are kept.
func (s *Store) Refuse(ctx context.Context, entry locksmith.HistoryEntry) error {
	doc := historyDoc{Time: entry.Time, Actor: entry.Actor, Action: entry.Action, Machine: entry.Machine,
		Hostname: entry.Hostname, Outcome: entry.Outcome, Group: entry.Group}.document()
	limited, cancel := s.limit(ctx)
	defer cancel()
	resp, err := s.get(limited, refusalsCount)
	if err != nil {
		return s.explain(ctx, err)
	}
	kv := head(resp.Kvs)
	for {
		var version int64
		if kv != nil {
			version = kv.Version
		}
		// A lost reply is not asked after: an entry that is there twice, or not at
		// all because the store is away, misleads nobody.
		txn, err := s.change(limited,
			[]clientv3.Cmp{clientv3.Compare(clientv3.Version(refusalsCount), "=", version)},
			[]clientv3.Op{
				clientv3.OpPut(refusalsCount, strconv.FormatInt(version+1, 10)),
				clientv3.OpPut(refusalKey(version+1), doc),
			}, []clientv3.Op{clientv3.OpGet(refusalsCount)})
		if err != nil || txn.Succeeded {
			return s.explain(ctx, err)
		}
		kv = first(txn.Responses[0])
	}
}

// Refusals reads the newest n refusals, of all groups and of none, newest first.
func (s *Store) Refusals(ctx context.Context, n int) ([]locksmith.HistoryEntry, error) {
	if n <= 0 {
		return nil, nil
	}
	resp, err := s.read(ctx, []clientv3.Op{newestOp(refusalsPrefix, n)})
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return readHistory(resp.Responses[0].GetResponseRange().Kvs)
}
