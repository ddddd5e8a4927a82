package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// show is a machine in one line: id, host name, what is known of it.
func show(m locksmith.MachineStatus) string {
	text := fmt.Sprintf("%s/%s", m.MachineID, m.Hostname)
	if m.Present {
		text += " present"
	}
	if m.Holds != nil {
		text += fmt.Sprintf(" holds %s by %q", locksmith.JoinGroups(m.Holds.Groups), m.Holds.By)
	}
	if m.OS != "" {
		text += " " + m.OS
	}
	for _, p := range m.Pauses {
		text += " " + p.Reason
	}
	return text
}

// fleetOfAll is one machine of each kind.
func fleetOfAll(t *testing.T, srv *etcdtest.Server, s *Store) {
	t.Helper()
	rawDelete(t, srv, prefix)
	rawPut(t, srv, seenKey("aa1"), `{"machineID":"aa1","hostname":"web-2","groups":["a"],"os":"was","started":1}`)
	rawPut(t, srv, presenceKey("aa1"), `{"machineID":"aa1","hostname":"web-2","groups":["a"],"os":"is","started":1}`)
	rawPut(t, srv, presenceKey("aa2"), `{"machineID":"aa2","hostname":"web-1","groups":["a","b"],"started":1}`) // an older version's
	rawPut(t, srv, seenKey("bb"), `{"machineID":"bb","hostname":"web-3","groups":["a"],"os":"gone"}`)
	rawPut(t, srv, seenKey("cc"), `not JSON`)
	rawPut(t, srv, seenKey("twin1"), `{"machineID":"twin1","hostname":"twin"}`)
	rawPut(t, srv, seenKey("twin2"), `{"machineID":"twin2","hostname":"twin"}`)
	rawPut(t, srv, semaphoreKey("old"), `{"semaphore":1,"max":2,"holders":["dd"]}`)
	rawPut(t, srv, holderKey("old", "ee"), `{"machineID":"ee","startTime":1}`) // without a slot
	rawPut(t, srv, semaphoreKey("broken"), `x`)
	rawPut(t, srv, holderKey("broken", "ff"), `{"machineID":"ff","startTime":1,"groups":["broken"],"by":"locksmithd"}`)
	must(s.TryAcquire(t.Context(), request("aa2", "a", "b")))(t)
	byHand := request("bb", "c")
	byHand.By = locksmith.ByLock
	must(s.TryAcquire(t.Context(), byHand))(t)
	for _, id := range []string{"bb", "never"} {
		if err := s.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{Machine: id}, Reason: "paused"}); err != nil {
			t.Fatal(err)
		}
	}
	rawPut(t, srv, policyKey(locksmith.PauseScope{Machine: "over"}), `{"pause":{"at":1,"until":2}}`)
}

func TestMachines(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s := dial(t, srv.Endpoint)
		fleetOfAll(t, srv, s)
		all := must(s.Machines(t.Context()))(t)
		var got []string
		for _, m := range all {
			got = append(got, show(m))
			one, err := s.Machine(t.Context(), m.MachineID)
			if err != nil || !cmp.Equal(one, m) {
				t.Errorf("by its id %s: %v: %s", m.MachineID, err, cmp.Diff(m, one))
			}
		}
		want := []string{"cc/", `dd/ holds old by ""`, `ff/ holds broken by "locksmithd"`, "never/ paused", "twin1/twin", "twin2/twin",
			`aa2/web-1 present holds a,b by "locksmithd"`, "aa1/web-2 present is", `bb/web-3 holds c by "locksmithctl lock" gone paused`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMachineByName(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s := dial(t, srv.Endpoint)
		fleetOfAll(t, srv, s)
		for name, want := range map[string]string{"web-3": "bb", "b": "bb", "aa1": "aa1", "twin2": "twin2"} {
			if m := must(s.Machine(t.Context(), name))(t); m.MachineID != want {
				t.Errorf("%s is %s, want %s", name, m.MachineID, want)
			}
		}
		for name, want := range map[string]string{
			"a":    `"a" could be 2 machines: aa2 (web-1), aa1 (web-2); give the whole id`,
			"twin": `"twin" could be 2 machines: twin1 (twin), twin2 (twin); give the whole id`,
			"ee":   `unknown machine "ee": no machine has this id, this host name or an id that begins so`,
			"":     `invalid machine id "": it is empty`,
		} {
			_, err := s.Machine(t.Context(), name)
			if err == nil || err.Error() != want || errors.Is(err, locksmith.ErrUnknownMachine) != (name == "ee") {
				t.Errorf("%q: %v, want %s", name, err, want)
			}
		}
	})
}

func TestForget(t *testing.T) {
	onEach(t, func(t *testing.T, srv *etcdtest.Server) {
		s := dial(t, srv.Endpoint)
		fleetOfAll(t, srv, s)
		for id, want := range map[string]string{
			"aa1":   "machine aa1 is connected to etcd: stop its locksmithd first",
			"bb":    "machine bb holds a slot of group c: unlock it first",
			"ff":    "machine ff holds a slot of group broken: unlock it first",
			"never": "machine never is paused: resume it first",
			"web-3": `unknown machine "web-3"`,
			"twin":  `unknown machine "twin"`,
		} {
			if err := s.Forget(t.Context(), id); err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", id, err, want)
			}
		}
		if err := s.Forget(t.Context(), "web-3"); !errors.Is(err, locksmith.ErrUnknownMachine) {
			t.Error(err)
		}
		rawPut(t, srv, policyKey(locksmith.PauseScope{Machine: "twin1"}), `{"pause":{"at":1,"until":2}}`)
		for _, id := range []string{"twin1", "cc"} {
			if err := s.Forget(t.Context(), id); err != nil {
				t.Error(err)
			}
			if left := rawGet(t, srv, seenKey(id)) + rawGet(t, srv, policyKey(locksmith.PauseScope{Machine: id})); left != "" {
				t.Errorf("left of %s: %s", id, left)
			}
		}
		if m := must(s.Machine(t.Context(), "twin"))(t); m.MachineID != "twin2" {
			t.Errorf("twin is %s", m.MachineID)
		}
	})
}

// A machine that comes back between the look and the decision is not forgotten.
func TestForgetWhatComesBack(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	s := dial(t, srv.Endpoint)
	fleetOfAll(t, srv, s)
	m, p, err := s.machine(t.Context(), "twin1")
	if err != nil {
		t.Fatal(err)
	}
	rawPut(t, srv, presenceKey("twin1"), `{"machineID":"twin1"}`)
	if done, err := s.forget(t.Context(), m, p); done || err != nil {
		t.Errorf("forgotten: %v, %v", done, err)
	}
}

// Ten thousand machines come in pages, all of one moment, however many hold slots.
func TestTenThousandMachines(t *testing.T) {
	srv := server(t, etcdtest.Embedded)
	rawDelete(t, srv, prefix)
	const n, holding = 10_000, 1500
	cl := srv.Client(t)
	t.Cleanup(func() { _, _ = cl.Delete(context.Background(), prefix, clientv3.WithPrefix()) }) // t.Context has ended by then
	var ops []clientv3.Op
	var holders []string
	for i := range n {
		id := fmt.Sprintf("%05d", i)
		doc := fmt.Sprintf(`{"machineID":%q,"hostname":"host-%s","groups":["g"],"reason":%q}`, id, id, strings.Repeat("x", 300))
		ops = append(ops, clientv3.OpPut(seenKey(id), doc), clientv3.OpPut(presenceKey(id), doc))
		if i < holding {
			holders = append(holders, id)
			ops = append(ops, clientv3.OpPut(holderKey("g", id), fmt.Sprintf(`{"machineID":%q,"startTime":1,"groups":["g"]}`, id)))
		}
	}
	ops = append(ops, clientv3.OpPut(semaphoreKey("g"), locksmith.Semaphore{Semaphore: 0, Max: holding, Holders: holders}.Document()))
	for chunk := range slices.Chunk(ops, maxReads) {
		must(cl.Txn(t.Context()).Then(chunk...).Commit())(t)
	}
	s := dial(t, srv.Endpoint)
	all := must(s.Machines(t.Context()))(t)
	if len(all) != n {
		t.Fatalf("%d machines", len(all))
	}
	held := 0
	for i, m := range all {
		if m.MachineID != fmt.Sprintf("%05d", i) || !m.Present {
			t.Fatalf("machine %d is %s", i, show(m))
		}
		if m.Holds != nil {
			held++
		}
	}
	if held != holding {
		t.Errorf("%d hold slots, want %d", held, holding)
	}
	if n := s.Stats().Requests; n > 40 {
		t.Errorf("%d requests", n)
	}
}
