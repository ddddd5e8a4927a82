package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// following is a Follow that runs.
type following struct {
	t    *testing.T
	told chan struct{} // one call that is not yet taken stands for all
	done chan error
	stop context.CancelCauseFunc
}

func follow(t *testing.T, s *Store) *following {
	ctx, stop := context.WithCancelCause(t.Context())
	f := &following{t, make(chan struct{}, 1), make(chan error, 1), stop}
	go func() {
		f.done <- s.Follow(ctx, func() {
			select {
			case f.told <- struct{}{}:
			default:
			}
		})
	}()
	return f
}

func (f *following) await(what string) {
	f.t.Helper()
	select {
	case <-f.told:
	case <-time.After(30 * time.Second):
		f.t.Fatalf("not told of %s", what)
	}
}

// forget what was told and not taken.
func (f *following) forget() {
	select {
	case <-f.told:
	default:
	}
}

// Follow tells of every kind of change, and of etcd's coming and going.
func TestFollow(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Debian)
	s, g := dial(t, srv.Endpoint), newGroup(t)
	f := follow(t, s)
	f.await("the start")
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"set-max", func() error { _, err := s.SetMax(t.Context(), g, 3, "test"); return err }},
		{"a grant", func() error { _, err := s.TryAcquire(t.Context(), request("m1", g)); return err }},
		{"a pause", func() error {
			return s.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{Machine: "m9"}, By: "test", Reason: "test"})
		}},
		{"a refusal", func() error {
			return s.Refuse(t.Context(), locksmith.HistoryEntry{Time: time.Now(), Action: locksmith.ActionRefuse})
		}},
	} {
		f.forget()
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		f.await(change.what)
	}
	f.forget()
	srv.Stop()
	f.await("etcd going away")
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	f.await("etcd coming back")
	f.forget()
	if _, err := dial(t, srv.Endpoint).SetMax(t.Context(), g, 4, "test"); err != nil {
		t.Fatal(err)
	}
	f.await("a change after that")
	mine := errors.New("enough")
	f.stop(mine)
	if err := <-f.done; !errors.Is(err, mine) {
		t.Errorf("Follow ended with %v", err)
	}
}

// An etcd that ends in order closes its watches before its connections: the next watch
// is then made while it is away, as here, and etcd confirms none before it is back.
func TestFollowWithoutWatch(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	s := dial(t, srv.Endpoint)
	if _, err := s.Groups(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	f := follow(t, s)
	f.await("etcd going away")
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	f.await("etcd coming back")
}

// A member that loses its leader answers nothing although its connection stands.
func TestFollowLostLeader(t *testing.T) {
	members := etcdtest.StartCluster(t, 3)
	s := dial(t, members[0].Endpoint)
	f := follow(t, s)
	f.await("the start")
	f.forget()
	members[1].Stop()
	members[2].Stop()
	f.await("the leader's loss")
}
