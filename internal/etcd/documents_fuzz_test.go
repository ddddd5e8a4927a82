package etcd

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/locksmith-reboot/locksmith"
)

// What is stored of a machine, by whomever: the table never mistakes one machine for
// another, the younger presence counts, and one that cannot be read says nothing.
func FuzzPresence(f *testing.F) {
	for _, doc := range []string{`{"machineID":"m","groups":["a",""],"started":1,"seen":2,"phase":"idle"}`, `{"machineID":"other","hostname":"h"}`,
		`{"conditions":[{"type":"x"}],"groups":null}`, `{"started":"x"}`, `{"phase":"\u0000","seen":-1}`, `null`, `[]`, ``} {
		f.Add([]byte(doc), []byte(`{"machineID":"m","hostname":"old"}`), int64(7))
		f.Add([]byte(`{"machineID":"m","hostname":"old"}`), []byte(doc), int64(5))
	}
	f.Fuzz(func(t *testing.T, running, seen []byte, revision int64) {
		a := &mvccpb.KeyValue{Value: running, ModRevision: max(revision, 1)}
		b := &mvccpb.KeyValue{Value: seen, ModRevision: 6}
		table := machineTable{}
		table.seen("m", b)
		table.present("m", a)
		got := table.sorted()
		if len(got) != 1 || got[0].MachineID != "m" || !got[0].Present {
			t.Fatalf("%q and %q are read as %+v", running, seen, got)
		}
		younger, older := a, b
		if b.ModRevision > a.ModRevision {
			younger, older = b, a
		}
		var want locksmith.Presence
		if decode(younger, &want) != nil {
			want = locksmith.Presence{}
			if decode(older, &want) != nil {
				want = locksmith.Presence{}
			}
		}
		want.MachineID = "m"
		if diff := cmp.Diff(want, got[0].Presence); diff != "" && a.ModRevision != b.ModRevision {
			t.Fatalf("%q at %d and %q at %d:\n%s", running, a.ModRevision, seen, b.ModRevision, diff)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Fatalf("%q cannot be shown: %v", running, err)
		}
		phase, _ := got[0].Where()
		_ = phase.HoldsSlots()
	})
}

// A semaphore with a record and a queue entry beside it, all of them anything: who holds
// is whom the semaphore names, faults are lines, and waiters are in their order.
func FuzzGroup(f *testing.F) {
	f.Add([]byte(`{"semaphore":0,"max":1,"holders":["m"]}`), []byte(`{"machineID":"m","startTime":1,"by":"lock"}`), "5/w", []byte(`{"machineID":"w","since":1}`))
	f.Add([]byte(`{"semaphore":0,"max":1,"holders":["m","b","b"]}`), []byte(`{"machineID":"x\ny"}`), "05/w", []byte(`{"since":"x"}`))
	f.Add([]byte(`null`), []byte(`null`), "9/%0a", []byte(`null`))
	f.Fuzz(func(t *testing.T, semaphore, record []byte, entry string, waiter []byte) {
		const group = locksmith.Group("g")
		kv := &mvccpb.KeyValue{Key: []byte(semaphoreKey(group)), Value: semaphore}
		rec := &mvccpb.KeyValue{Key: []byte(holderKey(group, "m")), Value: record}
		sem, _, err := parseSemaphore(kv)
		if err != nil {
			unreadable(t, kv, err)
			oneLine(t, err.Error())
		}
		holders, faults := readHolders(sem, []*mvccpb.KeyValue{rec})
		for _, fault := range faults {
			oneLine(t, strings.ReplaceAll(fault, recordID(record), ""))
		}
		table := machineTable{}
		table.holds(group, kv, []*mvccpb.KeyValue{rec}, func(string) bool { return true })
		for i, id := range sem.Holders {
			if holders[i].MachineID != id || table[id] == nil || table[id].status.Holds == nil || table[id].status.Holds.MachineID != id {
				t.Fatalf("%q with %q: %q is read as %+v, %+v", semaphore, record, id, holders[i], table[id])
			}
		}
		if len(holders) != len(sem.Holders) || err == nil && len(table) != len(sem.Holders) {
			t.Fatalf("%q with %q: %d holders, and %d in the table", semaphore, record, len(holders), len(table))
		}
		queue := readQueue(group, []*mvccpb.KeyValue{
			{Key: []byte(queuePrefix(group) + entry), Value: waiter, CreateRevision: 9},
			{Key: []byte(queueKey(group, 5, "z")), Value: waiter, CreateRevision: 10},
			{Key: []byte(queueKey(group, 5, "a")), Value: waiter, CreateRevision: 8}})
		order := func(a, b locksmith.Waiter) int {
			return (a.Priority-b.Priority)*100 + int(a.Revision-b.Revision)
		}
		if !slices.IsSortedFunc(queue, order) || len(queue) < 2 {
			t.Fatalf("%q with %q: %+v", entry, waiter, queue)
		}
		for _, w := range queue {
			if w.MachineID == "" || string(queueKey(group, w.Priority, w.MachineID)) == "" {
				t.Fatalf("%q with %q: %+v", entry, waiter, w)
			}
		}
	})
}

// recordID is whom a record names: that may hold anything, and is shown as it is.
func recordID(record []byte) string {
	var h locksmith.Holder
	_ = json.Unmarshal(record, &h)
	return h.MachineID
}

func oneLine(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\r\n") {
		t.Fatalf("more than one line: %q", text)
	}
}

// A key is split into what it was made of, and keys of one kind are told from others.
func FuzzKeys(f *testing.F) {
	f.Add("g", "m")
	f.Add("", "a/b %")
	f.Add("all", "history")
	f.Add("\xff", "\x00")
	f.Fuzz(func(t *testing.T, group, machine string) {
		g := locksmith.Group(group)
		if at, rest := splitKey(holderKey(g, machine)); at != base(g) || !strings.HasPrefix(rest, "holders/") {
			t.Fatalf("the record of %q in %q is split into %q and %q", machine, group, at, rest)
		}
		if _, ok := machineAt(presencePrefix(), []byte(group)); ok && !strings.HasPrefix(group, presencePrefix()) {
			t.Fatalf("%q is read as a presence", group)
		}
		if machine == "" {
			return
		}
		for below, key := range map[string]string{presencePrefix(): presenceKey(machine), seenPrefix(): seenKey(machine),
			machinePolicyPrefix(): policyKey(locksmith.PauseScope{Machine: machine}), holdersPrefix(g): holderKey(g, machine)} {
			if got, ok := machineAt(below, []byte(key)); !ok || got != machine {
				t.Fatalf("%q is read as %q (%v), not %q", key, got, ok, machine)
			}
		}
	})
}
