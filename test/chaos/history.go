package chaos

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// prefix and base are where the stored documents are, as docs/design.md has it.
const prefix = "coreos.com/updateengine/rebootlock"

// markKey is written to have a revision.
const markKey = "chaos/mark"

func base(g locksmith.Group) string {
	if g == "" {
		return prefix
	}
	return prefix + "/groups/" + url.QueryEscape(string(g))
}

// Change is one change of a key. Those of one transaction have the same revision.
type Change struct {
	At       time.Duration // the monotonic clock, when it was told; it was made before
	Revision int64
	Key      string
	Value    []byte // nil: deleted
}

// History is every change of the store from its beginning, told by a watch.
type History struct {
	client *clientv3.Client
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	changes []Change
	told    chan struct{} // closed and made anew when there are more
}

// Follow begins a history. The client is not closed with it.
func Follow(client *clientv3.Client) *History { return followFrom(client, 1) }

// followFrom begins one at a revision.
func followFrom(client *clientv3.Client, revision int64) *History {
	ctx, stop := context.WithCancel(context.Background())
	h := &History{client: client, stop: stop, ended: make(chan struct{}), told: make(chan struct{})}
	go h.follow(ctx, revision)
	return h
}

// Close ends it.
func (h *History) Close() {
	h.stop()
	<-h.ended
}

func (h *History) follow(ctx context.Context, next int64) {
	defer close(h.ended)
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		// Without a leader the watch would be silent: ended, it goes to another member.
		for resp := range h.client.Watch(clientv3.WithRequireLeader(once), "", clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if resp.Err() != nil {
				break
			}
			if n := len(resp.Events); n > 0 {
				h.add(resp.Events)
				next = resp.Events[n-1].Kv.ModRevision + 1
			}
		}
		cancel()
	}
}

func (h *History) add(events []*clientv3.Event) {
	now := monotonic()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		c := Change{At: now, Revision: e.Kv.ModRevision, Key: string(e.Kv.Key)}
		if e.Type == clientv3.EventTypePut {
			c.Value = slices.Clone(e.Kv.Value)
		}
		h.changes = append(h.changes, c)
	}
	close(h.told)
	h.told = make(chan struct{})
}

// Changes waits until everything that was changed before the call has been told, and
// returns all there is.
func (h *History) Changes(ctx context.Context) ([]Change, error) {
	mark, err := h.client.Put(ctx, markKey, "")
	if err != nil {
		return nil, fmt.Errorf("marking the end of the history: %w", err)
	}
	if err := h.await(ctx, mark.Header.Revision); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes), nil
}

// await waits until a revision, at which something was changed, has been told.
func (h *History) await(ctx context.Context, revision int64) error {
	for {
		h.mu.Lock()
		n, told := len(h.changes), h.told
		there := n > 0 && h.changes[n-1].Revision >= revision
		h.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-told:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of the history: %w", context.Cause(ctx))
		}
	}
}
