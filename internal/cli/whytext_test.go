package cli

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
)

const (
	machine = "3f0c9a1e5b7d4c2f8e6a0b1c2d3e4f50"
	other   = "84a3de59cb7c6898b3600dda6b8a4d39"
	kernel  = "/run/reboot-required: linux-image-6.1.0-31-amd64"
)

// web3 is a machine of groups lb and rack-7 that needs a reboot and is in phase
// since twelve minutes. It says what locksmithd says.
func web3(phase locksmith.Phase, conds ...locksmith.Condition) locksmith.Why {
	need := locksmith.Condition{Name: locksmith.CondNeed, State: locksmith.CondMet, Text: kernel, Since: ago(16 * time.Minute)}
	return locksmith.Why{Time: noon.Unix(), Machine: locksmith.MachineStatus{Present: true, Presence: locksmith.Presence{
		MachineID: machine, Hostname: "web-3", Groups: []locksmith.Group{"lb", "rack-7"}, Strategy: locksmith.StrategyEtcdLock,
		BootID: "b1", Phase: phase, PhaseTime: ago(12 * time.Minute), NeededSince: ago(16 * time.Minute), Reason: kernel, Seen: noon.Unix(),
		LastReboot: ago(59 * time.Hour), LastOutcome: "rebooted", Conditions: append([]locksmith.Condition{need}, conds...)}}}
}

// The conditions as locksmithd states them.
var (
	open      = locksmith.Condition{Name: "window", State: "met", Text: "window closes Thu 2026-11-19 18:00 CET", Until: ago(-6 * time.Hour)}
	closed    = locksmith.Condition{Name: "window", State: "waiting", Text: "window opens Fri 2026-11-20 23:00 CET", Until: ago(-35 * time.Hour)}
	unpaused  = locksmith.Condition{Name: "pause", State: "met", Text: "nobody paused it"}
	breaker   = locksmith.Condition{Name: "breaker", State: "met"}
	unblocked = locksmith.Condition{Name: "checks", State: "met", Text: "nothing blocks"}
	unchecked = locksmith.Condition{Name: "checks", State: "pending"}
	queues    = locksmith.Condition{Name: "slot", State: "waiting", Text: "queues", Since: ago(12 * time.Minute)}
	noSlot    = locksmith.Condition{Name: "slot", State: "pending"}
	held      = locksmith.Condition{Name: "slot", State: "met", Text: "held", Since: ago(12 * time.Minute)}
	users     = locksmith.Condition{Name: "users", State: "pending"}
)

// web4 holds a slot and is seen, or was.
func web4(phase locksmith.Phase, since time.Duration) locksmith.HolderStatus {
	return locksmith.HolderStatus{Recorded: true, Present: true, Holder: locksmith.Holder{MachineID: other, Hostname: "web-4",
		By: locksmith.ByAgent, StartTime: ago(since + time.Minute), Phase: phase, PhaseTime: ago(since)}}
}

func gone(h locksmith.HolderStatus, d time.Duration) locksmith.HolderStatus {
	h.Present, h.Seen = false, noon.Add(-d)
	return h
}

func lb(position, waiting int, holders ...locksmith.HolderStatus) locksmith.Place {
	return locksmith.Place{Group: "lb", Max: 1, Position: position, Waiting: waiting, Holders: holders}
}

var rack = locksmith.Place{Group: "rack-7", Max: 2, Free: 2, Position: 1, Waiting: 1}

func with(w locksmith.Why, change func(*locksmith.Why)) locksmith.Why {
	change(&w)
	return w
}

var whys = map[string]locksmith.Why{
	"idle": with(web3("idle", unpaused, breaker, unchecked, noSlot, users), func(w *locksmith.Why) {
		w.Machine.NeededSince, w.Machine.Reason = 0, ""
		w.Machine.Conditions[0] = locksmith.Condition{Name: "need", State: "waiting", Text: "no reboot is needed"}
	}),
	"trigger-error": with(web3("idle", unpaused), func(w *locksmith.Why) {
		w.Machine.NeededSince, w.Machine.Reason = 0, ""
		w.Machine.Conditions[0] = locksmith.Condition{Name: "need", State: "unknown", Text: "not every trigger can tell whether a reboot is needed"}
	}),
	"aborted": with(web3("idle", open, unpaused, breaker, unchecked, noSlot, users), func(w *locksmith.Why) {
		w.Machine.Waiting = "aborted: prepare failed: 50-kubernetes-drain: exit status 1; next try at 12:03:00"
		w.Machine.LastReboot, w.Machine.LastOutcome = ago(2*time.Minute), "aborted: prepare failed: 50-kubernetes-drain: exit status 1"
	}),
	"window": with(web3("window", closed, unpaused, breaker, unchecked, noSlot, users), func(w *locksmith.Why) {
		w.Machine.Waiting = closed.Text
		w.Places = []locksmith.Place{lb(0, 3, web4("preparing", time.Minute)), {Group: "rack-7", Max: 2, Free: 2}}
	}),
	"blocked": with(web3("window", open, unpaused, breaker,
		locksmith.Condition{Name: "20-backup", State: "blocked", Text: "running until 04:00", Since: ago(12 * time.Minute)},
		locksmith.Condition{Name: "alerts", State: "unknown", Text: "alerts: cannot be asked: Get \"http://prometheus.example.org:9090/api/v1/alerts\": dial tcp 192.0.2.7:9090: connect: connection refused"},
		noSlot, users), func(w *locksmith.Why) {
		w.Machine.Waiting = "blocked: 20-backup: running until 04:00"
	}),
	"paused": with(web3("window", open, locksmith.Condition{Name: "pause", State: "blocked", Text: "old words"}, breaker, unchecked, noSlot, users), func(w *locksmith.Why) {
		all := locksmith.Pause{Scope: locksmith.PauseScope{All: true}, By: "bob@jump-2", At: ago(time.Hour), Reason: "incident 4711"}
		w.Machine.Pauses = []locksmith.Pause{all, {Scope: locksmith.PauseScope{Machine: machine}, By: "alice@jump-1", At: ago(time.Hour), Reason: "debugging"}}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Free: 1, Pauses: []locksmith.Pause{all, {Scope: locksmith.PauseScope{Group: "lb"},
			By: "alice@jump-1", At: ago(time.Minute), Until: ago(-20 * time.Hour), Reason: "moving racks"}}}}
	}),
	"in-vain": with(web3("window", open, unpaused, locksmith.Condition{Name: "breaker", State: "blocked",
		Text: "the last reboot did not cure this need; a reboot for another reason is not kept back (locksmithctl send-need-reboot -reason …)"},
		unchecked, noSlot, users), func(w *locksmith.Why) { w.Machine.LastReboot = ago(17 * time.Minute) }),
	"queued": with(web3("queued", open, unpaused, breaker, unblocked, queues, users), func(w *locksmith.Why) {
		w.Places = []locksmith.Place{lb(3, 12, web4("verifying", 2*time.Minute)), rack}
	}),
	"stale-holder": with(web3("queued", open, unpaused, breaker, unblocked, queues, users), func(w *locksmith.Why) {
		w.Places = []locksmith.Place{lb(1, 12, gone(web4("preparing", 3*time.Hour), 2*time.Hour+3*time.Minute)), rack}
	}),
	"holder-booting": with(web3("queued", open, unpaused, breaker, unblocked, queues, users), func(w *locksmith.Why) {
		w.Places = []locksmith.Place{lb(1, 12, gone(web4("rebooting", 9*time.Minute), 9*time.Minute)), rack}
	}),
	"holders": with(web3("queued", open, unpaused, breaker, unblocked, queues, users), func(w *locksmith.Why) {
		hand := locksmith.HolderStatus{Recorded: true, Holder: locksmith.Holder{MachineID: "m9", By: locksmith.ByLock, StartTime: ago(49 * time.Hour), Phase: "acquired"}}
		command := locksmith.HolderStatus{Recorded: true, Holder: locksmith.Holder{MachineID: "m8", Hostname: "db-1", By: locksmith.ByWithLock, StartTime: ago(time.Minute)}}
		old := locksmith.HolderStatus{Present: true, Holder: locksmith.Holder{MachineID: "old"}}
		w.Places = []locksmith.Place{lb(1, 1, hand, command, old, web4("verifying", 0), web4("verifying", 0)), {Group: "rack-7", Position: 2, Waiting: 2}}
		w.Places[0].Max = 5
	}),
	"etcd-away": with(web3("queued", open, unpaused, breaker, unblocked, locksmith.Condition{Name: "slot", State: "unknown",
		Text: "etcd is away: no endpoint answers: http://etcd-1:2379", Since: ago(time.Minute)}, users), func(w *locksmith.Why) {
		w.StoreError = "no endpoint answers: http://etcd-1:2379, http://etcd-2:2379, http://etcd-3:2379"
		w.Machine.Waiting = "etcd is away: no endpoint answers: http://etcd-1:2379"
	}),
	"users": with(web3("notifying", open, unpaused, breaker, unblocked, held,
		locksmith.Condition{Name: "users", State: "waiting", Text: "logged-in users were told", Until: ago(-4 * time.Minute)}), func(w *locksmith.Why) {
		w.Machine.Holds = &locksmith.Holder{MachineID: machine, By: locksmith.ByAgent, Phase: "notifying", PhaseTime: ago(12 * time.Minute), Groups: w.Machine.Groups}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Holds: true}, {Group: "rack-7", Max: 2, Free: 1, Holds: true}}
	}),
	"no-slot-needed": with(web3("window", closed, breaker, unchecked, locksmith.Condition{Name: "slot", State: "met", Text: "strategy reboot takes none here"}, users),
		func(w *locksmith.Why) {
			w.Machine.Strategy, w.Places = locksmith.StrategyReboot, []locksmith.Place{lb(0, 0, web4("verifying", time.Minute))}
		}),
	"booting": with(web3("notifying", open, unpaused, breaker, unblocked, held, users), func(w *locksmith.Why) {
		w.Machine.Present, w.Machine.Seen = false, ago(2*time.Minute)
		w.Machine.Holds = &locksmith.Holder{MachineID: machine, By: locksmith.ByAgent, Phase: "rebooting", PhaseTime: ago(3 * time.Minute), Groups: w.Machine.Groups}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Holds: true}, {Group: "rack-7", Max: 2, Free: 1, Holds: true}}
	}),
	"gone": with(web3("preparing", open, unpaused, breaker, unblocked, held, users), func(w *locksmith.Why) {
		w.Machine.Present, w.Machine.Seen = false, ago(50*time.Hour)
		w.Machine.Holds = &locksmith.Holder{MachineID: machine, By: locksmith.ByAgent, Phase: "acquired", PhaseTime: ago(13 * time.Minute), Groups: w.Machine.Groups}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Holds: true, Waiting: 2}, {Group: "rack-7", Max: 2, Free: 1, Holds: true}}
	}),
	"old-client": {Machine: locksmith.MachineStatus{Presence: locksmith.Presence{MachineID: machine},
		Holds: &locksmith.Holder{MachineID: machine, StartTime: ago(time.Hour), Groups: []locksmith.Group{""}}},
		Places: []locksmith.Place{{Max: 1, Holds: true}}},
	"verifying": with(web3("verifying", locksmith.Condition{Name: "verify", State: "waiting", Text: "checks after the reboot pass, watched until 12:02:00",
		Since: ago(time.Minute), Until: ago(-2 * time.Minute)}), func(w *locksmith.Why) {
		w.Machine.NeededSince, w.Machine.Reason, w.Machine.Conditions[0] = 0, "", locksmith.Condition{Name: "need", State: "waiting", Text: "no reboot is needed"}
		w.Machine.Holds = &locksmith.Holder{MachineID: machine, By: locksmith.ByAgent, Phase: "rebooting", PhaseTime: ago(15 * time.Minute), Groups: w.Machine.Groups}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Holds: true}}
	}),
	"failed": with(web3("failed", locksmith.Condition{Name: "nginx.service", State: "blocked", Text: "failed (exit-code)"}), func(w *locksmith.Why) {
		w.Machine.NeededSince, w.Machine.Reason, w.Machine.Conditions[0] = 0, "", locksmith.Condition{Name: "need", State: "waiting", Text: "no reboot is needed"}
		w.Machine.Waiting = "checks after the reboot fail: nginx.service: failed (exit-code)"
		w.Machine.Holds = &locksmith.Holder{MachineID: machine, By: locksmith.ByAgent, Phase: "failed", PhaseTime: ago(11 * time.Minute), Groups: w.Machine.Groups,
			Reason: "nginx.service: failed (exit-code)"}
		w.Places = []locksmith.Place{{Group: "lb", Max: 1, Holds: true, Waiting: 9}, {Group: "rack-7", Max: 2, Free: 1, Holds: true}}
	}),
	"dry-run": with(web3("window", open, unpaused, breaker, unblocked, locksmith.Condition{Name: "slot", State: "pending", Text: "a dry run takes none"}, users),
		func(w *locksmith.Why) { w.Machine.DryRun = true }),
	"ran-dry": with(web3("idle", open, unpaused, breaker, locksmith.Condition{Name: "checks", State: "pending"},
		locksmith.Condition{Name: "slot", State: "pending", Text: "a dry run takes none"}, users),
		func(w *locksmith.Why) { w.Machine.DryRun, w.Machine.Waiting = true, locksmith.RanDry }),
	"hostile": with(web3("queued", locksmith.Condition{Name: "x\x1b[2J", State: "blo\ncked", Text: "a\x1b[2Jb\nc"}), func(w *locksmith.Why) {
		w.Machine.Hostname, w.Machine.Reason = "we\x1b]0;b", "two\nlines"
	}),
}

func TestWhyText(t *testing.T) {
	for name, w := range whys {
		t.Run(name, func(t *testing.T) {
			out, errs, status := atNoon(t, nil, daemon{why: w}, "why")
			if status != 0 || errs != "" {
				t.Fatalf("status %d: %s", status, errs)
			}
			golden(t, "why/"+name+".txt", out)
			for line := range strings.Lines(out) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "    ") {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

// -o json is the document, whole.
func TestWhyJSON(t *testing.T) {
	for name, w := range whys {
		out, _, status := atNoon(t, nil, daemon{why: w}, "why", "-o", "json")
		var got locksmith.Why
		if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
			t.Fatalf("%s: status %d, %v", name, status, err)
		}
		if diff := cmp.Diff(w, got); diff != "" && name != "hostile" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A daemon that does not answer leaves etcd to ask.
func TestWhyWithoutDaemon(t *testing.T) {
	_, errs, status := atNoon(t, nil, daemon{err: errors.New("locksmithd is not running: start it with: systemctl start locksmithd")}, "why")
	want := "Error asking locksmithd: locksmithd is not running: start it with: systemctl start locksmithd; " +
		"what etcd knows of this machine: locksmithctl why 3f0c1234\n"
	if status != 1 || errs != want {
		t.Errorf("status %d, %q, want %q", status, errs, want)
	}
}

// From etcd comes the machine with its place in each of its groups, also in one
// that only its holder record names.
func TestWhyFromStore(t *testing.T) {
	m := whys["gone"].Machine
	m.Groups = []locksmith.Group{"lb", "broken"}
	store := fleet{machines: []locksmith.MachineStatus{m}, groups: map[locksmith.Group]locksmith.GroupStatus{
		"lb": {Group: "lb", Sem: locksmith.Semaphore{Max: 1, Holders: []string{machine}},
			Queue: []locksmith.Waiter{{MachineID: "m1"}}, Faults: []string{"a fault"}},
		"rack-7": {Group: "rack-7", Sem: locksmith.Semaphore{Semaphore: 2, Max: 2}},
	}}
	out, errs, status := atNoon(t, store, nil, "why", "web-3", "-o", "json")
	var got locksmith.Why
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
		t.Fatalf("status %d, %v", status, err)
	}
	want := locksmith.Why{Time: noon.Unix(), Machine: m, StoreError: `group "broken": unreadable document`, Places: []locksmith.Place{
		{Group: "lb", Max: 1, Waiting: 1, Holds: true}, {Group: "rack-7", Max: 2, Free: 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if errs != "Warning: what is stored of the group \"lb\" is inconsistent: a fault\n" {
		t.Error(errs)
	}
	_, errs, status = atNoon(t, store, nil, "why", "web-9")
	if status != 1 || errs != "Error reading the machine: unknown machine; those that etcd knows: locksmithctl machines\n" {
		t.Errorf("status %d: %s", status, errs)
	}
}
