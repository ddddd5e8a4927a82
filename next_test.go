package locksmith

import (
	"strings"
	"testing"
	"time"
)

// noon is a Thursday, in winter time.
var noon = time.Date(2026, 11, 19, 12, 0, 0, 0, time.FixedZone("CET", 3600))

// after is an instant d after noon, as stored.
func after(d time.Duration) int64 { return noon.Add(d).Unix() }

// phased is a machine that needs a reboot and is in a phase since ten minutes.
func phased(p Phase, conds ...Condition) Why {
	return Why{Time: noon.Unix(), Machine: MachineStatus{Present: true, Presence: Presence{MachineID: "m3", Hostname: "web-3",
		Groups: []Group{"lb"}, Strategy: StrategyEtcdLock, Phase: p, PhaseTime: after(-10 * time.Minute),
		NeededSince: after(-time.Hour), Conditions: conds}}}
}

func (w Why) holding(h Holder) Why {
	h.MachineID = "m3"
	w.Machine.Holds = &h
	return w
}

func (w Why) at(places ...Place) Why {
	w.Places = places
	return w
}

func (w Why) absentSince(d time.Duration) Why {
	w.Machine.Present, w.Machine.Seen = false, after(-d)
	return w
}

func (w Why) idle() Why {
	w.Machine.NeededSince = 0
	return w
}

func (w Why) dry() Why {
	w.Machine.DryRun = true
	return w
}

func (w Why) strategy(s Strategy) Why {
	w.Machine.Strategy = s
	return w
}

func (w Why) waiting(text string) Why {
	w.Machine.Waiting = text
	return w
}

func TestNext(t *testing.T) {
	slot := Condition{Name: CondSlot, State: CondPending}
	queued := Condition{Name: CondSlot, State: CondWaiting}
	pauseLB := Pause{Scope: PauseScope{Group: "lb"}, By: "alice@jump-1"}
	pauseAll := Pause{Scope: PauseScope{All: true}, Until: after(6 * time.Hour)}
	over := Pause{Scope: PauseScope{Machine: "m3"}, Until: after(-time.Second)}
	agents := Holder{By: ByAgent, Phase: PhaseAcquired, PhaseTime: after(-time.Hour)}
	for _, tt := range []struct {
		name string
		why  Why
		want string
	}{
		{"idle", phased(PhaseIdle).idle(), "nothing, until a reboot is needed."},
		{"off", phased(PhaseIdle).strategy(StrategyOff), "nothing: its strategy is off."},
		{"idle after an abort", phased(PhaseIdle).waiting("aborted: the window closed; next try at 12:03:00"),
			"reboots after this: aborted: the window closed; next try at 12:03:00."},
		{"idle, a trigger fails", phased(PhaseIdle, Condition{Name: CondNeed, State: CondUnknown}),
			"tries again, and then reboots once it is known whether a reboot is needed."},
		{"idle, a lock by hand", phased(PhaseIdle, Condition{Name: CondSlot, State: CondBlocked}).holding(Holder{By: ByLock}),
			"nothing, while its slot is held by hand or by a command: only unlock, or the end of the command, gives it back."},
		{"needed", phased(PhaseNeeded), "reboots any moment."},

		{"window", phased(PhaseWindow, Condition{Name: CondWindow, State: CondWaiting, Until: after(11 * time.Hour)}, slot),
			"reboots once its window opens (23:00, in 11 h) and it has taken its slot."},
		{"window and its slot", phased(PhaseWindow, Condition{Name: CondWindow, State: CondWaiting, Until: after(35*time.Hour + 12*time.Minute)}, slot).
			at(Place{Group: "lb", Max: 1, Free: 1}), "reboots once its window opens (Fri 23:12, in 35 h 12 min) and it has taken its slot."},
		{"window, and a FleetLock server", phased(PhaseWindow, Condition{Name: CondWindow, State: CondWaiting, Until: after(11 * time.Hour)}, slot).
			strategy(StrategyFleetLock), "reboots once its window opens (23:00, in 11 h) and the FleetLock server gives it a slot."},
		{"window, not known", phased(PhaseWindow, Condition{Name: CondWindow, State: CondUnknown}),
			"reboots once it is known whether its window is open."},
		{"no window", phased(PhaseWindow, Condition{Name: CondWindow, State: CondBlocked}), "reboots once it gets a window that opens."},
		{"window, without a slot", phased(PhaseWindow, Condition{Name: CondWindow, State: CondWaiting}).strategy(StrategyReboot),
			"reboots once its window opens."},
		{"blocked", phased(PhaseWindow, Condition{Name: CondWindow, State: CondMet, Until: after(time.Hour)},
			Condition{Name: "20-backup", State: CondBlocked}, Condition{Name: "alerts", State: CondUnknown},
			Condition{Name: "package-manager", State: CondWaiting}),
			"reboots once 20-backup no longer blocks, it is known whether alerts blocks and package-manager is over."},
		{"checks", phased(PhaseWindow, Condition{Name: CondChecks, State: CondWaiting}), "reboots once its checks pass."},
		{"paused", Why{Machine: MachineStatus{Present: true, Presence: Presence{Phase: PhaseWindow, NeededSince: 1,
			Conditions: []Condition{{Name: CondPause, State: CondBlocked}}}, Pauses: []Pause{over, pauseAll}},
			Places: []Place{{Group: "lb", Max: 1, Pauses: []Pause{pauseLB, pauseAll}}}},
			"reboots once the pause of all groups is over (18:00, in 6 h) and group lb is resumed."},
		{"all paused, and the machine", Why{Machine: MachineStatus{Present: true, Presence: Presence{MachineID: "m3", Phase: PhaseWindow, NeededSince: 1},
			Pauses: []Pause{{Scope: PauseScope{All: true}}, {Scope: PauseScope{Machine: "m3"}}}}},
			"reboots once all groups are resumed and the machine itself is resumed."},
		{"paused, says the machine", phased(PhaseWindow, Condition{Name: CondPause, State: CondBlocked, Until: after(time.Minute)}),
			"reboots once it is not paused (12:01, in 1 min)."},
		{"breaker", phased(PhaseWindow, Condition{Name: CondBreaker, State: CondWaiting, Until: after(time.Minute)}),
			"reboots once the breaker lets it (12:01, in 1 min)."},
		{"users keep it up", phased(PhaseWindow, Condition{Name: CondUsers, State: CondBlocked}), "reboots once nobody is logged in."},

		{"queued, first", phased(PhaseQueued, queued).at(Place{Group: "lb", Max: 1, Position: 1, Waiting: 12}),
			"reboots once a slot of group lb is free."},
		{"queued, third", phased(PhaseQueued, queued).at(Place{Group: "lb", Max: 1, Position: 3, Waiting: 12}),
			"reboots once a slot of group lb is free (2 before it)."},
		{"queued in two", phased(PhaseQueued, queued).at(Place{Group: "", Max: 2, Free: 1, Position: 1}, Place{Group: "rack-7", Position: 1}),
			"reboots once group rack-7 gets slots again (its maximum is 0)."},
		{"queued and paused", phased(PhaseQueued, queued).at(Place{Group: "lb", Max: 1, Position: 1, Pauses: []Pause{pauseLB}}),
			"reboots once group lb is resumed and a slot of group lb is free."},
		{"queued, no word of the queue", phased(PhaseQueued), "reboots once it has taken its slot."},

		{"acquired", phased(PhaseAcquired).holding(agents), "reboots once it is prepared."},
		{"preparing", phased(PhasePreparing).holding(agents), "reboots once it is prepared."},
		{"preparing, blocked", phased(PhasePreparing, Condition{Name: "20-backup", State: CondBlocked}).holding(agents),
			"reboots once 20-backup no longer blocks and it is prepared."},
		{"notifying", phased(PhaseNotifying, Condition{Name: CondUsers, State: CondWaiting, Until: after(4 * time.Minute)}).holding(agents),
			"reboots once the logged-in users had their time (12:04, in 4 min)."},
		{"notifying, since when is not known", phased(PhaseNotifying).holding(agents), "reboots once the logged-in users had their time."},

		{"rebooting", phased(PhaseAcquired).holding(Holder{By: ByAgent, Phase: PhaseRebooting, PhaseTime: after(-time.Minute)}),
			"goes down; once it is back its checks run, and then its slot goes back."},
		{"rebooting, but up", phased(PhaseAcquired).holding(Holder{By: ByAgent, Phase: PhaseRebooting, PhaseTime: after(-10 * time.Minute)}),
			"locksmithd asks for the reboot again and then gives up: the machine was asked to reboot 10 min ago and is still up."},
		{"verifying", phased(PhaseVerifying).holding(agents), "once its checks after the reboot pass, its slot goes back."},
		{"soaking", phased(PhaseVerifying, Condition{Name: CondVerify, State: CondWaiting, Until: after(2 * time.Minute)}).holding(agents),
			"once its checks after the reboot pass (12:02, in 2 min), its slot goes back."},
		{"verifying without a slot", phased(PhaseVerifying).strategy(StrategyReboot), "once its checks after the reboot pass, it is done."},
		{"restoring", phased(PhaseRestoring).holding(agents), "undoes what was prepared for the reboot, then gives its slot back."},
		{"releasing", phased(PhaseReleasing).holding(agents), "gives its slot back, and the next machine can have it."},
		{"recovering", phased(PhaseRecovering), "finds out what an earlier run left, and goes on from there."},
		{"no phase", phased(""), "not known: its locksmithd does not say in which phase it is."},

		{"failed", phased(PhaseFailed).holding(agents).at(Place{Group: "", Max: 1, Holds: true, Waiting: 1}, Place{Group: "lb", Max: 1, Holds: true, Waiting: 12},
			Place{Group: "roomy", Max: 2, Free: 1, Holds: true, Waiting: 1}),
			"keeps its slot until its checks pass, which are tried again and again. In the default group one machine waits for it. In group lb 12 machines wait for it."},
		{"failed without a slot", phased(PhaseFailed, Condition{Name: CondVerify, State: CondBlocked}), "runs its checks again and again until they pass."},
		{"failed without a slot, a hook", phased(PhaseFailed, Condition{Name: "20-web", State: CondBlocked}), "runs its checks again and again until they pass."},
		{"stopped by the breaker", phased(PhaseFailed, Condition{Name: CondBreaker, State: CondBlocked}),
			"reboots once a reboot is needed for another reason."},
		{"held up by the breaker", phased(PhaseFailed, Condition{Name: CondBreaker, State: CondBlocked, Until: after(3 * time.Hour)}, slot),
			"reboots once the breaker lets it (15:00, in 3 h) and it has taken its slot."},

		{"gone", phased(PhaseQueued).absentSince(time.Hour), "nothing, until locksmithd runs on it and reaches etcd."},
		{"gone with a slot", phased(PhasePreparing).holding(agents).absentSince(time.Hour),
			"nothing, until it is back: it keeps its slot, because nobody can know from here whether it is down."},
		{"a slot taken over FleetLock", Why{Machine: MachineStatus{}}.holding(Holder{By: ByFleetLock}),
			"not known from here: it reboots on a slot that it took over FleetLock, and gives that back over FleetLock once it is up."},
		{"gone with a slot held by hand", phased(PhaseIdle).holding(Holder{By: ByLock}).absentSince(time.Hour),
			"nothing, while its slot is held by hand or by a command: only unlock, or the end of the command, gives it back."},
		{"booting", phased(PhaseNotifying).holding(Holder{By: ByAgent, Phase: PhaseRebooting, PhaseTime: after(-9 * time.Minute)}).absentSince(time.Minute),
			"comes back from its reboot; then its checks run, and its slot goes back."},
		{"reboot refused", phased(PhaseRebooting).waiting(RebootFailed + "no kernel is loaded"), "asks for the reboot again, and after some tries gives up for now."},
		{"ran dry", phased(PhaseIdle).dry().waiting(RanDry), "nothing, until something else is needed: the log says what would have been done. " +
			"It is a dry run: no slot is taken and nothing reboots."},
		{"dry run", phased(PhaseNeeded).dry(), "reboots any moment. It is a dry run: no slot is taken and nothing reboots."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.why.Next(noon); got != tt.want {
				t.Errorf("\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// Whatever a machine says, the answer is sentences in one line.
func TestNextAlwaysAnswers(t *testing.T) {
	names := []string{CondNeed, CondWindow, CondPause, CondBreaker, CondChecks, CondSlot, CondUsers, CondVerify, "20-backup"}
	states := []ConditionState{CondMet, CondWaiting, CondBlocked, CondUnknown, CondPending, "a newer one"}
	for _, phase := range append([]Phase{"", "a newer one"}, Phases...) {
		for _, name := range names {
			for _, state := range states {
				for _, holder := range []*Holder{nil, {By: ByAgent, Phase: PhaseRebooting}, {By: ByLock}, {}} {
					for _, present := range []bool{true, false} {
						w := phased(phase, Condition{Name: name, State: state})
						w.Machine.Holds, w.Machine.Present = holder, present
						got := w.Next(noon)
						if !strings.HasSuffix(got, ".") || strings.Contains(got, "once .") || strings.Contains(got, "%!") ||
							strings.ContainsAny(got, "\n") || strings.ToLower(got[:1]) != got[:1] {
							t.Errorf("phase %q, %s %s, holder %v, present %v: %q", phase, name, state, holder, present, got)
						}
					}
				}
			}
		}
	}
}

func TestWhere(t *testing.T) {
	record := func(p Phase, at int64, by string) *Holder { return &Holder{Phase: p, PhaseTime: at, By: by} }
	for _, tt := range []struct {
		name  string
		phase Phase
		at    int64
		holds *Holder
		want  Phase
		since int64
	}{
		{"no record", PhaseQueued, 5, nil, PhaseQueued, 5},
		{"newer record", PhaseQueued, 5, record(PhaseAcquired, 6, ByAgent), PhaseAcquired, 6},
		{"older record", PhaseVerifying, 9, record(PhaseRebooting, 6, ByAgent), PhaseVerifying, 9},
		{"the same second, the record is further", PhaseNotifying, 6, record(PhaseRebooting, 6, ByAgent), PhaseRebooting, 6},
		{"the same second, the presence is further", PhasePreparing, 6, record(PhaseAcquired, 6, ByAgent), PhasePreparing, 6},
		{"only a record", "", 0, record(PhaseRebooting, 6, ByReboot), PhaseRebooting, 6},
		{"an old client's record", PhaseIdle, 5, &Holder{StartTime: 7}, PhaseIdle, 5},
		{"an administrator's lock", PhaseIdle, 5, record(PhaseAcquired, 6, ByLock), PhaseIdle, 5},
		{"a slot taken over FleetLock", "", 0, record(PhaseAcquired, 6, ByFleetLock), PhaseAcquired, 6},
		{"nothing", "", 0, nil, "", 0},
	} {
		m := MachineStatus{Presence: Presence{Phase: tt.phase, PhaseTime: tt.at}, Holds: tt.holds}
		if phase, since := m.Where(); phase != tt.want || since != tt.since {
			t.Errorf("%s: %q since %d, want %q since %d", tt.name, phase, since, tt.want, tt.since)
		}
	}
}

func TestLastSeen(t *testing.T) {
	for _, tt := range []struct {
		name  string
		seen  int64
		holds *Holder
		want  int64
	}{
		{"never", 0, nil, 0},
		{"presence", 5, nil, 5},
		{"older record", 5, &Holder{By: ByAgent, PhaseTime: 4}, 5},
		{"newer record", 5, &Holder{By: ByAgent, PhaseTime: 6}, 6},
		{"a slot taken over FleetLock", 0, &Holder{By: ByFleetLock, PhaseTime: 6}, 6},
		{"written by somebody else", 5, &Holder{By: ByReboot, PhaseTime: 6}, 5},
	} {
		m := MachineStatus{Presence: Presence{Seen: tt.seen}, Holds: tt.holds}
		if got := m.LastSeen(); !got.Equal(When(tt.want)) {
			t.Errorf("%s: %v, want %v", tt.name, got, When(tt.want))
		}
	}
}

func TestStale(t *testing.T) {
	at := func(d time.Duration) int64 { return noon.Add(-d).Unix() }
	for _, tt := range []struct {
		name    string
		holder  Holder
		present bool
		want    bool // of the holder
		machine bool // of the machine that holds it
	}{
		{"present", Holder{By: ByAgent}, true, false, false},
		{"gone", Holder{By: ByAgent}, false, true, true},
		{"an old client's", Holder{}, false, true, true},
		{"a lock by hand", Holder{By: ByLock}, false, false, true},
		{"booting", Holder{By: ByAgent, Phase: PhaseRebooting, PhaseTime: at(BootTime - time.Second)}, false, false, false},
		{"booting by hand", Holder{By: ByReboot, Phase: PhaseRebooting, PhaseTime: at(0)}, false, false, false},
		{"booting too long", Holder{By: ByAgent, Phase: PhaseRebooting, PhaseTime: at(BootTime)}, false, true, true},
		{"rebooting, since when is not known", Holder{Phase: PhaseRebooting}, false, true, true},
		{"over FleetLock", Holder{By: ByFleetLock, StartTime: at(FleetLockTime - time.Second)}, false, false, false},
		{"over FleetLock, too long", Holder{By: ByFleetLock, StartTime: at(FleetLockTime)}, false, true, true},
		{"a clock that is ahead", Holder{Phase: PhaseRebooting, PhaseTime: at(-time.Hour)}, false, false, false},
	} {
		if got := (HolderStatus{Holder: tt.holder, Present: tt.present}).Stale(noon); got != tt.want {
			t.Errorf("%s: holder stale %v", tt.name, got)
		}
		if got := (MachineStatus{Present: tt.present, Holds: &tt.holder}).Stale(noon); got != tt.machine {
			t.Errorf("%s: machine stale %v", tt.name, got)
		}
	}
	if !(MachineStatus{}).Stale(noon) {
		t.Error("a machine without slot and without agent is not stale")
	}
}
