package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/locksmith-reboot/locksmith"
)

// Generators of what is stored, as locksmith itself writes it.

func instant(t *rapid.T, name string) int64 {
	if rapid.Bool().Draw(t, name+" known") {
		return rapid.Int64Range(1, int64(lastTime)).Draw(t, name)
	}
	return 0
}

func text(t *rapid.T, name string) string {
	return rapid.SampledFrom([]string{"", "x", "web-1", "moving \"racks\" <b>&", "späte Änderung", "a, b; c"}).Draw(t, name)
}

func machineID(t *rapid.T) string { return rapid.StringMatching(`[a-z0-9]{1,12}`).Draw(t, "machine") }

func someGroups(t *rapid.T) []locksmith.Group {
	list := rapid.SliceOfNDistinct(rapid.SampledFrom([]locksmith.Group{"", "lb", "rack 7", "a/b"}), 0, 3, rapid.ID).Draw(t, "groups")
	slices.Sort(list)
	if len(list) == 0 {
		return nil
	}
	return list
}

func phase(t *rapid.T) locksmith.Phase {
	return rapid.SampledFrom(append([]locksmith.Phase{""}, locksmith.Phases...)).Draw(t, "phase")
}

func holder(t *rapid.T) locksmith.Holder {
	return locksmith.Holder{MachineID: machineID(t), StartTime: instant(t, "start"), BootID: text(t, "boot"), Hostname: text(t, "hostname"),
		Groups: someGroups(t), Phase: phase(t), PhaseTime: instant(t, "phase time"), Reason: text(t, "reason"),
		By:    rapid.SampledFrom([]string{"", locksmith.ByAgent, locksmith.ByLock, locksmith.ByFleetLock}).Draw(t, "by"),
		Nonce: text(t, "nonce"), Address: text(t, "address")}
}

func somePauses(t *rapid.T) []locksmith.Pause {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) locksmith.Pause {
		scope := rapid.SampledFrom([]locksmith.PauseScope{{All: true}, {}, {Group: "lb"}, {Machine: "m1"}}).Draw(t, "scope")
		return locksmith.Pause{Scope: scope, By: text(t, "by"), At: instant(t, "at"), Until: instant(t, "until"), Reason: text(t, "reason")}
	}), 0, 3).Draw(t, "pauses")
}

var (
	drawStatus = rapid.Custom(func(t *rapid.T) locksmith.GroupStatus {
		s := locksmith.GroupStatus{Group: rapid.SampledFrom([]locksmith.Group{"", "lb"}).Draw(t, "group"), Revision: rapid.Int64Min(0).Draw(t, "revision"),
			Exists: rapid.Bool().Draw(t, "exists"), Faults: rapid.SliceOfN(rapid.StringMatching(`\PC+`), 0, 2).Draw(t, "faults"),
			Sem: locksmith.Semaphore{Max: rapid.IntRange(0, 9).Draw(t, "max"), Holders: []string{}}, Pauses: somePauses(t)}
		for range rapid.IntRange(0, 3).Draw(t, "holders") {
			h := locksmith.HolderStatus{Holder: holder(t), Recorded: rapid.Bool().Draw(t, "recorded"), Present: rapid.Bool().Draw(t, "present")}
			if at := instant(t, "seen"); at != 0 {
				h.Seen = time.Unix(at, 0)
			}
			s.Sem.Holders = append(s.Sem.Holders, h.MachineID)
			s.Holders = append(s.Holders, h)
		}
		s.Sem.Semaphore = s.Sem.Max - len(s.Holders)
		for range rapid.IntRange(0, 3).Draw(t, "waiters") {
			s.Queue = append(s.Queue, locksmith.Waiter{MachineID: machineID(t), Hostname: text(t, "hostname"), By: text(t, "by"), Reason: text(t, "reason"),
				Address: text(t, "address"), Groups: someGroups(t), Since: instant(t, "since"), Priority: rapid.IntRange(0, 9).Draw(t, "priority"),
				Nonce: text(t, "nonce"), Revision: rapid.Int64Min(0).Draw(t, "joined")})
		}
		return s
	})
	drawMachine = rapid.Custom(func(t *rapid.T) locksmith.MachineStatus {
		m := locksmith.MachineStatus{Presence: locksmith.Presence{MachineID: machineID(t), Hostname: text(t, "hostname"), Groups: someGroups(t),
			Strategy: locksmith.StrategyEtcdLock, BootID: text(t, "boot"), OS: text(t, "os"), Kernel: text(t, "kernel"), Version: text(t, "version"),
			Started: instant(t, "started"), Phase: phase(t), PhaseTime: instant(t, "phase time"), NeededSince: instant(t, "needed"), Reason: text(t, "reason"),
			Waiting: text(t, "waiting"), LastReboot: instant(t, "last"), LastOutcome: text(t, "outcome"), DryRun: rapid.Bool().Draw(t, "dry"), Seen: instant(t, "seen")},
			Present: rapid.Bool().Draw(t, "present"), Pauses: somePauses(t)}
		m.Conditions = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) locksmith.Condition {
			return locksmith.Condition{Name: locksmith.CondWindow, State: locksmith.CondBlocked, Text: text(t, "text"), Since: instant(t, "since"), Until: instant(t, "until")}
		}), 0, 2).Draw(t, "conditions")
		if rapid.Bool().Draw(t, "holds") {
			m.Holds = new(holder(t))
		}
		return m
	})
)

// through sends a document over the wire.
func through[T any](t rapid.TB, doc T) (out T) {
	t.Helper()
	b, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	var generic any
	if err := json.Unmarshal(b, &generic); err != nil || holdsNull(generic) {
		t.Fatalf("a list or an object is null: %s", b)
	}
	return out
}

func holdsNull(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), holdsNull)
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	}
	return v == nil
}

var (
	sameEmpty = cmpopts.EquateEmpty()
	now       = time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)
)

func TestStatusComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawStatus.Draw(t, "status")
		got, err := through(t, StatusFrom(want, now)).GroupStatus()
		if err != nil {
			t.Fatal(err)
		}
		// Nobody outside needs to tell attempts apart, and the order is the list's.
		unsent := cmpopts.IgnoreFields(locksmith.Waiter{}, "Nonce", "Revision")
		if diff := cmp.Diff(want, got, sameEmpty, unsent); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Of a machine what it shows comes back: its phase, groups, name and when it was seen
// are put together from the presence and the record.
func TestMachineComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawMachine.Draw(t, "machine")
		doc := through(t, MachineFrom(want, now))
		got, err := doc.MachineStatus()
		if err != nil {
			t.Fatal(err)
		}
		wantPhase, wantSince := want.Where()
		if doc.Phase != string(wantPhase) || int64(doc.PhaseSince) != wantSince {
			t.Fatalf("the document says %s since %d, want %s since %d", doc.Phase, doc.PhaseSince, wantPhase, wantSince)
		}
		phase, since := got.Where()
		if phase != wantPhase || since != wantSince || got.Name() != want.Name() || got.Stale(now) != want.Stale(now) {
			t.Fatalf("%s since %d, %s, stale %v; want %s since %d, %s, stale %v", phase, since, got.Name(), got.Stale(now),
				wantPhase, wantSince, want.Name(), want.Stale(now))
		}
		if diff := cmp.Diff(want.LastSeen(), got.LastSeen()); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(GroupsOf(want), GroupsOf(got), sameEmpty); diff != "" {
			t.Fatal(diff)
		}
		together := cmpopts.IgnoreFields(locksmith.Presence{}, "Phase", "PhaseTime", "Groups", "Hostname", "Seen")
		if diff := cmp.Diff(want, got, sameEmpty, together); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestHistoryAndGroupsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Map(rapid.Int64Range(0, int64(1000*24*time.Hour/time.Millisecond)), func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond })
		entry := locksmith.HistoryEntry{Time: time.Unix(rapid.Int64Range(1, int64(lastTime)).Draw(t, "time"), 0), Actor: text(t, "actor"), Action: locksmith.ActionUnlock,
			Machine: machineID(t), Hostname: text(t, "hostname"), Outcome: text(t, "outcome"), Held: length.Draw(t, "held"), Down: length.Draw(t, "down"),
			Revision: rapid.Int64Min(0).Draw(t, "revision")}
		if rapid.Bool().Draw(t, "of a group") {
			entry.Group = new(locksmith.Group(text(t, "group")))
		}
		entries := []locksmith.HistoryEntry{entry}
		if diff := cmp.Diff(entries, through(t, HistoryFrom(entries)).HistoryEntries()); diff != "" {
			t.Fatal(diff)
		}
		groups := []locksmith.GroupSummary{{Group: "lb", Max: 3, Held: 2, Waiting: 1, Paused: true}, {Err: errors.New("unreadable")}}
		got := through(t, GroupsFrom(groups)).Summaries()
		if diff := cmp.Diff(groups, got, cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What no RFC 3339 can say is left out, and never breaks a document.
func TestImpossibleTimes(t *testing.T) {
	for _, at := range []int64{-1, int64(lastTime) + 1, 1 << 62} {
		doc := through(t, StatusFrom(locksmith.GroupStatus{Holders: []locksmith.HolderStatus{{Holder: locksmith.Holder{MachineID: "m", StartTime: at, PhaseTime: at}}}}, now))
		if h := doc.Holders[0]; h.Since != 0 || h.PhaseSince != 0 || h.HeldSeconds != nil {
			t.Errorf("%d: %+v", at, h)
		}
		through(t, HistoryFrom([]locksmith.HistoryEntry{{Time: time.Unix(at, 0)}}))
	}
}

func TestErrorsComeBack(t *testing.T) {
	for _, want := range []error{
		locksmith.ErrNotHolder, locksmith.ErrHolderExists, fmt.Errorf("group lb: %w", locksmith.ErrNotPaused),
		fmt.Errorf("%w \"web-9\": no machine has this id", locksmith.ErrUnknownMachine), locksmith.ErrUnknownGroup,
		&locksmith.FullError{Group: "lb", Semaphore: -1, Holders: []string{"m1", "m2"}}, &locksmith.FullError{},
		&locksmith.HeldError{Group: "lb", By: locksmith.ByLock},
		&locksmith.UnreadableError{Key: "k", Err: errors.New("not a semaphore")},
		&locksmith.PausedError{Pauses: []locksmith.Pause{{Scope: locksmith.PauseScope{All: true}, By: "alice", At: 5, Reason: "racks"}}},
	} {
		body, ok := ErrorFrom(want)
		if !ok {
			t.Errorf("%v has no code", want)
			continue
		}
		got := through(t, ErrorDocument{body}).Error.Err(body.Code.Status())
		if got.Error() != want.Error() || got.Status == http.StatusInternalServerError != (body.Code == CodeUnreadable) {
			t.Errorf("%q with status %d, want %q", got, got.Status, want)
		}
		if is := sentinels[body.Code]; is != nil && !errors.Is(got, is) {
			t.Errorf("%v is not %v", got, is)
		}
		if sentinels[body.Code] == nil {
			if diff := cmp.Diff(fmt.Sprintf("%#v", inner(want)), fmt.Sprintf("%#v", inner(got.Unwrap()))); diff != "" {
				t.Error(diff)
			}
		}
	}
	if body, ok := ErrorFrom(errors.New("something else")); ok {
		t.Errorf("%+v", body)
	}
}

// inner is what an error points to.
func inner(err error) any {
	switch e := err.(type) {
	case *locksmith.FullError:
		return *e
	case *locksmith.HeldError:
		return *e
	case *locksmith.UnreadableError:
		return [2]string{e.Key, e.Err.Error()}
	case *locksmith.PausedError:
		return *e
	}
	return nil
}

func TestScopes(t *testing.T) {
	lb, dots, none := "lb", "..", ""
	tests := []struct {
		in   ScopeRequest
		want locksmith.PauseScope
		err  string
	}{
		{ScopeRequest{Scope: "all"}, locksmith.PauseScope{All: true}, ""},
		{ScopeRequest{Scope: "group"}, locksmith.PauseScope{}, ""},
		{ScopeRequest{Scope: "group", Group: &none}, locksmith.PauseScope{}, ""},
		{ScopeRequest{Scope: "group", Group: &lb}, locksmith.PauseScope{Group: "lb"}, ""},
		{ScopeRequest{Scope: "machine", MachineID: "m"}, locksmith.PauseScope{Machine: "m"}, ""},
		{ScopeRequest{}, locksmith.PauseScope{}, "invalid scope"},
		{ScopeRequest{Scope: "everything"}, locksmith.PauseScope{}, "invalid scope"},
		{ScopeRequest{Scope: "all", Group: &lb}, locksmith.PauseScope{}, "contradicts"},
		{ScopeRequest{Scope: "all", MachineID: "m"}, locksmith.PauseScope{}, "contradicts"},
		{ScopeRequest{Scope: "group", MachineID: "m"}, locksmith.PauseScope{}, "contradicts"},
		{ScopeRequest{Scope: "machine", MachineID: "m", Group: &lb}, locksmith.PauseScope{}, "contradicts"},
		{ScopeRequest{Scope: "machine"}, locksmith.PauseScope{}, "needs a machineID"},
		{ScopeRequest{Scope: "group", Group: &dots}, locksmith.PauseScope{}, "invalid group"},
	}
	for _, tt := range tests {
		got, err := tt.in.PauseScope()
		if tt.err == "" && (err != nil || got != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%+v: %+v, %v", tt.in, got, err)
		}
	}
}

// Whatever a server sends, it ends in an error or in words of ours.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"group":"lb","holders":[{"machineID":"m","since":"2026-11-19T11:00:00Z","heldSeconds":1e300}],"queue":null,"pauses":[{"scope":"x"}]}`))
	f.Add([]byte(`{"entries":[{"time":"9999-12-31T23:59:59-24:00","heldSeconds":-0.0005}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Status
		if json.Unmarshal(text, &s) == nil {
			if back, err := s.GroupStatus(); err == nil {
				through(t, StatusFrom(back, now))
			}
		}
		var m Machine
		if json.Unmarshal(text, &m) == nil {
			if back, err := m.MachineStatus(); err == nil {
				through(t, MachineFrom(back, now))
			}
		}
		var h HistoryList
		if json.Unmarshal(text, &h) == nil {
			through(t, HistoryFrom(h.HistoryEntries()))
		}
	})
}
