package admin

import (
	"context"
	"sync"
)

// Feed tells many that something has changed in the store, from one watch.
type Feed struct {
	follow func(ctx context.Context, changed func()) error

	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// NewFeed is a Feed of what follow reports: it calls changed at once and after each
// change until its context ends, whose cause it returns, and survives the store being
// away. etcd.Store.Follow is one.
func NewFeed(follow func(ctx context.Context, changed func()) error) *Feed {
	return &Feed{follow: follow, subs: make(map[chan struct{}]struct{})}
}

// Run passes changes on until ctx ends, and returns its cause, or why it cannot go on.
func (f *Feed) Run(ctx context.Context) error { return f.follow(ctx, f.changed) }

func (f *Feed) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.subs {
		select {
		case ch <- struct{}{}:
		default: // one look serves both
		}
	}
}

// Subscribe returns a channel that delivers after each change, several of them perhaps
// as one, until ctx ends. It is never closed.
func (f *Feed) Subscribe(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	f.mu.Lock()
	f.subs[ch] = struct{}{}
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, ch)
	})
	return ch
}
