package model

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// replay carries out the steps of the model on a real store, with a process of its own for
// each machine, and holds what is stored against the model after each. Every change that
// a process sends stops at its gate until the model says what becomes of it: it is
// carried out and answered, or it stands there while others go on, or its reply is lost
// and it is carried out later or never.
type replay struct {
	t      *testing.T
	model  Config
	state  State
	random *rand.Rand // for what the model leaves open
	groups []locksmith.Group
	procs  [Machines]*process
	server *etcdtest.Server
	admin  *etcd.Store
	raw    pb.KVClient
	leases pb.LeaseClient
	slots  [Machines]locksmith.Slots
	boots  [Machines]int
	hung   [Machines]int64 // the lease of the entry that the last process left, 0: none
	ghosts [Machines]*sent // the changes that nobody waits for, and that may yet be carried out
	joins  [Machines]*sent // those of them that would join
	void   []*sent         // those whose comparisons must never hold again
	done   []Step
}

func newReplay(t *testing.T, c Config, random *rand.Rand) *replay {
	server := walks.take(t)
	r := &replay{t: t, model: c, state: c.Start(), random: random, groups: newGroups(t, Groups), server: server, admin: dial(t, at(server))}
	conn := server.Client(t).ActiveConnection()
	r.raw, r.leases = pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	for m := range Machines {
		r.procs[m] = r.newProcess()
	}
	for g := range Groups {
		if _, err := r.admin.SetMax(t.Context(), r.groups[g], int(c.Max[g]), "test"); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// end ends all processes.
func (r *replay) end() {
	for _, p := range r.procs {
		p.kill()
	}
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

// playable says whether the walk may choose a step. What a store does by itself as soon as
// it can is not chosen: see settle.
func (r *replay) playable(p Step) bool {
	m := int(p.M)
	pr, mm := r.procs[m], r.state.Machine[m]
	again := mm.Newer == Itself && (pr.told || pr.job != nil && pr.repeats)
	switch p.Act {
	case Front, Ask:
		return false
	case LateJoin: // else the call may just be about to see what has become of its entry, and to end
		return mm.Join != Mine || mm.PC == Needing
	case Leave:
		return mm.Cured
	case Write:
		return !again
	case Recall:
		return again
	}
	return true
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
	order := r.settle(int(t.M))
	for _, ends := range []bool{true, false} { // others may wait for who leaves the queue
		for _, m := range order {
			if r.ends(m) == ends {
				r.follow(m)
			}
		}
	}
	r.settleJoins()
	r.compare()
}

// settle lets the model go on where the store does so by itself: who is first in the
// queue asks for its slots as soon as there is room, a release that has lost to another
// change is tried again, and so is a write. It returns all machines in the order in which
// they depend on each other: who went on later may have waited for who did earlier.
func (r *replay) settle(first int) (order []int) {
	order = []int{first, (first + 1) % Machines, (first + 2) % Machines}
	for again := true; again; {
		again = false
		for _, t := range r.model.Next(r.state) {
			m := int(t.M)
			if t.Act == Front || t.Act == Ask || t.Act == Leave && r.inTheWay(m) || r.insists(t.Step) {
				if t.Act == Leave {
					r.procs[m].leaving = true
				}
				r.done = append(r.done, t.Step)
				r.state, again = t.To, true
				order = append(slices.DeleteFunc(order, func(o int) bool { return o == m }), m)
				break
			}
		}
	}
	return order
}

// insists says whether a step is what a call under way does by itself.
func (r *replay) insists(p Step) bool {
	pr := r.procs[p.M]
	if pr.job == nil || pr.called {
		return false
	}
	switch p.Act {
	case Return:
		return pr.kind == Release
	case Write: // it was an earlier call that wrote
		return pr.kind == Confirm && !pr.repeats && r.state.Machine[p.M].Newer == Itself
	}
	return false
}

// inTheWay says whether machine m, which a pause holds up that does not hold up everybody in
// its groups, is the first in the queue of one of them.
func (r *replay) inTheWay(m int) bool {
	if _, inTheWay := r.model.paused(r.state, m); !inTheWay {
		return false
	}
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

// compare holds what is stored against the model: each group's semaphore, holder records
// and queue, and whether the requests that nobody waits for can still be carried out.
func (r *replay) compare() {
	r.t.Helper()
	for g := range Groups {
		st, err := r.admin.Status(r.t.Context(), r.groups[g])
		if err != nil {
			r.fail("group %d: %v", g, err)
		}
		if got, want := r.describe(st), r.want(g); got != want {
			r.fail("group %d: the store has %s, the model %s", g, got, want)
		}
	}
	for m, s := range r.ghosts {
		f := r.state.Machine[m].Ghost
		if s != nil && f.Request == NoRequest {
			r.void, r.ghosts[m] = append(r.void, s), nil
		} else if s != nil && r.would(s) != r.model.holds(r.state, m, f) {
			r.fail("machine %s: a request that nobody waits for, the model has %+v", name(m), r.state.Machine[m])
		}
	}
	r.checkJoins()
	for _, s := range r.void {
		if r.could(s) {
			r.fail("a request could be carried out that had become void: %v", s.req)
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
		if rec&OldBoot != 0 && by == locksmith.ByAgent {
			text += " before its boot"
		}
	}
	text += ", queue"
	for _, e := range r.state.Queue {
		if e != 0 && r.model.in(int(e)-1, g) {
			text += " " + name(int(e)-1)
		}
	}
	return text
}

func (r *replay) describe(st locksmith.GroupStatus) string {
	text := fmt.Sprintf("%d of %d", st.Sem.Semaphore, st.Sem.Max)
	for _, h := range st.Holders {
		text += fmt.Sprintf(", %s by %s rebooting %v", h.MachineID, h.By, h.Phase == locksmith.PhaseRebooting)
		if h.By == locksmith.ByAgent && h.BootID != r.boot(int(h.MachineID[0]-'a')) {
			text += " before its boot"
		}
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

// boot is machine m's present boot ID.
func (r *replay) boot(m int) string { return fmt.Sprintf("boot-%d", r.boots[m]) }

// TestReplay walks at random through the model and the store side by side. A walk is
// decided by its fleet and seed, which are in its name.
func TestReplay(t *testing.T) {
	seeds := uint64(5)
	if os.Getenv("LOCKSMITH_MODEL_LONG") != "" {
		seeds = 250
	}
	var tally tally
	t.Cleanup(func() {
		if tally.walks == len(fleets)*int(seeds) && !t.Failed() {
			tally.check(t)
		}
	})
	for fleet, c := range fleets {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s, seed %d", fleet, seed), func(t *testing.T) {
				t.Parallel()
				c := c
				c.Limits = Limits{Total: 14, Replies: 6, Leases: 2, SetMax: 2, Unlocks: 2, Locks: 2, Pauses: 2, Crashes: 3, Cured: 1}
				r := newReplay(t, c, rand.New(rand.NewPCG(seed, 0)))
				defer r.end()
				r.walk()
				tally.add(r.done)
			})
		}
	}
}

// TestReplayMistakes goes the shortest way on which each deliberate mistake of the model
// breaks a promise, as far as the protocol without that mistake can, and then on at random:
// a store that made the mistake would differ from the model on the way, or carry out what
// had become void.
func TestReplayMistakes(t *testing.T) {
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := tt.fleet
			c.Limits, c.Mistake = tt.limits, tt.mistake
			way := c.Explore(!tt.lively).Violation.Trace
			c.Mistake = None
			r := newReplay(t, c, rand.New(rand.NewPCG(0, 0)))
			defer r.end()
			for _, p := range way {
				next, can := c.step(r.state, p)
				switch {
				case p.Act == Front || p.Act == Ask: // it has, as soon as it could
				case can && r.playable(p):
					r.do(next)
				}
			}
			r.walk()
		})
	}
}

// tally is how often each act was in a walk.
type tally struct {
	mu    sync.Mutex
	walks int
	acts  [Lapse]int
	of    [Scopes]int // pauses
}

func (y *tally) add(steps []Step) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.walks++
	for _, p := range steps {
		if y.acts[p.Act]++; p.Act == Pause {
			y.of[p.G]++
		}
	}
}

// check fails where an act was in none of the walks: they would not prove it.
func (y *tally) check(t *testing.T) {
	for act, n := range y.acts {
		if n == 0 {
			t.Errorf("in no walk: %q", Step{Act: Act(act)})
		}
	}
	for scope, n := range y.of {
		if n == 0 {
			t.Errorf("in no walk: %q", Step{Act: Pause, G: int8(scope)})
		}
	}
	t.Logf("%d walks, acts %v, pauses %v", y.walks, y.acts, y.of)
}

// often is how much more often a walk takes a step than one of an administrator, of which
// there are many: else they were all that happens.
func often(act Act) int {
	switch act {
	case LoseReply, Late, LateJoin, Recall:
		return 12
	case Resume, SetMax, Unlock, Lock, Pause, Crash, LoseJoin, LoseLease, Cure:
		return 1
	}
	return 4
}

// walk goes on until everybody has rebooted.
func (r *replay) walk() {
	for n := 0; !r.state.Goal(); n++ {
		if n == 400 {
			r.fail("not at the goal after %d steps", n)
		}
		var can []Transition
		for _, t := range r.model.Next(r.state) {
			if r.playable(t.Step) {
				can = append(can, slices.Repeat([]Transition{t}, often(t.Act))...)
			}
		}
		if len(can) == 0 {
			r.fail("nothing is possible any more")
		}
		r.do(can[r.random.IntN(len(can))])
	}
	r.t.Logf("%d steps", len(r.done))
}
