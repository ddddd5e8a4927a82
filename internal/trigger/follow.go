package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// follower tells when files may have changed.
type follower struct {
	targets func() []target // what to watch at this moment
	log     *slog.Logger

	quiet time.Duration // changes that follow each other faster are one
	most  time.Duration // which does not take longer than this
	again time.Duration // look again although nothing is known to have changed
	poll  time.Duration // the same while watching does not work

	inotify *fsnotify.Watcher // nil: nothing is watched
	armed   []*place          // what is, whether that worked or not
	deaf    bool              // something is not, and the log says so
}

// run calls look at once, after each change of the targets and from time to time,
// until ctx has ended.
func (f *follower) run(ctx context.Context, look func()) {
	defer f.disarm()
	for {
		// First watch, then look: what changes in between is looked at twice.
		wait := f.armAndSay()
		look()
		if !f.wait(ctx, wait) {
			return
		}
	}
}

// armAndSay watches what is there, and returns how long to wait for a change of it.
func (f *follower) armAndSay() time.Duration {
	switch err := f.arm(); {
	case err == nil:
		f.deaf = false
		return f.again
	case errors.Is(err, errChanging):
		return f.most // it does not go on for long
	case !f.deaf:
		f.deaf = true
		f.log.Warn("files cannot be watched, so they are looked at from time to time", "error", err, "every", f.poll)
	}
	return f.poll
}

// errChanging is that no moment was found at which everything on the way is watched.
var errChanging = errors.New("the directories on the way to them keep changing")

// arm watches the places of the targets.
func (f *follower) arm() error {
	for range 5 {
		want := places(f.targets())
		if f.inotify != nil && slices.EqualFunc(want, f.armed, (*place).equal) {
			f.armed = want // the names may be others
			return nil
		}
		f.disarm()
		if err := f.watch(want); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		// Once more: what was added by its path may have been another directory by
		// then, and what is new in it came before it was watched.
	}
	return errChanging
}

func (f *follower) watch(want []*place) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	f.inotify, f.armed = w, want
	var errs []error
	for _, p := range want {
		if err := w.Add(p.dir); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.dir, err))
		}
	}
	if len(errs) > 0 {
		f.armed = nil // incomplete: to be tried again
		return errs[0]
	}
	return nil
}

func (f *follower) disarm() {
	if f.inotify != nil {
		// It closes a file descriptor and waits for the goroutine that reads it.
		if err := f.inotify.Close(); err != nil {
			f.log.Debug("closing a watch", "error", err)
		}
	}
	f.inotify, f.armed = nil, nil
}

// wait returns true once something may have changed and it has been quiet for a
// while, or the limit is over, and false when ctx has ended.
func (f *follower) wait(ctx context.Context, limit time.Duration) bool {
	due := time.NewTimer(limit)
	defer due.Stop()
	var latest time.Time // when what changed is looked at, quiet or not
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			if latest.IsZero() {
				// A mount over a watched directory is not told; begin anew.
				f.disarm()
			}
			return true
		case event, ok := <-f.events():
			switch {
			case !ok || f.replaces(event):
				f.disarm()
			case !f.concerns(event):
				continue
			}
		case err := <-f.errors():
			// Events were lost, so every watch may be outdated.
			f.log.Debug("events of files were lost", "error", err)
			f.disarm()
		}
		now := time.Now()
		if latest.IsZero() {
			latest = now.Add(f.most)
		}
		due.Reset(min(f.quiet, latest.Sub(now)))
	}
}

func (f *follower) events() <-chan fsnotify.Event {
	if f.inotify == nil {
		return nil
	}
	return f.inotify.Events
}

func (f *follower) errors() <-chan error {
	if f.inotify == nil {
		return nil
	}
	return f.inotify.Errors
}

// replaces says whether event may mean that a watched directory is another one now.
// It may have the same name and number: numbers are given again, and a directory
// that was moved away and back is watched no more.
func (f *follower) replaces(event fsnotify.Event) bool {
	return event.Has(fsnotify.Remove|fsnotify.Rename|fsnotify.Create) && f.watches(filepath.Clean(event.Name))
}

// concerns says whether event is about a name on the way to a target.
func (f *follower) concerns(event fsnotify.Event) bool {
	path := filepath.Clean(event.Name)
	dir, name := filepath.Dir(path), filepath.Base(path)
	return slices.ContainsFunc(f.armed, func(p *place) bool { return p.dir == dir && p.wants(name) })
}

func (f *follower) watches(dir string) bool {
	return slices.ContainsFunc(f.armed, func(p *place) bool { return p.dir == dir })
}
