package chaos_test

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// A suite that cannot fail proves nothing: agents that take slots without looking
// are seen by what the machines do, and by what the store went through.
func TestThievesAreCaught(t *testing.T) {
	require(t)
	cfg := site(t)
	cfg.Thief, cfg.Length, cfg.Settle = true, 2*time.Second, time.Second
	result, err := chaos.Run(t.Context(), cfg)
	if err != nil {
		t.Log("as may be with a broken lock:", err)
	}
	all := strings.Join(result.Violations, "\n")
	for _, want := range []string{"are down at once", "was given a slot"} {
		if !strings.Contains(all, want) {
			t.Errorf("no violation says %q, of these:\n%s", want, all)
		}
	}
}
