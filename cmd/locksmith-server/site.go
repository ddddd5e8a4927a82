package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/dashboard"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleetmetrics"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/server"
)

// siteConfig is what a site is made of.
type siteConfig struct {
	store        *etcd.Store
	guard        guardian
	createGroups bool
	defaultGroup string
	wait         time.Duration // of FleetLock requests
	maxWaiting   int
	log          *slog.Logger // nil: discard
}

// site is all that is served at one address, on one store.
type site struct {
	handler   http.Handler
	fleetLock *fleetlock.Handler
	batcher   *etcd.Batcher
	feed      *admin.Feed
	log       *slog.Logger
}

func newSite(cfg siteConfig) (site, error) {
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	actions := admin.New(cfg.store, cfg.log)
	feed := admin.NewFeed(cfg.store.Follow)
	batcher := cfg.store.NewBatcher(etcd.BatcherConfig{CreateGroups: cfg.createGroups})
	figures := fleetmetrics.New(fleetmetrics.Config{Version: options.BuildVersion(), Read: allGroups(cfg.store), Waiting: batcher.Waiting, Log: cfg.log})
	fleetLock := server.NewFleetLock(server.FleetLockConfig{Slots: batcher, Guard: cfg.guard, Admin: actions,
		DefaultGroupName: cfg.defaultGroup, Wait: cfg.wait, MaxWaiting: cfg.maxWaiting, Observe: figures.FleetLock, Log: cfg.log})
	pages, err := dashboard.New(dashboard.Config{Store: cfg.store, Admin: actions, Feed: feed, Access: cfg.guard, Log: cfg.log})
	if err != nil {
		return site{}, err
	}
	handler, err := server.New(server.Config{Store: cfg.store, Admin: actions, Feed: feed, Guard: cfg.guard,
		FleetLock: fleetLock, Dashboard: pages, Metrics: figures.Handler(), Ready: ready(cfg.store), Observe: figures.Observe, Log: cfg.log})
	if err != nil {
		return site{}, err
	}
	return site{handler: handler, fleetLock: fleetLock, batcher: batcher, feed: feed, log: cfg.log}, nil
}

// ready says whether the store answers.
func ready(store *etcd.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := store.Semaphore(ctx, "")
		return err
	}
}

// maxReads bounds how many groups are read at a time.
const maxReads = 4

// allGroups reads the status of every group. One whose documents cannot be read is
// among them with that as its fault; any other error is the store's.
func allGroups(store *etcd.Store) func(context.Context) ([]locksmith.GroupStatus, error) {
	return func(ctx context.Context) ([]locksmith.GroupStatus, error) {
		groups, err := store.Groups(ctx)
		if err != nil {
			return nil, err
		}
		list := make([]locksmith.GroupStatus, len(groups))
		reading, ctx := errgroup.WithContext(ctx)
		reading.SetLimit(maxReads)
		for i, g := range groups {
			reading.Go(func() (err error) {
				list[i], err = store.Status(ctx, g.Group)
				if bad, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
					list[i].Faults, err = append(list[i].Faults, bad.Error()), nil
				}
				return err
			})
		}
		return list, reading.Wait()
	}
}

// followAgain is how long a store that refuses us is left alone.
const followAgain = 5 * time.Second

// run keeps the site fed until ctx ends. Requests that wait are answered then.
func (s site) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			err := s.feed.Run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			// What waiting does not cure, somebody may: a user's role, a file, a name.
			s.log.Error("changes in the store are not followed, trying again", "error", err, "after", followAgain)
			select {
			case <-ctx.Done():
			case <-time.After(followAgain):
			}
		}
	})
	group.Go(func() error {
		<-ctx.Done()
		s.fleetLock.Close()
		return nil
	})
	return group.Wait()
}

func (s site) close() {
	if s.batcher != nil {
		s.batcher.Close()
	}
}
