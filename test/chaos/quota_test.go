package chaos_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// outOfSpace is what everybody has to be told of it who wants something written.
const outOfSpace = "etcd is out of space and takes no writes (alarm NOSPACE): compact and defragment it, or raise its quota, then disarm the alarm (tried http://10.77.0."

// TestQuota has etcd's database reach its quota while some machines wait, others reboot,
// and two, which wait, are silent for so long meanwhile that their leases lapse. Nobody
// can write until an administrator has made room; everybody is told why, reads go on,
// who waits waits on, and after that all get through.
func TestQuota(t *testing.T) {
	require(t)
	const web, lab = locksmith.Group("web"), locksmith.Group("lab")
	dir := programs(t)
	cfg := chaos.Config{
		Groups: [][]locksmith.Group{{web}, {web}, {web}, {lab}, {lab}}, Served: []locksmith.Group{lab, web},
		Max:    map[locksmith.Group]int{lab: 1, web: 1},
		Server: filepath.Join(dir, "locksmith-server"), Control: filepath.Join(dir, "locksmithctl"),
		Dir: t.TempDir(), Seed: *seed, Length: 9 * time.Second, Settle: 40 * time.Second,
	}
	const full, room = 2500 * time.Millisecond, 8500 * time.Millisecond
	const silent = 4500 * time.Millisecond // more than a lease lives
	cfg.Faults = chaos.Schedule{
		{At: 500 * time.Millisecond, For: room, Act: chaos.LowerMax, Who: 1}, // of web: all of it waits
		{At: full, For: room - full, Act: chaos.FillQuota},
		{At: full + time.Second, For: silent, Act: chaos.PauseAgent, Who: 0},
		{At: full + time.Second, For: silent, Act: chaos.PauseAgent, Who: 1},
	}
	result := run(t, cfg)
	at := func(note string) time.Duration {
		i := slices.IndexFunc(result.Lines, func(l chaos.Line) bool { return l.Kind == chaos.KindFault && l.Note == note })
		if i < 0 {
			t.Fatalf("it was never noted that %s", note)
		}
		return result.Lines[i].At
	}
	began, ended := at(chaos.NoteFull), at(chaos.NoteRoom)
	checkSaidFull(t, result.Said, began, ended)
	checkEntries(t, result.Changes, began, ended)
	if result.Reboots < len(cfg.Groups)+len(cfg.Served) {
		t.Errorf("%d reboots of %d machines", result.Reboots, len(cfg.Groups)+len(cfg.Served))
	}
	log, err := os.ReadFile(filepath.Join(cfg.Dir, "agents.log"))
	must(t, err)
	if !strings.Contains(string(log), outOfSpace) {
		t.Error("no agent has told why it waits")
	}
	t.Logf("full for %v; %d reboots, settled after %v", ended-began, result.Reboots, result.Settled)
}

// checkSaidFull holds what users were told between two moments: reads go on, and what
// cannot be written is refused with the reason, by each way there is.
func checkSaidFull(t *testing.T, said []chaos.Said, began, ended time.Duration) {
	t.Helper()
	refused := make(map[string]int) // by the way
	for _, s := range said {
		if s.At-s.Took < began || s.At > ended {
			continue
		}
		switch way := strings.Fields(s.Command)[1]; {
		case strings.Contains(s.Error, outOfSpace):
			if !strings.HasPrefix(way, "-") {
				way = "FleetLock"
			}
			refused[way]++
		case s.Failed && !slices.ContainsFunc([]string{": holder does not exist", ": semaphore is at ", ": unknown machine "}, func(outcome string) bool {
			return strings.Contains(s.Error, outcome)
		}):
			t.Errorf("told while etcd is out of space: %v", s)
		}
		if read := strings.HasSuffix(s.Command, " status") || strings.HasSuffix(s.Command, " history"); read && s.Failed {
			t.Errorf("a read has failed: %v", s)
		}
	}
	for _, way := range []string{"-endpoint", "-server", "FleetLock"} {
		if refused[way] == 0 {
			t.Errorf("nobody was told by way of %s that etcd is out of space", way)
		}
	}
}

// checkEntries holds what became of the places in the queue between two moments: leases
// are kept alive, those of who is silent lapse, and all join again after it.
func checkEntries(t *testing.T, changes []chaos.Change, began, ended time.Duration) {
	t.Helper()
	stood, lost, again := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, c := range changes {
		_, machine, entry := strings.Cut(c.Key, "/groups/web/queue/5/")
		switch {
		case !entry:
		case c.At < began:
			stood[machine] = c.Value != nil
		case c.At < ended && c.Value == nil:
			lost[machine] = true
		case c.At > ended && c.Value != nil:
			again[machine] = true
		}
	}
	for _, m := range []string{"m1", "m2"} {
		if !stood[m] || !lost[m] || !again[m] {
			t.Errorf("%s, which was silent: in the queue before it %v, lost its place %v, joined again %v; want all of it", m, stood[m], lost[m], again[m])
		}
	}
	for _, m := range []string{"m3", "m7"} {
		if !stood[m] || lost[m] {
			t.Errorf("%s, which waits: in the queue before it %v, lost its place %v", m, stood[m], lost[m])
		}
	}
}
