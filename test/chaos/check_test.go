package chaos_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

const lockPrefix = "coreos.com/updateengine/rebootlock/groups/"

var rules = chaos.Rules{
	Groups: map[string][]locksmith.Group{"a": {"rack", "web"}, "b": {"web"}, "c": {"web"}},
	Max:    map[locksmith.Group]int{"rack": 1, "web": 2},
}

// lines reads "down a 1" as: a's boot number 1 went down; each comes a second after
// the one before, from 1 s on.
func lines(told ...string) []chaos.Line {
	var list []chaos.Line
	for i, s := range told {
		f := strings.Fields(s)
		list = append(list, chaos.Line{At: time.Duration(i+1) * time.Second, Kind: f[0], Machine: f[1], Boot: f[2]})
	}
	return list
}

// changes reads revisions that follow one another half a second after each line of
// lines. Each is a number of documents: "web/=a,b" is the semaphore with its holders,
// "web/a:1:acquired" an old client's record of boot 1, "web/a:1:acquired:lock" one by one of the makers,
// "web/@5:a" an entry in the queue, "web/pause" or one of the other policies; "web/a:gone" and
// "web/@5:a:gone" are deleted. "*" is all groups' policy, "!a" machine a's.
func changes(documents ...string) []chaos.Change {
	var list []chaos.Change
	before := make(map[string]locksmith.Semaphore)
	for i, s := range documents {
		revision := int64(i + 1)
		at := time.Duration(i+1)*time.Second + 500*time.Millisecond
		for _, part := range strings.Fields(s) {
			group, what, _ := strings.Cut(part, "/")
			key := lockPrefix + group
			if holders, ok := strings.CutPrefix(what, "="); ok {
				sem, _ := locksmith.NewSemaphore().SetMax(rules.Max[locksmith.Group(group)])
				sem.Holders = slices.DeleteFunc(strings.Split(holders, ","), func(h string) bool { return h == "" })
				sem.Semaphore = sem.Max - len(sem.Holders)
				list = append(list, told(key, at, revision, before[group], sem))
				before[group] = sem
				list = append(list, chaos.Change{At: at, Revision: revision, Key: key + "/semaphore", Value: []byte(sem.Document())})
				continue
			}
			if doc, ok := policies[what]; ok {
				list = append(list, chaos.Change{At: at, Revision: revision, Key: policyKey(group), Value: doc})
				continue
			}
			f := strings.Split(what, ":")
			c := chaos.Change{At: at, Revision: revision, Key: key + "/holders/" + f[0]}
			level, isEntry := strings.CutPrefix(f[0], "@")
			switch {
			case isEntry:
				c.Key = key + "/queue/" + level + "/" + f[1]
				if len(f) == 2 {
					c.Value = []byte("{}")
				}
			case f[1] != "gone":
				by := "" // an old client's, which has no regard to the queue
				switch {
				case len(f) > 3:
					by = makers[f[3]]
				case f[1] == "served": // over FleetLock, which knows no boots
					by = locksmith.ByFleetLock
				}
				c.Value = fmt.Appendf(nil, `{"machineID":%q,"startTime":1,"phaseTime":1000,"bootID":%q,"phase":%q,"by":%q}`, f[0], f[1], f[2], by)
			}
			list = append(list, c)
		}
	}
	return list
}

// makers are those of records, in one word.
var makers = map[string]string{"agent": locksmith.ByAgent, "lock": locksmith.ByLock, "fleetlock": locksmith.ByFleetLock, "reboot": locksmith.ByReboot}

// policies are documents, in one word.
var policies = map[string][]byte{
	"pause":   []byte(`{"pause":{"by":"alice","at":1,"reason":"freeze"}}`),
	"over":    []byte(`{"pause":{"by":"alice","at":1,"until":999,"reason":"freeze"}}`),
	"other":   []byte(`{"something":1}`),
	"garbled": []byte(`{"pause":`),
	"resume":  nil,
}

func policyKey(scope string) string {
	const prefix = "coreos.com/updateengine/rebootlock/"
	if scope == "*" {
		return prefix + "all/policy"
	}
	if machine, ok := strings.CutPrefix(scope, "!"); ok {
		return prefix + "machine-policy/" + machine
	}
	return prefix + "groups/" + scope + "/policy"
}

// told is the entry of the history that leads from one semaphore to the other.
func told(key string, at time.Duration, revision int64, before, after locksmith.Semaphore) chaos.Change {
	more := []string{`{"action":"set-max"}`}
	for _, m := range after.Holders {
		if !before.Holds(m) {
			more = append(more, fmt.Sprintf(`{"action":"lock","machine":%q}`, m))
		}
	}
	for _, m := range before.Holders {
		if !after.Holds(m) {
			more = append(more, fmt.Sprintf(`{"action":"unlock","machine":%q}`, m))
		}
	}
	doc := fmt.Sprintf(`{"action":"set-max","more":[%s]}`, strings.Join(more, ","))
	return chaos.Change{At: at, Revision: revision, Key: key + "/history/0001", Value: []byte(doc)}
}

func TestCheckRing(t *testing.T) {
	good := changes("web/=b web/b:1:acquired", "web/= web/b:gone")
	entries := 0
	for i := range good {
		if !strings.Contains(good[i].Key, "/history/") {
			continue
		}
		entries++
		for doc, want := range map[string]string{
			`{"action":"lock","machine":"c"}`:   "the history of", // neither grant nor release
			`{"action":"unlock","machine":"c"}`: "tells of unlock of c",
			`{"action":`:                        "unexpected end",
		} {
			bad := slices.Clone(good)
			bad[i].Value = []byte(doc)
			_, violations := chaos.CheckStore(bad, rules)
			found(t, violations, want)
		}
		_, violations := chaos.CheckStore(slices.Delete(slices.Clone(good), i, i+1), rules)
		found(t, violations, "changed with 0 entries in the history")
	}
	if entries != 2 {
		t.Errorf("%d entries", entries)
	}
}

func TestCheckDown(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []chaos.Line
		want  string
	}{
		{"two at a time", lines("down a 1", "down b 1", "up a 2", "down c 1", "up b 2"), ""},
		{"three at once", lines("down a 1", "down b 1", "down c 1"), `3 machines of "web" are down at once (a, b, c), 2 may be`},
		{"a crash is not the lock's", lines("crash a 1", "down b 1", "down c 1"), ""},
	} {
		t.Run(c.name, func(t *testing.T) { found(t, chaos.CheckDown(c.lines, rules), c.want) })
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// found compares violations with what one of them says; "": there are none.
func found(t *testing.T, violations []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(violations) > 0:
		t.Errorf("violations: %q", violations)
	case want != "" && !slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, want) }):
		t.Errorf("no violation says %q: %q", want, violations)
	}
}

func TestCheckStore(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []chaos.Change
		want    string
	}{
		{"granted and given back", changes("web/=b web/b:1:acquired", "web/b:1:rebooting", "web/= web/b:gone"), ""},
		{"all groups at once", changes("web/=a web/a:1:acquired rack/=a rack/a:1:acquired"), ""},
		{"one group of two", changes("web/=a web/a:1:acquired"), `a holds slots in 1 of its groups`},
		{"one too many", changes("web/=b,c web/b:1:acquired web/c:1:acquired", "web/=b,c,d web/d:1:acquired"), `d was given a slot in "web" as one of 3 holders, and max is 2`},
		{"no record", changes("web/=b"), `is held by ["b"] and has records of []`},
		{"no slot", changes("web/=", "web/b:1:acquired"), `is held by [] and has records of ["b"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, violations := chaos.CheckStore(c.changes, rules)
			found(t, violations, c.want)
		})
	}
}

func TestCheckHeld(t *testing.T) {
	for _, c := range []struct {
		name    string
		lines   []chaos.Line
		changes []chaos.Change
		want    string
	}{
		{"held throughout", lines("asked b 1", "asked b 1", "down b 1", "up b 2", "phase b 2"),
			changes("web/=b web/b:1:acquired", "web/b:1:rebooting", "web/b:1:rebooting", "web/b:1:verifying", "web/= web/b:gone"), ""},
		{"never held", lines("down b 1", "up b 2"), nil, `b went down without a slot in "web"`},
		{"in another boot", lines("down b 2", "up b 3"), changes("web/=b web/b:1:rebooting"), `without a slot`},
		{"not written", lines("down b 1", "up b 2"), changes("web/=b web/b:1:acquired"), `without having written so`},
		{"given back too early", lines("down b 1", "phase b 1", "phase b 1", "up b 2"),
			changes("web/=b web/b:1:rebooting", "web/= web/b:gone"), `b was down while its slot in "web" was free (revision 2)`},
		{"given up, and held again", lines("down b 1", "phase b 1", "phase b 1", "phase b 1", "phase b 1", "up b 2", "phase b 2"),
			changes("web/=b web/b:1:rebooting", "web/= web/b:gone", "web/=b web/b:1:acquired", "web/b:1:rebooting"), ""},
		{"over FleetLock", lines("down b 1", "up b 2", "phase b 2"), changes("web/=b web/b::acquired:fleetlock", "web/b::acquired:fleetlock", "web/= web/b:gone"), ""},
		{"twice on one slot", lines("down b 1", "up b 2", "down b 2", "up b 3"), changes("web/=b web/b::acquired:fleetlock"), "b went down without a slot"},
		{"still down", lines("down b 1"), changes("web/=b web/b:1:rebooting", "web/= web/b:gone"), `while its slot`},
	} {
		t.Run(c.name, func(t *testing.T) {
			holdings, violations := chaos.CheckStore(c.changes, rules)
			found(t, violations, "")
			found(t, chaos.CheckHeld(c.lines, holdings, rules), c.want)
		})
	}
}

func TestCheckEnd(t *testing.T) {
	for _, c := range []struct{ left, want string }{{"web/= web/b:gone", ""}, {"web/=b web/b:1:rebooting", `the slot of b in "web" was lost`}} {
		holdings, _ := chaos.CheckStore(changes("web/=b web/b:1:acquired", c.left), rules)
		found(t, chaos.CheckEnd(holdings), c.want)
	}
}

func TestPlan(t *testing.T) {
	const length = time.Minute
	kinds := make(map[chaos.Action]bool)
	for seed := range uint64(50) {
		full, plan := 0, chaos.Plan(seed, length, 9)
		if !slices.Equal(plan, chaos.Plan(seed, length, 9)) {
			t.Fatalf("seed %d gives two schedules", seed)
		}
		if slices.Equal(plan, chaos.Plan(seed+1, length, 9)) {
			t.Errorf("seeds %d and %d give the same schedule", seed, seed+1)
		}
		for _, f := range plan {
			if kinds[f.Act] = true; f.Act == chaos.FillQuota {
				full++
			}
			if f.At+f.For > length {
				t.Errorf("seed %d: not healed after %v: %v", seed, length, f)
			}
		}
		if full > 1 || !slices.IsSortedFunc(plan, func(a, b chaos.Fault) int { return cmp.Compare(a.At, b.At) }) {
			t.Errorf("seed %d: out of space %d times, want once at most; and all in their order:\n%v", seed, full, plan)
		}
	}
	for _, k := range chaos.Actions {
		if !kinds[k] {
			t.Errorf("no schedule of 50 has %s", k)
		}
	}
}
