package main

import (
	"context"
	"log/slog"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager, if there is one.
func notify(log *slog.Logger, state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		log.Debug("service manager not told", "state", state, "error", err)
	}
}

// watchdog keeps telling the service manager that the server lives, if it asked for
// that, until ctx ends.
func watchdog(ctx context.Context, log *slog.Logger) error {
	limit, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog not served", "error", err)
	}
	if err != nil || limit <= 0 {
		return nil
	}
	for tick := time.NewTicker(limit / 3); ; {
		notify(log, sdnotify.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}
