package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Summary adds up what several schedules have shown, those of a mass run. It may be
// used by several goroutines.
type Summary struct {
	mu        sync.Mutex
	began     time.Time
	schedules int
	faults    map[Action]int
	reboots   int
	calls     int
	revisions int64
	said      int            // to users
	messages  map[string]int // those of failures, without their figures, and how often
	settled   time.Duration  // the longest
	failed    []uint64       // seeds
}

// NewSummary is one of a run that begins now.
func NewSummary(now time.Time) *Summary {
	return &Summary{began: now, faults: make(map[Action]int), messages: make(map[string]int)}
}

// Add adds the schedule of a seed, and what it has shown; failed says that it broke
// a guarantee, or did not get through.
func (s *Summary) Add(seed uint64, faults Schedule, result Result, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules++
	for _, f := range faults {
		s.faults[f.Act]++
	}
	s.reboots += result.Reboots
	s.calls += result.Calls
	s.revisions += result.Revisions
	s.said += len(result.Said)
	for _, m := range result.Said {
		if m.Failed {
			s.messages[m.Alike()]++
		}
	}
	s.settled = max(s.settled, result.Settled)
	if failed {
		s.failed = append(s.failed, seed)
	}
}

// Line is the run in one line, for a file that collects them: when it began, how long
// it took, what it did, and the seeds of the schedules that failed.
func (s *Summary) Line(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := 0
	for _, n := range s.faults {
		faults += n
	}
	return fmt.Sprintf("%s wall=%v schedules=%d failed=%d faults=%d reboots=%d calls=%d commands=%d revisions=%d longest-settle=%v failed-seeds=%s kinds=%s",
		s.began.UTC().Format(time.RFC3339), now.Sub(s.began).Round(time.Second), s.schedules, len(s.failed), faults, s.reboots, s.calls,
		s.said, s.revisions, s.settled.Round(time.Millisecond), cmp.Or(s.seeds(","), "none"), s.kinds(":", ","))
}

// Text is the run for people.
func (s *Summary) Text(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf(`%d schedules in %v, of which %d failed
%d reboots, %d calls held against the model, %d commands of users, %d revisions judged
all through at most %v after the last fault was healed
faults: %s
failed seeds: %s
`, s.schedules, now.Sub(s.began).Round(time.Second), len(s.failed), s.reboots, s.calls, s.said, s.revisions,
		s.settled.Round(time.Millisecond), s.kinds(" ", ", "), cmp.Or(s.seeds(", "), "none"))
}

// Messages lists what users were told of failures, how often, the most frequent first:
// for the eye of an operator.
func (s *Summary) Messages() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, m := range slices.SortedFunc(maps.Keys(s.messages), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.messages[b], s.messages[a]), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(&b, "%6d  %s\n", s.messages[m], m)
	}
	return b.String()
}

// kinds lists how often there was each kind of fault, the most frequent first.
func (s *Summary) kinds(is, and string) string {
	kinds := slices.SortedFunc(maps.Keys(s.faults), func(a, b Action) int {
		return cmp.Or(cmp.Compare(s.faults[b], s.faults[a]), cmp.Compare(a, b))
	})
	var list []string
	for _, k := range kinds {
		list = append(list, fmt.Sprint(string(k), is, s.faults[k]))
	}
	return strings.Join(list, and)
}

// seeds lists those of the schedules that failed, which end in any order.
func (s *Summary) seeds(and string) string {
	slices.Sort(s.failed)
	var list []string
	for _, seed := range s.failed {
		list = append(list, fmt.Sprint(seed))
	}
	return strings.Join(list, and)
}
