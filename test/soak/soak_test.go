package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// The children of a run are this program: of its test, too.
func TestMain(m *testing.M) {
	if doc := os.Getenv(roleVariable); doc != "" {
		os.Exit(runChild(context.Background(), doc, os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestRecordsAreReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	r, err := newRecorder(path, head{Started: time.Now().Round(0), Duration: 60, Seed: 4, Machines: 200})
	if err != nil {
		t.Fatal(err)
	}
	r.sample(sample{At: 1, Phase: phaseBody, Values: map[string]float64{"etcd.leases": 3}, Lives: map[string]int{"server": 1}})
	r.event("%s, for %v", etcdAway, time.Second)
	part, err := readRecord(path)
	if err != nil || part.Ending != nil || len(part.Samples) != 1 {
		t.Errorf("a run that goes on: %+v, %v", part, err)
	}
	want, err := r.end(ending{Reboots: 5, Broken: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Head.Started.Equal(want.Head.Started) {
		t.Errorf("started %v, want %v", got.Head.Started, want.Head.Started)
	}
	got.Head.Started = want.Head.Started
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, text := range []string{"{}\n", "{\"head\":1}\n", "soak\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(path); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := even(func(s string, x float64) float64 {
		if s == "etcd.leases" {
			return 200 + 40*x
		}
		return level(s)
	})
	if err := report(&out, r); !errors.Is(err, errFailed) {
		t.Errorf("leases grow, and the error is %v", err)
	}
	for _, want := range []string{
		"200 machines, rollouts and faults for 2h0m0s, seed 1, started 0001-01-01 00:00 UTC\n",
		"never more than max down                     yes\n",
		"rollouts ended                               yes   3 of them, with 9 reboots, through 2 faults\n",
		"etcd: leases                                         200       240       0            NO\n",
		"etcd: leases                                         230       18        115          yes\n",
		"locksmith-server: memory of its own                  50.0 MiB  0.0 MiB  16.0 MiB     yes\n",
	} {
		if !strings.Contains(strings.ReplaceAll(out.String(), "  ", " "), strings.ReplaceAll(want, "  ", " ")) {
			t.Errorf("no line %q in\n%s", want, &out)
		}
	}
	out.Reset()
	if err := report(&out, even(func(s string, _ float64) float64 { return level(s) })); err != nil || strings.Contains(out.String(), "NO") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestDrawings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "samples")
	r := even(func(s string, x float64) float64 { return level(s) * (1 + x) })
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(f)
	err = enc.Encode(entry{Head: &r.Head})
	for _, s := range r.Samples {
		err = errors.Join(err, enc.Encode(entry{Sample: &s}))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-plot", path, "-out", dir}, io.Discard, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	for _, d := range drawings {
		svg, err := os.ReadFile(filepath.Join(dir, d.file))
		if err != nil {
			t.Fatal(err)
		}
		for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", d.file, err)
			}
		}
		if n := bytes.Count(svg, []byte("<polyline")); n != len(d.curves) {
			t.Errorf("%s has %d lines, want %d", d.file, n, len(d.curves))
		}
		for _, c := range d.curves {
			if !slices.ContainsFunc(figures(), func(f figure) bool { return f.series == c.series }) {
				t.Errorf("%s draws %s, which nobody samples", d.file, c.series)
			}
		}
	}
	if err := plotFile(filepath.Join(dir, "none"), dir); err == nil {
		t.Error("no samples, and no error")
	}
}

func TestAxis(t *testing.T) {
	for _, top := range []float64{0, 0.3, 1, 7, 85, 120, 1032, 9.4e6} {
		a := axis("", top)
		last := a.Ticks[len(a.Ticks)-1].At
		if a.Ticks[0].At != 0 || last < top || len(a.Ticks) > 11 || top > 0.3 && len(a.Ticks) < 4 || top > 1 && last > 1.7*top {
			t.Errorf("to %g: %+v", top, a.Ticks)
		}
	}
}

func TestMetrics(t *testing.T) {
	page := "# HELP x y\n# TYPE x gauge\nx 2\nlabelled{a=\"1\"} 1.5e+06\nlabelled{a=\"2\"} 1\nother 7\n"
	got, err := readMetrics(strings.NewReader(page), map[string]string{"x": "etcd.x", "labelled": "etcd.l"})
	if want := map[string]float64{"etcd.x": 2, "etcd.l": 1500001}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := readMetrics(strings.NewReader("x many\n"), map[string]string{"x": "etcd.x"}); err == nil {
		t.Error("what is no number passes")
	}
}

// What a process needs of the system is what the system says of this one.
func TestOfSystem(t *testing.T) {
	values := make(map[string]float64)
	ofSystem(values, "me", os.Getpid())
	if values["me.resident"] < values["me.own"] || values["me.own"] < 1<<20 || values["me.files"] < 3 {
		t.Errorf("%v", values)
	}
}

func TestFaults(t *testing.T) {
	seen := func(seed uint64, of float64) (list []fault) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 200 {
			list = append(list, nextFault(rng, of, 45*time.Second))
		}
		return list
	}
	if !slices.Equal(seen(1, 0.1), seen(1, 0.1)) || slices.Equal(seen(1, 0.1), seen(2, 0.1)) {
		t.Error("faults are not what their seed says")
	}
	for _, late := range []bool{false, true} {
		of := 0.0
		if late {
			of = killUntil
		}
		list := seen(1, of)
		for _, kind := range append([]faultKind{killServer}, kinds...) {
			is := slices.ContainsFunc(list, func(f fault) bool { return f.kind == kind })
			if want := kind != killServer || !late; is != want {
				t.Errorf("late %v: %q is among the faults: %v", late, kind, is)
			}
		}
		for _, f := range list {
			if f.lasts <= 0 || f.lasts > 45*time.Second || f.kind == etcdDeaf && f.lasts > 9*time.Second {
				t.Errorf("%+v", f)
			}
		}
	}
}

// A machine tells of each turn once.
func TestCrewTells(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := &crew{out: &teller{file: w, name: "p"}}
	now := time.Now()
	record := func(outages int, released bool) (f fleet.Record) {
		f.Machine, f.Outages = "m", make([]fleet.Outage, outages)
		if released {
			f.Released = now
		}
		return f
	}
	before := fleet.Status{}
	for _, s := range []fleet.Status{
		{Record: record(0, false), Up: true}, {Record: record(0, false), Up: true}, {Record: record(1, false)},
		{Record: record(1, false), Up: true}, {Record: record(1, true), Up: true}, {Record: record(1, true), Up: true},
	} {
		c.tell(3, before, s)
		before = s
	}
	w.Close()
	var kinds []string
	for dec := json.NewDecoder(r); ; {
		var l line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if l.Machine != "m" || l.Wave != 3 || l.Process != "p" {
			t.Errorf("%+v", l)
		}
		kinds = append(kinds, l.Kind)
	}
	if want := []string{lineUp, lineDown, lineUp, lineReleased}; !slices.Equal(kinds, want) {
		t.Errorf("told %q, want %q", kinds, want)
	}
}

func TestStill(t *testing.T) {
	five := func() (list []sample) {
		for range restSamples {
			values := make(map[string]float64)
			for i, what := range restCounts {
				values[what] = float64(i)
			}
			list = append(list, sample{Values: values})
		}
		return list
	}
	if !still(five()) {
		t.Error("what does not move is not still")
	}
	for _, what := range restCounts {
		moves, unknown := five(), five()
		moves[3].Values[what]++
		delete(unknown[0].Values, what)
		if still(moves) || still(unknown) {
			t.Errorf("still although %s moves, or is not known", what)
		}
	}
}

// A server that cannot start is not waited for.
func TestServerThatEnds(t *testing.T) {
	s, err := newServer(t.Context(), t.TempDir(), "false")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.up(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended by itself") {
		t.Error(err)
	}
}

// What a process is told goes on through all of its lives, and its end is found unless
// it was wanted.
func TestProcess(t *testing.T) {
	p := &process{name: "cat", log: filepath.Join(t.TempDir(), "log"), start: func() (*exec.Cmd, error) { return exec.Command("cat"), nil }}
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	if _, pid := p.life(); pid == 0 || p.died() {
		t.Errorf("process %d has died: %v", pid, p.died())
	}
	p.kill()
	if p.died() {
		t.Error("what was killed has died by itself")
	}
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGKILL)
	<-p.ended
	if life, _ := p.life(); life != 2 || !p.died() {
		t.Errorf("life %d, died %v", life, p.died())
	}
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil || p.died() {
		t.Errorf("%v, died %v", err, p.died())
	}
	p.say("more") // to nobody
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-duration", "1s"}, {"-leak", "memory"}, {"-nothing"}, {"more"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, &stderr, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, stderr.String())
		}
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-judge", "none"}, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "none") {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}
