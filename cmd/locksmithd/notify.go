package main

import (
	"context"
	"log/slog"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// announcer passes the agent's changes on: to the service manager's status line.
type announcer struct {
	log    *slog.Logger
	latest chan agent.Status // of size 1: only the newest status is of interest
}

func newAnnouncer(log *slog.Logger) *announcer {
	return &announcer{log: log, latest: make(chan agent.Status, 1)}
}

// changed takes a new status. It does not block.
func (a *announcer) changed(s agent.Status) { newest(a.latest, s) }

// run tells the service manager until ctx ends.
func (a *announcer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-a.latest:
			a.notify("STATUS=" + statusLine(s))
		}
	}
}

// statusLine is what systemctl status shows: "queued: waits for web-2".
func statusLine(s agent.Status) string {
	line := string(s.Phase)
	if s.Waiting != "" {
		line += ": " + s.Waiting
	}
	return line
}

// notify sends one message to the service manager, if there is one.
func (a *announcer) notify(state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		a.log.Debug("service manager not told", "state", state, "error", err)
	}
}

// watchdog keeps telling the service manager that the daemon lives, if it asked
// for that, for as long as healthy returns.
func (a *announcer) watchdog(ctx context.Context, healthy func()) error {
	limit, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil || limit <= 0 {
		if err != nil {
			a.log.Warn("watchdog not served", "error", err)
		}
		return nil
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		healthy()
		a.notify(sdnotify.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
