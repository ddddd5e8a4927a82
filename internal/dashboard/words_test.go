package dashboard

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

var noon = time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) int64 { return noon.Add(-d).Unix() }

// lab is a group with two holders, and who waits.
func lab(limit int, waiting ...string) locksmith.GroupStatus {
	s := locksmith.GroupStatus{Group: "lab", Exists: true, Sem: locksmith.Semaphore{Max: limit, Semaphore: limit - 2, Holders: []string{"m1", "m2"}}}
	for _, id := range s.Sem.Holders {
		s.Holders = append(s.Holders, locksmith.HolderStatus{Recorded: true, Holder: locksmith.Holder{MachineID: id, By: locksmith.ByAgent, StartTime: before(time.Hour)}})
	}
	for _, w := range waiting {
		s.Queue = append(s.Queue, locksmith.Waiter{MachineID: w, Groups: []locksmith.Group{"lab"}, Since: before(time.Minute)})
	}
	return s
}

func TestWhoGetsTheSlot(t *testing.T) {
	paused := lab(2, "m5")
	paused.Pauses = []locksmith.Pause{{Scope: locksmith.PauseScope{Group: "lab"}}, {Scope: locksmith.PauseScope{All: true}}}
	several := lab(2, "m5")
	several.Queue[0].Groups = []locksmith.Group{"lab", "rack-7"}
	for want, s := range map[string]locksmith.GroupStatus{
		"Unlocking m2 in group lab gives its slot to m5, which waits first, and may reboot at once.":                                                       lab(2, "m5", "m6"),
		"Unlocking m2 in group lab frees its slot; 2 are free then, and m5 waits first.":                                                                   lab(3, "m5"),
		"Unlocking m2 in group lab frees its slot. Nobody waits for it just now; the next machine that asks can have it at once.":                          lab(2),
		"Unlocking m2 in group lab gives its slot to nobody yet: the maximum was lowered to 1, and 1 slot will still be taken.":                            lab(1, "m5"),
		"Unlocking m2 in group lab frees its slot, but nobody is given it while group lab is paused and all groups are paused. Then m5 is first in line.":  paused,
		"Unlocking m2 in group lab gives its slot to m5, which waits first, and may reboot at once. It takes one only where all its groups have one free.": several,
	} {
		if got := unlockGives(s, s.Holders[1]); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestWhatTheMachineIsDoing(t *testing.T) {
	holder := func(by string, phase locksmith.Phase, ago time.Duration, present bool) locksmith.HolderStatus {
		h := locksmith.HolderStatus{Recorded: true, Present: present, Seen: noon.Add(-time.Hour), Holder: locksmith.Holder{MachineID: "m2", By: by,
			StartTime: before(time.Hour), Phase: phase, Reason: "because"}}
		if ago > 0 {
			h.PhaseTime = before(ago)
		}
		return h
	}
	old := holder("", "", 0, false)
	old.Recorded, old.Holder = false, locksmith.Holder{MachineID: "m2"}
	for _, c := range []struct {
		h                 locksmith.HolderStatus
		state, tone, warn string
	}{
		{holder(locksmith.ByAgent, locksmith.PhaseRebooting, 12*time.Minute, false), "Stale, not heard of", toneBad, "m2 was asked to reboot 12 min ago and may still be down: look at it first."},
		{holder(locksmith.ByAgent, locksmith.PhaseRebooting, 3*time.Minute, false), "Down", toneWarn, "m2 was asked to reboot 3 min ago"},
		{holder(locksmith.ByAgent, locksmith.PhaseRebooting, time.Minute, true), "Goes down", toneWarn, "m2 was asked to reboot 1 min ago"},
		{holder(locksmith.ByAgent, locksmith.PhasePreparing, time.Minute, true), "Prepares", toneBusy, "m2 is up and about to reboot. Without its slot it gives that up"},
		{holder(locksmith.ByAgent, locksmith.PhasePreparing, time.Minute, false), "Stale, not heard of", toneBad, "m2 was not seen for 1 h. If it is only cut off"},
		{holder(locksmith.ByAgent, locksmith.PhaseVerifying, time.Minute, true), "Back, being checked", toneBusy, "m2 is back from its reboot"},
		{holder(locksmith.ByAgent, locksmith.PhaseFailed, time.Minute, true), "Failed its checks", toneBad, "m2 failed its checks after the reboot."},
		{holder(locksmith.ByLock, "", 0, false), "Held by hand", toneCalm, "m2's slot is held by hand for 1 h (because)."},
		{holder(locksmith.ByWithLock, "", 0, false), "Runs a command", toneCalm, "A command runs while m2's slot is held for 1 h (because)."},
		{holder(locksmith.ByFleetLock, "", 0, false), "Not back", toneBad, "m2 took its slot over FleetLock 1 h ago to reboot, and may still be down"},
		{old, "Stale, not heard of", toneBad, "An older client took m2's slot and left no record"},
	} {
		state, tone, _ := stateOf(c.h, noon)
		if state != c.state || tone != c.tone {
			t.Errorf("%s %s: %s, %s", c.h.By, c.h.Phase, state, tone)
		}
		if got := unlockWarns(c.h, noon); !strings.HasPrefix(got, c.warn) {
			t.Errorf("%s\nwant %s", got, c.warn)
		}
	}
}

func TestWhatAnotherMaximumMeans(t *testing.T) {
	paused := lab(2, "m5")
	paused.Pauses = []locksmith.Pause{{Scope: locksmith.PauseScope{All: true}}}
	for _, c := range []struct {
		s    locksmith.GroupStatus
		n    int
		want string
	}{
		{lab(2), 2, "Group lab has 2 slots already: nothing changes but the history. 2 of the 2 are taken now."},
		{lab(2, "m5"), 0, "No machine of group lab is given a slot any more. To stop reboots for a while a pause is better: it says why, and can end by itself."},
		{lab(2, "m5"), 1, "2 machines hold slots now, and keep them. Nobody is given one until 2 of them have given theirs back."},
		{lab(2, "m5"), 3, "At most 3 machines may be down at a time, instead of 2. m5 can have a slot at once, and may reboot. 2 of the 3 are taken now."},
		{lab(2, "m5", "m6", "m7", "m8"), 9, "At most 9 machines may be down at a time, instead of 2. m5, m6, m7, 1 more can have a slot at once, and may reboot. 2 of the 9 are taken now."},
		{paused, 3, "At most 3 machines may be down at a time, instead of 2. m5 would be next, but all groups are paused. 2 of the 3 are taken now."},
	} {
		if got := strings.Join(maxMeans(c.s, c.n), " "); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

func TestTheFirstInLineThatTakesNoSlotIsLookedAt(t *testing.T) {
	s := lab(3, "m5")
	s.Queue[0].Since = before(holdUp + time.Second)
	has := func(s locksmith.GroupStatus) bool {
		for _, x := range troubles(s, access.Caller{}, noon) {
			if strings.HasPrefix(x.Key, "first") {
				return true
			}
		}
		return false
	}
	if !has(s) {
		t.Error("it is not told")
	}
	s.Queue[0].Since = before(holdUp - time.Second)
	if has(s) {
		t.Error("it is told too early")
	}
	s.Queue[0].Since, s.Queue[0].Groups = before(time.Hour), []locksmith.Group{"lab", "other"}
	if has(s) {
		t.Error("it waits for another group")
	}
}

func TestPauseEnd(t *testing.T) {
	for query, want := range map[string]int64{"": 0, "for=4h0m0s": noon.Add(4 * time.Hour).Unix(), "at=2026-11-20T08:30": noon.Add(20*time.Hour + 30*time.Minute).Unix(),
		"for=x": -1, "for=-1h": -1, "for=1h&at=2026-11-20T08:30": -1, "at=8:30": -1} {
		form, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pauseEnd(form, noon)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%s: %d %v", query, got, err)
		}
	}
}

func FuzzLocal(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/a?b=c#d", "/%2F%2Fx", "/\tx", "https://x/", "/x:y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := local(path)
		u, err := url.Parse("http://here.example" + got)
		if err != nil || u.Host != "here.example" {
			t.Fatalf("%q: %q", path, got)
		}
		base, _ := url.Parse("http://here.example/x")
		if to, err := base.Parse(got); err != nil || to.Host != "here.example" || to.Scheme != "http" {
			t.Fatalf("%q: %q leads to %v %v", path, got, to, err)
		}
	})
}
