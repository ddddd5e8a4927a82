package main

import (
	"context"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// What can be leaked.
const (
	leakGoroutine = "goroutine" // with 4 KiB
	leakLease     = "lease"     // of an hour
	leakWatcher   = "watcher"
)

var leakKinds = []string{leakGoroutine, leakLease, leakWatcher}

// leaker loses something at each boot of a machine, on purpose: a run has to find it.
type leaker struct {
	kind     string // empty: nothing
	endpoint string

	mu     sync.Mutex
	client *clientv3.Client // nil until first used
	number int
}

func (l *leaker) leak(ctx context.Context) error {
	switch l.kind {
	case "":
		return nil
	case leakGoroutine:
		lost := make([]byte, 4<<10)
		go func() {
			<-ctx.Done()
			lost[0]++
		}()
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == nil {
		var err error
		if l.client, err = clientv3.New(clientv3.Config{Endpoints: []string{l.endpoint}, Logger: zap.NewNop()}); err != nil {
			return err
		}
	}
	l.number++
	if l.kind == leakWatcher {
		l.client.Watch(ctx, fmt.Sprintf("leaked/%d", l.number))
		return nil
	}
	_, _ = l.client.Grant(ctx, 3600) // where etcd is away, one less is lost
	return nil
}
