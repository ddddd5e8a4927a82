package server

import (
	"errors"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// Our own client, which locksmithd with the strategy fleet-lock uses, at our own server:
// a slot, one more time, the wait for it, a pause, and back.
func TestFleetLockClientAtServer(t *testing.T) {
	f := newFleet(t)
	f.setMax("", 1)
	clients := [2]fleetlock.Client{{URL: "http://" + f.addrs[0]}, {URL: "http://" + f.addrs[1] + "/"}}
	m1, m2 := fleetlock.Request{ID: "m1", Group: "default"}, fleetlock.Request{ID: "m2", Group: "default"}
	for range 2 {
		if err := clients[0].PreReboot(t.Context(), m1); err != nil {
			t.Fatal(err)
		}
	}
	granted := make(chan error, 1)
	go func() { granted <- clients[1].PreReboot(t.Context(), m2) }()
	f.awaitQueue("", 1)
	if err := clients[1].SteadyState(t.Context(), m1); err != nil { // by the other server
		t.Fatal(err)
	}
	select {
	case err := <-granted:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("not granted after the slot came back")
	}
	if s := f.status(""); len(s.Holders) != 1 || s.Holders[0].MachineID != "m2" || s.Holders[0].By != locksmith.ByFleetLock || s.Holders[0].Address == "" {
		t.Errorf("holders: %+v", s.Holders)
	}
	err := f.store.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{All: true}, By: "alice", Reason: "moving racks"})
	if err != nil {
		t.Fatal(err)
	}
	var no *fleetlock.Error
	if err := clients[0].PreReboot(t.Context(), m2); !errors.As(err, &no) || no.Kind != fleetlock.KindPaused {
		t.Errorf("a holder that asks again during a pause: %v", err)
	}
	if err := clients[0].PreReboot(t.Context(), fleetlock.Request{ID: "m3", Group: "nowhere"}); !errors.As(err, &no) || no.Kind != fleetlock.KindNoGroup {
		t.Errorf("a group that does not exist: %v", err)
	}
	for range 2 {
		if err := clients[0].SteadyState(t.Context(), m2); err != nil {
			t.Fatal(err)
		}
	}
	if s := f.status(""); len(s.Holders) != 0 {
		t.Errorf("holders: %+v", s.Holders)
	}
}
