package main

import (
	"context"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/server"
)

// demoPage is the demo's dashboard, and all else that a server serves.
type demoPage struct {
	url   string
	close func()
}

// showDashboard serves the dashboard of the etcd at endpoint until it is closed. What
// goes wrong while it does is told to broken.
func showDashboard(ctx context.Context, s demoSettings, endpoint string, broken func(error)) (_ demoPage, err error) {
	listener, err := net.Listen("tcp", s.web)
	if err != nil {
		return demoPage{}, listenError(optListen, s.web, err)
	}
	defer func() {
		if err != nil {
			listener.Close()
		}
	}()
	// A name may mean another address than it says.
	if err := access.CheckListen(listener.Addr().String(), false, false); err != nil {
		return demoPage{}, err
	}
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}, Timeout: defaultServerTimeout})
	if err != nil {
		return demoPage{}, err
	}
	site, err := newSite(siteConfig{store: store, guard: access.Anyone(s.web, false), defaultGroup: defaultGroupName,
		wait: defaultFleetLockWait, maxWaiting: defaultMaxWaiting})
	if err != nil {
		store.Close()
		return demoPage{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener, site.handler, server.ServeConfig{}) })
	group.Go(func() error { return site.run(ctx) })
	go func() {
		if err := group.Wait(); err != nil {
			broken(err)
		}
	}()
	return demoPage{url: "http://" + listener.Addr().String() + "/", close: func() {
		cancel()
		_ = group.Wait()
		site.close()
		store.Close()
	}}, nil
}
