package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// inUse fills a store with a group, holders of every kind, and a past.
func inUse(t *testing.T, store *etcd.Store, url string) {
	t.Helper()
	ctx := t.Context()
	for g, n := range map[locksmith.Group]int{"": 1, "web": 5} {
		if _, err := store.SetMax(ctx, g, n, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if got, err := call(ctx, url, fleetlock.PreRebootPath, fmt.Sprintf("m%d", i), "web"); err != nil || got.status != http.StatusOK {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if _, err := store.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{"", "web"}, MachineID: "agent", By: locksmith.ByAgent}); err != nil {
		t.Fatal(err)
	}
	if got, err := call(ctx, url, fleetlock.SteadyStatePath, "m2", "web"); err != nil || got.status != http.StatusOK {
		t.Fatalf("%+v, %v", got, err)
	}
}

// contents is what a store says of a group, without what belongs to running processes
// and to one store's revisions.
func contents(t *testing.T, store *etcd.Store, g locksmith.Group) (locksmith.GroupStatus, []locksmith.HistoryEntry) {
	t.Helper()
	st, err := store.Status(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	history, err := store.History(t.Context(), g, 100)
	if err != nil {
		t.Fatal(err)
	}
	st.Revision = 0
	for i := range history {
		history[i].Revision = 0
	}
	return st, history
}

func pauseAll(t *testing.T, store *etcd.Store) {
	t.Helper()
	if err := store.Pause(t.Context(), locksmith.Pause{Scope: locksmith.PauseScope{All: true}, By: "test", At: time.Now().Unix(), Reason: "moving"}); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "snap")
	p := startServer(t, data)
	store := dial(t, p.etcd)
	inUse(t, store, p.url)
	out := works(t, "snapshot", "-data-dir", data, file)
	if !regexp.MustCompile(`^` + file + `: \d+ keys at revision \d+, \d+ bytes, checksum verified\n$`).MatchString(out) {
		t.Errorf("output %q", out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	fails(t, file+` exists already: name another file, or remove it`, "snapshot", "-data-dir", data, file)
	fails(t, `.*no such file or directory`, "snapshot", "-data-dir", data, dir+"/none/snap")
	fails(t, `there is a store in `+data+`/etcd already: .*`, "restore", "-data-dir", data, file)
	works(t, "snapshot", "-endpoint", p.etcd, file+"2")
	var want locksmith.GroupStatus
	var wantHistory []locksmith.HistoryEntry
	want, wantHistory = contents(t, store, "web")

	// What came after the snapshot is lost, and whoever knows of it is not confused.
	late, err := store.TryAcquire(t.Context(), locksmith.Request{Groups: []locksmith.Group{"web"}, MachineID: "late", By: locksmith.ByAgent})
	if err != nil {
		t.Fatal(err)
	}
	p.stop(t)
	fails(t, `no locksmith-server runs with its data in `+data+`: .*`, "snapshot", "-data-dir", data, file+"3")
	restored := filepath.Join(dir, "restored")
	out = works(t, "restore", "-data-dir", restored, file)
	if !regexp.MustCompile(`^` + file + `: \d+ keys of revision \d+ restored to ` + restored + `\nReboots are paused: .* locksmithctl resume -all\n$`).MatchString(out) {
		t.Errorf("output %q", out)
	}
	fails(t, `there is a store in .*`, "restore", "-data-dir", restored, file)
	if left, err := filepath.Glob(dir + "/*/.restoring-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	p = startServer(t, restored, "-fleetlock-wait", "0s")
	store = dial(t, p.etcd)
	got, gotHistory := contents(t, store, "web")
	if len(got.Pauses) != 1 || !strings.Contains(got.Pauses[0].Reason, "restored from a snapshot") {
		t.Errorf("pauses %+v", got.Pauses)
	}
	got.Pauses = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantHistory, gotHistory[1:]); diff != "" || gotHistory[0].Action != locksmith.ActionPause {
		t.Errorf("history: %s", diff)
	}
	if _, err := store.Advance(t.Context(), late, locksmith.PhaseRebooting, ""); err == nil {
		t.Error("a slot that is not in the snapshot lets its machine reboot")
	}
	if answered, err := call(t.Context(), p.url, fleetlock.PreRebootPath, "m9", "web"); err != nil || answered.status != http.StatusLocked {
		t.Errorf("a grant while it is paused: %+v, %v", answered, err)
	}
	if err := store.Resume(t.Context(), locksmith.PauseScope{All: true}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m0", "m1"} {
		if answered, err := call(t.Context(), p.url, fleetlock.SteadyStatePath, id, "web"); err != nil || answered.status != http.StatusOK {
			t.Errorf("%+v, %v", answered, err)
		}
	}
	if st, _ := contents(t, store, "web"); len(st.Holders) != 1 {
		t.Errorf("holders %+v", st.Holders)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "snap")
	startServer(t, data)
	works(t, "snapshot", "-data-dir", data, file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{"short": whole[:len(whole)-1], "half": whole[:len(whole)/2], "empty": nil, "flipped": flipped, "text": []byte("no snapshot\n")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "to-"+name)
		fails(t, `(the snapshot )?`+path+` is (damaged: its checksum is .*|no snapshot of an etcd, or only a part of one: .*)`, "restore", "-data-dir", target, path)
		if _, err := os.Stat(etcdDir(target)); err == nil {
			t.Errorf("%s: something was restored", name)
		}
	}
	fails(t, `the snapshot cannot be read: .*`, "restore", "-data-dir", filepath.Join(dir, "x"), filepath.Join(dir, "missing"))
}

// Step by step as docs/server.md has it: from one server with an etcd of its own to
// two on a cluster of three.
func TestGrowth(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "snap")
	p := startServer(t, data)
	store := dial(t, p.etcd)
	inUse(t, store, p.url)
	pauseAll(t, store)
	works(t, "snapshot", "-data-dir", data, file)
	var want []locksmith.GroupStatus
	var wantHistory [][]locksmith.HistoryEntry
	for _, g := range []locksmith.Group{"", "web"} {
		st, history := contents(t, store, g)
		want, wantHistory = append(want, st), append(wantHistory, history)
	}
	p.stop(t)

	members := etcdtest.StartCluster(t, 3)
	endpoints := members[0].Endpoint + "," + members[1].Endpoint + "," + members[2].Endpoint
	out := works(t, "restore", "-endpoint", endpoints, file)
	if !regexp.MustCompile(`^` + file + `: \d+ keys of revision \d+ copied to the cluster and verified\nReboots are paused, as they were in the snapshot\. .*\n$`).MatchString(out) {
		t.Errorf("output %q", out)
	}
	fails(t, `locksmith has data in that etcd already \(coreos\.com/\S+\): only an etcd without any is filled`, "restore", "-endpoint", endpoints, file)

	servers := []*process{launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", endpoints), launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", endpoints)}
	store = dial(t, strings.Split(endpoints, ",")...)
	for i, g := range []locksmith.Group{"", "web"} {
		st, history := contents(t, store, g)
		if diff := cmp.Diff(want[i], st); diff != "" {
			t.Errorf("group %q: %s", g, diff)
		}
		if diff := cmp.Diff(wantHistory[i], history); diff != "" {
			t.Errorf("history of %q: %s", g, diff)
		}
	}
	if err := store.Resume(t.Context(), locksmith.PauseScope{All: true}, "test"); err != nil {
		t.Fatal(err)
	}
	members[0].Stop() // a cluster goes on without one
	for i, id := range []string{"m0", "m7"} {
		path := []string{fleetlock.SteadyStatePath, fleetlock.PreRebootPath}[i]
		for began := time.Now(); ; {
			got, err := call(t.Context(), servers[i].url, path, id, "web")
			if err == nil && got.status == http.StatusOK {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%s: %+v, %v", id, got, err)
			}
		}
	}
}

func TestImportAirlock(t *testing.T) {
	from, to := etcdtest.Start(t, etcdtest.Debian), etcdtest.Start(t, etcdtest.Embedded)
	put := func(key, value string) {
		t.Helper()
		if _, err := from.Client(t).Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	fails(t, `airlock has stored no group there: name its etcd with -from-endpoint`, "import-airlock", "-endpoint", to.Endpoint)
	put("com.coreos.airlock/groups/default/v1/semaphore", `{"total_slots":1,"holders":[]}`)
	put("com.coreos.airlock/groups/web/v1/semaphore", `{"total_slots":2,"holders":["b","a"]}`)
	args := []string{"import-airlock", "-endpoint", to.Endpoint, "-from-endpoint", from.Endpoint}
	const says = "default: %[1]s the default group, max 1, no holders\nweb: %[1]s web, max 2, 2 holders: a, b\n"
	const before = "Airlock must have been stopped: what it grants from now on is not known here.\n"
	const after = "What airlock stored is still there, below com.coreos.airlock/: delete it once nobody goes back.\n"
	for _, run := range []struct {
		args []string
		want string
	}{
		{append(args, "-dry-run"), fmt.Sprintf(says, "would be taken over as")},
		{args, before + fmt.Sprintf(says, "taken over as") + after},
		{args, before + fmt.Sprintf(says, "was taken over already as") + after},
	} {
		if got := works(t, run.args...); got != run.want {
			t.Errorf("%q\ngot  %q\nwant %q", run.args, got, run.want)
		}
	}
	store := dial(t, to.Endpoint)
	history, err := store.History(t.Context(), "web", 10)
	if err != nil || len(history) != 3 || !regexp.MustCompile(`^locksmith-server import-airlock \(\S+@\S*\)$`).MatchString(history[0].Actor) {
		t.Errorf("history %+v, %v", history, err)
	}

	// The machines go on where they were.
	p := launchServer(t, "-listen", "127.0.0.1:0", "-endpoint", to.Endpoint, "-fleetlock-wait", "0s")
	for _, step := range []struct {
		path, id string
		want     int
	}{
		{fleetlock.PreRebootPath, "a", 200}, {fleetlock.PreRebootPath, "c", 423}, {fleetlock.SteadyStatePath, "b", 200}, {fleetlock.PreRebootPath, "c", 200},
	} {
		if got, err := call(t.Context(), p.url, step.path, step.id, "web"); err != nil || got.status != step.want {
			t.Errorf("%s of %s: %+v, %v; want %d", step.path, step.id, got, err, step.want)
		}
	}
	put("com.coreos.airlock/groups/db/v1/semaphore", `{"total_slots":1,"holders":["x"]}`)
	fails(t, `1 of 3 groups were not taken over: web: group web exists here already with max 2 and 2 holders: it is left as it is`, args...)
	if st, err := store.Status(t.Context(), "db"); err != nil || len(st.Holders) != 1 {
		t.Errorf("the others: %+v, %v", st, err)
	}
	put("com.coreos.airlock/groups/bad/v1/semaphore", `{"slots":1}`)
	fails(t, `unreadable document at key com.coreos.airlock/groups/bad/v1/semaphore: .*`, args...)
}

func TestToken(t *testing.T) {
	out := works(t, "token", "alice", "web-1", "-role", "operator")
	m := regexp.MustCompile(`^token of alice: ([0-9a-f]{64})\nfor the access file:\n  (\{.*\})\ntoken of web-1: [0-9a-f]{64}\n`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("output %q", out)
	}
	file := filepath.Join(t.TempDir(), "access.json")
	if err := os.WriteFile(file, []byte(`{"principals": [`+m[2]+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launchServer(t, "-data-dir", filepath.Join(t.TempDir(), "data"), "-listen", "127.0.0.1:0", "-etcd-listen", "off", "-access-file", file)
	ask := func(token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.url+"/api/v1/groups", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := fleetClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if ok, not := ask(m[1]), ask("wrong"+m[1][5:]); ok != http.StatusOK || not != http.StatusUnauthorized {
		t.Errorf("with the token %d, with another one %d", ok, not)
	}
	if status, _, stderr := command(t, "token", "-role", "operator"); status != 2 || !strings.Contains(stderr, "a name is missing") {
		t.Errorf("%d %s", status, stderr)
	}
}
