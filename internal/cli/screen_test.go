package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// away is a store whose etcd goes away while a status is followed.
type away struct{ Store }

func (away) Status(context.Context, locksmith.Group) (locksmith.GroupStatus, error) {
	return locksmith.GroupStatus{Sem: locksmith.NewSemaphore()}, nil
}

func (away) Close() error { return nil }

// What the lock logs while it is followed is said on standard error, in a line.
func TestWatchSaysWhatGoesWrong(t *testing.T) {
	var stdout, stderr bytes.Buffer
	status := Run(t.Context(), []string{"locksmithctl", "status", "-watch"}, nil, &stdout, &stderr, Deps{
		Open: func(_ options.Etcd, log *slog.Logger) (Store, error) { return followed{log: log}, nil },
	})
	if status != 1 {
		t.Errorf("status %d", status)
	}
	want := "Warning: trying again: no answer\nError watching status: it ends here\n"
	if stderr.String() != want {
		t.Errorf("standard error %q, want %q", stderr.String(), want)
	}
}

type followed struct {
	away
	log *slog.Logger
}

func (f followed) WatchStatus(context.Context, locksmith.Group, func(locksmith.GroupStatus) error) error {
	f.log.Debug("not for people")
	f.log.With("group", "x").Warn("trying again", "group", "x", "error", errors.New("no answer"))
	return errors.New("it ends here")
}

// A notice stays on the screen until the next state, which shows that all is well.
func TestScreenNotice(t *testing.T) {
	var out bytes.Buffer // only the screen writes, and it has ended when this is read
	a := newApp("locksmithctl", nil, &out, io.Discard, Deps{LookupEnv: func(string) (string, bool) { return "", false }})
	c := &call{app: a, cmd: &cli.Command{}}
	s := c.newScreen(form{})
	state := locksmith.GroupStatus{Sem: locksmith.NewSemaphore(), Faults: []string{"holders are not sorted"}}
	_ = s.show(state)
	s.notice("etcd is away")
	_ = s.show(state)
	s.stop()
	_ = s.show(state) // after the end: nothing happens, and nobody waits
	frames := strings.Split(out.String(), home)[1:]
	var got []bool
	for _, f := range frames {
		got = append(got, strings.Contains(f, "etcd is away"+eraseLine))
		if !strings.Contains(f, "inconsistent: holders are not sorted") {
			t.Errorf("no fault: %q", f)
		}
	}
	if len(got) < 3 || got[0] || !got[1] || got[len(got)-1] {
		t.Errorf("notice shown: %v", got)
	}
}
