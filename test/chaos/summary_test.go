package chaos_test

import (
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

func TestSummary(t *testing.T) {
	began := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := chaos.NewSummary(began)
	now := began.Add(90*time.Second + ms(400))
	s.Add(8, chaos.Schedule{{Act: chaos.KillAgent}, {Act: chaos.KillAgent}, {Act: chaos.CutAgent}},
		chaos.Result{Reboots: 10, Calls: 20, Revisions: 300, Settled: ms(1500), Said: saying("full: 1", "full: 2")}, true)
	s.Add(7, chaos.Schedule{{Act: chaos.CutAgent}, {Act: chaos.KillMember}},
		chaos.Result{Reboots: 1, Calls: 2, Revisions: 3, Settled: ms(2500), Said: saying("away", "")}, true)
	s.Add(9, nil, chaos.Result{}, false)
	want := "2030-01-02T03:04:05Z wall=1m30s schedules=3 failed=2 faults=5 reboots=11 calls=22 commands=4 revisions=303 longest-settle=2.5s " +
		"failed-seeds=7,8 kinds=cut-agent:2,kill-agent:2,kill-member:1"
	if got := s.Line(now); got != want {
		t.Errorf("the line is\n%s\nwant\n%s", got, want)
	}
	want = `3 schedules in 1m30s, of which 2 failed
11 reboots, 22 calls held against the model, 4 commands of users, 303 revisions judged
all through at most 2.5s after the last fault was healed
faults: cut-agent 2, kill-agent 2, kill-member 1
failed seeds: 7, 8
`
	if got := s.Text(now); got != want {
		t.Errorf("the text is\n%s\nwant\n%s", got, want)
	}
	want = "     2  full: N\n     1  away\n"
	if got := s.Messages(); got != want {
		t.Errorf("the messages are\n%s\nwant\n%s", got, want)
	}
}

// saying is commands that failed with a message, or did not, without one.
func saying(texts ...string) (said []chaos.Said) {
	for _, text := range texts {
		said = append(said, chaos.Said{Error: text, Failed: text != ""})
	}
	return said
}
