package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/embedded"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// runDemo runs the demo until each machine has rebooted or ctx ends.
func (a *app) runDemo(ctx context.Context, s demoSettings) error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "locksmith-demo-")
		if err != nil {
			return fmt.Errorf("no directory for etcd's data: %w", err)
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: s.dir, Listen: s.listen})
	if err != nil {
		return stopped(ctx, err)
	}
	defer server.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-server.Err():
			cancel(fmt.Errorf("the embedded etcd failed: %w", err))
		case <-ctx.Done():
		}
	}()
	page, err := showDashboard(ctx, s, server.Endpoint(), cancel)
	if err != nil {
		return err
	}
	defer page.close()
	// Where nobody can watch any more the demo ends, and cleans up after itself.
	signal.Ignore(syscall.SIGPIPE)
	return a.rollOut(ctx, s, server.Endpoint(), page.url, outlet{a.stdout, cancel})
}

// rollOut reboots all machines of a fleet at the etcd at endpoint, and shows it.
func (a *app) rollOut(ctx context.Context, s demoSettings, endpoint, page string, out outlet) error {
	began := time.Now()
	changes := newFeed()
	f, err := fleet.New(fleet.Config{
		Machines: s.machines, Down: s.down, Jitter: s.down / 4, Stay: s.stay, OnChange: changes.add,
		Groups: func(int) []locksmith.Group { return s.groups },
		NewLock: func(string) (fleet.Lock, error) {
			return a.around.connect(etcd.Config{Endpoints: []string{endpoint}})
		},
	})
	if err != nil {
		return err
	}
	names := machineNames(f.Report())
	leftover, err := prepare(ctx, s, endpoint, names)
	if err != nil {
		return stopped(ctx, err)
	}
	intro := introduction(s, endpoint, page, leftover)
	_, _ = io.WriteString(out, intro)

	show := newDisplay(out, a.around.lookup, s, names, began, strings.Count(intro, "\n"))
	ended := make(chan struct{})
	go func() { defer close(ended); changes.follow(show) }()
	err = f.Run(ctx)
	changes.end()
	<-ended
	text, err := judge(f.Report(), s, time.Since(began), err)
	if _, _ = io.WriteString(out, text); err == nil && errors.Is(context.Cause(ctx), errOutput) {
		err = context.Cause(ctx)
	}
	return err
}

// errOutput is why a demo ends whose output cannot be written.
var errOutput = errors.New("writing output failed")

// outlet is an output whose first failure is told to somebody.
type outlet struct {
	io.Writer
	broken func(error)
}

func (o outlet) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.broken(fmt.Errorf("%w: %v", errOutput, err))
	}
	return n, err
}

// stopped is err, or how the demo ends where a signal is behind err.
func stopped(ctx context.Context, err error) error {
	if i, ok := errors.AsType[*interrupted](context.Cause(ctx)); ok {
		return i.failure()
	}
	return err
}

// prepare sets max in every group and says who holds slots there that no machine
// of the fleet will give back: those of an earlier demo with the same data.
func prepare(ctx context.Context, s demoSettings, endpoint string, names []string) (leftover []string, err error) {
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	for _, g := range s.groups {
		if _, err := store.SetMax(ctx, g, s.max, "locksmith-server demo"); err != nil {
			return nil, fmt.Errorf("setting the maximum of the group %q: %w", string(g), err)
		}
		status, err := store.Status(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("reading the group %q: %w", string(g), err)
		}
		for _, h := range status.Holders {
			if !slices.Contains(names, h.MachineID) {
				leftover = append(leftover, fmt.Sprintf("%s unlock %s", controlCommand(endpoint, g), h.MachineID))
			}
		}
	}
	return leftover, nil
}

// introduction says what is going to happen, and how to look at it.
func introduction(s demoSettings, endpoint, page string, leftover []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s a reboot, at most %d may be down at a time.\n", count(s.machines, "machine needs", "machines need"), s.max)
	fmt.Fprintf(&b, "To look at it in a browser:\n\n  %s\n\nor from another terminal:\n\n", page)
	for _, g := range s.groups {
		fmt.Fprintf(&b, "  %s status --watch\n", controlCommand(endpoint, g))
	}
	if len(leftover) > 0 {
		fmt.Fprintf(&b, "\nSlots are held that no machine here will give back. To free them:\n\n  %s\n", strings.Join(leftover, "\n  "))
	}
	b.WriteString("\n")
	return b.String()
}

// controlCommand is the start of a command line that reaches the demo's etcd.
func controlCommand(endpoint string, g locksmith.Group) string {
	line := controlProgram() + " -endpoint " + endpoint
	if g != "" {
		line += " -group " + shellQuote(string(g))
	}
	return line
}

// controlProgram is how to call locksmithctl from any directory: by its name where
// it is installed, by its path where it lies beside this program.
func controlProgram() string {
	const name = "locksmithctl"
	if _, err := exec.LookPath(name); err == nil {
		return name
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return name
	}
	return shellQuote(path)
}

// shellQuote quotes s where a shell would read more into it than a word.
func shellQuote(s string) string {
	special := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=", r)
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func machineNames(r fleet.Report) []string {
	names := make([]string, len(r.Machines))
	for i, m := range r.Machines {
		names[i] = m.Machine
	}
	return names
}

// count is "1 machine" or "5 machines".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
