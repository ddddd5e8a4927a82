package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// readersAtOnce is how many look at the server at a time.
const readersAtOnce = 8

// longestLook is how long one of them stays, at most.
const longestLook = 20 * time.Second

// readers look at the API, its streams and the dashboard, and go away again: some in
// the middle of an answer.
type readers struct {
	ctx  context.Context
	role role
	rest func() // has all of them leave and waits for them; nil: there are none
}

func newReaders(ctx context.Context, r role) *readers { return &readers{ctx: ctx, role: r} }

func (r *readers) wave(int) {}

func (r *readers) close() { r.read(false) }

func (r *readers) read(on bool) {
	if r.rest != nil {
		r.rest()
		r.rest = nil
	}
	if !on {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	for range readersAtOnce {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.look(ctx, 0)
				r.look(ctx, rand.N(longestLook))
			}
		})
	}
	r.rest = func() { cancel(); wg.Wait() }
}

// look is one visitor, with connections of his own. What fails has failed because of a
// fault: what is looked at is what it leaves behind.
func (r *readers) look(ctx context.Context, stay time.Duration) {
	stay += time.Second
	ctx, cancel := context.WithTimeout(ctx, stay)
	defer cancel()
	switch rand.IntN(4) {
	case 0:
		r.follow(ctx)
	case 1:
		r.get(ctx, "/live")
	case 2:
		r.get(ctx, []string{"/", "/machines", "/history", api.PathMachines, api.PathHistory, api.PathGroups, "/metrics"}[rand.IntN(7)])
		<-ctx.Done()
	case 3:
		leave, cancel := context.WithTimeout(ctx, rand.N(20*time.Millisecond))
		r.get(leave, "/machines")
		cancel()
		<-ctx.Done()
	}
}

// follow is locksmithctl watch.
func (r *readers) follow(ctx context.Context) {
	c, err := api.NewClient(api.ClientConfig{URL: r.role.Server})
	if err != nil {
		panic(err) // of this program's own making
	}
	_ = c.WatchStatus(ctx, []locksmith.Group{"", "web", "db"}[rand.IntN(3)], func(locksmith.GroupStatus) error { return nil })
	_ = c.Close()
}

// get reads a page to its end, or until ctx ends.
func (r *readers) get(ctx context.Context, path string) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.role.Server+path, nil)
	if err != nil {
		panic(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}
