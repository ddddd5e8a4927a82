package sim_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/scale/sim"
)

func result(t *testing.T, cfg sim.Config, p sim.Policy) sim.Result {
	t.Helper()
	r, err := sim.Run(cfg, p)
	if err != nil {
		t.Fatalf("%s, %+v: %v", p.Name(), cfg, err)
	}
	return r
}

// mostAtOnce reckons from the machines' ways how many held a slot at once. A slot that is
// free again at the instant of a grant is not held together with it.
func mostAtOnce(spans []sim.Span) int {
	type edge struct {
		at time.Duration
		by int
	}
	var edges []edge
	for _, s := range spans {
		edges = append(edges, edge{s.Granted, 1}, edge{s.Released, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), a.by-b.by) })
	held, most := 0, 0
	for _, e := range edges {
		held += e.by
		most = max(most, held)
	}
	return most
}

func TestIdealOfFixedTimes(t *testing.T) {
	for _, c := range []struct{ machines, most, rounds int }{{1, 1, 1}, {10, 1, 10}, {10, 3, 4}, {10, 10, 1}, {7, 100, 1}, {1000, 10, 100}, {1001, 10, 101}} {
		got, err := sim.Ideal(sim.Config{Machines: c.machines, Max: c.most, Down: 3 * time.Minute})
		if want := time.Duration(c.rounds) * 3 * time.Minute; err != nil || got != want {
			t.Errorf("%d machines, max %d: %v, %v; want %v", c.machines, c.most, got, err, want)
		}
	}
}

// With one slot each handoff is in the way; with many, those of a round pass one after the
// other while the machines are down.
func TestQueueOfFixedTimes(t *testing.T) {
	q := sim.Queue{Title: "q", Handoff: 10 * time.Millisecond, Before: 1, At: 2, After: 3}
	r := result(t, sim.Config{Machines: 50, Max: 1, Down: time.Second}, q)
	if want := 50 * (time.Second + q.Handoff); r.Makespan != want {
		t.Errorf("one at a time: %v, want %v", r.Makespan, want)
	}
	if r.Requests != 50*6 {
		t.Errorf("%d requests, want 300", r.Requests)
	}
	// Five at once: they were granted a handoff apart, and come back so: a round is one
	// reboot and one handoff, and the last one begins four handoffs after the first.
	r = result(t, sim.Config{Machines: 50, Max: 5, Down: time.Second}, q)
	if want := 10*(time.Second+q.Handoff) + 4*q.Handoff; r.Makespan != want {
		t.Errorf("five at a time: %v, want %v", r.Makespan, want)
	}
	for i := 1; i < len(r.Spans); i++ {
		if r.Spans[i].Granted < r.Spans[i-1].Granted {
			t.Fatalf("machine %d overtook", i)
		}
	}
}

// Without jitter all ask at 0, 10, 30, 70, 150, 310, 610, … seconds after the need, and
// nobody hears of a slot before.
func TestDoublingOfFixedTimes(t *testing.T) {
	p := sim.CoreOS()
	p.Race = 0
	for _, c := range []struct {
		machines, most int
		down           time.Duration
		want           time.Duration // seconds
	}{{10, 10, 180, 180}, {20, 10, 180, 310 + 180}, {30, 10, 180, 610 + 180}, {3, 1, 5, 30 + 5}, {2, 1, 10, 10 + 10}, {4, 1, 80, 610 + 80}} {
		r := result(t, sim.Config{Machines: c.machines, Max: c.most, Down: c.down * time.Second}, p)
		if r.Makespan != c.want*time.Second {
			t.Errorf("%d machines, max %d, down %d s: %v, want %d s", c.machines, c.most, c.down, r.Makespan, c.want)
		}
	}
}

// Of two machines with one slot, which ask every hour from times of their own, the second
// finds the slot free after a while that is known: with d the part of an hour for which the
// first is down and v that between their first asks, it is v-d if that is not negative, and
// else an hour more. The density of v is 2(1-v), so that the mean is 1/3 + d - d².
func TestPollingWaitsInVain(t *testing.T) {
	for _, d := range []float64{0.05, 0.25, 0.5} {
		var sum float64
		const runs = 4000
		for seed := range uint64(runs) {
			r := result(t, sim.Config{Machines: 2, Max: 1, Down: time.Duration(d * float64(time.Hour)), Seed: seed}, sim.Kured())
			first, second := r.Spans[0], r.Spans[1]
			if second.Granted < first.Granted {
				first, second = second, first
			}
			gap := (second.Granted - first.Released).Hours()
			if gap < 0 || gap > 1 {
				t.Fatalf("seed %d: the slot was free for %g hours", seed, gap)
			}
			sum += gap
		}
		if mean, want := sum/runs, 1./3+d-d*d; math.Abs(mean-want) > 0.015 {
			t.Errorf("down %g hours: a free slot is found after %.3f hours on average, want %.3f", d, mean, want)
		}
	}
}

// What is measured of the peers: of 50 at once, with slots for all, 5 and 3 get one.
func TestRaces(t *testing.T) {
	for _, c := range []struct {
		policy sim.Polling
		want   float64
	}{{sim.CoreOS(), 5}, {sim.Airlock(), 3}} {
		got := 0
		const runs = 200
		for seed := range uint64(runs) {
			r := result(t, sim.Config{Machines: 50, Max: 200, Down: time.Minute, Arrive: 100 * time.Millisecond, Seed: seed}, c.policy)
			for _, s := range r.Spans {
				if s.Granted-s.Needed <= c.policy.Race {
					got++
				}
			}
		}
		if mean := float64(got) / runs; math.Abs(mean-c.want) > 0.5 {
			t.Errorf("%s: %.2f of 50 get a slot at once, measured were %g", c.policy.Name(), mean, c.want)
		}
	}
}

func TestNeverMoreThanMax(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		cfg := sim.Config{Machines: 1 + random.IntN(300), Max: 1 + random.IntN(40), Down: time.Duration(1+random.IntN(400)) * time.Second,
			Spread: random.Float64() * 0.9, Arrive: time.Duration(random.IntN(100)) * time.Second, Seed: random.Uint64()}
		for _, p := range append(sim.Policies(), sim.Queue{Title: "ideal"}) {
			r := result(t, cfg, p)
			if most := mostAtOnce(r.Spans); most > cfg.Max || most != r.Most {
				t.Errorf("seed %d: %s, %+v: %d at once, it says %d", seed, p.Name(), cfg, most, r.Most)
			}
			if work := total(r.Spans) / time.Duration(cfg.Max); r.Makespan < work {
				t.Errorf("seed %d: %s, %+v: done in %v, although all slots were held for %v", seed, p.Name(), cfg, r.Makespan, work)
			}
			for i, s := range r.Spans {
				down := s.Released - s.Granted
				if s.Granted < s.Needed || down < time.Duration(float64(cfg.Down)*(1-cfg.Spread))-1 {
					t.Fatalf("seed %d: %s, %+v: machine %d went %+v", seed, p.Name(), cfg, i, s)
				}
			}
		}
	}
}

// total is the time that slots were held in a run.
func total(spans []sim.Span) (sum time.Duration) {
	for _, s := range spans {
		sum += s.Released - s.Granted
	}
	return sum
}

func TestSameSeedSameResult(t *testing.T) {
	cfg := sim.Config{Machines: 500, Max: 7, Down: 3 * time.Minute, Spread: 0.25, Arrive: time.Minute, Seed: 4711}
	other := cfg
	other.Seed++
	for _, p := range sim.Policies() {
		one := result(t, cfg, p)
		if !reflect.DeepEqual(one, result(t, cfg, p)) {
			t.Errorf("%s: two runs differ", p.Name())
		}
		if reflect.DeepEqual(one, result(t, other, p)) {
			t.Errorf("%s: another seed makes no difference", p.Name())
		}
	}
}

// More machines take longer, more slots less long, and a slower handoff longer.
func TestMonotony(t *testing.T) {
	base := sim.Config{Machines: 200, Max: 4, Down: 3 * time.Minute}
	before := time.Duration(0)
	for n := 1; n <= 400; n += 7 {
		cfg := base
		cfg.Machines = n
		if got := result(t, cfg, sim.Locksmith()).Makespan; got < before {
			t.Errorf("%d machines took %v, fewer took %v", n, got, before)
		} else {
			before = got
		}
	}
	before = math.MaxInt64
	for most := 1; most <= 200; most += 3 {
		cfg := base
		cfg.Max = most
		if got := result(t, cfg, sim.Locksmith()).Makespan; got > before {
			t.Errorf("max %d took %v, less took %v", most, got, before)
		} else {
			before = got
		}
	}
	before = 0
	for h := time.Duration(0); h < 10*time.Second; h += 333 * time.Millisecond {
		if got := result(t, base, sim.Queue{Handoff: h}).Makespan; got <= before {
			t.Errorf("with a handoff of %v it took %v, with a shorter one %v", h, got, before)
		} else {
			before = got
		}
	}
	for _, p := range sim.Policies()[1:] { // of random ones only by and large
		small, large := base, base
		small.Machines, large.Machines = 20, 2000
		if a, b := result(t, small, p).Makespan, result(t, large, p).Makespan; a >= b {
			t.Errorf("%s: 20 machines took %v, 2000 took %v", p.Name(), a, b)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	p := sim.CoreOS()
	p.Race = 0
	// Three at once, one slot, 5 s each: at 0 three read and one takes; two give-backs
	// and asks come at 5, 10 (two read, one takes), 15, 30, 35.
	r := result(t, sim.Config{Machines: 3, Max: 1, Down: 5 * time.Second}, p)
	if want := (3 + 1) + 2 + (2 + 1) + 2 + (1 + 1) + 2; r.Requests != want || r.Peak != 4 {
		t.Errorf("%d requests, at most %d a second; want %d and 4", r.Requests, r.Peak, want)
	}
	if got := r.PerMachine(); got != 5 {
		t.Errorf("%g requests for each machine, want 5", got)
	}
	if waits := r.Waits(); !slices.Equal(waits, []time.Duration{0, 10 * time.Second, 30 * time.Second}) || sim.Quantile(waits, 0.5) != 10*time.Second {
		t.Errorf("waits are %v", waits)
	}
}

func TestRefused(t *testing.T) {
	good := sim.Config{Machines: 1, Max: 1, Down: 1}
	for _, spoil := range []func(*sim.Config){
		func(c *sim.Config) { c.Machines = 0 }, func(c *sim.Config) { c.Max = 0 }, func(c *sim.Config) { c.Down = 0 },
		func(c *sim.Config) { c.Spread = 1 }, func(c *sim.Config) { c.Spread = -0.1 }, func(c *sim.Config) { c.Arrive = -1 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := sim.Run(cfg, sim.Locksmith()); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
