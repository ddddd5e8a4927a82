package chaos_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/skip"
	"github.com/locksmith-reboot/locksmith/test/chaos"
	"github.com/locksmith-reboot/locksmith/test/chaos/clock"
)

// TestClocks sets the clocks of all machines, by minutes to days and forwards and
// backwards, while they wait for slots and for users, reboot and are killed: only what
// is shown may be wrong by that. A wait that went by the wall clock would not end.
func TestClocks(t *testing.T) {
	require(t)
	if !clock.Supported {
		skip.Loudly(t, "clocks are set on amd64 only")
	}
	cfg := site(t)
	cfg.Seed, cfg.Length, cfg.Settle, cfg.Users = *seed, 10*time.Second, 40*time.Second, time.Second
	cfg.Faults = chaos.Schedule{ // whose next process starts with a clock that is off
		{At: 1 * time.Second, For: 8 * time.Second, Act: chaos.KillInPhase, In: "rebooting"},
		{At: 3 * time.Second, For: 6 * time.Second, Act: chaos.KillInPhase, In: "queued"},
		{At: 5 * time.Second, For: 4 * time.Second, Act: chaos.CrashInPhase, In: "acquired"},
	}
	const day = 24 * time.Hour
	for i, by := range []time.Duration{3 * day, -3 * day, 2 * day, -2 * day, 5 * time.Minute, -5 * time.Minute, day, -day, 3 * day} {
		for who := range cfg.Groups {
			at := time.Duration(i)*time.Second + time.Duration(who)*150*time.Millisecond
			cfg.Faults = append(cfg.Faults, chaos.Fault{At: at, For: 900 * time.Millisecond, Act: chaos.StepClock, Who: who, Step: by})
		}
	}
	now := time.Now()
	result := run(t, cfg)
	if result.Reboots < len(cfg.Groups) {
		t.Errorf("%d reboots of %d machines", result.Reboots, len(cfg.Groups))
	}
	log, err := os.ReadFile(filepath.Join(cfg.Dir, "agents.log"))
	must(t, err)
	off := 0
	for _, by := range []time.Duration{3 * day, -3 * day, 2 * day, -2 * day, day, -day} {
		off += strings.Count(string(log), now.Add(by).Format("time="+time.DateOnly))
	}
	if off == 0 {
		t.Error("no agent has logged anything with another day: no clock was set")
	}
	t.Logf("%d reboots, %d lines of other days", result.Reboots, off)
}
