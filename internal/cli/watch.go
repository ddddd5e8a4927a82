package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
)

func (a *app) watch() *cli.Command {
	return &cli.Command{
		Name:        "watch",
		Usage:       "show holders and waiting machines, redrawn as they change",
		Description: "The same as: PROGRAM status -long -watch",
		Flags:       []cli.Flag{outputFlag()},
		Action: a.action(0, func(ctx context.Context, c *call) error {
			json, err := c.json()
			if err != nil {
				return err
			}
			return c.watchStatus(ctx, form{long: true, json: json})
		}),
	}
}

// watchStatus shows each state of a group until it is interrupted.
func (c *call) watchStatus(ctx context.Context, f form) error {
	group, err := c.oneGroup()
	if err != nil {
		return err
	}
	show, notice := c.printer(f), func(text string) { c.warn("%s", text) }
	if isTerminal(c.stdout) && !f.json {
		s := c.newScreen(f)
		defer s.stop()
		show, notice = s.show, s.notice
	}
	store, err := c.openLogging(warnings(notice))
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, stop := interruptible(ctx)
	defer stop()
	// A watch waits for an etcd that is away. One that was never there is more
	// likely a wrong endpoint.
	if _, err = store.Status(ctx, group); err == nil {
		err = store.WatchStatus(ctx, group, show)
	}
	var signal *interrupted
	if errors.As(context.Cause(ctx), &signal) {
		return nil // asked for: this is how it ends
	}
	return fail("watching status", err)
}

// warnings is a log handler that says warnings and errors in one line each.
type warnings func(string)

func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (w warnings) WithAttrs([]slog.Attr) slog.Handler               { return w }
func (w warnings) WithGroup(string) slog.Handler                    { return w }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			text += ": " + a.Value.String()
		}
		return true
	})
	w(text)
	return nil
}

// printer writes every state below the one before it.
func (c *call) printer(f form) func(locksmith.GroupStatus) error {
	return func(s locksmith.GroupStatus) error {
		c.warnFaults(s)
		if f.json {
			line, err := c.statusJSON(s, f.long, false)
			if err != nil {
				return err
			}
			return c.write(line)
		}
		text, err := c.statusText(s, f)
		if err != nil {
			return err
		}
		return c.write(fmt.Sprintf("# %s\n%s\n", c.deps.Now().UTC().Format(time.RFC3339), text))
	}
}
