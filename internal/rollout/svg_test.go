package rollout_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/rollout"
)

// element is one of a drawing, with its text.
type element struct {
	name, class, text string
	attrs             map[string]string
}

// parse fails the test unless svg is one well-formed <svg>, without anything that a
// strict Content-Security-Policy forbids.
func parse(t interface {
	Helper()
	Fatalf(string, ...any)
}, svg string) []element {
	t.Helper()
	if !utf8.ValidString(svg) {
		t.Fatalf("not UTF-8: %q", svg)
	}
	var all []element
	var open []int
	roots := 0
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) == 0 {
				roots++
			}
			e := element{name: token.Name.Local, attrs: make(map[string]string)}
			for _, a := range token.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Name.Local, "href") {
					t.Fatalf("attribute %s in %s", a.Name.Local, svg)
				}
				e.attrs[a.Name.Local] = a.Value
			}
			e.class = e.attrs["class"]
			switch e.name {
			case "svg", "title", "desc", "g", "rect", "line", "text":
			default:
				t.Fatalf("element %s in %s", e.name, svg)
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if roots != 1 || all[0].name != "svg" {
		t.Fatalf("%d elements at the top of %s", roots, svg)
	}
	return all
}

// texts are those of the elements of a class.
func texts(all []element, class string) []string {
	var list []string
	for _, e := range all {
		if e.class == class || strings.HasPrefix(e.class, class+" ") {
			list = append(list, e.text)
		}
	}
	return list
}

// example is a rollout with a bar in every state.
func example() *story {
	agent := locksmith.ByAgent
	s := tell(3).reboots(0, 12, "web-1").
		lock(3, "web-2", agent, "").unlock(20, "web-2", agent, "aborted: the window closed", 17, 0).
		lock(5, "web-3", agent, "").unlock(40, "web-3", "locksmithctl (alice@jump-1)", "unlocked: gone", 35, 0).
		lock(21, "web-4", agent, "").change("web-4", func(h *locksmith.HolderStatus) {
		h.Phase, h.PhaseTime, h.Reason = locksmith.PhaseFailed, at(30).Unix(), "unit nginx failed"
	}).
		lock(41, "web-5", agent, "").change("web-5", silent).
		lock(42, "web-6", agent, "").change("web-6", phase(locksmith.PhaseRebooting, 44))
	return s
}

func TestSVG(t *testing.T) {
	r := rollout.Timeline(example().f, at(50), 1)[0]
	svg := rollout.SVG(r, at(50), rollout.SVGOptions{ID: "r1", Location: time.FixedZone("", 2*3600)})
	all := parse(t, svg)
	want := map[string]string{"xmlns": "", "class": "timeline", "role": "img", "aria-labelledby": "r1-title r1-desc",
		"viewBox": "0 0 960 164", "width": "960", "height": "164"}
	want["xmlns"] = "http://www.w3.org/2000/svg"
	if diff := cmp.Diff(want, all[0].attrs); diff != "" {
		t.Error(diff)
	}
	if all[1].name != "title" || all[1].attrs["id"] != "r1-title" || all[1].text != "Rollout of 6 machines so far, running since 2026-08-03 04:00" {
		t.Errorf("%+v", all[1])
	}
	if all[2].name != "desc" || all[2].attrs["id"] != "r1-desc" || !strings.HasSuffix(all[2].text,
		"a lane for each machine. 1 rebooted, 1 under way, 1 failed checks, 1 silent, 1 given up, 1 unlocked by an administrator.") {
		t.Errorf("%+v", all[2])
	}
	for class, want := range map[string][]string{
		"timeline-label":      {"web-1", "web-2", "web-3", "web-4", "web-5", "web-6"},
		"timeline-mark":       {"×", "–", "!", "?", "…"},
		"timeline-tick-label": {"04:00", "04:05", "04:10", "04:15", "04:20", "04:25", "04:30", "04:35", "04:40", "04:45", "04:50"},
		"timeline-now":        {""},
		"timeline-down":       {"", ""},
	} {
		if diff := cmp.Diff(want, texts(all, class)); diff != "" {
			t.Errorf("%s: %s", class, diff)
		}
	}
	var titles []string
	for _, e := range all[3:] {
		if e.name == "title" && strings.Contains(e.text, "slot") {
			titles = append(titles, e.text)
		}
	}
	if diff := cmp.Diff([]string{
		"web-1: slot held from 04:00 to 04:12 (12 min), down for 1 min; rebooted",
		"web-2: slot held from 04:03 to 04:20 (17 min); aborted: the window closed",
		"web-3: slot held from 04:05 to 04:40 (35 min); unlocked: gone",
		"web-4: slot held since 04:21 (29 min); failed: unit nginx failed",
		"web-5: slot held since 04:41 (9 min); stale: acquired",
		"web-6: slot held since 04:42 (8 min), down since 04:44; rebooting",
	}, titles); diff != "" {
		t.Error(diff)
	}
}

// Bars are where their times are, inside the drawing, on a phone too.
func TestPlaces(t *testing.T) {
	s := tell(1).reboots(0, 30, "a").reboots(30, 60, "b")
	r := rollout.Timeline(s.f, at(60), 1)[0]
	for _, tt := range []struct {
		width     int
		x, middle float64
	}{{960, 168, 552}, {360, 8, 172}, {10, 8, 132}} {
		all := parse(t, rollout.SVG(r, at(60), rollout.SVGOptions{Width: tt.width}))
		var bars [][2]float64
		for _, e := range all {
			if strings.HasPrefix(e.class, "timeline-bar") {
				var x, w float64
				fmt.Sscan(e.attrs["x"], &x)
				fmt.Sscan(e.attrs["width"], &w)
				bars = append(bars, [2]float64{x, w})
			}
		}
		half := tt.middle - tt.x
		if diff := cmp.Diff([][2]float64{{tt.x, half}, {tt.middle, half}}, bars); diff != "" {
			t.Errorf("width %d: %s", tt.width, diff)
		}
	}
}

// More machines than lanes: bars share them, and what does not fit is said.
func TestManyMachines(t *testing.T) {
	s := tell(100)
	for i := range 300 {
		s.reboots(float64(i), float64(i)+10, fmt.Sprintf("web-%d", i))
	}
	all := parse(t, rollout.SVG(rollout.Timeline(s.f, at(400), 1)[0], at(400), rollout.SVGOptions{}))
	if all[0].attrs["height"] != "212" { // 24 for the axis, ten lanes of 18, 8 below
		t.Errorf("height %s", all[0].attrs["height"])
	}
	if bars := len(texts(all, "timeline-bar")); bars != 300 || len(texts(all, "timeline-label")) != 0 {
		t.Errorf("%d bars, labels %q", bars, texts(all, "timeline-label"))
	}
	s = tell(100)
	for i := range 100 {
		s.lock(0, fmt.Sprintf("web-%d", i), locksmith.ByAgent, "")
	}
	all = parse(t, rollout.SVG(rollout.Timeline(s.f, at(4), 1)[0], at(4), rollout.SVGOptions{}))
	if diff := cmp.Diff([]string{"and 60 more that are not drawn"}, texts(all, "timeline-note")); diff != "" || len(texts(all, "timeline-bar")) != 40 {
		t.Errorf("%d bars; %s", len(texts(all, "timeline-bar")), diff)
	}
}

func TestAxis(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	york, err := time.LoadLocation("America/New_York") // where time.Date makes 01:00 of the 02:00 that there is not
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from  time.Time
		takes time.Duration
		width int
		want  []string
	}{
		{at(0.5), 20 * time.Second, 960, []string{"04:00:30", "04:00:35", "04:00:40", "04:00:45", "04:00:50", "04:00:55", "04:01:00", "04:01:05", "04:01:10", "04:01:15", "04:01:20", "04:01:25", "04:01:30"}},
		{at(3), 4 * time.Hour, 360, []string{"05:00", "06:00", "07:00", "08:00"}},
		{at(17 * 60), 9 * time.Hour, 960, []string{"21:00", "22:00", "23:00", "Aug 4", "01:00", "02:00", "03:00", "04:00", "05:00", "06:00"}},
		{at(0), 100 * time.Hour, 960, []string{"12:00", "Aug 4", "12:00", "Aug 5", "12:00", "Aug 6", "12:00", "Aug 7"}},
		{at(0), 30 * 24 * time.Hour, 360, []string{"Aug 10", "Aug 17", "Aug 24", "Aug 31"}},
		{at(0), 3 * 365 * 24 * time.Hour, 960, []string{"Nov 2026", "Feb 2027", "May 2027", "Aug 2027", "Nov 2027", "Feb 2028", "May 2028", "Aug 2028", "Nov 2028", "Feb 2029", "May 2029"}},
		{time.Date(2026, 10, 24, 20, 0, 0, 0, berlin), 40 * time.Hour, 960, []string{"Oct 25", "06:00", "12:00", "18:00", "Oct 26", "06:00"}},
		{time.Date(2026, 3, 7, 23, 0, 0, 0, york), 8 * time.Hour, 960, []string{"23:00", "Mar 8", "01:00", "03:00", "04:00", "05:00", "06:00", "07:00", "08:00"}},
	} {
		zone := berlin
		if tt.from.Location() == york {
			zone = york
		}
		r := rollout.Rollout{Start: tt.from, End: tt.from.Add(tt.takes)}
		all := parse(t, rollout.SVG(r, r.End, rollout.SVGOptions{Width: tt.width, Location: zone}))
		if diff := cmp.Diff(tt.want, texts(all, "timeline-tick-label")); diff != "" {
			t.Errorf("%v from %v: %s", tt.takes, tt.from, diff)
		}
	}
}

// Names of all sorts are text, whole in the title and cut in the drawing.
func TestHostileNames(t *testing.T) {
	for _, evil := range []string{
		`</title><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "]]>", "<!--", "&lt;", "\x00\x1b[31m\ufffe", "a\xffb",
		"日本語のとても長いホスト名がここにあります", strings.Repeat("x", 253),
	} {
		s := tell(1)
		s.lock(0, evil, "<b>", evil)
		s.change(evil, func(h *locksmith.HolderStatus) {
			h.Hostname, h.Reason, h.Phase = evil, evil, locksmith.PhaseFailed
		})
		all := parse(t, rollout.SVG(rollout.Timeline(s.f, at(4), 1)[0], at(4), rollout.SVGOptions{ID: evil}))
		label := texts(all, "timeline-label")
		if len(label) != 1 || utf8.RuneCountInString(label[0]) > 22 {
			t.Errorf("%q: %q", evil, label)
		}
		for _, e := range all {
			if e.name == "title" && strings.Contains(e.text, "slot held") && e.text != legible(evil)+": slot held since 02:00 (4 min); failed: "+legible(evil) {
				t.Errorf("title %q", e.text)
			}
		}
	}
}

// legible is s as XML can hold it.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xfffe {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

func FuzzSVG(f *testing.F) {
	f.Add("web-1", "<b>&", "\x00", int64(0), int64(300), int64(60), 360)
	f.Add("\xff", "]]>", "failed: \"'", int64(-1<<60), int64(1<<62), int64(-5), 0)
	f.Fuzz(func(t *testing.T, machine, host, outcome string, from, held, down int64, width int) {
		r := rollout.Rollout{Start: time.Unix(from, 0), End: time.Unix(from, 0).Add(time.Duration(held))}
		for i := range 3 {
			b := rollout.Bar{Machine: fmt.Sprint(machine, i), Hostname: host, From: r.Start, To: r.End, Outcome: outcome, By: host, State: rollout.State(outcome)}
			b.DownFrom, b.DownTo = r.Start.Add(time.Duration(down)), r.End
			r.Bars = append(r.Bars, b)
		}
		if svg := rollout.SVG(r, t0, rollout.SVGOptions{Width: width % 4000, ID: host}); len(svg) > 100_000+30*(len(machine)+len(host)+len(outcome))*10 {
			t.Fatalf("%d bytes", len(svg))
		} else {
			parse(t, svg)
		}
	})
}

// Whatever is stored, the numbers fit together and nothing is negative.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, now := fleet(t), t0
		p := rollout.Reckon(f, now)
		if min(p.Done, p.Remaining, p.Total, p.Failed) < 0 || p.Done+p.Remaining != p.Total || p.Failed > p.Remaining {
			t.Fatalf("%+v", p)
		}
		if p.Pace < 0 || !p.Ends.IsZero() && (p.Ends.Before(now) || p.Pace == 0 || p.Why != "") || p.Start.After(now) {
			t.Fatalf("%+v", p)
		}
		if p.Reckoning == "" || !strings.HasSuffix(p.Reckoning, ".") || strings.Contains(p.Reckoning+p.Why, " -") {
			t.Fatalf("%+v", p)
		}
		if p.Remaining > 0 && p.Ends.IsZero() == (p.Why == "") || p.Running == p.Start.IsZero() {
			t.Fatalf("neither an end nor why there is none, or both: %+v", p)
		}
		runs := rollout.Timeline(f, now, 100)
		for i, r := range runs {
			if r.Start.After(now) || !r.End.IsZero() && r.End.Before(r.Start) || i > 0 && (r.End.IsZero() || runs[i-1].Start.Before(r.End)) || len(r.Bars) == 0 {
				t.Fatalf("%d of %+v", i, runs)
			}
			for _, b := range r.Bars {
				checkBar(t, r, b, now)
			}
			parse(t, rollout.SVG(r, now, rollout.SVGOptions{Width: rapid.IntRange(0, 2000).Draw(t, "width")}))
		}
	})
}

func checkBar(t *rapid.T, r rollout.Rollout, b rollout.Bar, now time.Time) {
	bad := b.From.Before(r.Start) || b.From.After(now) || b.State == "" ||
		!b.To.IsZero() && (b.To.Before(b.From) || b.To.After(now) || !r.End.IsZero() && b.To.After(r.End)) ||
		b.To.IsZero() && !r.End.IsZero() ||
		!b.DownFrom.IsZero() && (b.DownFrom.Before(b.From) || b.DownFrom.After(now)) ||
		!b.DownTo.IsZero() && (b.DownFrom.IsZero() || b.DownTo.Before(b.DownFrom) || !b.To.IsZero() && b.DownTo.After(b.To))
	if bad {
		t.Fatalf("%+v in %v to %v", b, r.Start, r.End)
	}
}

// fleet is one with any past: entries that contradict each other, clocks that are
// wrong, records that are missing.
func fleet(t *rapid.T) rollout.Fleet {
	machine := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	seconds := rapid.OneOf(rapid.Int64Range(t0.Unix()-20_000, t0.Unix()+2000), rapid.Int64(), rapid.Just(int64(0)))
	actor := rapid.SampledFrom([]string{locksmith.ByAgent, locksmith.ByReboot, "locksmithctl (x@y)", "m@10.0.0.7", "fleetlock@::1", "other", ""})
	by := rapid.SampledFrom([]string{locksmith.ByAgent, locksmith.ByLock, locksmith.ByWithLock, locksmith.ByFleetLock, locksmith.ByReboot, ""})
	duration := rapid.OneOf(rapid.Int64Range(0, int64(time.Hour)), rapid.Int64Min(0))
	var f rollout.Fleet
	f.Status.Revision = rapid.Int64Range(0, 40).Draw(t, "revision")
	f.Status.Sem = locksmith.NewSemaphore()
	f.Status.Sem.Max = rapid.IntRange(0, 4).Draw(t, "max")
	for _, id := range rapid.SliceOfDistinct(machine, rapid.ID[string]).Draw(t, "holders") {
		h := locksmith.HolderStatus{Recorded: rapid.Bool().Draw(t, "recorded"), Present: rapid.Bool().Draw(t, "present")}
		h.MachineID = id
		if h.Recorded {
			h.StartTime, h.PhaseTime, h.By = seconds.Draw(t, "start"), seconds.Draw(t, "phase time"), by.Draw(t, "by")
			h.Phase = rapid.SampledFrom(locksmith.Phases).Draw(t, "phase")
		}
		f.Status.Holders = append(f.Status.Holders, h)
	}
	for range rapid.IntRange(0, 4).Draw(t, "queue") {
		f.Status.Queue = append(f.Status.Queue, locksmith.Waiter{MachineID: machine.Draw(t, "waiter"), By: by.Draw(t, "by"), Since: seconds.Draw(t, "since")})
	}
	if rapid.Bool().Draw(t, "paused") {
		f.Status.Pauses = []locksmith.Pause{{Until: seconds.Draw(t, "until")}}
	}
	for i := range rapid.IntRange(0, 30).Draw(t, "history") {
		f.History = append(f.History, locksmith.HistoryEntry{
			Time: time.Unix(seconds.Draw(t, "time"), 0), Actor: actor.Draw(t, "actor"), Revision: int64(30 - i),
			Action:  rapid.SampledFrom([]locksmith.Action{locksmith.ActionLock, locksmith.ActionUnlock, locksmith.ActionUnlock, locksmith.ActionPause, locksmith.ActionResume}).Draw(t, "action"),
			Machine: machine.Draw(t, "machine"), Outcome: rapid.SampledFrom([]string{"rebooted", "rebooted", "aborted: x", "unlocked", "", locksmith.OutcomeSteady}).Draw(t, "outcome"),
			Held: time.Duration(duration.Draw(t, "held")), Down: time.Duration(duration.Draw(t, "down")),
		})
		if e := &f.History[i]; e.Action == locksmith.ActionPause || e.Action == locksmith.ActionResume {
			e.Machine = ""
		}
	}
	for _, id := range rapid.SliceOfDistinct(machine, rapid.ID[string]).Draw(t, "machines") {
		m := locksmith.MachineStatus{Present: rapid.Bool().Draw(t, "present")}
		m.MachineID, m.NeededSince, m.Seen, m.PhaseTime = id, seconds.Draw(t, "needed"), seconds.Draw(t, "seen"), seconds.Draw(t, "phase time")
		m.Phase = rapid.SampledFrom(locksmith.Phases).Draw(t, "phase")
		f.Machines = append(f.Machines, m)
	}
	return f
}
