package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// recorder is a store that notes what is done to it.
type recorder struct {
	calls    []string
	refusals []locksmith.HistoryEntry
	exists   bool
	groups   []locksmith.Group // of the machine m1
}

func (r *recorder) did(format string, args ...any) error {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return nil
}

func (r *recorder) Status(_ context.Context, g locksmith.Group) (locksmith.GroupStatus, error) {
	return locksmith.GroupStatus{Group: g, Exists: r.exists}, nil
}

func (r *recorder) Machine(_ context.Context, name string) (locksmith.MachineStatus, error) {
	if name == "host" {
		return locksmith.MachineStatus{}, ambiguous{errors.New("host could be m1 or m2")}
	}
	if name != "m1" && name != "host-1" {
		return locksmith.MachineStatus{}, fmt.Errorf("%w: %s", locksmith.ErrUnknownMachine, name)
	}
	return locksmith.MachineStatus{Presence: locksmith.Presence{MachineID: "m1", Groups: r.groups}}, nil
}

type ambiguous struct{ error }

func (ambiguous) Refused() bool { return true }

func (r *recorder) TryAcquire(_ context.Context, q locksmith.Request) (locksmith.Slots, error) {
	return locksmith.Slots{}, r.did("lock %q %s by %s, %s, %s", q.Groups, q.MachineID, q.By, q.Actor, q.Reason)
}

func (r *recorder) Unlock(_ context.Context, g locksmith.Group, m string, res locksmith.Result) error {
	return r.did("unlock %q %s by %s, %s", g, m, res.Actor, res.Outcome)
}

func (r *recorder) SetMax(_ context.Context, g locksmith.Group, n int, actor string) (int, error) {
	return 1, r.did("set-max %q %d by %s", g, n, actor)
}

func (r *recorder) Pause(_ context.Context, p locksmith.Pause) error {
	return r.did("pause %s by %s at %d until %d, %s", p.Scope, p.By, p.At, p.Until, p.Reason)
}

func (r *recorder) Resume(_ context.Context, s locksmith.PauseScope, actor string) error {
	return r.did("resume %s by %s", s, actor)
}

func (r *recorder) Forget(_ context.Context, id string) error { return r.did("forget %s", id) }

func (r *recorder) Refuse(_ context.Context, e locksmith.HistoryEntry) error {
	r.refusals = append(r.refusals, e)
	return nil
}

func caller(role access.Role, groups ...locksmith.Group) access.Caller {
	return access.Caller{Name: "alice", From: "10.0.0.5", Role: role, Groups: groups}
}

// What each role may do, in its groups and elsewhere. An empty want is a refusal.
func TestRoles(t *testing.T) {
	var (
		everyone = access.Caller{Name: access.Anonymous, From: "127.0.0.1", Open: true}
		viewer   = caller(access.RoleViewer)
		operator = caller(access.RoleOperator)
		web      = caller(access.RoleOperator, "web")
		admin    = caller(access.RoleAdmin)
		webAdmin = caller(access.RoleAdmin, "web")
		machine  = caller(access.RoleMachine)
	)
	pause := func(scope locksmith.PauseScope) func(*Admin, access.Caller) error {
		return func(a *Admin, who access.Caller) error {
			return a.Pause(context.Background(), who, locksmith.Pause{Scope: scope, By: "somebody else", At: 5, Reason: " moving racks "})
		}
	}
	setMax := func(a *Admin, who access.Caller) error {
		_, err := a.SetMax(context.Background(), who, "web", 3)
		return err
	}
	for name, test := range map[string]struct {
		do     func(*Admin, access.Caller) error
		exists bool
		may    []access.Caller
		call   string // what reaches the store
	}{
		"unlock": {func(a *Admin, who access.Caller) error {
			return a.Unlock(context.Background(), who, "web", "m1", "gone")
		}, true,
			[]access.Caller{everyone, operator, web, admin, webAdmin}, `unlock "web" m1 by WHO, unlocked: gone`},
		"unlock elsewhere": {func(a *Admin, who access.Caller) error { return a.Unlock(context.Background(), who, "", "m1", "") }, true,
			[]access.Caller{everyone, operator, admin}, `unlock "default group" m1 by WHO, unlocked`},
		"lock": {func(a *Admin, who access.Caller) error {
			return a.Lock(context.Background(), who, "web", "m1", "tests")
		}, true,
			[]access.Caller{everyone, operator, web, admin, webAdmin}, `lock ["web"] m1 by locksmithctl lock, WHO, tests`},
		"set-max":     {setMax, true, []access.Caller{everyone, operator, web, admin, webAdmin}, `set-max "web" 3 by WHO`},
		"a new group": {setMax, false, []access.Caller{everyone, admin, webAdmin}, `set-max "web" 3 by WHO`},
		"pause a group": {pause(locksmith.PauseScope{Group: "web"}), true,
			[]access.Caller{everyone, operator, web, admin, webAdmin}, `pause group web by WHO at 946684800 until 0, moving racks`},
		"pause all": {pause(locksmith.PauseScope{All: true}), true,
			[]access.Caller{everyone, admin}, `pause all groups by WHO at 946684800 until 0, moving racks`},
		"pause a machine of two groups": {pause(locksmith.PauseScope{Machine: "host-1"}), true,
			[]access.Caller{everyone, operator, admin}, `pause machine m1 by WHO at 946684800 until 0, moving racks`},
		"pause an unknown machine": {pause(locksmith.PauseScope{Machine: "m9"}), true,
			[]access.Caller{everyone, operator, admin}, `pause machine m9 by WHO at 946684800 until 0, moving racks`},
		"resume": {func(a *Admin, who access.Caller) error {
			return a.Resume(context.Background(), who, locksmith.PauseScope{Group: "web"})
		}, true,
			[]access.Caller{everyone, operator, web, admin, webAdmin}, `resume group web by WHO`},
		"forget": {func(a *Admin, who access.Caller) error { return a.Forget(context.Background(), who, "m1") }, true,
			[]access.Caller{everyone, admin}, `forget m1`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, who := range []access.Caller{everyone, viewer, operator, web, admin, webAdmin, machine} {
				synctest.Test(t, func(t *testing.T) {
					r := &recorder{exists: test.exists, groups: []locksmith.Group{"rack", "web"}}
					err := test.do(New(r, nil), who)
					may := slices.ContainsFunc(test.may, func(c access.Caller) bool { return fmt.Sprint(c) == fmt.Sprint(who) })
					if may {
						want := strings.Replace(test.call, "WHO", who.Actor(), 1)
						if err != nil || len(r.calls) != 1 || r.calls[0] != want || len(r.refusals) != 0 {
							t.Errorf("%v: error %v, calls %q, want %q", who, err, r.calls, want)
						}
						return
					}
					var f *Forbidden
					if !errors.As(err, &f) || len(r.calls) != 0 {
						t.Fatalf("%v: error %v, calls %q, want to be forbidden", who, err, r.calls)
					}
					if len(r.refusals) != 1 || r.refusals[0].Actor != who.Actor() || r.refusals[0].Action != locksmith.ActionRefuse || r.refusals[0].Outcome != f.Error() {
						t.Errorf("%v: refusals %+v, want %q", who, r.refusals, f.Error())
					}
				})
			}
		})
	}
}

// A machine that is in the caller's group alone may be paused by it.
func TestPauseOwnMachine(t *testing.T) {
	r := &recorder{groups: []locksmith.Group{"web"}}
	err := New(r, nil).Pause(t.Context(), caller(access.RoleOperator, "web"), locksmith.Pause{Scope: locksmith.PauseScope{Machine: "m1"}, Reason: "x"})
	if err != nil || len(r.calls) != 1 {
		t.Errorf("error %v, calls %q", err, r.calls)
	}
}

// Who is limited to some groups does not learn from an ambiguous name which machines
// there are in others.
func TestPauseAmbiguousMachine(t *testing.T) {
	for text, who := range map[string]access.Caller{"m2": caller(access.RoleOperator), "not the name of one machine": caller(access.RoleOperator, "web")} {
		err := New(&recorder{}, nil).Pause(t.Context(), who, locksmith.Pause{Scope: locksmith.PauseScope{Machine: "host"}, Reason: "x"})
		if err == nil || !strings.Contains(err.Error(), text) || who.Groups != nil && strings.Contains(err.Error(), "m2") {
			t.Errorf("%v: %v", who, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	a, r := New(&recorder{exists: true}, nil), caller(access.RoleAdmin)
	pause := func(p locksmith.Pause) error { return a.Pause(t.Context(), r, p) }
	_, negative := a.SetMax(t.Context(), r, "web", -1)
	for what, err := range map[string]error{
		"negative max":       negative,
		"pause, no reason":   pause(locksmith.Pause{Reason: " "}),
		"pause, past":        pause(locksmith.Pause{Reason: "x", Until: 1000}),
		"pause, two lines":   pause(locksmith.Pause{Reason: "x\ny"}),
		"pause, long":        pause(locksmith.Pause{Reason: strings.Repeat("x", 501)}),
		"pause, bad machine": pause(locksmith.Pause{Scope: locksmith.PauseScope{Machine: "a b"}, Reason: "x"}),
		"unlock nobody":      a.Unlock(t.Context(), r, "web", "", ""),
		"unlock, not UTF-8":  a.Unlock(t.Context(), r, "web", "m1", "\xff"),
		"lock nobody":        a.Lock(t.Context(), r, "web", "a b", ""),
	} {
		var invalid *Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Who is refused again and again costs the store one entry a minute, and all of them
// together a bounded number; other refusals are noted beside it.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		a := New(r, nil)
		for range 100 {
			a.Refused(t.Context(), access.Caller{From: "10.0.0.9"}, nil, "", "no token")
		}
		if len(r.refusals) != 1 || r.refusals[0].Actor != "unknown@10.0.0.9" {
			t.Errorf("refusals: %+v", r.refusals)
		}
		web := locksmith.Group("web")
		a.Refused(t.Context(), access.Caller{From: "10.0.0.9"}, &web, "", "no token")
		a.Refused(t.Context(), access.Caller{From: "10.0.0.8"}, nil, "", "no token")
		if len(r.refusals) != 3 {
			t.Errorf("%d refusals noted, want 3", len(r.refusals))
		}
		for i := range 1000 {
			a.Refused(t.Context(), access.Caller{From: fmt.Sprint(i)}, nil, "", "no token")
		}
		if len(r.refusals) != maxRefusals {
			t.Errorf("%d refusals noted in a minute, want %d", len(r.refusals), maxRefusals)
		}
		time.Sleep(refusalEvery)
		a.Refused(t.Context(), access.Caller{From: "10.0.0.9"}, nil, "", "no token")
		if len(r.refusals) != maxRefusals+1 {
			t.Errorf("%d refusals noted after a minute, want %d", len(r.refusals), maxRefusals+1)
		}
	})
}

// Who is refused again and again fills no log: after some lines in a minute they are only
// counted, and the next line says how many. Others have lines of their own, as far as
// there are not too many of them.
func TestLinesOfRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		a := New(&recorder{}, slog.New(slog.NewTextHandler(&log, nil)))
		refuse := func(from string, times int) (lines int, last string) {
			log.Reset()
			for range times {
				a.Refused(t.Context(), access.Caller{From: from}, nil, "", "wrong token")
			}
			all := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			return strings.Count(log.String(), "\n"), all[len(all)-1]
		}
		if n, last := refuse("10.0.0.9", 1000); n != maxLines || strings.Contains(last, "unlogged") {
			t.Errorf("%d lines, the last is %s", n, last)
		}
		if n, _ := refuse("10.0.0.8", 1); n != 1 {
			t.Errorf("%d lines of another address", n)
		}
		time.Sleep(time.Minute)
		if n, last := refuse("10.0.0.9", 1); n != 1 || !strings.Contains(last, "unlogged=980") {
			t.Errorf("%d lines a minute later, the last is %s", n, last)
		}
		for i := range 2 * maxCallers {
			refuse(fmt.Sprint("guesser ", i), 1)
		}
		if n := len(a.lines.of); n > maxCallers+1 {
			t.Errorf("%d callers are remembered", n)
		}
		if n, _ := refuse("10.0.0.7", 100); n != 0 {
			t.Errorf("%d lines of one caller more", n)
		}
		time.Sleep(time.Minute)
		for _, from := range []string{"10.0.0.7", "10.0.0.6"} { // the flood is over and forgotten
			if n, _ := refuse(from, 100); n != maxLines {
				t.Errorf("%d lines of %s a minute later", n, from)
			}
		}
	})
}

// Everybody who listens hears of a change, however slow the others are, and nobody
// who has gone is waited for.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan struct{})
		f := NewFeed(func(ctx context.Context, changed func()) error {
			for {
				select {
				case <-changes:
					changed()
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		first, slow := f.Subscribe(ctx), f.Subscribe(ctx)
		goneCtx, leave := context.WithCancel(ctx)
		gone := f.Subscribe(goneCtx)
		leave()
		synctest.Wait()
		for range 3 {
			changes <- struct{}{}
			synctest.Wait()
			<-first
		}
		if len(slow) != 1 || len(first) != 0 || len(gone) != 0 || len(f.subs) != 2 {
			t.Errorf("pending: slow %d, first %d, gone %d; %d listen", len(slow), len(first), len(gone), len(f.subs))
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}
