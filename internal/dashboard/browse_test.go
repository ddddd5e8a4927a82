package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/locksmith-reboot/locksmith"
)

// js is a Go value as JavaScript.
func js(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// says waits until the page says something.
func (b *tab) says(text string) {
	b.t.Helper()
	b.until(`document.body.innerText.includes(` + js(text) + `)`)
}

// click follows a link or presses a button by what it says.
func (b *tab) click(text string) {
	b.t.Helper()
	b.run(chromedp.Click(chromedp.Search(`//*[self::a or self::button][normalize-space()=` + js(text) + `]`)))
}

// TestShownFollowsTheStore measures from the change in etcd until the browser shows it.
func TestShownFollowsTheStore(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 3)
	b := r.browse(t)
	var slowest time.Duration
	for p, path := range []string{"/", "/group?name=web"} {
		b.open(path)
		b.live()
		for i := range 5 {
			id := fmt.Sprintf("m%d-%d", p, i)
			shown := make(chan time.Time, 1)
			failed := make(chan error, 1)
			go func() {
				_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](`document.getElementById("main").innerText.includes("host-`+id+`")`, chromedp.WithPollingMutation(), chromedp.WithPollingTimeout(0)))
				shown <- time.Now()
				failed <- err
			}()
			slots := r.lock(t, "web", id, "", "kernel")
			changed := time.Now()
			took := (<-shown).Sub(changed)
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, took)
			t.Logf("%s: a change is shown after %v", path, took.Round(time.Millisecond))
			if err := r.store.Release(t.Context(), slots, locksmith.Result{Outcome: "rebooted"}); err != nil {
				t.Fatal(err)
			}
			b.until(`![...document.querySelectorAll(".holder, td.who-cell")].some(e => e.innerText.includes("host-` + id + `") && !e.closest(".run, .one-group"))`)
		}
	}
	if slowest > time.Second {
		t.Errorf("the slowest change was shown after %v", slowest)
	}
}

func TestAnUpdateLeavesAloneWhatSomebodyDoes(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 3)
	slots := r.lock(t, "web", "m1", "", "kernel")
	if err := r.store.Release(t.Context(), slots, locksmith.Result{Outcome: "rebooted"}); err != nil {
		t.Fatal(err)
	}
	b := r.browse(t)
	b.open("/group?name=web")
	b.live()
	b.run(chromedp.Click(chromedp.CSS("summary")), chromedp.Evaluate[chromedp.Void](`(() => { const m = document.getElementById("max"); m.focus(); m.value = "17"; window.scrollTo(0, 120); window.box = m; })()`))
	top := eval[float64](b, `document.getElementById("max").getBoundingClientRect().top`)
	r.lock(t, "web", "m2", "", "kernel")
	b.until(`document.getElementById("main").innerText.includes("host-m2")`)
	for what, expression := range map[string]string{
		"what was typed":    `document.getElementById("max").value === "17"`,
		"the focus":         `document.activeElement.id === "max"`,
		"the element":       `document.getElementById("max") === window.box`,
		"the open details":  `document.querySelector("details").open`,
		"where it is":       fmt.Sprintf(`Math.abs(document.getElementById("max").getBoundingClientRect().top - %v) < 2`, top),
		"what is announced": `document.getElementById("say").textContent.includes("1 of 3 slots taken")`,
	} {
		if !eval[bool](b, expression) {
			t.Error("an update took away", what)
		}
	}
}

func TestAnAgeGrowsWithoutRequests(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	r.lock(t, "web", "m1", "", "kernel")
	b := r.browse(t)
	b.open("/group?name=web")
	b.live()
	b.run(chromedp.Evaluate[chromedp.Void](`window.asked = 0; const real = window.fetch; window.fetch = (...a) => { window.asked++; return real(...a); };
		window.grown = []; new MutationObserver(() => window.grown.push(window.asked)).observe(document.querySelector(".age"), { childList: true }); undefined`))
	b.until(`window.grown.length >= 2`)
	if n := eval[int](b, "window.grown[1]"); n != 0 {
		t.Errorf("%d requests until it had grown twice", n)
	}
}

// Once something is sent, the page that it was sent from is not updated: it would say that
// there is nothing to do, until the answer comes. If none comes it is up to date again.
func TestNoUpdatesOfWhatWasSent(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	r.lock(t, "web", "m1", locksmith.PhaseFailed, "backend is down")
	b := r.browse(t)
	b.open("/act/unlock?group=web&machine=m1")
	b.live()
	b.run(chromedp.Evaluate[chromedp.Void](`document.addEventListener("submit", (e) => e.preventDefault());
		window.fetch = (_, how) => new Promise((_, no) => {
			window.asks = true;
			how.signal.addEventListener("abort", () => { window.aborted = true; no(how.signal.reason); });
		});
		const close = EventSource.prototype.close; EventSource.prototype.close = function () { window.left = performance.now(); close.call(this); };
		const Source = EventSource; window.EventSource = function (url) { window.back = performance.now(); return new Source(url); }; undefined`))
	r.setMax(t, "web", 2)
	b.until(`!!window.asks`)
	b.click("Unlock host-m1")
	b.until(`!!(window.aborted && window.left)`)
	b.until(`!!window.back`)
	if after := eval[float64](b, `window.back - window.left`); after < 4900 {
		t.Errorf("it is told of changes again after %v ms", after)
	}
}

func TestEachActionWorksThroughItsConfirmation(t *testing.T) {
	r := newRig(t, false)
	r.setMax(t, "web", 1)
	r.lock(t, "web", "m1", locksmith.PhaseFailed, "backend is down")
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("script %v", script), func(t *testing.T) {
			b := r.browse(t)
			if !script {
				b.run(send(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
			}
			actThroughPages(t, r, b)
		})
	}
}

// actThroughPages does all there is to do, in a browser with or without scripts. It waits
// for elements, which needs no script of the page.
func actThroughPages(t *testing.T, r *rig, b *tab) {
	see := func(xpath string) { b.run(chromedp.WaitReady(chromedp.Search(xpath))) }
	b.signIn(operatorToken)
	b.run(chromedp.Click(chromedp.Search(`//a[.="Group web"]`)))
	see(`//h1[.="Group web"]`)
	if len(r.status(t, "web").Holders) == 0 {
		r.lock(t, "web", "m1", locksmith.PhaseFailed, "backend is down")
		b.open("/group?name=web")
	}
	b.click("Unlock…")
	see(`//h1[.="Unlock host-m1"]`)
	b.run(chromedp.SendKeys(chromedp.CSS("#f-reason"), "repaired"))
	b.click("Unlock host-m1")
	see(`//*[@id="notice"][contains(., "Unlocked host-m1 in group web.")]`)
	if len(r.status(t, "web").Holders) != 0 {
		t.Fatal("it is not unlocked")
	}
	see(`//h1[.="Group web"]`) // back where it began

	before := r.status(t, "web").Sem.Max
	// Typed, as a person does: chromedp.Clear takes away the attribute, which an update puts back.
	b.run(chromedp.SendKeys(chromedp.CSS("#max"), kb.End+kb.Backspace+kb.Backspace+fmt.Sprint(before+2)))
	b.click("Change…")
	see(fmt.Sprintf(`//h1[contains(., "from %d to %d")]`, before, before+2))
	b.click(fmt.Sprintf("Set to %d", before+2))
	see(fmt.Sprintf(`//*[@id="notice"][contains(., "Group web has %d slots now, before %d.")]`, before+2, before))
	if n := r.status(t, "web").Sem.Max; n != before+2 {
		t.Fatal(n)
	}

	b.click("Pause…")
	see(`//h1[.="Pause group web"]`)
	b.run(chromedp.SendKeys(chromedp.CSS("#f-reason"), "moving racks"), chromedp.SendKeys(chromedp.CSS("#f-for"), "for 2 hours"))
	b.click("Pause group web")
	see(`//*[@id="notice"][contains(., "Paused group web until")]`)
	if p := r.status(t, "web").Pauses; len(p) != 1 || p[0].Reason != "moving racks" || p[0].Until == 0 {
		t.Fatalf("%+v", p)
	}
	b.click("Resume…")
	see(`//h1[.="Resume group web"]`)
	b.click("Resume group web")
	see(`//*[@id="notice"][contains(., "Resumed group web.")]`)
	if p := r.status(t, "web").Pauses; len(p) != 0 {
		t.Fatalf("%+v", p)
	}
	b.click("Sign out")
	see(`//h1[.="Sign in"]`)
}

func TestAViewerHasNoButtonsInABrowser(t *testing.T) {
	r := newRig(t, false)
	r.seed(t)
	b := r.browse(t)
	b.signIn(viewerToken)
	for _, path := range []string{"/", "/group?name=web", "/group?name=db", "/machines"} {
		b.open(path)
		b.live()
		if n := eval[int](b, `document.querySelectorAll('[href^="/act/"], [action^="/act/"]').length`); n != 0 {
			t.Errorf("%s has %d actions", path, n)
		}
	}
	status := ask(b, chromedp.Evaluate[int](`fetch("/act/set-max", {method: "POST", body: new URLSearchParams({group: "web", max: "9"})}).then(a => a.status)`, chromedp.EvalAwaitPromise))
	if status != http.StatusForbidden {
		t.Error(status)
	}
	b.forgive("403 (Forbidden)")
	if n := r.status(t, "web").Sem.Max; n != 5 {
		t.Error(n)
	}
}

// TestTheKeyboardIsEnough goes from the overview to the end of an unlock with Tab and
// Enter alone.
func TestTheKeyboardIsEnough(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	r.lock(t, "web", "m1", locksmith.PhaseFailed, "backend is down")
	b := r.browse(t)
	b.open("/")
	b.live()
	to := func(text string) {
		t.Helper()
		for range 60 {
			b.run(chromedp.KeyEvent(kb.Tab))
			if eval[string](b, `document.activeElement.innerText.trim()`) == text {
				if w := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); w == "none" {
					t.Errorf("%s: the focus cannot be seen", text)
				}
				return
			}
		}
		t.Fatalf("no %q by Tab: %s", text, b.words())
	}
	to("Skip to the content")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.id === "main"`)
	to("Unlock…")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until(`document.querySelector("h1").innerText === "Unlock host-m1"`)
	to("Unlock host-m1")
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.id === "notice" && document.activeElement.innerText.includes("Unlocked host-m1")`)
	if s := r.status(t, "web"); len(s.Holders) != 0 {
		t.Error("it is not unlocked")
	}
}

func TestAnEtcdThatGoesAndComesBack(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	b := r.browse(t)
	b.open("/")
	b.live()
	r.etcd.Stop()
	b.until(`document.getElementById("live").innerText.includes("the store does not answer")`)
	b.says("Group web") // what was known is shown on
	if err := r.etcd.Restart(); err != nil {
		t.Fatal(err)
	}
	b.live()
	b.forgive("503 (Service Unavailable)")
}

func TestAServerThatGoesAndComesBack(t *testing.T) {
	r := newRig(t, true)
	r.setMax(t, "web", 1)
	b := r.browse(t)
	b.open("/")
	b.live()
	r.web.CloseClientConnections()
	b.until(`document.getElementById("live").dataset.state === "lost"`)
	r.setMax(t, "web", 7)
	b.live()
	b.says("7 slots")
	b.forgive("ERR_")
}

// everyPage is the path of each page there is, for a fleet as seeded.
func everyPage(s *seed) []string {
	return []string{"/", "/group?name=web", "/group?name=db", "/group?name=edge", "/group?name=", "/queue?name=web", "/machines", "/history",
		machineURL(s.id("web-14.fra1.example.net")), machineURL(s.id("web-20.fra1.example.net")), machineURL(s.id("coreos-1")),
		unlockURL("web", s.id("web-15.fra1.example.net")), "/act/set-max?group=web", "/act/set-max?group=web&max=9", "/act/set-max?new=1",
		"/act/pause?group=web", "/act/pause?all=1", "/act/resume?group=db", "/nothing", "/group?name=nothing"}
}

func TestEveryPageFitsAPhoneAndHasWhatReadersNeed(t *testing.T) {
	r := newRig(t, false)
	s := r.seed(t)
	const group = locksmith.Group("a-group-with-a-very-long-name-that-somebody-has-thought-of-in-a-hurry-and-never-changed")
	host := "host-" + strings.Repeat("with-a-long-name-", 9) + strings.Repeat("x", 40)
	s.semaphore(group, 1, host)
	s.holder(group, host, locksmith.Holder{By: locksmith.ByAgent, StartTime: s.ago(time.Hour), Phase: locksmith.PhaseFailed, PhaseTime: s.ago(time.Hour),
		Reason: strings.Repeat("/a/path/without/an/end", 12), Groups: []locksmith.Group{group}})
	s.machine(host, true, locksmith.Presence{Groups: []locksmith.Group{group}, Reason: strings.Repeat("y", 200), NeededSince: s.ago(time.Hour)})
	s.entry(group, s.now, "lock", host, "locksmithctl ("+strings.Repeat("a", 80)+"@"+strings.Repeat("b", 80)+")", strings.Repeat("z", 200), 0, 0)
	b := r.browse(t)
	b.run(size(360, 740, false))
	check := func(path string) {
		t.Helper()
		b.open(path)
		if over := eval[int](b, `document.scrollingElement.scrollWidth - innerWidth`); over > 0 {
			t.Errorf("%s is %d pixels too wide: %s", path, over, eval[string](b, tooWide))
		}
		if faults := eval[[]string](b, readable); len(faults) > 0 {
			t.Errorf("%s: %s", path, strings.Join(faults, "; "))
		}
	}
	check("/sign-in")
	b.signIn(adminToken)
	pages := append(everyPage(s), groupURL(group), machineURL(s.id(host)), unlockURL(string(group), s.id(host)), "/machines?q=long-name", "/history?q=zzz")
	for _, path := range pages {
		check(path)
	}
	b.run(size(1280, 900, false))
	for _, path := range pages {
		check(path)
	}
	for _, path := range pages[:14] {
		for _, dark := range []bool{false, true} {
			b.run(size(1280, 900, dark))
			b.open(path)
			if faults := eval[[]string](b, contrast); len(faults) > 0 {
				t.Errorf("%s, dark %v: %s", path, dark, strings.Join(faults, "; "))
			}
		}
	}
	b.forgive("404 (Not Found)")
}

// tooWide names what sticks out.
const tooWide = `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".unseen, .skip"))
	.slice(0, 4).map(e => e.tagName + "." + e.className + " " + e.innerText?.slice(0, 40)).join(" | ")`

// readable are the faults that somebody who cannot see the page would meet.
const readable = `(() => {
	const faults = [], all = (q) => [...document.querySelectorAll(q)];
	if (document.documentElement.lang !== "en") faults.push("no language");
	if (!document.title.includes("locksmith") || document.title.startsWith(" ")) faults.push("title " + document.title);
	if (all("h1").length !== 1) faults.push(all("h1").length + " first headings");
	if (all("main").length !== 1 || all("header.top").length !== 1) faults.push("landmarks");
	let level = 1;
	for (const h of all("h1, h2, h3, h4")) { const n = Number(h.tagName[1]); if (n > level + 1) faults.push("heading " + h.innerText + " skips a level"); level = n; }
	for (const i of all("input:not([type=hidden]), select, textarea")) if (!i.labels.length && !i.ariaLabel) faults.push("input " + i.name + " has no label");
	for (const i of all("img")) if (!i.hasAttribute("alt")) faults.push("image without alt");
	for (const s of all("svg")) if (s.getAttribute("role") !== "img" || !s.querySelector("title")) faults.push("drawing without title");
	for (const t of all("table")) { if (!t.caption) faults.push("table without caption"); if (!t.querySelector("th[scope]")) faults.push("table without heads"); }
	for (const a of all("a, button")) if (!(a.ariaLabel ?? a.innerText).trim() && !a.closest("details:not([open])")) faults.push("nothing to read on " + a.outerHTML.slice(0, 80));
	for (const id of new Set(all("[id]").map(e => e.id))) if (all("#" + CSS.escape(id)).length > 1) faults.push("id " + id + " twice");
	for (const e of all("[aria-labelledby], [aria-describedby]")) for (const id of ((e.getAttribute("aria-labelledby") ?? "") + " " + (e.getAttribute("aria-describedby") ?? "")).trim().split(/\s+/)) if (!document.getElementById(id)) faults.push("no " + id);
	for (const e of all("a.button, button, input:not([type=hidden]), select, nav a")) if (e.offsetHeight && e.offsetHeight < 24) faults.push("too small to press: " + e.outerHTML.slice(0, 80));
	return faults;
})()`

// contrast are the texts that WCAG AA would call too faint. Colours are drawn to find out
// what they are.
const contrast = `(() => {
	const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
	const pen = canvas.getContext("2d", { willReadFrequently: true });
	const over = (colour, below) => { pen.fillStyle = "rgb(" + below.join(",") + ")"; pen.fillRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3); };
	const ground = (e) => over(getComputedStyle(e).backgroundColor, e.parentElement ? ground(e.parentElement) : [255, 255, 255]);
	const light = (c) => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const faults = new Set();
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.nodeValue.trim()) || e.closest("svg, .unseen, .skip, details:not([open])") || !e.offsetParent) continue;
		const below = ground(e), s = getComputedStyle(e), text = over(s.color, below);
		const a = light(text), b = light(below), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faults.add(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 30));
	}
	return [...faults].slice(0, 10);
})()`
