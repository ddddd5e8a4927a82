package etcd

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// Refusals are in the history of their group, in order with what else happened there,
// and change no semaphore. Those of many servers at once are all kept.
func TestRefuse(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g, other := dial(t, srv.Endpoint), newGroup(t), newGroup(t)
		setMax(t, s, g, 1)
		before := checkGroup(t, s, g, 0, 1)
		refuse := func(group *locksmith.Group, outcome string) {
			t.Helper()
			err := s.Refuse(t.Context(), locksmith.HistoryEntry{Time: time.Now(), Group: group, Actor: "eve@10.0.0.9",
				Action: locksmith.ActionRefuse, Machine: "m1", Outcome: outcome})
			if err != nil {
				t.Fatal(err)
			}
		}
		refuse(&g, "first")
		refuse(&other, "elsewhere")
		refuse(nil, "nowhere")
		setMax(t, s, g, 2)
		var at once
		at.run(t, 20, func(i int) error {
			return dial(t, srv.Endpoint).Refuse(t.Context(), locksmith.HistoryEntry{Time: time.Now(), Group: &g,
				Actor: "eve@10.0.0.9", Action: locksmith.ActionRefuse, Outcome: fmt.Sprintf("at once %d", i)})
		})
		entries, err := s.History(t.Context(), g, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 23 {
			t.Fatalf("%d entries in the history, want 23: %v", len(entries), entries)
		}
		last := entries[20:]
		if last[0].Outcome != "max 1 -> 2" || last[1].Outcome != "first" || last[1].Machine != "m1" || last[2].Outcome != "max 1" {
			t.Errorf("oldest entries: %+v", last)
		}
		if newest, err := s.History(t.Context(), g, 2); err != nil || len(newest) != 2 || newest[0].Revision != entries[0].Revision {
			t.Errorf("the newest two: %v, %v", newest, err)
		}
		all, err := s.Refusals(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]*locksmith.Group{}
		for _, e := range slices.Backward(all) { // the newest of each, where earlier runs left theirs
			found[e.Outcome] = e.Group
		}
		if nowhere, there := found["nowhere"]; !there || nowhere != nil || found["elsewhere"] == nil || *found["elsewhere"] != other {
			t.Errorf("refused nowhere: %v, elsewhere: %v", nowhere, found["elsewhere"])
		}
		after := checkGroup(t, s, g, 0, 2)
		if after.Revision <= before.Revision || len(after.Faults) > 0 {
			t.Errorf("status after refusals: %+v", after)
		}
		if st, err := s.Status(t.Context(), other); err != nil || st.Exists {
			t.Errorf("a refusal made the group %s: %+v, %v", other, st, err)
		}
	})
}

// The ring of refusals is bounded.
func TestRefusalsAreBounded(t *testing.T) {
	s := dial(t, etcdtest.Start(t, etcdtest.Embedded).Endpoint)
	for i := range historySize + 10 {
		if err := s.Refuse(t.Context(), locksmith.HistoryEntry{Time: time.Now(), Action: locksmith.ActionRefuse, Outcome: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Refusals(t.Context(), 10*historySize)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != historySize || all[0].Outcome != fmt.Sprint(historySize+9) || all[historySize-1].Outcome != "10" {
		t.Errorf("%d refusals kept, from %s to %s", len(all), all[0].Outcome, all[len(all)-1].Outcome)
	}
}

// once runs something many times at once.
type once struct{ sync.WaitGroup }

func (o *once) run(t *testing.T, n int, do func(int) error) {
	t.Helper()
	for i := range n {
		o.Go(func() {
			if err := do(i); err != nil {
				t.Error(err)
			}
		})
	}
	o.Wait()
}
