package dashboard

import (
	"context"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

func TestActionsAreConfirmedAndDone(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	r.lock(t, "web", "m1", locksmith.PhaseRebooting, "kernel")
	v := r.visit(t, operatorToken)

	asked, done := v.confirm(unlockURL("web", "m1"), "reason", "it burnt down")
	asked.contains(t, "Unlock host-m1", "Nobody waits for it just now", "was asked to reboot 0 s ago and may still be down")
	done.is(t, http.StatusSeeOther)
	if s := r.status(t, "web"); len(s.Holders) != 0 {
		t.Errorf("%+v", s.Holders)
	}
	page := v.get(done.header.Get("Location"))
	page.contains(t, "Unlocked host-m1 in group web.")
	v.get("/").lacks(t, "Unlocked host-m1 in group web.") // once
	entries, err := r.store.History(t.Context(), "web", 1)
	if err != nil || entries[0].Actor != "otto@127.0.0.1" || entries[0].Outcome != "unlocked: it burnt down" {
		t.Errorf("%+v %v", entries, err)
	}

	asked, done = v.confirm("/act/set-max?group=web&max=4")
	asked.contains(t, "from 1 to 4", "At most 4 machines may be down at a time, instead of 1.")
	done.is(t, http.StatusSeeOther)
	if s := r.status(t, "web"); s.Sem.Max != 4 {
		t.Error(s.Sem)
	}

	before := time.Now()
	asked, done = v.confirm("/act/pause?group=web&back=%2Fgroup%3Fname%3Dweb", "reason", "moving racks", "for", "4h0m0s")
	asked.contains(t, "No machine of group web is given a slot for a reboot, and none starts one.")
	done.is(t, http.StatusSeeOther)
	if to := done.header.Get("Location"); to != "/group?name=web" {
		t.Error(to)
	}
	p := r.status(t, "web").Pauses
	if len(p) != 1 || p[0].Reason != "moving racks" || p[0].By != "otto@127.0.0.1" || p[0].Until < before.Add(4*time.Hour).Unix() || p[0].Until > time.Now().Add(4*time.Hour).Unix() {
		t.Errorf("%+v", p)
	}

	asked, done = v.confirm("/act/resume?group=web")
	asked.contains(t, "Paused by otto@127.0.0.1 until", "Nobody waits for a slot now.")
	done.is(t, http.StatusSeeOther)
	if p := r.status(t, "web").Pauses; len(p) != 0 {
		t.Errorf("%+v", p)
	}

	_, done = v.confirm("/act/pause?machine=m9", "reason", "new disk")
	done.is(t, http.StatusSeeOther)
	v.get("/machine?id=m9").contains(t, "This machine is paused", "Paused by otto@127.0.0.1: new disk. It ends only when somebody resumes it.")
	_, done = v.confirm("/act/resume?machine=m9")
	done.is(t, http.StatusSeeOther)
}

func TestAnAdminPausesEverythingAndMakesGroups(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	v := r.visit(t, adminToken)
	_, done := v.confirm("/act/pause?all=1", "reason", "storm", "at", time.Now().Add(48*time.Hour).Format(atLayout))
	done.is(t, http.StatusSeeOther)
	if p := r.status(t, "web").Pauses; len(p) != 1 || !p[0].Scope.All || time.Until(time.Unix(p[0].Until, 0)) < 47*time.Hour {
		t.Errorf("%+v", p)
	}
	v.get("/").contains(t, "All groups paused", "Paused by ada@127.0.0.1 until")
	v.get("/act/pause?group=web").contains(t, "Pause group web")
	_, done = v.confirm("/act/resume?all=1")
	done.is(t, http.StatusSeeOther)
	_, done = v.confirm("/act/set-max?new=1&group=cache&max=2")
	done.is(t, http.StatusSeeOther)
	if s := r.status(t, "cache"); !s.Exists || s.Sem.Max != 2 {
		t.Error(s)
	}
	v.get("/act/set-max?new=1").contains(t, "Make a group", "Continue…")
}

func TestWhatCannotBeDoneKeepsWhatWasTyped(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	v := r.visit(t, adminToken)
	for _, fields := range [][]string{
		{"reason", " ", "for", "4h0m0s"}, {"reason", "r", "for", "4h0m0s", "at", "2999-01-01T10:00"}, {"reason", "r", "at", "2001-01-01T10:00"},
		{"reason", "r", "at", "tomorrow"}, {"reason", "r", "for", "-3h"}, {"reason", strings.Repeat("x", 501)},
	} {
		_, a := v.confirm("/act/pause?group=web", fields...)
		a.is(t, http.StatusBadRequest)
		a.contains(t, `role="alert"`, "Nothing was changed.")
		for i := 1; i < len(fields); i += 2 {
			if typed := fields[i]; typed != "tomorrow" && typed != "-3h" {
				a.contains(t, `value="`+typed+`"`)
			}
		}
		if len(r.status(t, "web").Pauses) != 0 {
			t.Fatal("it is paused")
		}
		checkHTML(t, "pause", a)
	}
	for _, number := range []string{"-1", "x", "", "1.5", "99999999999"} {
		a := v.get(address("/act/set-max", "group", "web", "max", number))
		a.is(t, http.StatusOK)
		a.contains(t, "must be a whole number, 0 or more", "Continue…")
		v.post("/act/set-max", "group", "web", "max", number, "facts", "").lacks(t, "Something has changed")
	}
	if n := r.status(t, "web").Sem.Max; n != 1 {
		t.Error(n)
	}
}

func TestWhatHasChangedIsAskedAgain(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	slots := r.lock(t, "web", "m1", locksmith.PhaseFailed, "broken")
	v := r.visit(t, operatorToken)
	asked := v.get(unlockURL("web", "m1"))
	facts := inputs.FindAllStringSubmatch(asked.body, -1)
	var fields []string
	for _, m := range facts {
		fields = append(fields, m[1], html.UnescapeString(m[2]))
	}
	if err := r.store.Release(t.Context(), slots, locksmith.Result{Outcome: "rebooted"}); err != nil {
		t.Fatal(err)
	}
	gone := v.post("/act/unlock", fields...)
	gone.is(t, http.StatusConflict)
	gone.contains(t, "Nothing to unlock", "it has given it back")

	r.lock(t, "web", "m1", locksmith.PhasePreparing, "kernel")
	again := v.post("/act/unlock", append(fields, "reason", "typed")...)
	again.is(t, http.StatusConflict)
	again.contains(t, "Something has changed since you were asked.", "If it is only cut off, it may be about to reboot", `value="typed"`)
	if s := r.status(t, "web"); len(s.Holders) != 1 {
		t.Error("it was unlocked all the same")
	}
	v.post("/act/unlock", "group", "web", "machine", "m1").is(t, http.StatusConflict) // nobody was asked
	_, done := v.confirm(unlockURL("web", "m1"))
	done.is(t, http.StatusSeeOther)
}

// TestWhoActsIsShownWhatIsNew has nothing but the action itself to tell of changes.
func TestWhoActsIsShownWhatIsNew(t *testing.T) {
	r := newRigOn(t, true, func(_ *etcd.Store, ctx context.Context, _ func()) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	r.setMax(t, "web", 1)
	v := r.visit(t, "")
	for n := 2; n < 10; n++ {
		asked, done := v.confirm(fmt.Sprintf("/act/set-max?group=web&max=%d&back=%%2Fgroup%%3Fname%%3Dweb", n))
		asked.contains(t, fmt.Sprintf("from %d to %d", n-1, n))
		done.is(t, http.StatusSeeOther)
		v.get("/group?name=web").contains(t, fmt.Sprintf("0 of %d slots taken", n))
	}
	// What is decided on is not what was shown to somebody a moment ago.
	asked := v.get("/act/set-max?group=web&max=20")
	r.setMax(t, "web", 15)
	var fields []string
	for _, m := range inputs.FindAllStringSubmatch(asked.body, -1) {
		fields = append(fields, m[1], html.UnescapeString(m[2]))
	}
	again := v.post("/act/set-max", fields...)
	again.is(t, http.StatusConflict)
	again.contains(t, "from 15 to 20")
}

func TestAViewerCannotAct(t *testing.T) {
	r := newRig(t, false)
	r.seed(t)
	r.setMax(t, "lab", 1)
	r.lock(t, "lab", "m1", locksmith.PhaseFailed, "broken")
	v := r.visit(t, viewerToken)
	for _, path := range []string{"/", "/group?name=lab", "/group?name=db", "/machine?id=m1", "/machines", "/history"} {
		a := v.get(path)
		a.is(t, http.StatusOK)
		a.lacks(t, "/act/", "Unlock…", "Pause…", "Resume…", "Change…")
	}
	for _, path := range []string{unlockURL("lab", "m1"), "/act/set-max?group=lab&max=3", "/act/pause?group=lab", "/act/pause?all=1", "/act/pause?machine=m1", "/act/resume?group=db"} {
		v.get(path).is(t, http.StatusForbidden)
	}
	for path, fields := range map[string][]string{
		"/act/unlock": {"group", "lab", "machine", "m1"}, "/act/set-max": {"group", "lab", "max", "3"}, "/act/pause": {"all", "1", "reason", "r"}, "/act/resume": {"group", "db"},
	} {
		a := v.post(path, fields...)
		a.is(t, http.StatusForbidden)
		a.contains(t, "Not allowed", "vera may not", "the attempt is in the history")
	}
	if s := r.status(t, "lab"); len(s.Holders) != 1 || s.Sem.Max != 1 || len(s.Pauses) != 0 {
		t.Errorf("%+v", s)
	}
	r.visit(t, adminToken).get("/history?q=vera").contains(t, "vera may not set-max in group lab", "vera may not unlock in group lab", "vera may not pause in all groups")
}

func TestARoleLimitedToGroupsSeesAndDoesNothingElse(t *testing.T) {
	r := newRig(t, false)
	s := r.seed(t)
	v := r.visit(t, webToken)
	for _, path := range []string{"/", "/machines", "/history", "/history?in=group:db"} {
		a := v.get(path)
		a.is(t, http.StatusOK)
		a.lacks(t, "db-2.fra1", "Replication", "edge", ">build<", "Pause all")
	}
	v.get("/").contains(t, "web-15.fra1.example.net", "Unlock…")
	v.get("/machines").contains(t, "30 machines.")
	v.get("/group?name=db").is(t, http.StatusForbidden)
	v.get(machineURL(s.id("db-2.fra1.example.net"))).is(t, http.StatusNotFound)
	v.get("/act/resume?group=db").is(t, http.StatusForbidden)
	v.post("/act/resume", "group", "db").is(t, http.StatusForbidden)
	v.post("/act/unlock", "group", "edge", "machine", s.id("coreos-2")).is(t, http.StatusForbidden)
	v.post("/act/pause", "machine", s.id("db-2.fra1.example.net"), "reason", "r").is(t, http.StatusForbidden)
	_, done := v.confirm(unlockURL("web", s.id("web-15.fra1.example.net")))
	done.is(t, http.StatusSeeOther)
}

func TestSignIn(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	v := r.visit(t, "")
	a := v.get("/group?name=web")
	a.is(t, http.StatusSeeOther)
	if to := a.header.Get("Location"); to != "/sign-in?to=%2Fgroup%3Fname%3Dweb" {
		t.Fatal(to)
	}
	page := v.get(a.header.Get("Location"))
	page.is(t, http.StatusOK)
	page.contains(t, `value="/group?name=web"`)
	page.lacks(t, "data-live", "Machines")
	wrong := v.post("/sign-in", "token", "a wrong token of some length", "to", "/group?name=web")
	wrong.is(t, http.StatusUnauthorized)
	wrong.contains(t, `role="alert"`, `value="/group?name=web"`)
	wrong.lacks(t, "a wrong token")
	right := v.post("/sign-in", "token", " "+viewerToken+"\n", "to", "/group?name=web")
	right.is(t, http.StatusSeeOther)
	if to := right.header.Get("Location"); to != "/group?name=web" {
		t.Fatal(to)
	}
	v.get("/group?name=web").contains(t, "vera, viewer", "Sign out")
	v.get("/sign-in?to=//evil.example/").is(t, http.StatusSeeOther)
	v.post("/sign-out").is(t, http.StatusSeeOther)
	v.get("/").is(t, http.StatusSeeOther)
	r.visit(t, "").post("/sign-in", "token", machineToken).is(t, http.StatusForbidden)
	r.visit(t, adminToken).get("/history").contains(t, "sign-in: wrong token")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("node:"+machineToken)))
	machine := r.visit(t, "").do(req)
	machine.is(t, http.StatusForbidden)
	machine.contains(t, "Nothing to see here")
	for _, path := range []string{"/live"} {
		v.get(path).is(t, http.StatusUnauthorized)
	}
}

func TestOtherSitesAndLargeFormsAreRefused(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	v := r.visit(t, "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/act/set-max", strings.NewReader("group=web&max=9"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	v.do(req).is(t, http.StatusForbidden)
	v.post("/act/set-max", "group", "web", "max", "9", "more", strings.Repeat("x", maxForm)).is(t, http.StatusRequestEntityTooLarge)
	if n := r.status(t, "web").Sem.Max; n != 1 {
		t.Error(n)
	}
}

func TestLocal(t *testing.T) {
	for path, want := range map[string]string{"/": "/", "/group?name=a%2Fb": "/group?name=a%2Fb", "": "/", "//evil.example": "/", `/\evil.example`: "/",
		"https://evil.example/": "/", "javascript:alert(1)": "/", "/a\r\nb": "/", "group": "/", "/%": "/", "/x//y": "/x//y"} {
		if got := local(path); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}
