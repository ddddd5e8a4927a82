package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

func (st *site) client(token string) *api.Client {
	st.t.Helper()
	return clientOf(st.t, st.http.URL, token, st.log)
}

func clientOf(t *testing.T, url, token string, log *lockedBuffer) *api.Client {
	t.Helper()
	c, err := api.NewClient(api.ClientConfig{URL: url, Token: token, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What a client reads through the server is what the store says itself.
func TestClientReadsWhatIsStored(t *testing.T) {
	st := newSite(t, nil)
	ctx, c, g := t.Context(), st.client("root"), st.group
	if _, err := c.SetMax(ctx, g, 2, ""); err != nil {
		t.Fatal(err)
	}
	st.presence("a-"+string(g), "web-"+string(g), g)
	if _, err := c.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{g}, MachineID: "a-" + string(g), By: locksmith.ByLock, Reason: "firmware"}); err != nil {
		t.Fatal(err)
	}
	st.put("/groups/"+string(g)+"/queue/3/b", `{"machineID":"b","groups":["`+string(g)+`"],"since":1397496396,"by":"locksmithd"}`)
	if err := c.Pause(ctx, locksmith.Pause{Scope: locksmith.PauseScope{Group: g}, Until: time.Now().Add(time.Hour).Unix(), Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	defer c.Resume(context.WithoutCancel(ctx), locksmith.PauseScope{Group: g}, "")
	options := []cmp.Option{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(locksmith.Waiter{}, "Nonce", "Revision"), cmpopts.EquateErrors(),
		cmpopts.IgnoreFields(locksmith.GroupStatus{}, "Revision"), cmpopts.IgnoreFields(locksmith.HistoryEntry{}, "Time", "Group"),
		cmpopts.IgnoreFields(locksmith.Presence{}, "Phase", "PhaseTime")}
	same := func(what string, want, got any, err, gotErr error) {
		t.Helper()
		if err != nil || gotErr != nil {
			t.Errorf("%s: %v, %v", what, err, gotErr)
		}
		if diff := cmp.Diff(want, got, options...); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	want, err := st.store.Status(ctx, g)
	got, gotErr := c.Status(ctx, g)
	same("status", want, got, err, gotErr)
	sem, _, gotErr := c.Semaphore(ctx, g)
	same("semaphore", want.Sem, sem, nil, gotErr)
	wantGroups, err := st.store.Groups(ctx)
	gotGroups, gotErr := c.Groups(ctx)
	same("groups", len(wantGroups), len(gotGroups), err, gotErr)
	wantHistory, err := st.store.History(ctx, g, 10)
	gotHistory, gotErr := c.History(ctx, g, 10)
	same("history", wantHistory, gotHistory, err, gotErr)
	wantMachine, err := st.store.Machine(ctx, "web-"+string(g))
	gotMachine, gotErr := c.Machine(ctx, "web-"+string(g))
	same("machine", wantMachine, gotMachine, err, gotErr)
	wantMachines, err := st.store.Machines(ctx)
	gotMachines, gotErr := c.Machines(ctx)
	same("machines", len(wantMachines), len(gotMachines), err, gotErr)
	wantPauses, err := st.store.Pauses(ctx)
	gotPauses, gotErr := c.Pauses(ctx)
	same("pauses", wantPauses, gotPauses, err, gotErr)
}

// Errors are the vocabulary's again, and what a server does not do says so.
func TestClientErrors(t *testing.T) {
	st := newSite(t, nil)
	ctx, c, g := t.Context(), st.client("root"), st.group
	if _, err := c.SetMax(ctx, g, 1, ""); err != nil {
		t.Fatal(err)
	}
	lock := func(machine string) error {
		_, err := c.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{g}, MachineID: machine, By: locksmith.ByLock})
		return err
	}
	if err := lock("m1"); err != nil {
		t.Fatal(err)
	}
	if err := lock("m1"); !errors.Is(err, locksmith.ErrHolderExists) {
		t.Error(err)
	}
	if full, ok := errors.AsType[*locksmith.FullError](lock("m2")); !ok || full.Group != g || full.Semaphore != 0 {
		t.Errorf("%+v", full)
	}
	if err := c.Unlock(ctx, g, "m2", locksmith.Result{}); !errors.Is(err, locksmith.ErrNotHolder) {
		t.Error(err)
	}
	if err := c.Resume(ctx, locksmith.PauseScope{Group: g}, ""); !errors.Is(err, locksmith.ErrNotPaused) {
		t.Error(err)
	}
	if _, err := c.Machine(ctx, "nobody"); !errors.Is(err, locksmith.ErrUnknownMachine) {
		t.Error(err)
	}
	if err := c.Forget(ctx, "nobody"); !errors.Is(err, locksmith.ErrUnknownMachine) {
		t.Error(err)
	}
	st.put("/groups/"+string(g)+"/semaphore", "nonsense")
	if _, err := c.Status(ctx, g); func() bool { u, ok := errors.AsType[*locksmith.UnreadableError](err); return !ok || u.Key == "" }() {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"Find":          second(c.Find(ctx, "m", nil)),
		"Acquire":       second(c.Acquire(ctx, locksmith.Request{}, nil)),
		"Advance":       second(c.Advance(ctx, locksmith.Slots{}, locksmith.PhaseRebooting, "")),
		"Release":       c.Release(ctx, locksmith.Slots{}, locksmith.Result{}),
		"a reboot":      second(c.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{g}, By: locksmith.ByReboot})),
		"several slots": second(c.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{"a", "b"}, By: locksmith.ByLock})),
	} {
		if _, ok := errors.AsType[*api.NeedsEtcdError](err); !ok || !strings.Contains(err.Error(), "needs etcd itself") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, token := range []string{"", "viewer"} {
		_, err := st.client(token).SetMax(ctx, st.other, 1, "")
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Status/100 != 4 || e.Transient() {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// watched is a WatchStatus under way.
type watched struct {
	states chan locksmith.GroupStatus
	ended  chan error
	cancel context.CancelCauseFunc
}

func watch(t *testing.T, c *api.Client, g locksmith.Group) *watched {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &watched{make(chan locksmith.GroupStatus, 100), make(chan error, 1), cancel}
	go func() {
		w.ended <- c.WatchStatus(ctx, g, func(s locksmith.GroupStatus) error { w.states <- s; return nil })
	}()
	t.Cleanup(func() { cancel(nil) })
	return w
}

// max waits for a state with this maximum.
func (w *watched) max(t *testing.T, want int) {
	t.Helper()
	for end := time.After(30 * time.Second); ; {
		select {
		case s := <-w.states:
			if s.Sem.Max == want {
				return
			}
		case err := <-w.ended:
			t.Fatalf("the watch ended: %v", err)
		case <-end:
			t.Fatalf("max %d was not told within 30 s", want)
		}
	}
}

// A watch goes on when the server was away, and says so once.
func TestClientWatches(t *testing.T) {
	st := newSite(t, nil)
	s := serving(t, st.server, ServeConfig{}, defaultLimits)
	var log lockedBuffer
	w := watch(t, clientOf(t, "http://"+s.address, "viewer", &log), st.group)
	w.max(t, 1)
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: string(st.group), Max: new(2)})
	w.max(t, 2)
	s.stop()
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
	s.ended <- nil
	await(t, "the watch says that the server is away", func() bool { return strings.Contains(log.String(), "trying again") })
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: string(st.group), Max: new(3)})
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	again := &served{s.address, nil, make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	go func() { again.ended <- Serve(ctx, l, st.server, ServeConfig{}) }()
	w.max(t, 3)
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, log.String())
	}
	over := errors.New("the test is over")
	w.cancel(over)
	if err := <-w.ended; !errors.Is(err, over) {
		t.Error(err)
	}
	stop()
	if err := <-again.ended; err != nil {
		t.Error(err)
	}
}

// What waiting does not cure ends a watch, and so does the caller's own error.
func TestClientWatchEnds(t *testing.T) {
	st := newSite(t, nil)
	w := watch(t, st.client("viewer"), st.other)
	if e, ok := errors.AsType[*api.Error](<-w.ended); !ok || e.Code != api.CodeForbidden {
		t.Error(e)
	}
	enough := errors.New("enough")
	err := st.client("viewer").WatchStatus(t.Context(), st.group, func(locksmith.GroupStatus) error { return enough })
	if err != enough {
		t.Error(err)
	}
	w = watch(t, st.client("viewer"), st.group)
	w.max(t, 1)
	st.put("/groups/"+string(st.group)+"/semaphore", "nonsense")
	if _, ok := errors.AsType[*locksmith.UnreadableError](<-w.ended); !ok {
		t.Error("an unreadable document does not end the watch")
	}
}
