package etcd

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/locksmith-reboot/locksmith"
)

// unreadable checks that an error of a parser names the key.
func unreadable(t *testing.T, kv *mvccpb.KeyValue, err error) {
	t.Helper()
	var u *locksmith.UnreadableError
	if !errors.As(err, &u) || u.Key != string(kv.Key) {
		t.Fatalf("%q: %v, want an *UnreadableError of its key", kv.Value, err)
	}
}

func FuzzParseHolder(f *testing.F) {
	for _, doc := range []string{`{"machineID":"m","startTime":1397496396}`, `{"machineID":"","startTime":1}`, `{"machineID":"m","startTime":"x"}`,
		`{"machineID":"m","groups":["a",""],"phase":"rebooting","phaseTime":-1,"nonce":"n","more":{}}`, `null`, `[]`, ``} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		kv := &mvccpb.KeyValue{Key: []byte("a/holders/m"), Value: doc}
		h, err := parseHolder(kv)
		if err != nil {
			unreadable(t, kv, err)
			return
		}
		if h.MachineID == "" {
			t.Fatalf("%q: a record of no machine", doc)
		}
		again, err := parseHolder(&mvccpb.KeyValue{Key: kv.Key, Value: []byte(mustJSON(h))})
		if err != nil || mustJSON(again) != mustJSON(h) {
			t.Fatalf("%q is read as %+v, and written and read again as %+v, %v", doc, h, again, err)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	for _, doc := range []string{`{"time":"2026-01-02T03:04:05Z","actor":"a","action":"lock","machine":"m"}`, `{"time":"x"}`, `null`, ``,
		`{"time":"9999-12-31T23:59:59-23:59"}`, `{"heldMs":9223372036854775807}`, `{"downMs":-1}`,
		`{"action":"unlock","machine":"a","more":[{"action":"lock","machine":"b","more":[{}]}]}`, `{"more":[{"heldMs":-1}]}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		kv := &mvccpb.KeyValue{Key: []byte("a/history/0001"), Value: doc, ModRevision: 7}
		entries, err := parseHistory(kv)
		if err != nil {
			unreadable(t, kv, err)
			return
		}
		if len(entries) == 0 {
			t.Fatalf("%q is read as nothing", doc)
		}
		for _, e := range entries {
			if e.Held < 0 || e.Down < 0 || e.Revision != 7 {
				t.Fatalf("%q is read as %+v", doc, e)
			}
			if _, err := json.Marshal(e); err != nil { // as locksmithctl history -o json does
				t.Fatalf("%q cannot be shown: %v", doc, err)
			}
		}
	})
}

// Whatever a policy says, a pause set and ended by us leaves the rest of it.
func FuzzPolicy(f *testing.F) {
	for _, doc := range []string{`{}`, `{"pause":{"by":"a","at":1,"until":2,"reason":"r"},"windows":[1.50,"<"]}`, `{"pause":null,"":{}}`, `{"Pause":{"at":1}}`,
		`{"pause":{"at":-1}}`, `{"pause":[]}`, `{"a":1,"a":2}`, `null`, `[]`, ``} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		kv := &mvccpb.KeyValue{Key: []byte("a/policy"), Value: doc, ModRevision: 7}
		p := parsePolicy(locksmith.PauseScope{All: true}, kv)
		d, err := decodePolicy(kv)
		if err != nil {
			unreadable(t, kv, err)
			if p.pause == nil || !p.pause.Active(time.Now()) {
				t.Fatalf("%q cannot be read and is no pause", doc)
			}
			return
		}
		pause := pauseDoc{By: "alice", At: 1, Until: 2, Reason: "<why>"}
		paused, err := decodePolicy(&mvccpb.KeyValue{Value: []byte(d.document(&pause))})
		if err != nil || paused.pause == nil || *paused.pause != pause {
			t.Fatalf("%q, paused, is read as %+v, %v", doc, paused.pause, err)
		}
		if before, after := d.document(nil), paused.document(nil); before != after {
			t.Fatalf("%q became %q after a pause, without one it is %q", doc, after, before)
		}
		for name := range d.fields {
			if _, kept := paused.fields[name]; !kept {
				t.Fatalf("%q lost %q", doc, name)
			}
		}
	})
}

// What we write, we read.
func FuzzHistoryDocument(f *testing.F) {
	f.Add(int64(1397496396), "actor", "machine", int64(1), int64(2))
	f.Fuzz(func(t *testing.T, seconds int64, actor, machine string, held, down int64) {
		if seconds < 0 || seconds > 250_000_000_000 { // years 1970 to 9892
			return
		}
		limit := int64(1 << 40)
		d := historyDoc{Time: time.Unix(seconds, 0), Actor: strings.ToValidUTF8(actor, ""), Action: locksmith.ActionLock,
			Machine: strings.ToValidUTF8(machine, ""), HeldMS: held & (limit - 1), DownMS: down & (limit - 1)}
		d.More = []historyDoc{{Time: d.Time, Actor: "other", Action: locksmith.ActionUnlock}}
		e, err := parseHistory(&mvccpb.KeyValue{Value: []byte(d.document())})
		want := []locksmith.HistoryEntry{{Time: d.Time.UTC(), Actor: "other", Action: locksmith.ActionUnlock}, {
			Time: d.Time.UTC(), Actor: d.Actor, Action: d.Action, Machine: d.Machine,
			Held: time.Duration(d.HeldMS) * time.Millisecond, Down: time.Duration(d.DownMS) * time.Millisecond}}
		if diff := cmp.Diff(want, e); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func FuzzWaiterAt(f *testing.F) {
	f.Add("", "coreos.com/updateengine/rebootlock/queue/5/m", 5, "m")
	f.Add("a/b", "coreos.com/updateengine/rebootlock/groups/a%2Fb/queue/05/m", 0, "a b")
	f.Add("g", "coreos.com/updateengine/rebootlock/groups/g/queue/+5/%zz", 9, "\xff")
	f.Fuzz(func(t *testing.T, group, key string, priority int, machine string) {
		g := locksmith.Group(group)
		if p, m, ok := waiterAt(g, []byte(key)); ok {
			// Its level is the one that etcd's order of keys gives it.
			if !strings.HasPrefix(key, queueLevelPrefix(g, p)) || p < locksmith.MinPriority || p > locksmith.MaxPriority || m == "" {
				t.Fatalf("%q is read as priority %d of %q", key, p, m)
			}
		}
		if machine == "" || priority < locksmith.MinPriority || priority > locksmith.MaxPriority {
			return
		}
		p, m, ok := waiterAt(g, []byte(queueKey(g, priority, machine)))
		if !ok || p != priority || m != machine {
			t.Fatalf("the key of %q at %d in %q is read as %q at %d (%v)", machine, priority, group, m, p, ok)
		}
		if from, to := urgent(g, priority); priority > 0 && (queueKey(g, priority-1, machine) < from || queueKey(g, priority-1, machine) >= to) {
			t.Fatalf("%q at %d is not among those who go before %d", machine, priority-1, priority)
		}
		if from, to := urgent(g, priority); queueKey(g, priority, machine) >= from && queueKey(g, priority, machine) < to {
			t.Fatalf("%q at %d goes before itself", machine, priority)
		}
	})
}
