package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func TestPagesSayWhatIsGoingOn(t *testing.T) {
	r := newRig(t, false)
	s := r.seed(t)
	v := r.visit(t, adminToken)
	for path, texts := range map[string][]string{
		"/": {"7 slots taken, 4 down just now, 13 waiting, 3 things stuck", "web-15.fra1.example.net: stale, not heard of for 35 min",
			"web-14.fra1.example.net: failed its checks for 32 min", "It says: verify hook 20-loadbalancer: exit status 1: backend web-14 has 0 of 2 healthy endpoints. Repair it, and its slot goes back by itself. In group web 12 machines wait.",
			"Group db paused for 50 min Paused by ada@10.0.0.5 until", "min left: Replication is being rebuilt, see the storage team's channel. 1 machine waits there.",
			"Down web-17.fra1.example.net for 3 min", "5 of 5 slots taken", "Next: web-19.fra1.example.net waits for 1 h 19 min", "Where nothing happens", "of 29 machines rebooted"},
		"/group?name=web": {"Group web", "Prepares preparing web-16.fra1.example.net", "Queue 12", "12 web-30.fra1.example.net", "18 machines, began", "24 machines, began",
			"vera may not unlock in group web", "<svg", "As a table", "gave its slot back"},
		"/group?name=db":                                      {"Paused Group db paused", "Resume…"},
		"/group?name=":                                        {"The default group", "Nobody holds a slot.", "Nobody waits.", "Nothing has happened yet."},
		"/machines":                                           {"39 machines.", "build-3.fra1.example.net", "rebooting, over FleetLock"},
		"/machines?q=WEB-2&show=needed":                       {"10 of 39 machines."},
		"/machines?show=stale&in=group:build":                 {"1 of 39 machines.", "build-3.fra1.example.net"},
		"/machines?q=nothing":                                 {"0 of 39 machines.", "None of them fits."},
		machineURL(s.id("web-20.fra1.example.net")):           {"Waiting for a slot (queued), for 1 h 18 min", "waits slot 2nd of 12 in group web; held by", "Next: reboots once a slot of group web is free (1 before it)."},
		machineURL(s.id("web-14.fra1.example.net")):           {"It failed: verify hook 20-loadbalancer", "keeps its slot until its checks pass", "Unlock in group web…"},
		machineURL(s.id("web-15.fra1.example.net")):           {"stale", "what follows was true then", "Operating system Debian GNU/Linux 12 (bookworm)"},
		machineURL(s.id("coreos-1")):                          {"Holds a slot, taken over FleetLock", "nothing is known of it but its slot"},
		"/history":                                            {"slots changed", "refused"},
		"/history?in=group:db&q=replication":                  {"paused", "ada@10.0.0.5"},
		"/act/resume?group=db":                                {"Resume group db", "1 machine waits for a slot."},
		"/act/pause?all=1":                                    {"No machine anywhere is given a slot", "13 machines wait for a slot now", "Hold a slot and do not start their reboot: web-16.fra1.example.net."},
		"/act/set-max?group=web&max=7":                        {"from 5 to 7", "web-19.fra1.example.net, web-20.fra1.example.net can have a slot at once, and may reboot."},
		"/act/set-max?group=web&max=2":                        {"5 machines hold slots now, and keep them. Nobody is given one until 4 of them have given theirs back."},
		"/act/set-max?new=1&group=cache&max=3":                {"Make group cache with 3 slots", "Make it"},
		unlockURL("web", s.id("web-15.fra1.example.net")):     {"gives its slot to web-19.fra1.example.net, which waits first", "was asked to reboot 35 min ago and may still be down: look at it first."},
		unlockURL("web", s.id("web-14.fra1.example.net")):     {"failed its checks after the reboot. Without its slot it goes on trying them"},
		unlockURL("edge", s.id("coreos-2")):                   {"Nobody waits for it just now", "took its slot over FleetLock 52 min ago to reboot"},
		"/queue?name=web":                                     {"Queue of group web", "12 waiting."},
		address("/machines", "q", "reboot-required", "n", ""): {"16 of 39 machines."},
	} {
		a := v.get(path)
		a.is(t, http.StatusOK)
		a.contains(t, texts...)
		checkHTML(t, path, a)
	}
	v.get("/group?name=db").lacks(t, "leaves a slot untaken") // as it is paused
	for path, status := range map[string]int{"/nothing": 404, "/group?name=nothing": 404, "/group?name=..": 400, "/machine?id=nobody": 404, "/machine?id=": 400,
		"/act/unlock?group=web&machine=nobody": 409, "/act/resume?group=web": 409, "/act/nothing": 404, "/assets/style.css": 404} {
		a := v.get(path)
		a.is(t, status)
		if path != "/assets/style.css" {
			checkHTML(t, path, a)
		}
	}
}

func unlockURL(group, id string) string { return address("/act/unlock", "group", group, "machine", id) }

var (
	assetLinks = regexp.MustCompile(`(?:src|href)="(/assets/[^"]*)"`)
	outside    = regexp.MustCompile(`(?i)(?:src|href|action|xlink:href)\s*=\s*"(?:[a-z]+:)?//`)
	inline     = regexp.MustCompile(`(?i)<style|\sstyle\s*=|\son[a-z]+\s*=|<script>|javascript:`)
)

// checkHTML holds what is true of every page.
func checkHTML(t *testing.T, path string, a answer) {
	t.Helper()
	for _, must := range []string{"<!doctype html>", `<html lang="en">`, "<main id=\"main\"", `name="viewport"`} {
		if strings.Count(a.body, must) != 1 {
			t.Errorf("%s has %q %d times", path, must, strings.Count(a.body, must))
		}
	}
	if n := strings.Count(a.body, "<h1"); n != 1 {
		t.Errorf("%s has %d first headings", path, n)
	}
	if bad := outside.FindString(a.body) + inline.FindString(a.body); bad != "" {
		t.Errorf("%s has %q", path, bad)
	}
	if got := a.header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("%s: policy %q", path, got)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: Cache-Control %q", path, got)
	}
}

func TestAssetsAreKeptForEver(t *testing.T) {
	r := newRig(t, true)
	v := r.visit(t, "")
	links := assetLinks.FindAllStringSubmatch(v.get("/").body, -1)
	if len(links) != 4 {
		t.Fatal(links)
	}
	for _, l := range links {
		a := v.get(l[1])
		a.is(t, http.StatusOK)
		if got := a.header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Error(l[1], got)
		}
		if got := a.header.Get("Content-Type"); strings.HasPrefix(got, "text/plain") || got == "" {
			t.Error(l[1], got)
		}
	}
}

func TestHostileNamesAreText(t *testing.T) {
	r := newRig(t, true)
	const group, host = locksmith.Group(`a"b'<i>&d/é?#%2F`), `"><script>alert(1)</script>`
	reason := `</p><img src=x onerror=alert(2)> javascript:alert(3) {{.}} ` + strings.Repeat("long", 40)
	r.setMax(t, group, 1)
	slots, err := r.store.TryAcquire(t.Context(), locksmith.Request{Groups: []locksmith.Group{group}, MachineID: `m<b>"'`, Hostname: host,
		By: locksmith.ByAgent, BootID: "b", Reason: reason, Priority: locksmith.DefaultPriority})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Advance(t.Context(), slots, locksmith.PhaseFailed, reason); err != nil {
		t.Fatal(err)
	}
	v := r.visit(t, "")
	v.confirm(address("/act/pause", "group", string(group)), "reason", reason)
	for _, path := range []string{"/", groupURL(group), "/machines", "/history", machineURL(`m<b>"'`), unlockURL(string(group), `m<b>"'`),
		address("/act/resume", "group", string(group)), address("/machines", "q", `"><script>`), address("/history", "q", `"><script>`, "in", "group:<i>")} {
		a := v.get(path)
		a.is(t, http.StatusOK)
		a.lacks(t, "<script>alert", "<img src=x", "<i>&d", "m<b>")
		if links := regexp.MustCompile(`href="javascript`).FindString(a.body); links != "" {
			t.Error(path, links)
		}
	}
	asked, done := v.confirm(unlockURL(string(group), `m<b>"'`))
	asked.contains(t, "failed its checks")
	done.is(t, http.StatusSeeOther)
	if s := r.status(t, group); len(s.Holders) != 0 {
		t.Errorf("%+v", s.Holders)
	}
}

func TestAGroupThatCannotBeReadTakesNothingFromTheOthers(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 2)
	r.lock(t, "web", "m1", locksmith.PhaseRebooting, "kernel")
	r.setMax(t, "bad", 1)
	if _, err := r.etcd.Client(t).Put(t.Context(), base("bad")+"/semaphore", `{"semaphore":1,"max":1,"holders":[],"more":2}`); err != nil {
		t.Fatal(err)
	}
	v := r.visit(t, "")
	overview := v.get("/")
	overview.is(t, http.StatusOK)
	overview.contains(t, "Group bad cannot be read", "correct or delete the key", "host-m1", "1 of 2 slots taken", "1 thing stuck")
	v.get("/group?name=bad").contains(t, "It cannot be read, and nothing is granted there until it is")
	v.get("/group?name=web").contains(t, "host-m1")
	v.get("/act/set-max?group=bad&max=2").is(t, http.StatusInternalServerError)
}

func TestAStoreThatIsAwayIsSaid(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 2)
	v := r.visit(t, "")
	v.get("/").is(t, http.StatusOK)
	r.reads.failing(errors.New("etcd at 10.0.0.1 does not answer"))
	start := time.Now()
	for _, path := range []string{"/group?name=web", "/machines", "/history", "/act/pause?all=1"} {
		// What was read a moment ago may be shown for a second more.
		for a := v.get(path); ; a = v.get(path) {
			if a.status == http.StatusServiceUnavailable {
				a.contains(t, "The store does not answer", "Etcd at 10.0.0.1 does not answer", "Slots stay as they are")
				break
			}
			if time.Since(start) > 5*time.Second {
				t.Fatalf("%s: %d", path, a.status)
			}
		}
	}
	r.reads.failing(nil)
	v.get("/group?name=web").is(t, http.StatusOK)
}

func TestLongListsComeInPages(t *testing.T) {
	r := newRig(t, true)
	s := &seed{t: t, client: r.etcd.Client(t), now: time.Now()}
	s.semaphore("big", 1)
	for i := range 450 {
		host := fmt.Sprintf("node-%03d", i)
		s.waiter("big", 5, host, locksmith.Waiter{By: locksmith.ByAgent, Since: s.ago(time.Minute), Nonce: "n"})
		s.put(root+"/seen/"+s.id(host), locksmith.Presence{MachineID: s.id(host), Hostname: host, Groups: []locksmith.Group{"big"}})
	}
	v := r.visit(t, "")
	g := v.get("/group?name=big")
	g.contains(t, "All 450 that wait", "node-049")
	g.lacks(t, ">node-050<")
	q := v.get("/queue?name=big&page=3")
	q.contains(t, "401 to 450 of 450", ">node-400<", ">node-449<", "Previous")
	q.lacks(t, ">node-399<", "rel=\"next\"")
	m := v.get("/machines?q=NODE&page=2")
	m.contains(t, "201 to 400 of 450", ">node-200<", "page=3&amp;q=NODE")
	m.lacks(t, ">node-199<")
	v.get("/machines?page=99999").contains(t, "401 to 450 of 450")
	v.get("/machines?page=-1").contains(t, "1 to 200 of 450")
}
