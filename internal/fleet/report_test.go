package fleet_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

func TestPeaks(t *testing.T) {
	zero := time.Unix(1_000_000, 0)
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	down := func(name string, from, to int, groups ...locksmith.Group) fleet.Record {
		r := fleet.Record{Machine: name, Groups: groups, Outages: []fleet.Outage{{From: at(from)}}}
		if to >= 0 {
			r.Outages[0].To = at(to)
		}
		return r
	}
	twice := down("a", 0, 1, "")
	twice.Outages = append(twice.Outages, fleet.Outage{From: at(5), To: at(9)})
	for _, tt := range []struct {
		name     string
		machines []fleet.Record
		want     []fleet.Peak
	}{
		{"nobody", nil, nil},
		{"never down", []fleet.Record{{Machine: "a", Groups: []locksmith.Group{""}}}, []fleet.Peak{{}}},
		{"one after the other, without a gap", []fleet.Record{down("a", 0, 2, ""), down("b", 2, 4, ""), down("c", 4, 6, "")},
			[]fleet.Peak{{Down: 1, At: at(0), Machines: []string{"a"}}}},
		{"overlap by an instant", []fleet.Record{down("a", 0, 3, ""), down("b", 2, 4, "")},
			[]fleet.Peak{{Down: 2, At: at(2), Machines: []string{"a", "b"}}}},
		{"still down", []fleet.Record{down("b", 7, 8, ""), down("a", 0, -1, "")},
			[]fleet.Peak{{Down: 2, At: at(7), Machines: []string{"a", "b"}}}},
		{"the first peak counts", []fleet.Record{down("a", 0, 9, ""), down("b", 1, 2, ""), down("c", 3, 4, "")},
			[]fleet.Peak{{Down: 2, At: at(1), Machines: []string{"a", "b"}}}},
		{"a machine twice", []fleet.Record{twice, down("b", 6, 7, "")},
			[]fleet.Peak{{Down: 2, At: at(6), Machines: []string{"a", "b"}}}},
		{"no time at all", []fleet.Record{down("a", 3, 3, ""), down("b", 1, 5, "")},
			[]fleet.Peak{{Down: 1, At: at(1), Machines: []string{"b"}}}},
		{"groups apart, and one in both", []fleet.Record{down("a", 0, 5, "x"), down("b", 0, 5, "y"), down("c", 1, 2, "x", "y")},
			[]fleet.Peak{
				{Group: "x", Down: 2, At: at(1), Machines: []string{"a", "c"}},
				{Group: "y", Down: 2, At: at(1), Machines: []string{"b", "c"}},
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := fleet.Report{Machines: tt.machines}
			if diff := cmp.Diff(tt.want, r.Peaks()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, p := range tt.want {
				if got := r.MaxDown(p.Group); got != p.Down {
					t.Errorf("MaxDown(%q) is %d", p.Group, got)
				}
				if got := len(r.Exceeded(map[locksmith.Group]int{"": p.Down, "x": p.Down, "y": p.Down})); got != 0 {
					t.Errorf("%d groups exceeded what they reached", got)
				}
			}
		})
	}
}

func TestExceeded(t *testing.T) {
	now := time.Now()
	r := fleet.Report{Machines: []fleet.Record{
		{Machine: "a", Groups: []locksmith.Group{"x", "y"}, Outages: []fleet.Outage{{From: now}}},
		{Machine: "b", Groups: []locksmith.Group{"x"}, Outages: []fleet.Outage{{From: now.Add(1)}}},
	}}
	got := r.Exceeded(map[locksmith.Group]int{"x": 1, "y": 1})
	want := []fleet.Peak{{Group: "x", Down: 2, At: now.Add(1), Machines: []string{"a", "b"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := r.Exceeded(map[locksmith.Group]int{"x": 2}); len(got) != 1 || got[0].Group != "y" {
		t.Errorf("a group that allows none: %+v", got)
	}
}

func TestRecord(t *testing.T) {
	zero := time.Now()
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	r := fleet.Record{Needed: at(1), Boots: 1}
	if got := r.Waited(at(4)); got != 3*time.Second {
		t.Errorf("still waiting: %v", got)
	}
	r.Granted = at(5)
	r.Outages = []fleet.Outage{{From: at(6)}}
	if r.Waited(at(99)) != 4*time.Second || r.Down(at(8)) != 2*time.Second || r.RebootedOnce() {
		t.Errorf("down: waited %v, down %v, rebooted %v", r.Waited(at(99)), r.Down(at(8)), r.RebootedOnce())
	}
	r.Outages[0].To, r.Boots = at(9), 2
	if r.Down(at(99)) != 3*time.Second || r.RebootedOnce() {
		t.Errorf("up, its slot not given back: down %v, rebooted %v", r.Down(at(99)), r.RebootedOnce())
	}
	r.Released = at(10)
	if !r.RebootedOnce() {
		t.Error("not counted as rebooted")
	}
	r.Outages = append(r.Outages, fleet.Outage{From: at(11), To: at(12)})
	if r.Boots++; r.RebootedOnce() {
		t.Error("rebooted twice, counted as once")
	}
	if got := (fleet.Record{}).Waited(at(3)); got != 0 {
		t.Errorf("never needed a reboot, waited %v", got)
	}
}
