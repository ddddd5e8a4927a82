package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// slotsFake remembers what it was asked for.
type slotsFake struct {
	err     error
	taken   []locksmith.Request
	waits   []time.Duration
	freed   []string // group/machine
	results []locksmith.Result
}

func (s *slotsFake) Acquire(_ context.Context, req locksmith.Request, wait time.Duration) error {
	s.taken, s.waits = append(s.taken, req), append(s.waits, wait)
	return s.err
}

func (s *slotsFake) Release(_ context.Context, group locksmith.Group, machine string, result locksmith.Result) error {
	s.freed, s.results = append(s.freed, string(group)+"/"+machine), append(s.results, result)
	return s.err
}

// refusals is a store that takes only refusals.
type refusals struct {
	admin.Store
	noted []locksmith.HistoryEntry
}

func (r *refusals) Refuse(ctx context.Context, e locksmith.HistoryEntry) error {
	if _, limited := ctx.Deadline(); !limited {
		return errors.New("nobody limits this")
	}
	r.noted = append(r.noted, e)
	return ctx.Err()
}

type guardFunc func(r *http.Request) (access.Caller, error)

func (f guardFunc) Caller(r *http.Request) (access.Caller, error) { return f(r) }

func is(who access.Caller) access.Guard {
	return guardFunc(func(*http.Request) (access.Caller, error) { return who, nil })
}

// told is an answer of FleetLock's.
type told struct {
	status      int
	kind, value string
}

func askFleetLock(t *testing.T, h http.Handler, path, id, group string) told {
	t.Helper()
	body, err := json.Marshal(map[string]any{"client_params": map[string]string{"id": id, "group": group}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.RemoteAddr = "[::ffff:10.0.0.7]:4711"
	r.Header.Set("fleet-lock-protocol", "true")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var doc struct{ Kind, Value string }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return told{w.Code, doc.Kind, doc.Value}
}

func TestFleetLockAsksForSlots(t *testing.T) {
	machine := access.Caller{Name: "m1", From: "10.0.0.7", Role: access.RoleMachine, Groups: []locksmith.Group{"", "web"}, Machine: "m1"}
	open := access.Caller{Name: access.Anonymous, From: "10.0.0.7", Role: access.RoleAdmin, Open: true}
	for _, test := range []struct {
		name  string
		who   access.Caller
		named string // the default group
		group string
		want  locksmith.Group
		actor string
	}{
		{"a machine", machine, "", "web", "web", "m1@10.0.0.7"},
		{"in the default group", machine, "", "default", "", "m1@10.0.0.7"},
		{"in the default group by another name", machine, "main", "main", "", "m1@10.0.0.7"},
		{"in a group called default", open, "main", "default", "default", "fleetlock@10.0.0.7"},
		{"without authorization", open, "", "web", "web", "fleetlock@10.0.0.7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			slots, store := new(slotsFake), new(refusals)
			h := NewFleetLock(FleetLockConfig{Slots: slots, Guard: is(test.who), Admin: admin.New(store, nil), DefaultGroupName: test.named, Wait: 55 * time.Second})
			if a := askFleetLock(t, h, fleetlock.PreRebootPath, "m1", test.group); a.status != 200 {
				t.Fatalf("%+v", a)
			}
			want := locksmith.Request{Groups: []locksmith.Group{test.want}, MachineID: "m1", By: "fleetlock", Actor: test.actor,
				Address: "10.0.0.7", Reason: "asked over FleetLock", Priority: 5}
			if len(slots.taken) != 1 || fmt.Sprint(slots.taken[0]) != fmt.Sprint(want) || slots.waits[0] != 55*time.Second {
				t.Errorf("asked for %+v, %v; want %+v", slots.taken, slots.waits, want)
			}
			if a := askFleetLock(t, h, fleetlock.SteadyStatePath, "m1", test.group); a.status != 200 {
				t.Fatalf("%+v", a)
			}
			if !slices.Equal(slots.freed, []string{string(test.want) + "/m1"}) || slots.results[0].Actor != test.actor || slots.results[0].Outcome == "" {
				t.Errorf("gave back %q, %+v", slots.freed, slots.results)
			}
			if len(store.noted) != 0 {
				t.Errorf("refused: %v", store.noted)
			}
		})
	}
}

func TestFleetLockRefuses(t *testing.T) {
	machine := access.Caller{Name: "rack-7", From: "10.0.0.7", Role: access.RoleMachine}
	bound, limited, operator := machine, machine, machine
	bound.Machine = "m7"
	limited.Groups = []locksmith.Group{"db"}
	operator.Role = access.RoleOperator
	stranger := func(status int) access.Guard {
		return guardFunc(func(*http.Request) (access.Caller, error) {
			return access.Caller{}, &access.Refusal{Status: status, Reason: "no token"}
		})
	}
	for _, test := range []struct {
		name  string
		guard access.Guard
		path  string
		want  told
		noted string // actor: outcome
	}{
		{"another's slot", is(bound), fleetlock.PreRebootPath, told{403, "forbidden", "rack-7 may not take a slot over FleetLock for machine m1: it may do so only for machine m7"},
			"rack-7@10.0.0.7: rack-7 may not take a slot over FleetLock for machine m1: it may do so only for machine m7"},
		{"another's slot back", is(bound), fleetlock.SteadyStatePath, told{403, "forbidden", "rack-7 may not give a slot back over FleetLock for machine m1: it may do so only for machine m7"},
			"rack-7@10.0.0.7: rack-7 may not give a slot back over FleetLock for machine m1: it may do so only for machine m7"},
		{"another group", is(limited), fleetlock.PreRebootPath, told{403, "forbidden", "rack-7 may not take a slot over FleetLock in group web: the machine's groups are db"},
			"rack-7@10.0.0.7: rack-7 may not take a slot over FleetLock in group web: the machine's groups are db"},
		{"another role", is(operator), fleetlock.PreRebootPath, told{403, "forbidden", "rack-7 may not take a slot over FleetLock in group web: that takes the role machine, not operator"},
			"rack-7@10.0.0.7: rack-7 may not take a slot over FleetLock in group web: that takes the role machine, not operator"},
		{"nobody known", stranger(401), fleetlock.PreRebootPath, told{401, "unauthorized", "no token; a FleetLock client takes its credentials from its base URL, such as https://name:token@host/"},
			"unknown@10.0.0.7: take a slot over FleetLock: no token"},
		{"nobody wanted", stranger(403), fleetlock.SteadyStatePath, told{403, "forbidden", "no token"},
			"unknown@10.0.0.7: give a slot back over FleetLock: no token"},
		{"a broken guard", guardFunc(func(*http.Request) (access.Caller, error) { return access.Caller{}, errors.New("secret") }), fleetlock.PreRebootPath,
			told{500, "internal_error", "the server failed; its log says why"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			slots, store := new(slotsFake), new(refusals)
			h := NewFleetLock(FleetLockConfig{Slots: slots, Guard: test.guard, Admin: admin.New(store, nil)})
			if a := askFleetLock(t, h, test.path, "m1", "web"); a != test.want {
				t.Errorf("%+v, want %+v", a, test.want)
			}
			if len(slots.taken)+len(slots.freed) != 0 {
				t.Error("the slots were asked")
			}
			noted := ""
			for _, e := range store.noted {
				if e.Action != locksmith.ActionRefuse || *e.Group != "web" || e.Machine != "m1" {
					t.Errorf("noted %+v", e)
				}
				noted += e.Actor + ": " + e.Outcome
			}
			if noted != test.noted {
				t.Errorf("noted %q, want %q", noted, test.noted)
			}
		})
	}
}

// away is an error of a store's.
type away bool

func (a away) Error() string   { return "no answer from etcd" }
func (a away) Transient() bool { return bool(a) }

func TestFleetLockTellsWhatBecameOfIt(t *testing.T) {
	many := make([]string, 23)
	for i := range many {
		many[i] = fmt.Sprintf("h%02d", i)
	}
	internal := told{500, "internal_error", "the server failed; its log says why"}
	for _, test := range []struct {
		name, group string
		err         error
		want        told
		logged      bool
	}{
		{"full", "web", &locksmith.FullError{Group: "web", Holders: []string{"a", "b"}}, told{423, "failed_lock_semaphore_full", "no slot of group web is free: held by a, b"}, false},
		{"full of many", "web", &locksmith.FullError{Group: "web", Holders: many}, told{423, "failed_lock_semaphore_full",
			"no slot of group web is free: held by " + strings.Join(many[:20], ", ") + " and 3 more"}, false},
		{"full of nobody", "default", &locksmith.FullError{Semaphore: 0}, told{423, "failed_lock_semaphore_full", "no slot of group default is free: the semaphore is at 0"}, false},
		{"paused", "web", &locksmith.PausedError{Pauses: []locksmith.Pause{{Scope: locksmith.PauseScope{All: true}, By: "alice@jump-1", Reason: "release"}}},
			told{423, "failed_lock_paused", "all groups paused by alice@jump-1: release"}, false},
		{"held", "web", &locksmith.HeldError{Group: "web", By: "locksmithctl lock"},
			told{409, "failed_lock_held_by_other", "machine m1 in group web: the machine's slot is held by locksmithctl lock, and only that gives it back"}, false},
		{"no group", "web", fmt.Errorf("at the desk: %w", locksmith.ErrUnknownGroup),
			told{404, "unknown_group", "there is no group web; create it with: locksmithctl -group web set-max 1 (or start locksmith-server with -create-groups)"}, false},
		{"no default group", "default", locksmith.ErrUnknownGroup,
			told{404, "unknown_group", "there is no group default; create it with: locksmithctl set-max 1 (or start locksmith-server with -create-groups)"}, false},
		{"dots", "..", nil, told{400, "invalid_request", `invalid group "..": choose a name other than . and ..`}, false},
		{"store away", "web", away(true), told{503, "store_unavailable", "no answer from etcd"}, false},
		{"store refuses", "web", away(false), internal, true},
		{"unreadable", "web", &locksmith.UnreadableError{Key: "k", Err: errors.New("no JSON")},
			told{500, "internal_error", "unreadable document at key k: no JSON; correct or delete the key"}, true},
		{"anything", "web", errors.New("secret"), internal, true},
		{"not a holder", "web", locksmith.ErrNotHolder, told{200, "", ""}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{fleetlock.PreRebootPath, fleetlock.SteadyStatePath} {
				var log bytes.Buffer
				h := NewFleetLock(FleetLockConfig{Slots: &slotsFake{err: test.err}, Guard: is(access.Caller{Open: true}),
					Admin: admin.New(new(refusals), nil), Log: slog.New(slog.NewTextHandler(&log, nil))})
				if a := askFleetLock(t, h, path, "m1", test.group); a != test.want {
					t.Errorf("%+v, want %+v", a, test.want)
				}
				if logged := strings.Count(log.String(), "level=ERROR"); (logged == 1) != test.logged || logged > 1 {
					t.Errorf("the log is %q", log.String())
				}
			}
		})
	}
}

// What passes FleetLock's checks passes locksmith's, so that no id fails late.
func TestFleetLockAcceptsWhatLocksmithAccepts(t *testing.T) {
	slots := new(slotsFake)
	h := NewFleetLock(FleetLockConfig{Slots: slots, Guard: is(access.Caller{Open: true}), Admin: admin.New(new(refusals), nil)})
	ids := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z\x00-\x20\x{7f}-\x{a0}\x{2028}\x{3000}]{1,5}`), rapid.StringN(240, 260, -1))
	groups := rapid.OneOf(rapid.Just("web"), rapid.StringMatching(`[a-zA-Z0-9.-]{1,4}`), rapid.String())
	rapid.Check(t, func(rt *rapid.T) {
		id, group := ids.Draw(rt, "id"), groups.Draw(rt, "group")
		slots.taken = nil
		a := askFleetLock(t, h, fleetlock.PreRebootPath, id, group)
		switch {
		case a.status == 200 && len(slots.taken) == 1:
			_, err := locksmith.ParseGroup(string(slots.taken[0].Groups[0]))
			if err := errors.Join(err, locksmith.CheckMachineID(slots.taken[0].MachineID)); err != nil {
				rt.Fatal(err)
			}
		case a.status != 400 || len(slots.taken) != 0:
			rt.Fatalf("%+v, taken %v", a, slots.taken)
		case locksmith.CheckMachineID(id) == nil && !strings.ContainsRune(id, '\ufffd') && group == "web":
			rt.Fatalf("%q is refused: %+v", id, a)
		}
	})
}
