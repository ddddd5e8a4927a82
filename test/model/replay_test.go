package model

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// replay carries out the steps of the model on a real store, with a store of its own for
// each machine, and holds what is stored against the model after each. What waits in the
// queue goes on at once in the store, so the model does too: see settle.
type replay struct {
	t      *testing.T
	model  Config
	state  State
	groups []locksmith.Group
	stores [Machines]*etcd.Store
	kills  [Machines]func() // each ends the machine's process
	admin  *etcd.Store
	waits  [Machines]*wait
	slots  [Machines]locksmith.Slots
	boots  [Machines]int
	done   []Step
}

func newReplay(t *testing.T, c Config) *replay {
	r := &replay{t: t, model: c, state: c.Start(), groups: newGroups(t, Groups), admin: dial(t)}
	for m := range Machines {
		r.start(m)
	}
	for g := range Groups {
		if _, err := r.admin.SetMax(t.Context(), r.groups[g], int(c.Max[g]), "test"); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// start begins a process of machine m.
func (r *replay) start(m int) {
	var dead atomic.Bool
	r.stores[m] = dial(r.t, func(cfg *etcd.Config) {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if dead.Load() {
					return status.Error(codes.Unavailable, "the process is dead")
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			}))
	})
	r.kills[m] = func() { dead.Store(true) }
}

func name(m int) string { return string(rune('a' + m)) }

// of are the groups of machine m.
func (r *replay) of(m int) []locksmith.Group {
	var groups []locksmith.Group
	for g, group := range r.groups {
		if r.model.in(m, g) {
			groups = append(groups, group)
		}
	}
	return groups
}

// fail ends the test with what was done.
func (r *replay) fail(format string, args ...any) {
	r.t.Helper()
	for i, p := range r.done {
		r.t.Logf("%4d. %s", i+1, p)
	}
	r.t.Fatalf(format, args...)
}

// playable are the steps that a replay chooses from. What the model adds by itself, and
// what is a request that loses its reply, is not among them.
func playable(p Step) bool {
	switch p.Act {
	case Boot, GoDown, Begin, Find, Join, Write, Stop, Call, Return, Unlock, Lock, SetMax, Pause, Resume, Crash:
		return true
	}
	return false
}

// do carries out a step in the model and in the store, and compares.
func (r *replay) do(t Transition) {
	r.t.Helper()
	r.done = append(r.done, t.Step)
	before := r.state
	r.state = t.To
	if err := r.carryOut(t.Step, before); err != nil {
		r.fail("the last of these: %v", err)
	}
	r.settle()
	r.compare()
}

// settle lets the model go on where the store does so by itself: who waits is granted its
// slots as soon as it can be, and what was sent is carried out.
func (r *replay) settle() {
	for again := true; again; {
		again = false
		for _, t := range r.model.Next(r.state) {
			if t.Act == Carry || t.Act == Front || t.Act == Ask || t.Act == Leave && r.inTheWay(int(t.M)) {
				r.done = append(r.done, t.Step)
				r.state, again = t.To, true
				break
			}
		}
	}
}

// inTheWay says whether machine m is the first in the queue of one of its groups.
func (r *replay) inTheWay(m int) bool {
	for g := range Groups {
		for _, e := range r.state.Queue {
			if e == 0 || !r.model.in(int(e)-1, g) {
				continue
			}
			if int(e)-1 == m {
				return true
			}
			break
		}
	}
	return false
}

func (r *replay) carryOut(p Step, before State) (err error) {
	ctx, m, group := r.t.Context(), int(p.M), r.groups[p.G]
	switch p.Act {
	case Join:
		req := request(name(m), r.of(m)...)
		req.BootID = fmt.Sprintf("boot-%d", r.boots[m])
		r.waits[m] = acquire(r.t, r.stores[m], req)
	case Find:
		r.slots[m], err = r.stores[m].Find(ctx, name(m), r.of(m))
	case Write:
		r.slots[m], err = r.stores[m].Advance(ctx, r.slots[m], locksmith.PhaseRebooting, "reboot")
	case Return:
		err = r.stores[m].Release(ctx, r.slots[m], locksmith.Result{Outcome: "over"})
	case Crash, GoDown:
		r.kills[m]()
		if w := r.waits[m]; w != nil {
			w.cancel()
			r.waits[m] = nil
		}
		r.start(m)
	case Boot:
		r.boots[m]++
	case Pause:
		err = r.admin.Pause(ctx, locksmith.Pause{Scope: locksmith.PauseScope{Group: group}, By: "test", Reason: "test"})
	case Resume:
		err = r.admin.Resume(ctx, locksmith.PauseScope{Group: group}, "test")
	case SetMax:
		_, err = r.admin.SetMax(ctx, group, int(p.N), "test")
	case Unlock:
		err = r.admin.Unlock(ctx, group, name(m), locksmith.Result{Actor: "test"})
	case Lock:
		_, err = r.admin.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{group}, MachineID: name(m), By: locksmith.ByLock})
	}
	return err
}

// compare waits until the store is where the model is: each group's semaphore, holder
// records and queue.
func (r *replay) compare() {
	r.t.Helper()
	for m, w := range r.waits {
		// Only a wait that is over in the model too has an end to wait for.
		if pc := r.state.Machine[m].PC; w == nil || pc == Queued || pc == First {
			continue
		}
		r.waits[m] = nil
		if err := w.ended(r.t); err != nil && r.state.Machine[m].PC == Held {
			r.fail("machine %s: %v", name(m), err)
		}
		if r.slots[m] = w.slots; w.err != nil {
			r.slots[m] = locksmith.Slots{Record: locksmith.Holder{MachineID: name(m)}}
		}
	}
	for g := range Groups {
		want, last := r.want(g), ""
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		same := fmt.Errorf("same")
		err := r.admin.WatchStatus(ctx, r.groups[g], func(st locksmith.GroupStatus) error {
			if last = describe(st); last == want {
				return same
			}
			return nil
		})
		cancel()
		if err != same {
			r.fail("group %d: the store has %s, the model %s", g, last, want)
		}
	}
}

// want is how the model sees group g, in the form of describe.
func (r *replay) want(g int) string {
	sem := r.state.Sem[g]
	text := fmt.Sprintf("%d of %d", sem.Value, sem.Max)
	for m := range Machines {
		if !sem.holds(m) {
			continue
		}
		rec := r.state.Record[g][m]
		by := locksmith.ByAgent
		if rec&ByAdmin != 0 {
			by = locksmith.ByLock
		}
		text += fmt.Sprintf(", %s by %s rebooting %v", name(m), by, rec&Rebooting != 0)
	}
	text += ", queue"
	for _, e := range r.state.Queue {
		if e != 0 && r.model.in(int(e)-1, g) {
			text += " " + name(int(e)-1)
		}
	}
	return text
}

func describe(st locksmith.GroupStatus) string {
	text := fmt.Sprintf("%d of %d", st.Sem.Semaphore, st.Sem.Max)
	for _, h := range st.Holders {
		text += fmt.Sprintf(", %s by %s rebooting %v", h.MachineID, h.By, h.Phase == locksmith.PhaseRebooting)
	}
	for _, f := range st.Faults {
		text += ", FAULT " + f
	}
	text += ", queue"
	for _, w := range st.Queue {
		text += " " + w.MachineID
	}
	return text
}

// TestReplay walks at random through the model and the store side by side.
func TestReplay(t *testing.T) {
	for fleet, c := range fleets {
		for range 2 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s, seed %d", fleet, seed), func(t *testing.T) {
				t.Parallel() // a process that is killed takes seconds to give up
				c := c
				c.Limits = Limits{Total: 8, SetMax: 3, Unlocks: 2, Locks: 2, Pauses: 3, Crashes: 2}
				walk(newReplay(t, c), rand.New(rand.NewPCG(seed, 0)))
			})
		}
	}
}

// walk goes on until everybody has rebooted, preferring no step to another.
func walk(r *replay, random *rand.Rand) {
	for n := 0; !r.state.Goal(); n++ {
		if n == 300 {
			r.fail("not at the goal after %d steps", n)
		}
		var can []Transition
		for _, t := range r.model.Next(r.state) {
			if playable(t.Step) {
				can = append(can, t)
			}
		}
		if len(can) == 0 {
			r.fail("nothing is possible any more")
		}
		r.do(can[random.IntN(len(can))])
	}
	r.t.Logf("%d steps", len(r.done))
}
