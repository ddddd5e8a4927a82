package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// When a presence is written, from second to second.
func TestPresencePlan(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	in := func(phase locksmith.Phase) locksmith.Presence {
		return locksmith.Presence{MachineID: "m", Phase: phase}
	}
	pl := &presencePlan{settle: 2 * time.Second, every: 10 * time.Second}
	expect := func(what string, from, to float64) {
		t.Helper()
		if due := pl.due(); due.Before(at(from)) || due.After(at(to)) {
			t.Errorf("%s: due at %v, want %v to %v", what, due.Sub(at(0)), from, to)
		}
	}
	write := func(second float64, ok bool) {
		pl.begin(at(second))
		pl.done(at(second), ok)
	}
	if due := pl.due(); !due.IsZero() {
		t.Errorf("nothing came, and due at %v", due)
	}
	pl.take(at(0), in(locksmith.PhaseVerifying))
	pl.take(at(1), in(locksmith.PhaseRestoring))
	pl.take(at(1.5), in(locksmith.PhaseIdle))
	expect("a start", 2, 2)
	write(2, true)
	expect("idle", 2+0.9*3600, 2+1.1*3600)
	pl.take(at(3), in(locksmith.PhaseIdle))
	expect("nothing new", 2+0.9*3600, 2+1.1*3600)
	pl.take(at(3), in(locksmith.PhaseNeeded))
	expect("soon after a write", 12, 12)
	pl.take(at(11.5), in(locksmith.PhaseQueued))
	expect("more of it", 12, 12)
	write(12, false)
	pl.retry = at(13)
	expect("failed", 13, 13)
	write(13, true)
	pl.take(at(100), in(locksmith.PhasePreparing))
	expect("a change", 102, 102)
	write(102, true)
	expect("slots held", 102+0.9*300, 102+1.1*300)
	write(402, false) // of what is written already: there is nothing new in it
	expect("failed again", 102+0.9*300, 102+1.1*300)
	pl.lapsed = true
	expect("lease lost", 102, 102)
	write(500, false)
	expect("lease lost, and not written", 102, 102)
	write(501, true)
	expect("announced again", 501+0.9*300, 501+1.1*300)
	pl.take(at(502), in(locksmith.PhaseRebooting))
	pl.begin(at(511))
	pl.take(at(511.5), in(locksmith.PhaseVerifying)) // while that is under way
	pl.done(at(512), true)
	expect("a change during a write", 522, 522)
}

func stored(t *testing.T, srv *etcdtest.Server, key string) (p locksmith.Presence, version int64) {
	t.Helper()
	resp := must(srv.Client(t).Get(t.Context(), key))(t)
	if len(resp.Kvs) == 0 {
		return p, 0
	}
	if err := json.Unmarshal(resp.Kvs[0].Value, &p); err != nil {
		t.Fatal(err)
	}
	return p, resp.Kvs[0].Version
}

// awaitKey returns once the key is as it should be.
func awaitKey(t *testing.T, srv *etcdtest.Server, key, what string, ok func(p locksmith.Presence, version int64) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events := srv.Client(t).Watch(ctx, key, clientv3.WithCreatedNotify())
	for range events {
		if ok(stored(t, srv, key)) {
			return
		}
	}
	p, version := stored(t, srv, key)
	t.Fatalf("waited for %s: %+v, version %d", what, p, version)
}

// An agent's start is one write, of two keys; what changes follows; its last word
// stays when its lease is gone.
func TestKeepPresence(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		rawDelete(t, srv, prefix)
		s := dial(t, srv.Endpoint, func(c *Config) {
			c.LeaseTTL, c.PresenceSettle, c.PresenceEvery = 3*time.Second, 300*time.Millisecond, 500*time.Millisecond
		})
		latest := make(chan locksmith.Presence)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.KeepPresence(ctx, latest) }()
		start := time.Now()
		p := locksmith.Presence{MachineID: "m 1", Hostname: "web-1", Groups: []locksmith.Group{"g"}}
		say := func(phases ...locksmith.Phase) {
			for _, p.Phase = range phases {
				latest <- p
			}
		}
		say(locksmith.PhaseRecovering, locksmith.PhaseVerifying, locksmith.PhaseIdle)
		awaitKey(t, srv, presenceKey("m 1"), "a presence", func(p locksmith.Presence, version int64) bool { return version > 0 })
		if took := time.Since(start); took < 300*time.Millisecond {
			t.Errorf("written after %v", took)
		}
		for _, key := range []string{presenceKey("m 1"), seenKey("m 1")} {
			got, version := stored(t, srv, key)
			if version != 1 || got.Phase != locksmith.PhaseIdle || got.Seen < start.Unix() || got.Hostname != "web-1" {
				t.Errorf("%s: version %d: %+v", key, version, got)
			}
		}
		say(locksmith.PhaseNeeded, locksmith.PhaseQueued)
		awaitKey(t, srv, seenKey("m 1"), "a change", func(p locksmith.Presence, version int64) bool {
			return p.Phase == locksmith.PhaseQueued && version == 2
		})

		resp := must(srv.Client(t).Get(t.Context(), presenceKey("m 1")))(t)
		must(srv.Client(t).Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)))(t)
		awaitKey(t, srv, presenceKey("m 1"), "another announcement", func(p locksmith.Presence, version int64) bool { return version == 1 })

		say(locksmith.PhaseRebooting)
		cancel(errStopped)
		if err := <-done; !errors.Is(err, errStopped) {
			t.Errorf("ended with %v", err)
		}
		s.Close()
		if _, version := stored(t, srv, presenceKey("m 1")); version != 0 {
			t.Error("it is present although it stopped")
		}
		if got, _ := stored(t, srv, seenKey("m 1")); got.Phase != locksmith.PhaseRebooting {
			t.Errorf("its last word is %+v", got)
		}
	})
}

// A presence that could not be written is, when etcd is back.
func TestPresenceSurvives(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	rawDelete(t, srv, prefix)
	proxy := etcdtest.NewProxy(t, srv.Address())
	proxy.Down()
	s := dial(t, proxy.Endpoint, func(c *Config) { c.PresenceSettle, c.PresenceEvery, c.Timeout = 1, 1, time.Second })
	latest := make(chan locksmith.Presence)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.KeepPresence(ctx, latest) }()
	latest <- locksmith.Presence{MachineID: "m"}
	for s.Stats().Failures == 0 { // each value is taken without delay, whatever goes on
		latest <- locksmith.Presence{MachineID: "m", Phase: locksmith.PhaseNeeded}
	}
	if st := s.Stats(); st.LastError == "" || st.LastErrorTime.IsZero() || st.Connected || st.Requests < st.Failures {
		t.Errorf("while etcd is away: %+v", st)
	}
	proxy.Up()
	awaitKey(t, srv, presenceKey("m"), "a presence", func(p locksmith.Presence, version int64) bool { return p.Phase == locksmith.PhaseNeeded })
	// What is in etcd is counted once its reply is here.
	awaitThat(t, func() bool { st := s.Stats(); return st.Connected && st.Requests > st.Failures },
		func() string { return fmt.Sprintf("etcd is back: %+v", s.Stats()) })
	cancel(errStopped)
	<-done
}

// Holders that are not present show when they were seen last: as the presence says
// that stayed, or as the machine's own record does where that is newer.
func TestHoldersSeen(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		setMax(t, s, g, 5)
		now := time.Now().Unix()
		for _, tt := range []struct {
			machine, by string
			seen        int64 // as stored, 0: nothing
			phaseTime   int64
			want        int64
		}{
			{"presence", locksmith.ByAgent, now, 1000, now},
			{"record", locksmith.ByAgent, 1000, now, now},
			{"by-hand", locksmith.ByLock, 1000, now, 1000},
			{"unknown", locksmith.ByLock, 0, now, 0},
			{"present", locksmith.ByAgent, now, now, 0},
		} {
			rawDelete(t, srv, seenKey(tt.machine))
			req := request(tt.machine, g)
			req.By = tt.by
			record := must(s.TryAcquire(t.Context(), req))(t).Record
			record.PhaseTime = tt.phaseTime
			rawPut(t, srv, holderKey(g, tt.machine), mustJSON(record))
			if tt.seen > 0 {
				rawPut(t, srv, seenKey(tt.machine), fmt.Sprintf(`{"machineID":%q,"groups":[],"seen":%d}`, tt.machine, tt.seen))
			}
			if tt.machine == "present" {
				rawPut(t, srv, presenceKey(tt.machine), `{"machineID":"present"}`) // as an older version writes it
			}
			for _, h := range must(s.Status(t.Context(), g))(t).Holders {
				if h.MachineID == tt.machine && (!h.Seen.Equal(locksmith.When(tt.want)) || h.Present != (tt.machine == "present")) {
					t.Errorf("%s: present %v, seen %v, want %v", tt.machine, h.Present, h.Seen.Unix(), tt.want)
				}
			}
		}
	})
}

// A drain that takes its time is seen as such, though the record says no more than that
// the slot was taken; and what the machine wrote into its record last counts.
func TestPhaseOfHolders(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s, g := dial(t, srv.Endpoint), newGroup(t)
		setMax(t, s, g, 5)
		for _, tt := range []struct {
			machine, by, presence string
			phase                 locksmith.Phase
			phaseTime             int64
		}{
			{"drains", locksmith.ByAgent, `"phase":"preparing","phaseTime":2000`, locksmith.PhasePreparing, 2000},
			{"went-down", locksmith.ByAgent, `"phase":"preparing","phaseTime":900`, locksmith.PhaseAcquired, 1000},
			{"older-agent", locksmith.ByAgent, `"hostname":"h"`, locksmith.PhaseAcquired, 1000},
			{"waits-again", locksmith.ByAgent, `"phase":"queued","phaseTime":2000`, locksmith.PhaseAcquired, 1000},
			{"by-hand", locksmith.ByLock, `"phase":"preparing","phaseTime":2000`, locksmith.PhaseAcquired, 1000},
		} {
			req := request(tt.machine, g)
			req.By = tt.by
			record := must(s.TryAcquire(t.Context(), req))(t).Record
			record.Phase, record.PhaseTime = locksmith.PhaseAcquired, 1000
			rawPut(t, srv, holderKey(g, tt.machine), mustJSON(record))
			rawPut(t, srv, seenKey(tt.machine), fmt.Sprintf(`{"machineID":%q,"groups":[],"seen":2000,%s}`, tt.machine, tt.presence))
			for _, h := range must(s.Status(t.Context(), g))(t).Holders {
				if h.MachineID == tt.machine && (h.Phase != tt.phase || h.PhaseTime != tt.phaseTime) {
					t.Errorf("%s: phase %s since %d, want %s since %d", tt.machine, h.Phase, h.PhaseTime, tt.phase, tt.phaseTime)
				}
			}
			rawDelete(t, srv, seenKey(tt.machine))
		}
	})
}
