package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// copyMarker stands in a store while it is filled from another one.
const copyMarker = prefix + "/restoring"

// markerDoc says who fills the store with what, and how far that is.
type markerDoc struct {
	Source string `json:"source"` // names what is copied: a rerun with anything else is refused
	Done   int    `json:"done"`   // keys of the plan that are written
	Nonce  string `json:"nonce"`  // of the process
	Since  int64  `json:"since"`
}

// Copied is what a copy did.
type Copied struct {
	Keys    int
	Resumed int // how many of them an earlier run, which did not come to its end, had written
}

// CopyTo copies all that is stored below locksmith's prefix to another etcd that holds
// nothing there: semaphores, holders, policies, histories and what is remembered of
// machines, but neither queues nor presences. source names the contents, which must
// not change. Afterwards it reads all of it back and compares, calls finish, and only
// then does the copy count as complete.
//
// What was interrupted is taken up again by another call with the same source. While
// nobody else writes to the target, nothing is written over; what somebody else has
// written there is an error.
func (s *Store) CopyTo(ctx context.Context, target *Store, source string, finish func(context.Context) error) (Copied, error) {
	plan, err := s.copyPlan(ctx)
	if err != nil {
		return Copied{}, err
	}
	c := &copying{store: target, plan: plan, doc: markerDoc{Source: source, Nonce: locksmith.NewNonce(), Since: time.Now().Unix()}}
	if err := c.claim(ctx); err != nil {
		return Copied{}, err
	}
	done := Copied{Keys: len(plan), Resumed: c.doc.Done}
	for c.doc.Done < len(plan) {
		if err := c.next(ctx); err != nil {
			return done, fmt.Errorf("after %d of %d keys: %w; run it again to go on", c.doc.Done, len(plan), err)
		}
	}
	if err := c.verify(ctx); err != nil {
		return done, err
	}
	if err := finish(ctx); err != nil {
		return done, err
	}
	return done, c.complete(ctx)
}

// copying is a copy under way.
type copying struct {
	store *Store
	plan  []planned
	doc   markerDoc
	rev   int64 // ModRevision of the marker as we wrote it
}

// claim sets the marker, in a store that is empty or was left with one of this source.
func (c *copying) claim(ctx context.Context) error {
	kv, err := c.marker(ctx)
	if err != nil {
		return err
	}
	cond := clientv3.Compare(clientv3.CreateRevision(prefix+"/").WithPrefix(), "=", 0)
	if kv != nil {
		var left markerDoc
		if err := decode(kv, &left); err != nil {
			return err
		}
		if left.Source != c.doc.Source || left.Done < 0 || left.Done > len(c.plan) {
			return fmt.Errorf("another restore into this etcd was not finished: go on with its snapshot, or delete all keys below %s/ and begin again", prefix)
		}
		c.doc.Done = left.Done
		cond = clientv3.Compare(clientv3.ModRevision(copyMarker), "=", kv.ModRevision)
	}
	resp, err := c.store.change(ctx, []clientv3.Cmp{cond}, []clientv3.Op{clientv3.OpPut(copyMarker, mustJSON(c.doc))},
		[]clientv3.Op{clientv3.OpGet(prefix+"/", clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())})
	switch {
	case err != nil:
		return c.store.explain(ctx, err)
	case resp.Succeeded:
		c.rev = resp.Header.Revision
		return nil
	case kv != nil:
		return errors.New("another restore is at work in this etcd")
	}
	key := "a key"
	if found := first(resp.Responses[0]); found != nil {
		key = string(found.Key)
	}
	return fmt.Errorf("locksmith has data in that etcd already (%s): only an etcd without any is filled", key)
}

func (c *copying) marker(ctx context.Context) (*mvccpb.KeyValue, error) {
	resp, err := c.store.get(ctx, copyMarker)
	if err != nil {
		return nil, c.store.explain(ctx, err)
	}
	return head(resp.Kvs), nil
}

// next writes the next keys of the plan, none of which may exist, and the marker.
func (c *copying) next(ctx context.Context) error {
	doc, batch := c.doc, c.plan[c.doc.Done:]
	batch = batch[:batchOf(batch)]
	doc.Done += len(batch)
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(copyMarker), "=", c.rev)}
	puts := []clientv3.Op{clientv3.OpPut(copyMarker, mustJSON(doc))}
	look := []clientv3.Op{clientv3.OpGet(copyMarker)}
	for _, p := range batch {
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(p.key), "=", 0))
		puts = append(puts, clientv3.OpPut(p.key, p.value))
		look = append(look, clientv3.OpGet(p.key, clientv3.WithKeysOnly()))
	}
	sent := false
	return c.store.insist(ctx, &sent, func(ctx context.Context) error {
		sent = true
		resp, err := c.store.change(ctx, cmps, puts, look)
		if err != nil {
			return err
		}
		if resp.Succeeded {
			c.doc, c.rev = doc, resp.Header.Revision
			return nil
		}
		return c.lost(doc, resp)
	})
}

// lost finds out why keys were not written: they were, and the reply got lost, or
// somebody else writes here.
func (c *copying) lost(doc markerDoc, resp *clientv3.TxnResponse) error {
	kv := first(resp.Responses[0])
	if kv == nil {
		return refuse("the mark of this restore is gone: somebody else writes to that etcd")
	}
	var now markerDoc
	if err := decode(kv, &now); err != nil {
		return err
	}
	if now == doc {
		c.doc, c.rev = doc, kv.ModRevision
		return nil
	}
	if now.Nonce != doc.Nonce {
		return refuse("another restore is at work in that etcd")
	}
	for _, r := range resp.Responses[1:] {
		if kv := first(r); kv != nil {
			return refuse("somebody else has written %s meanwhile: stop every server and agent that uses that etcd, delete all keys below %s/ there and begin again", kv.Key, prefix)
		}
	}
	return refuse("somebody else writes to that etcd")
}

// verify reads back what was written.
func (c *copying) verify(ctx context.Context) error {
	want := make(map[string]string, len(c.plan))
	for _, p := range c.plan {
		want[p.key] = p.value
	}
	var wrong error
	_, err := c.store.pages(ctx, prefix+"/", 0, func(kv *mvccpb.KeyValue) {
		value, ok := want[string(kv.Key)]
		switch {
		case ok && value == string(kv.Value):
			delete(want, string(kv.Key))
		case !passing(kv) && wrong == nil:
			wrong = fmt.Errorf("%s is not what was copied: somebody else writes to that etcd, or it lost something", kv.Key)
		}
	})
	switch {
	case err != nil:
		return c.store.explain(ctx, err)
	case wrong != nil:
		return wrong
	}
	for key := range want {
		return fmt.Errorf("%s is not there: somebody else writes to that etcd, or it lost something", key)
	}
	return nil
}

// complete takes the marker away.
func (c *copying) complete(ctx context.Context) error {
	sent := false
	return c.store.insist(ctx, &sent, func(ctx context.Context) error {
		before := sent
		sent = true
		resp, err := c.store.change(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(copyMarker), "=", c.rev)},
			[]clientv3.Op{clientv3.OpDelete(copyMarker)}, []clientv3.Op{clientv3.OpGet(copyMarker)})
		switch {
		case err != nil:
			return err
		case resp.Succeeded, before && first(resp.Responses[0]) == nil:
			return nil
		}
		return refuse("another restore is at work in that etcd")
	})
}
