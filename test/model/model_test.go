package model

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// Groups of a machine.
const both, one, other = 0b11, 0b01, 0b10

// upTo allows n deviations of any kinds.
func upTo(n int8) Limits {
	return Limits{Total: n, Crashes: n, Replies: n, Leases: n, SetMax: n, Unlocks: n, Locks: n, Pauses: n, Cured: n}
}

// fleets are who is in which group, and how many slots there are.
var fleets = map[string]Config{
	"one machine in both groups":     {Member: [Machines]uint8{both, one, other}, Max: [Groups]int8{1, 1}},
	"all machines in both groups":    {Member: [Machines]uint8{both, both, both}, Max: [Groups]int8{1, 2}},
	"two slots in each":              {Member: [Machines]uint8{both, both, one}, Max: [Groups]int8{2, 2}},
	"one machine alone in its group": {Member: [Machines]uint8{one, one, both}, Max: [Groups]int8{1, 1}},
}

// explore fails the test with the shortest trace to a broken promise.
func explore(t *testing.T, c Config) {
	t.Helper()
	began := time.Now()
	r := c.Explore(true)
	t.Logf("%d states, %d steps in %v", r.States, r.Steps, time.Since(began).Round(10*time.Millisecond))
	if r.Violation != nil {
		t.Fatal(r.Violation)
	}
	if r.States < 500 {
		t.Errorf("only %d states: the model does not go anywhere", r.States)
	}
}

// TestPromises visits everything that can happen with no deviation and with any one; the
// long form has more.
func TestPromises(t *testing.T) {
	for name, c := range fleets {
		for n := int8(0); n <= 1; n++ {
			t.Run(fmt.Sprintf("%s, %d deviations", name, n), func(t *testing.T) {
				c := c
				c.Limits = upTo(n)
				explore(t, c)
			})
		}
	}
}

// TestTwoDeviations is for any two deviations, of the same kind or of two.
func TestTwoDeviations(t *testing.T) {
	c := fleets["one machine in both groups"]
	c.Limits = upTo(2)
	explore(t, c)
}

// kindNames are the kinds of deviations, in the order of kinds.
var kindNames = [...]string{"crashes", "lost replies", "lost leases", "new max", "unlocks", "locks", "pauses", "needs that go away"}

// endless allows any number of deviations of the kinds with these numbers, and no others.
func endless(kinds ...int) Limits {
	l := Limits{Total: Endless}
	for _, k := range kinds {
		*l.kinds()[k] = Endless
	}
	return l
}

// TestAnyNumberOfCrashes is for as many as there are.
func TestAnyNumberOfCrashes(t *testing.T) {
	c := fleets["one machine in both groups"]
	c.Limits = endless(0)
	explore(t, c)
}

func TestLong(t *testing.T) {
	if os.Getenv("LOCKSMITH_MODEL_LONG") == "" {
		skip.LongForm(t, "make model")
	}
	for name, c := range fleets {
		t.Run(name+", 3 deviations", func(t *testing.T) {
			c.Limits = upTo(3)
			explore(t, c)
		})
		t.Run(name+", any number of crashes, lost replies and lost leases", func(t *testing.T) {
			c.Limits, c.Unheld = endless(0, 1, 2), bit(1)|bit(2) // else there are far more states than memory
			explore(t, c)
		})
		for k, kind := range kindNames {
			t.Run(name+", any number of "+kind, func(t *testing.T) {
				c.Limits = endless(k)
				explore(t, c)
			})
		}
	}
	t.Run("4 deviations", func(t *testing.T) {
		c := fleets["one machine in both groups"]
		c.Limits = upTo(4)
		explore(t, c)
	})
}

var apart, together = fleets["one machine in both groups"], fleets["all machines in both groups"]

// mistakes are what the protocol could do wrong, and the promise that is broken then.
var mistakes = []struct {
	name    string
	mistake Mistake
	fleet   Config
	limits  Limits
	lively  bool // look only whether the goal can be reached
	want    string
}{
	{"a grant does not compare the semaphore", NoComparison, fleets["two slots in each"], Limits{}, false, "disagree"},
	{"a grant does not compare the semaphore, beside a lock", NoComparison, apart, Limits{Total: 1, Locks: 1}, false, "second slot|more slots|disagree"},
	{"a start gives back without proof of a boot", NoProof, apart, Limits{Total: 1, Crashes: 1}, false, "on its way down"},
	{"slots hang on leases", SlotLease, apart, Limits{}, false, "down without a slot"},
	{"a resumed agent does not know its nonce", NoNonce, apart, Limits{Total: 1, Crashes: 1}, false, StuckFreely},
	{"groups are taken one by one", OneByOne, together, Limits{}, false, "some of its slots"},
	{"groups are taken one by one: deadlock", OneByOne, Config{Member: together.Member, Max: [Groups]int8{1, 1}}, Limits{}, true, StuckFreely},
	{"a waiter does not wait for its turn", Impatient, apart, Limits{}, false, "overtakes"},
	{"the step to rebooting does not compare pauses", NoPolicy, apart, Limits{Total: 1, Pauses: 1}, false, "during a pause"},
	{"a pause of all groups is not compared", NoPolicyAll, apart, Limits{Total: 1, Pauses: 1}, false, "during a pause"},
	{"a pause of a machine is not compared", NoPolicyMachine, apart, Limits{Total: 1, Pauses: 1}, false, "during a pause"},
	{"a grant does not compare the pauses", NoPolicyGrant, apart, Limits{Total: 1, Pauses: 1}, false, "slots during a pause"},
	{"a start does not ask whether the machine goes down", NotAsked, apart, Limits{Total: 2, Crashes: 1, Unlocks: 1}, false, "on its way down"},
	{"it queues again for what it holds", Blind, apart, Limits{Total: 1, Replies: 1}, true, StuckFreely},
	{"a release that is late counts although the record has changed", ReleaseAnyway, apart, Limits{Total: 2, Crashes: 1, Pauses: 1}, false, "down without a slot"},
	{"one slot taken away, the other forgotten", DropsRest, apart, Limits{Total: 2, Unlocks: 1, Cured: 1}, false, "knows nothing of it"},
	{"an idle agent leaves a request behind", IdleTooSoon, apart, Limits{Total: 2, Crashes: 1, Cured: 1}, false, "knows nothing of it"},
	{"a wait is given up, its entry stays", LeavesEntry, apart, upTo(1), false, "needs nothing"},
	{"a lease is kept under which a join may still come", KeepsLease, apart, Limits{Total: 1, Replies: 1}, false, "has its slots"},
	{"the same of a wait that is given up", KeepsLease, apart, Limits{Total: 2, Replies: 1, Cured: 1}, false, "needs nothing|has its slots"},
	{"a lower max takes slots away", Evicts, together, Limits{Total: 1, SetMax: 1}, false, "down without a slot"},
}

// TestMistakes: whatever the protocol were to do wrong must be found, and by the promise
// that it breaks.
func TestMistakes(t *testing.T) {
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.fleet
			c.Limits, c.Mistake = tt.limits, tt.mistake
			r := c.Explore(!tt.lively)
			switch {
			case r.Violation == nil:
				t.Fatalf("not found in %d states", r.States)
			case !slices.ContainsFunc(strings.Split(tt.want, "|"), func(w string) bool { return strings.Contains(r.Violation.What, w) }):
				t.Fatalf("want %q, got %s", tt.want, r.Violation)
			}
			t.Logf("%d states: %s", r.States, r.Violation)
		})
	}
}

// TestTraceIsShortest also sees that a trace can be walked again.
func TestTraceIsShortest(t *testing.T) {
	c := fleets["one machine in both groups"]
	c.Mistake = SlotLease
	v := c.Explore(true).Violation
	if v == nil {
		t.Fatal("nothing found")
	}
	s := c.Start()
	for i, p := range v.Trace {
		next, ok := c.step(s, p)
		if !ok {
			t.Fatalf("step %d, %s, is not possible", i+1, p)
		}
		s = next.To
	}
	if s != v.Last {
		t.Errorf("the trace ends elsewhere: %+v", s)
	}
	// Join, front, ask, carry, write, carry, call, and either its end or that of the slot.
	if len(v.Trace) > 9 {
		t.Errorf("not the shortest: %s", v)
	}
}

// step is the step p from state s.
func (c Config) step(s State, p Step) (Transition, bool) {
	for _, t := range c.Next(s) {
		if t.Step == p {
			return t, true
		}
	}
	return Transition{}, false
}
