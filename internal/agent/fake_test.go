package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// world is a machine and a lock in memory, and what was done to them. It outlives
// agents, as etcd and the hardware do.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	log     []string // "12s reboot"
	began   time.Time
	boots   int
	holder  *locksmith.Holder // the record in the lock
	written int64             // how often the record was
	ghost   bool              // an entry of a process that is gone stands in the queue
	seen    []locksmith.Group // the groups of the presence that is kept
	taken   []locksmith.Group // in which an administrator took the slot away since it was granted
	free    bool              // a waiter is granted at once
	freed   chan struct{}     // closed when free becomes true
	queued  int

	rebootErrs []error // of the calls to come; then nil
	hang       bool    // an accepted reboot does not happen
	shutdown   bool    // one is under way, held up by an inhibitor
	sessions   []Session
	changed    func()
	told       []string
	need       Need
	after      Need // once the machine has rebooted
	needSet    chan struct{}
	failing    map[string]error         // what fails, by the name in the log
	gates      map[string]chan struct{} // what blocks until closed or the context ends
	died       context.CancelCauseFunc  // of the running agent, when the machine goes down
	window     Window
	prepared   bool               // in this boot
	owed       bool               // what prepare did has not been undone
	verified   bool               // in this boot
	methods    []locksmith.Method // of the reboots that happened
	soft       uint32             // soft reboots in this boot
	accident   bool               // every reboot turns into a soft one

	remembers bool   // there is a disk
	disk      []byte // a Memory in JSON

	pauses    []locksmith.Pause // that followers hear of
	unheard   []locksmith.Pause // that only the store knows of
	pausesSet chan struct{}
	follows   int // how often pauses were followed

	logs    slog.Handler           // of the agents; nil: discard
	effects int                    // so far
	strikes func(before bool) bool // called before and after each effect; may end the agent, and says so
}

var errMachineDown = errors.New("the machine went down")
var errCrashed = errors.New("the agent crashed")

func newWorld(t *testing.T) *world {
	return &world{t: t, began: time.Now(), boots: 1, free: true, freed: make(chan struct{}), needSet: make(chan struct{}), pausesSet: make(chan struct{}),
		failing: make(map[string]error), gates: make(map[string]chan struct{})}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%v ", time.Since(w.began).Round(time.Second))+fmt.Sprintf(format, args...))
}

// do notes what was done, waits at its gate, and fails as it was told to.
func (w *world) do(ctx context.Context, what string) error {
	w.mu.Lock()
	w.effects++
	strikes := w.strikes
	w.mu.Unlock()
	if strikes != nil {
		if strikes(true) {
			return errCrashed // nobody hears this
		}
	}
	w.mu.Lock()
	w.note("%s", what)
	gate, err := w.gates[what], w.failing[what]
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			if err == nil {
				err = context.Cause(ctx)
			}
		}
	}
	return err
}

// holds is the record in the lock, nil if nobody holds it; waits how many queue.
func (w *world) holds() *locksmith.Holder {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holder == nil {
		return nil
	}
	h := *w.holder
	return &h
}

func (w *world) waits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued
}

// change changes the world under its lock.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// gate makes what block, until open is called.
func (w *world) gate(what string) (open func()) {
	g := make(chan struct{})
	w.change(func() { w.gates[what] = g })
	return func() {
		w.change(func() { delete(w.gates, what) })
		close(g)
	}
}

// struck is at the end of each effect: it was carried out, and the agent may never
// learn of it.
func (w *world) struck() {
	w.mu.Lock()
	strikes := w.strikes
	w.mu.Unlock()
	if strikes != nil {
		strikes(false)
	}
}

func (w *world) bootID() string { return locksmith.Boot(fmt.Sprintf("boot-%d", w.boots), w.soft) }

// The machine.

func (w *world) Reboot(ctx context.Context, method locksmith.Method) error {
	if err := w.do(ctx, "reboot"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len((state{pauses: w.pauses}).paused(time.Now())) > 0 {
		w.t.Error("reboot in a pause")
	}
	if c := w.onDisk().Cycle; w.remembers && (c == nil || !c.Prepared || c.Asked.IsZero() || c.Method != method || c.Boot != w.bootID()) {
		w.t.Errorf("reboot by %s, which is not what is remembered: %+v", method, c)
	}
	if w.window != nil && !w.window.Contains(time.Now()) {
		w.t.Error("reboot outside the window")
	}
	if w.holder == nil || w.holder.Phase != locksmith.PhaseRebooting || w.holder.BootID != w.bootID() {
		w.t.Errorf("reboot with record %+v", w.holder)
	}
	if len(w.taken) > 0 {
		w.t.Errorf("reboot without the slots of %v", w.taken)
	}
	if !w.prepared {
		w.t.Error("reboot without prepare")
	}
	if len(w.rebootErrs) > 0 {
		err := w.rebootErrs[0]
		w.rebootErrs = w.rebootErrs[1:]
		if err != nil {
			return err
		}
	}
	if !w.hang {
		w.need = w.after
		w.methods = append(w.methods, method)
		w.died(errMachineDown)
	}
	return nil
}

func (w *world) GoingDown(ctx context.Context) (bool, error) {
	defer w.struck()
	err := w.do(ctx, "going down?")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shutdown, err
}

func (w *world) Sessions(ctx context.Context) ([]Session, error) {
	defer w.struck()
	err := w.do(ctx, "sessions")
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sessions), err
}

func (w *world) SessionChanges(ctx context.Context, changed func()) error {
	w.mu.Lock()
	w.changed = changed
	w.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) Tell(ctx context.Context, sessions []Session, message string) error {
	defer w.struck()
	err := w.do(ctx, fmt.Sprintf("tell %d", len(sessions)))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sessions {
		w.told = append(w.told, s.ID+": "+message)
	}
	return err
}

// logIn changes who is logged in.
func (w *world) logIn(sessions ...Session) {
	w.mu.Lock()
	w.sessions = sessions
	changed := w.changed
	w.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (w *world) FollowPauses(ctx context.Context, machine string, groups []locksmith.Group, changed func([]locksmith.Pause)) error {
	w.mu.Lock()
	w.follows++
	w.mu.Unlock()
	for {
		w.mu.Lock()
		pauses, set, err := w.pauses, w.pausesSet, w.failing["follow"]
		w.mu.Unlock()
		if err != nil {
			return err
		}
		changed(pauses)
		select {
		case <-set:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pausedLocked is all pauses that the store knows of.
func (w *world) pausedLocked() []locksmith.Pause {
	return (state{pauses: slices.Concat(w.pauses, w.unheard)}).paused(time.Now())
}

// pause is all pauses that hold from now on, among those that followers are told of.
func (w *world) pause(pauses ...locksmith.Pause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pauses = pauses
	close(w.pausesSet)
	w.pausesSet = make(chan struct{})
}

// The disk.

func (w *world) remember(m Memory) error {
	defer w.struck()
	if err := w.do(context.Background(), "remember"); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disk = data
	return err
}

// memory is what is on the disk.
func (w *world) memory() Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.onDisk()
}

// onDisk is memory for whoever holds mu.
func (w *world) onDisk() (m Memory) {
	if len(w.disk) > 0 {
		if err := json.Unmarshal(w.disk, &m); err != nil {
			w.t.Error(err)
		}
	}
	return m
}

// The trigger.

func (w *world) Name() string { return "test" }

func (w *world) Watch(ctx context.Context, report func(Need)) error {
	for {
		w.mu.Lock()
		need, set := w.need, w.needSet
		w.mu.Unlock()
		report(need)
		select {
		case <-set:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) setNeed(n Need) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.need = n
	close(w.needSet)
	w.needSet = make(chan struct{})
}

// The site's steps.

// named is a check of the world's.
type named struct {
	*world
	name string
}

func (n named) Name() string { return n.name }
func (n named) Run(ctx context.Context, about About) error {
	defer n.struck()
	err := n.do(ctx, n.name)
	if n.name == "verify" && err == nil {
		n.change(func() { n.verified = true })
	}
	return err
}

func (w *world) Prepare(ctx context.Context, about About) error {
	defer w.struck()
	w.mu.Lock()
	if c := w.onDisk().Cycle; w.remembers && (c == nil || !c.Prepared || c.Boot != w.bootID()) {
		w.t.Errorf("prepares, and remembers %+v", c)
	}
	w.prepared, w.owed = true, true // whatever part of it runs
	w.mu.Unlock()
	return w.do(ctx, "prepare")
}

func (w *world) Restore(ctx context.Context, about About) error {
	defer w.struck()
	err := w.do(ctx, "restore")
	w.mu.Lock()
	w.prepared = false
	w.owed = w.owed && err != nil
	w.mu.Unlock()
	return err
}

// The coordinator.

func (w *world) SetState(state string) error { return w.do(context.Background(), "coordinator "+state) }

// setFree lets waiters in.
func (w *world) setFree(free bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.free = free; free {
		close(w.freed)
	}
	w.freed = make(chan struct{})
}
