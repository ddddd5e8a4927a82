package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// Who may do what: one line for each request, with the status that each caller gets.
func TestRoles(t *testing.T) {
	st := newSite(t, nil)
	g, other := string(st.group), string(st.other)
	for _, name := range []string{g, other} {
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: name, Max: new(9)})
	}
	callers := []string{"", "wrong", "machine", "viewer", "operator", "admin", "all", "root"}
	tests := []struct {
		method, target, body string
		want                 [8]int
	}{
		{"GET", "/groups", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/machines", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/machine?name=nobody", "", [8]int{401, 401, 403, 404, 404, 404, 404, 404}},
		{"GET", "/pauses", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/history", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/whoami", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/status?group=G", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/holders?group=G", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/queue?group=G", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/history?group=G", "", [8]int{401, 401, 403, 200, 200, 200, 200, 200}},
		{"GET", "/status?group=OTHER", "", [8]int{401, 401, 403, 403, 403, 403, 200, 200}},
		{"GET", "/holders?group=OTHER", "", [8]int{401, 401, 403, 403, 403, 403, 200, 200}},
		{"GET", "/queue?group=OTHER", "", [8]int{401, 401, 403, 403, 403, 403, 200, 200}},
		{"GET", "/history?group=OTHER", "", [8]int{401, 401, 403, 403, 403, 403, 200, 200}},
		{"GET", "/events?group=OTHER", "", [8]int{401, 401, 403, 403, 403, 403, 0, 0}},
		{"GET", "/status", "", [8]int{401, 401, 403, 403, 403, 403, 200, 200}},
		{"GET", "/openapi.json", "", [8]int{200, 200, 200, 200, 200, 200, 200, 200}},
		{"POST", "/set-max", `{"group":"G","max":9}`, [8]int{401, 401, 403, 403, 200, 200, 403, 200}},
		{"POST", "/set-max", `{"group":"OTHER","max":9}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/lock", `{"group":"G","machineID":"CALLER"}`, [8]int{401, 401, 403, 403, 200, 200, 403, 200}},
		{"POST", "/unlock", `{"group":"G","machineID":"CALLER"}`, [8]int{401, 401, 403, 403, 200, 200, 403, 200}},
		{"POST", "/unlock", `{"group":"OTHER","machineID":"m9"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 409}},
		{"POST", "/pause", `{"scope":"group","group":"G","reason":"x"}`, [8]int{401, 401, 403, 403, 200, 200, 403, 200}},
		{"POST", "/pause", `{"scope":"group","group":"OTHER","reason":"x"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/resume", `{"scope":"group","group":"OTHER"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/pause", `{"scope":"machine","machineID":"m9","reason":"x"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/resume", `{"scope":"machine","machineID":"m9"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/pause", `{"scope":"all","reason":"x"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/resume", `{"scope":"all"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 200}},
		{"POST", "/forget", `{"machineID":"nobody"}`, [8]int{401, 401, 403, 403, 403, 403, 403, 404}},
	}
	for _, tt := range tests {
		for i, caller := range callers {
			if tt.want[i] == 0 {
				continue
			}
			names := strings.NewReplacer("OTHER", other, "G\"", g+"\"", "=G", "="+g, "CALLER", caller)
			resp, text := st.do(caller, tt.method, api.Prefix+names.Replace(tt.target), names.Replace(tt.body))
			if resp.StatusCode != tt.want[i] {
				t.Errorf("%s %s %s as %q: %s %s, want %d", tt.method, tt.target, tt.body, caller, resp.Status, text, tt.want[i])
			}
			if challenge := resp.Header.Get("WWW-Authenticate"); (resp.StatusCode == 401) != (challenge == `Bearer realm="locksmith"`) {
				t.Errorf("%s as %q: WWW-Authenticate %q", tt.target, caller, challenge)
			}
			if resp.StatusCode >= 400 {
				st.refused(resp, text)
			}
		}
	}
}

// Callers of some groups are shown nothing of others.
func TestReadsAreFiltered(t *testing.T) {
	st := newSite(t, nil)
	g, other := string(st.group), string(st.other)
	mine, theirs := "a-"+g, "a-"+other
	st.presence(mine, "web-1-"+g, st.group)
	st.presence(theirs, "web-1-"+other, st.other)
	defer func() { // of all tests' lists
		for _, name := range []string{mine, theirs} {
			st.post("root", api.PathResume, api.ScopeRequest{Scope: "machine", MachineID: name})
		}
	}()
	for _, name := range []string{g, other} {
		st.post("root", api.PathSetMax, api.SetMaxRequest{Group: name, Max: new(2)})
		st.post("root", api.PathLock, api.SlotRequest{Group: name, MachineID: "held-" + name})
		st.post("root", api.PathPause, api.PauseRequest{ScopeRequest: api.ScopeRequest{Scope: "group", Group: &name}, Reason: "x"})
		st.post("root", api.PathPause, api.PauseRequest{ScopeRequest: api.ScopeRequest{Scope: "machine", MachineID: "a-" + name}, Reason: "x"})
	}
	for _, target := range []string{api.PathGroups, api.PathMachines, api.PathPauses, api.PathHistory} {
		_, text := st.do("viewer", "GET", target, "")
		if !strings.Contains(text, `"`+g+`"`) || strings.Contains(text, other) {
			t.Errorf("%s: %s", target, text)
		}
		if _, text := st.do("all", "GET", target, ""); !strings.Contains(text, g) || !strings.Contains(text, other) {
			t.Errorf("%s for all: %s", target, text)
		}
	}
	for _, name := range []string{mine, "web-1-" + g, mine[:len(mine)-1], "held-" + g} {
		if m := get[api.Machine](st, "viewer", api.PathMachine+"?name="+name); !slices.Equal(m.Groups, []string{g}) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, name := range []string{theirs, "web-1-" + other, "held-" + other} {
		if resp, text := st.do("viewer", "GET", api.PathMachine+"?name="+name, ""); resp.StatusCode != 404 || strings.Contains(text, "held by") {
			t.Errorf("%s: %s %s", name, resp.Status, text)
		}
	}
	st.presence("a-2-"+g, "web-2", st.group)
	if resp, text := st.do("viewer", "GET", api.PathMachine+"?name=a-", ""); resp.StatusCode != 409 || st.refused(resp, text).Code != api.CodeConflict {
		t.Errorf("%s %s", resp.Status, text)
	}
	if resp, text := st.do("all", "GET", api.PathMachine+"?name=a-", ""); resp.StatusCode != 409 || st.refused(resp, text).Code != api.CodeConflict {
		t.Errorf("%s %s", resp.Status, text)
	}
}

// What is done is stored, and in the history with who and from where. So is what was
// refused.
func TestActions(t *testing.T) {
	st := newSite(t, nil)
	g := string(st.group)
	if resp, text := st.do("operator", "POST", api.PathSetMax, `{"group":"`+g+`","max":3}`); resp.StatusCode != 403 {
		t.Fatalf("an operator made a group: %s %s", resp.Status, text)
	}
	done := st.post("admin", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(2)})
	if diff := cmp.Diff(api.Done{Action: "set-max", Group: &g, OldMax: new(1), Max: new(2)}, done); diff != "" {
		t.Error(diff)
	}
	st.post("operator", api.PathLock, api.SlotRequest{Group: g, MachineID: "m1", Reason: "firmware"})
	st.post("operator", api.PathLock, api.SlotRequest{Group: g, MachineID: "m2"})
	resp, text := st.do("operator", "POST", api.PathLock, `{"group":"`+g+`","machineID":"m1"}`)
	if e := st.refused(resp, text); e.Code != api.CodeHolderExists {
		t.Errorf("%+v", e)
	}
	resp, text = st.do("operator", "POST", api.PathLock, `{"group":"`+g+`","machineID":"m3"}`)
	if e := st.refused(resp, text); e.Code != api.CodeFull || *e.Group != g || *e.Available != 0 {
		t.Errorf("%+v", e)
	}
	s := get[api.Status](st, "viewer", api.PathStatus+"?group="+g)
	if !s.Exists || s.Available != 0 || s.Max != 2 || len(s.Holders) != 2 || s.Holders[0].MachineID != "m1" || s.Holders[0].Reason != "firmware" ||
		s.Holders[0].By != locksmith.ByLock || s.Holders[0].HeldSeconds == nil || s.Queue == nil || s.Pauses == nil || s.Faults == nil {
		t.Errorf("%+v", s)
	}
	if l := get[api.HolderList](st, "viewer", api.PathHolders+"?group="+g); len(l.Holders) != 2 || l.Max != 2 || l.Revision == 0 {
		t.Errorf("%+v", l)
	}
	if l := get[api.WaiterList](st, "viewer", api.PathQueue+"?group="+g); len(l.Queue) != 0 || l.Queue == nil {
		t.Errorf("%+v", l)
	}
	st.post("operator", api.PathPause, api.PauseRequest{ScopeRequest: api.ScopeRequest{Scope: "group", Group: &g}, Reason: "moving racks"})
	st.post("operator", api.PathResume, api.ScopeRequest{Scope: "group", Group: &g})
	resp, text = st.do("operator", "POST", api.PathResume, `{"scope":"group","group":"`+g+`"}`)
	if e := st.refused(resp, text); e.Code != api.CodeNotPaused {
		t.Errorf("%+v", e)
	}
	st.post("operator", api.PathUnlock, api.SlotRequest{Group: g, MachineID: "m1", Reason: "disk replaced"})
	resp, text = st.do("operator", "POST", api.PathUnlock, `{"group":"`+g+`","machineID":"m1"}`)
	if e := st.refused(resp, text); e.Code != api.CodeNotHolder {
		t.Errorf("%+v", e)
	}
	st.do("viewer", "POST", api.PathUnlock, `{"group":"`+g+`","machineID":"m2"}`)

	var lines []string
	for _, e := range get[api.HistoryList](st, "viewer", api.PathHistory+"?group="+g).Entries {
		if *e.Group != g {
			t.Errorf("an entry of group %s", *e.Group)
		}
		lines = append(lines, strings.Join([]string{e.Action, e.MachineID, e.Actor, e.Outcome}, "|"))
	}
	want := []string{
		"refuse|m2|vera@127.0.0.1|vera may not unlock in group " + g + ": that takes the role operator, not viewer",
		"unlock|m1|olga@127.0.0.1|unlocked: disk replaced",
		"resume||olga@127.0.0.1|moving racks",
		"pause||olga@127.0.0.1|moving racks",
		"lock|m2|olga@127.0.0.1|",
		"lock|m1|olga@127.0.0.1|firmware",
		"set-max||anna@127.0.0.1|max 2",
		"refuse||olga@127.0.0.1|olga may not make a group with set-max in group " + g + ": that takes the role admin, not operator",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if l := get[api.HistoryList](st, "viewer", api.PathHistory+"?limit=2&group="+g); len(l.Entries) != 2 {
		t.Errorf("%+v", l)
	}
}

// Without a group the history is that of all, newest first, and with it come refusals
// that are no group's, for those who see every group.
func TestWholeHistory(t *testing.T) {
	st := newSite(t, nil)
	g, other := string(st.group), string(st.other)
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(5)})
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: other, Max: new(6)})
	st.do("operator", "POST", api.PathPause, `{"scope":"all","reason":"x"}`)
	st.do("viewer", "GET", api.PathStatus+"?group=never-"+g, "") // a group that does not exist
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(7)})

	outcomes := func(token string) (list []string) {
		entries := get[api.HistoryList](st, token, api.PathHistory).Entries
		if !slices.IsSortedFunc(entries, func(a, b api.Entry) int { return int(b.Revision - a.Revision) }) {
			t.Errorf("not sorted: %+v", entries)
		}
		for _, e := range entries {
			list = append(list, e.Outcome)
		}
		return list
	}
	all, some := outcomes("all"), outcomes("viewer")
	if want := []string{"max 5 -> 7", "vera may not look in group never-" + g + ": the viewer's groups are " + g,
		"olga may not pause in all groups: that takes the role admin, not operator", "max 6", "max 5"}; !slices.Equal(all[:5], want) {
		t.Errorf("%q, want %q", all[:5], want)
	}
	if want := []string{"max 5 -> 7", "max 5"}; !slices.Equal(some, want) {
		t.Errorf("%q, want %q", some, want)
	}
}

func TestWhoami(t *testing.T) {
	st := newSite(t, nil)
	got := get[api.Caller](st, "operator", api.PathWhoami)
	want := api.Caller{Name: "olga", From: "127.0.0.1", Role: "operator", Groups: []string{string(st.group)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = get[api.Caller](st, "root", api.PathWhoami)
	if diff := cmp.Diff(api.Caller{Name: "rita", From: "127.0.0.1", Role: "admin", AllGroups: true, Groups: []string{}}, got); diff != "" {
		t.Error(diff)
	}
}

// Requests are strict: what is not understood is not done, not in part either.
func TestStrictRequests(t *testing.T) {
	st := newSite(t, nil)
	g := string(st.group)
	st.post("root", api.PathSetMax, api.SetMaxRequest{Group: g, Max: new(2)})
	before := get[api.Status](st, "root", api.PathStatus+"?group="+g)
	long := strings.Repeat("x", 501)
	tests := []struct {
		method, target, body string
		header               []string
		status               int
		text                 string
	}{
		{"GET", "/status?gruop=x", "", nil, 400, `unknown parameter "gruop": /api/v1/status takes group`},
		{"GET", "/status?group=a&group=b", "", nil, 400, "given 2 times"},
		{"GET", "/status?group=%zz", "", nil, 400, "query cannot be read"},
		{"GET", "/status?group=..", "", nil, 400, `invalid group ".."`},
		{"GET", "/status?group=%00", "", nil, 400, "control character"},
		{"GET", "/groups?x=1", "", nil, 400, "takes no query"},
		{"GET", "/machine", "", nil, 400, "it is empty"},
		{"GET", "/machine?name=a%20b", "", nil, 400, "it holds a space"},
		{"GET", "/history?limit=0", "", nil, 400, "must be 1 to 1024"},
		{"GET", "/history?limit=1025", "", nil, 400, "must be 1 to 1024"},
		{"GET", "/history?limit=1e3", "", nil, 400, "must be 1 to 1024"},
		{"GET", "/nothing", "", nil, 404, "no such path"},
		{"GET", "/status/", "", nil, 404, "no such path"},
		{"GET", "", "", nil, 404, "no such path"},
		{"POST", "/status", "{}", nil, 405, "use GET"},
		{"GET", "/unlock", "", nil, 405, "use POST"},
		{"DELETE", "/pause", "", nil, 405, "use POST"},
		{"POST", "/set-max", `{"max":1}`, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"POST", "/set-max", `max=1`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"POST", "/set-max", `{"max":1}`, []string{"Content-Type", ""}, 415, "application/json"},
		{"POST", "/set-max", `{"max":1}`, []string{"Content-Type", "application/json; charset=latin1"}, 415, "application/json"},
		{"POST", "/set-max", `{"group":"G","max":1,"x":1}`, nil, 400, `unknown field "x"`},
		{"POST", "/set-max", `{"group":"G","max":1} {}`, nil, 400, "more follows"},
		{"POST", "/set-max", `{"group":"G","max":1`, nil, 400, "cannot be used"},
		{"POST", "/set-max", ``, nil, 400, "must be a JSON object"},
		{"POST", "/set-max", `[]`, nil, 400, "must be a JSON object"},
		{"POST", "/set-max", `null`, nil, 400, "must be a JSON object"},
		{"POST", "/set-max", "{\"group\":\"\xff\",\"max\":1}", nil, 400, "not UTF-8"},
		{"POST", "/set-max", `{"group":"G"}`, nil, 400, "max is missing"},
		{"POST", "/set-max", `{"group":"G","max":-1}`, nil, 400, "invalid max -1"},
		{"POST", "/set-max", `{"group":"G","max":1e3}`, nil, 400, "max must not be a number"},
		{"POST", "/set-max", `{"group":"G","max":4294967296}`, nil, 400, "invalid max"},
		{"POST", "/set-max", `{"group":"G","max":"1"}`, nil, 400, "max must not be a string"},
		{"POST", "/set-max?group=G", `{"max":1}`, nil, 400, "takes no query"},
		{"POST", "/unlock", `{"group":"G"}`, nil, 400, "it is empty"},
		{"POST", "/unlock", `{"group":"..","machineID":"m"}`, nil, 400, "invalid group"},
		{"POST", "/lock", `{"group":"G","machineID":"a b"}`, nil, 400, "it holds a space"},
		{"POST", "/lock", `{"group":"G","machineID":"m","reason":"` + long + `"}`, nil, 400, "at most 500"},
		{"POST", "/lock", `{"group":"G","machineID":"m","reason":"a\nb"}`, nil, 400, "one line"},
		{"POST", "/pause", `{"reason":"x"}`, nil, 400, "invalid scope"},
		{"POST", "/pause", `{"scope":"group","group":"G"}`, nil, 400, "reason is missing"},
		{"POST", "/pause", `{"scope":"all","group":"G","reason":"x"}`, nil, 400, "contradicts"},
		{"POST", "/pause", `{"scope":"group","group":"G","reason":"x","until":"tomorrow"}`, nil, 400, "RFC 3339"},
		{"POST", "/pause", `{"scope":"group","group":"G","reason":"x","until":"2020-01-01T00:00:00Z"}`, nil, 400, "past"},
		{"POST", "/pause", `{"scope":"group","group":"G","reason":"x","until":"1960-01-01T00:00:00Z"}`, nil, 400, "past"},
		{"POST", "/resume", `{"scope":"machine"}`, nil, 400, "needs a machineID"},
		{"POST", "/forget", `{"machineID":""}`, nil, 400, "it is empty"},
		{"POST", "/lock", `{"reason":"` + strings.Repeat("x", api.MaxBody) + `"}`, nil, 413, "longer than 16384 bytes"},
	}
	for _, tt := range tests {
		named := strings.NewReplacer(`"G"`, `"`+g+`"`, "=G", "="+g)
		resp, text := st.do("root", tt.method, api.Prefix+named.Replace(tt.target), named.Replace(tt.body), tt.header...)
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s %.80s: %s %s, want %d", tt.method, tt.target, tt.body, resp.Status, text, tt.status)
			continue
		}
		if e := st.refused(resp, text); !strings.Contains(e.Message, tt.text) || strings.Contains(e.Message, "\n") {
			t.Errorf("%s %s %.80s: %q, want %q", tt.method, tt.target, tt.body, e.Message, tt.text)
		}
		if allow := resp.Header.Get("Allow"); (resp.StatusCode == http.StatusMethodNotAllowed) != (allow != "") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.target, allow)
		}
	}
	after := get[api.Status](st, "root", api.PathStatus+"?group="+g)
	if after.Max != before.Max || len(after.Holders) != 0 || len(after.Pauses) != 0 {
		t.Errorf("something was done: %+v", after)
	}
}

// What the store refuses, and what it cannot read, is told as such.
func TestStoreSays(t *testing.T) {
	st := newSite(t, nil)
	g := string(st.group)
	st.put("/machines/here-"+g, `{"machineID":"here-`+g+`","groups":["`+g+`"]}`)
	resp, text := st.do("root", "POST", api.PathForget, `{"machineID":"here-`+g+`"}`)
	if e := st.refused(resp, text); e.Code != api.CodeConflict || !strings.Contains(e.Message, "stop its locksmithd first") {
		t.Errorf("%+v", e)
	}
	st.put("/groups/"+g+"/semaphore", "nonsense")
	for _, target := range []string{api.PathStatus, api.PathHolders, api.PathQueue} {
		resp, text = st.do("root", "GET", target+"?group="+g, "")
		if e := st.refused(resp, text); e.Code != api.CodeUnreadable || !strings.HasSuffix(e.Key, "/groups/"+g+"/semaphore") || e.Cause == "" {
			t.Errorf("%+v", e)
		}
	}
	list := get[api.GroupList](st, "viewer", api.PathGroups)
	if len(list.Groups) != 1 || !strings.Contains(list.Groups[0].Error, "unreadable") {
		t.Errorf("%+v", list)
	}
}
