package machines

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a Fleet needs.
type Config struct {
	// Suite is what the machines run; empty: Bookworm.
	Suite Suite

	// Layers are directories laid over the base image, the topmost first, such
	// as BuildRelease makes them. They are shared and only read.
	Layers []string

	// Firmware is how long a machine takes between its last process and the
	// first of the next boot. Real hardware takes minutes.
	Firmware time.Duration
}

// Fleet is a set of machines on one host. They share its network.
type Fleet struct {
	cfg    Config
	name   string
	dir    string
	lower  string // the overlay's lower directories
	unlock func()

	pipe   *os.File
	reader sync.WaitGroup

	mu       sync.Mutex
	machines []*Machine
	events   []Event
	faults   []error // what came through the pipe and was no event
	changed  chan struct{}
	syncs    map[string]chan struct{}
	synced   int
	watchers []func(Event)
	closers  []func() error // what was started beside the machines
}

// stateDir is where fleets keep their machines' disks. It must not be on an
// overlay itself.
func stateDir() string { return envOr("LOCKSMITH_MACHINES_DIR", "/var/tmp/locksmith-machines") }

// NewFleet makes a fleet without machines. It removes first what killed runs
// left behind. Close ends it.
func NewFleet(ctx context.Context, cfg Config) (*Fleet, error) {
	base, err := BaseImage(ctx, cfg.Suite)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(stateDir(), 0o755); err != nil {
		return nil, err
	}
	if err := RemoveLeftovers(ctx); err != nil {
		return nil, err
	}
	f := &Fleet{cfg: cfg, changed: make(chan struct{}), syncs: map[string]chan struct{}{}}
	if err := f.claim(); err != nil {
		return nil, err
	}
	layer := filepath.Join(f.dir, "harness")
	f.lower = strings.Join(append(append([]string{}, cfg.Layers...), layer, base), ":")
	if err := errors.Join(writeHarnessLayer(layer), f.openPipe()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// claim makes the fleet's directory and locks it. Nobody else may see it
// without the lock, or would take it for a leftover.
func (f *Fleet) claim() error {
	unlock, err := lockFile(filepath.Join(stateDir(), "lock"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if f.dir, err = os.MkdirTemp(stateDir(), "fleet-"); err != nil {
		return err
	}
	f.name = filepath.Base(f.dir)
	if err := os.Chmod(f.dir, 0o755); err != nil {
		return err
	}
	f.unlock, err = lockFile(filepath.Join(f.dir, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
	return err
}

// RemoveLeftovers ends the machines of runs that were killed and removes their
// disks. Fleets of running processes are left alone.
func RemoveLeftovers(ctx context.Context) error {
	unlock, err := lockFile(filepath.Join(stateDir(), "lock"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	dirs, err := filepath.Glob(filepath.Join(stateDir(), "fleet-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		free, err := lockFile(filepath.Join(dir, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err == nil {
			err = removeFleet(ctx, dir)
			free()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeFleet ends all processes of the fleet in dir and removes its files. What
// its machines had mounted went with their mount namespaces.
func removeFleet(ctx context.Context, dir string) error {
	g, err := namedCgroup(filepath.Base(dir))
	if err != nil {
		return err
	}
	return errors.Join(g.remove(ctx), os.RemoveAll(dir))
}

func (f *Fleet) openPipe() error {
	name := filepath.Join(f.dir, "observe", "events")
	if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := syscall.Mkfifo(name, 0o622); err != nil {
		return err
	}
	// Open for both, it has a reader as long as the harness lives and no end of
	// file when the last machine goes. Non-blocking lets Close end the read.
	pipe, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	f.pipe = pipe
	f.reader.Go(f.readPipe)
	return nil
}

func (f *Fleet) readPipe() {
	lines := bufio.NewScanner(f.pipe)
	for lines.Scan() {
		f.observed(lines.Text())
	}
}

func (f *Fleet) observed(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if mark, ok := strings.CutPrefix(line, "sync "); ok {
		if done := f.syncs[mark]; done != nil {
			close(done)
			delete(f.syncs, mark)
		}
		return
	}
	e, err := parseEvent(line, time.Now())
	if err != nil {
		f.faults = append(f.faults, err)
		return
	}
	if e.Kind == Down && isDown(f.events, e.Machine) {
		return // told by both of the machine's units
	}
	f.events = append(f.events, e)
	close(f.changed)
	f.changed = make(chan struct{})
	for _, watch := range f.watchers {
		watch(e)
	}
}

// note puts an observation of the harness's own into the pipe.
func (f *Fleet) note(line string) error {
	_, err := f.pipe.WriteString(line + "\n")
	return err
}

// watch has fn called with each event from now on, in the order of the pipe. fn
// must not block.
func (f *Fleet) watch(fn func(Event)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = append(f.watchers, fn)
}

// Sync returns once everything that was in the pipe at its call is in Events.
func (f *Fleet) Sync(ctx context.Context) error {
	done := make(chan struct{})
	f.mu.Lock()
	f.synced++
	mark := fmt.Sprint(f.synced)
	f.syncs[mark] = done
	f.mu.Unlock()
	if err := f.note("sync " + mark); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Events returns all observations so far, in order.
func (f *Fleet) Events() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), f.events...)
}

// Wait returns once cond is true of the events so far. The error names what was
// waited for and shows the events.
func (f *Fleet) Wait(ctx context.Context, what string, cond func([]Event) bool) error {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		events := f.Events()
		if cond(events) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; observed:\n%s", what, context.Cause(ctx), Format(events))
		}
	}
}

// Machines returns the machines in the order in which they were added.
func (f *Fleet) Machines() []*Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Machine(nil), f.machines...)
}

// Add makes the disk of a new machine, which is not started. name is also its
// host name: letters, digits and dashes.
func (f *Fleet) Add(name string) (*Machine, error) {
	g, err := newCgroup(filepath.Join(f.name, name))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(f.name + "/" + name))
	m := &Machine{Name: name, ID: fmt.Sprintf("%x", sum[:16]), fleet: f, dir: filepath.Join(f.dir, name), cgroup: g}
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	err = errors.Join(m.WriteFile("/etc/machine-id", []byte(m.ID+"\n")), m.WriteFile("/etc/hostname", []byte(name+"\n")))
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machines = append(f.machines, m)
	return m, nil
}

// Start starts machines at once and returns when all are up.
func (f *Fleet) Start(ctx context.Context, machines ...*Machine) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range machines {
		group.Go(func() error { return m.Start(ctx) })
	}
	return group.Wait()
}

// Close ends all machines at once, without shutting them down, and removes
// everything the fleet has made. It returns an error also where something was
// observed that makes no sense.
func (f *Fleet) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, m := range f.Machines() {
		errs = append(errs, m.PowerOff(ctx))
	}
	for _, stop := range slices.Backward(f.closers) {
		errs = append(errs, stop())
	}
	if f.pipe != nil {
		f.pipe.Close()
		f.reader.Wait()
	}
	if f.unlock != nil {
		errs = append(errs, removeFleet(ctx, f.dir))
		f.unlock()
	}
	return errors.Join(append(errs, f.faults...)...)
}
