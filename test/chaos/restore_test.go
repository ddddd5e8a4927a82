package chaos_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// TestRestore loses the store of a busy fleet and restores a snapshot that is some
// reboots old, as docs/server.md tells: machines are down that it does not know of,
// others have won slots that are not in it, and it has slots of machines that are up.
func TestRestore(t *testing.T) {
	require(t)
	cfg := site(t)
	cfg.Server = filepath.Join(programs(t), "locksmith-server")
	cfg.Served = []locksmith.Group{"web", "rack"}
	// Longer than the minute for which a machine that speaks FleetLock rests where it was
	// refused because of the pause.
	cfg.Seed, cfg.Length, cfg.Settle, cfg.Users = *seed, time.Minute, 90*time.Second, 3*time.Second
	result, err := chaos.RunRestore(t.Context(), cfg)
	t.Cleanup(func() { keepFailed(t, cfg, result.Result) })
	if err != nil {
		t.Error(err)
	}
	for _, v := range result.Violations {
		t.Error("a guarantee was broken:", v)
	}
	for what, who := range map[string][]string{
		"was down without a slot in the snapshot": result.Unknown, "had won a slot since": result.Robbed, "was up and in a slot": result.Stale,
	} {
		if len(who) == 0 {
			t.Errorf("nobody %s: nothing was tested", what)
		}
	}
	t.Logf("%d reboots; unknown to the snapshot %q, without their slots %q, in slots of then %q", result.Reboots, result.Unknown, result.Robbed, result.Stale)
}
