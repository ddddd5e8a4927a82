package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// PhasesToDieIn are the phases in which an agent can be killed: all but needed, through
// which an agent with this strategy passes without a stay.
var PhasesToDieIn = slices.DeleteFunc(slices.Clone(locksmith.Phases), func(p locksmith.Phase) bool { return p == locksmith.PhaseNeeded })

// latest is how long after a phase began its agent is killed, at most: within that lie
// what it does at once, and the requests of most phases.
const latest = 10 * time.Millisecond

// trap waits for an agent that enters a phase, and springs once.
type trap struct {
	in    locksmith.Phase
	of    *Daemon // only machines whose slot it keeps; nil: any
	after time.Duration
	do    func(*Machine) // in a goroutine of its own; it has the fleet unlocked

	entered bool
	sprung  chan struct{} // closed when it has been done
}

// lateness draws how long after the beginning of a phase somebody dies: at once, every
// other time.
func lateness(rng *rand.Rand, most time.Duration) time.Duration {
	if rng.IntN(2) == 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(most)))
}

// Trap has the next agent that enters a phase killed, or its machine's plug pulled;
// sprung is closed when that is done. disarm takes the trap away, and returns once what
// it did is done.
func (f *Fleet) Trap(act Action, in locksmith.Phase, after time.Duration) (disarm func(), sprung <-chan struct{}) {
	return f.set(&trap{in: in, after: after, do: func(m *Machine) {
		f.Note(fmt.Sprintf("%s %s: %s", act, in, m.ID))
		if act == CrashInPhase {
			f.Crash(m)
		} else {
			f.Kill(m)
		}
	}})
}

// TrapServer has a server killed a while after one of its machines has begun to wait
// there, with whatever else waits. The same as Trap otherwise.
func (f *Fleet) TrapServer(s *Daemon, after time.Duration) (disarm func()) {
	disarm, _ = f.set(&trap{in: locksmith.PhaseQueued, of: s, after: after, do: func(m *Machine) {
		f.Note(fmt.Sprintf("%s %s: %s waits there", KillWaiting, s.Node.Name, m.ID))
		s.Kill()
	}})
	return disarm
}

func (f *Fleet) set(t *trap) (disarm func(), sprung <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.sprung = make(chan struct{})
	f.traps = append(f.traps, t)
	return sync.OnceFunc(func() {
		f.mu.Lock()
		f.traps = slices.DeleteFunc(f.traps, func(o *trap) bool { return o == t })
		entered := t.entered
		f.mu.Unlock()
		if entered {
			<-t.sprung
		} else {
			f.Note(fmt.Sprintf("nobody came to phase %s", t.in))
		}
	}), t.sprung
}

// springLocked springs one of the traps that wait for what m has just begun, and
// returns it. Who dies at once is not to go on.
func (f *Fleet) springLocked(m *Machine, phase locksmith.Phase) *trap {
	i := slices.IndexFunc(f.traps, func(t *trap) bool { return t.in == phase && (t.of == nil || t.of == m.Server) })
	if i < 0 || m.down {
		return nil
	}
	t := f.traps[i]
	f.traps, t.entered = slices.Delete(f.traps, i, i+1), true
	time.AfterFunc(t.after, func() {
		defer close(t.sprung)
		t.do(m)
	})
	return t
}

// trappedLocked says whether somebody is awaited in a phase. Into some of them a
// machine has to be led.
func (f *Fleet) trappedLocked(phase locksmith.Phase) bool {
	return slices.ContainsFunc(f.traps, func(t *trap) bool { return t.in == phase })
}
