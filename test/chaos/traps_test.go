package chaos_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// TestEveryPhase kills an agent, and then pulls a machine's plug, in every phase there
// is, and looks that it was in that phase.
func TestEveryPhase(t *testing.T) {
	require(t)
	cfg := site(t)
	cfg.Server, cfg.Served = filepath.Join(programs(t), "locksmith-server"), []locksmith.Group{"web", "rack", "web"}
	cfg.Seed, cfg.Settle = *seed, 40*time.Second
	for at := time.Duration(0); len(cfg.Faults) < 2*len(chaos.PhasesToDieIn); at += 400 * time.Millisecond {
		act := chaos.KillInPhase
		if len(cfg.Faults)%2 == 1 {
			act = chaos.CrashInPhase
		}
		// It is over with the first who dies of it; a busy machine takes long to come to some phases.
		cfg.Faults = append(cfg.Faults, chaos.Fault{At: at, For: time.Minute, Act: act, In: chaos.PhasesToDieIn[len(cfg.Faults)/2]})
		cfg.Length = at
	}
	result := run(t, cfg)
	died := deaths(result.Lines)
	for _, f := range cfg.Faults {
		if !slices.Contains(died[f.In], f.Act) {
			t.Errorf("nobody died in %s of %s", f.In, f.Act)
		}
	}
	t.Logf("%d reboots; in each phase died: %v", result.Reboots, died)
}

// run carries out a schedule of a test's own, which has to break nothing.
func run(t *testing.T, cfg chaos.Config) chaos.Result {
	t.Helper()
	result, err := chaos.Run(t.Context(), cfg)
	if err != nil {
		t.Error(err)
	}
	for _, v := range result.Violations {
		t.Error("a guarantee was broken:", v)
	}
	t.Cleanup(func() { keepFailed(t, cfg, result) })
	return result
}

// deaths is, for each phase, by which kinds of faults somebody died while in it.
func deaths(lines []chaos.Line) map[locksmith.Phase][]chaos.Action {
	died := make(map[locksmith.Phase][]chaos.Action)
	phases := make(map[string]locksmith.Phase) // of each machine
	by := make(map[string]chaos.Action)        // that hits it
	for _, l := range lines {
		switch what, who, hit := strings.Cut(l.Note, ": "); {
		case l.Kind == chaos.KindFault && hit:
			if act, _, ofPhase := strings.Cut(what, " "); ofPhase {
				by[who] = chaos.Action(act)
			}
		case l.Kind == chaos.KindPhase:
			phases[l.Machine] = locksmith.Phase(l.Note)
		case l.Kind == chaos.KindEnded:
			if act := by[l.Machine]; act != "" {
				died[phases[l.Machine]] = append(died[phases[l.Machine]], act)
			}
			delete(by, l.Machine)
		}
	}
	return died
}
