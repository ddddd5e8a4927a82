package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// buffer is an output that can be waited for.
type buffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed at the next write
}

func newBuffer() *buffer { return &buffer{grown: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.grown)
	b.grown = make(chan struct{})
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns once the output matches, and what it matched.
func (b *buffer) await(t *testing.T, pattern string) []string {
	t.Helper()
	re, limit := regexp.MustCompile(pattern), time.After(time.Minute)
	for {
		b.mu.Lock()
		text, grown := b.text.String(), b.grown
		b.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("waited for %q in:\n%s", pattern, text)
		}
	}
}

// session is one run of the program.
type session struct {
	stdout, stderr *buffer
	status         chan int
	temp           string // where it makes temporary directories
}

// begin runs a command line in the background.
func begin(t *testing.T, around surroundings, args ...string) *session {
	t.Helper()
	s := &session{newBuffer(), newBuffer(), make(chan int, 1), t.TempDir()}
	t.Setenv("TMPDIR", s.temp)
	if around.connect == nil {
		around.connect = connect
	}
	go func() {
		s.status <- run(context.Background(), append([]string{"/usr/bin/locksmith-server"}, args...), s.stdout, s.stderr, around)
	}()
	return s
}

// wantEnd checks how a run ended, and that it left nothing behind.
func (s *session) wantEnd(t *testing.T, status int, stderr string) {
	t.Helper()
	if got := <-s.status; got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	if got := s.stderr.String(); got != stderr {
		t.Errorf("standard error: %q, want %q", got, stderr)
	}
	if left, err := os.ReadDir(s.temp); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	if t.Failed() {
		t.Logf("standard output:\n%s", s.stdout)
	}
}

func (s *session) interrupt(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), signal); err != nil {
		t.Fatal(err)
	}
}

var stepLine = regexp.MustCompile(`(?m)^ +(\d+\.\d{3})s  (m\d+)  ([a-z]+) -> ([a-z]+)$`)

// follow checks that each machine's lines continue each other, and returns the
// states each went through, and the most that the lines show down at once.
func follow(t *testing.T, output string) (states map[string]string, mostDown int) {
	t.Helper()
	states = make(map[string]string)
	last, before, down := make(map[string]string), "", 0
	for _, m := range stepLine.FindAllStringSubmatch(output, -1) {
		at, name, from, to := m[1], m[2], m[3], m[4]
		if len(at) < len(before) || len(at) == len(before) && at < before {
			t.Errorf("%s comes after %s", at, before)
		}
		if before = at; last[name] != from && last[name] != "" {
			t.Errorf("%s goes from %s, but it was %s", name, from, last[name])
		}
		last[name] = to
		states[name] += " " + to
		switch "down" {
		case to:
			down++
			mostDown = max(mostDown, down)
		case from:
			down--
		}
	}
	return states, mostDown
}

const onceThrough = " queued preparing rebooting down recovering verifying restoring releasing idle"

func TestDemo(t *testing.T) {
	for _, tt := range []struct {
		machines, max int
		down          string
	}{{4, 1, "80ms"}, {6, 2, "500ms"}} {
		t.Run(fmt.Sprintf("%d of %d", tt.max, tt.machines), func(t *testing.T) {
			s := begin(t, surroundings{}, "demo", "-machines", fmt.Sprint(tt.machines), "--max", fmt.Sprint(tt.max), "-down="+tt.down)
			s.wantEnd(t, 0, "")
			out := s.stdout.String()
			intro := fmt.Sprintf(`^%d machines need a reboot, at most %d may be down at a time\.
To look at it in a browser:

  http://127\.0\.0\.1:\d+/

or from another terminal:

  .*locksmithctl -endpoint http://127\.0\.0\.1:\d+ status --watch

`, tt.machines, tt.max)
			if !regexp.MustCompile(intro).MatchString(out) {
				t.Errorf("introduction: want %s", intro)
			}
			states, mostDown := follow(t, out)
			for i := range tt.machines {
				name := fmt.Sprintf("m%d", i+1)
				if !strings.HasSuffix(states[name], onceThrough) || strings.Count(states[name], "down") != 1 {
					t.Errorf("%s went through%s", name, states[name])
				}
			}
			if mostDown != tt.max {
				t.Errorf("the lines show %d down at once, and max is %d", mostDown, tt.max)
			}
			summary := `\nMACHINE  WAITED  DOWN  BOOTS\n(m\d {6,}[\d.]+s +[\d.]+s      2\n){` + fmt.Sprint(tt.machines) + `}\n` +
				fmt.Sprintf(`%d machines rebooted once each, after \d+\.\ds in all\.\nMost down at once: %d\. Max is %d, never exceeded\.\n$`,
					tt.machines, tt.max, tt.max)
			if !regexp.MustCompile(summary).MatchString(out) {
				t.Errorf("summary: want %s", summary)
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
}

// reckless is a lock that grants whatever it is asked for.
type reckless struct{ fleet.Lock }

func (reckless) Acquire(_ context.Context, req locksmith.Request, _ func(string)) (locksmith.Slots, error) {
	return locksmith.Slots{Groups: req.Groups, Record: locksmith.Holder{MachineID: req.MachineID, By: req.By}}, nil
}

func (reckless) Advance(_ context.Context, s locksmith.Slots, _ locksmith.Phase, _ string) (locksmith.Slots, error) {
	return s, nil
}

func TestBrokenLockIsLoud(t *testing.T) {
	s := begin(t, surroundings{connect: func(cfg etcd.Config) (fleet.Lock, error) {
		store, err := connect(cfg)
		return reckless{store}, err
	}}, "demo", "-machines", "3", "-max", "2", "-down", "2s", "-group", "web")
	s.wantEnd(t, 1, "Error: more machines were down at once than max allows\n")
	want := regexp.MustCompile(`\nEXCEEDED: max is 2, but 3 were down at once in the group web: m\d, m\d, m\d\.\n$`)
	if out := s.stdout.String(); !want.MatchString(out) || strings.Contains(out, "never exceeded") {
		t.Errorf("want %s in:\n%s", want, out)
	}
}

func TestInterruptedAndResumed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := begin(t, surroundings{}, "demo", "-machines", "3", "-down", "10m", "-dir", dir)
	victim := s.stdout.await(t, `(m\d)  rebooting -> down\n`)[1]
	s.interrupt(t, syscall.SIGTERM)
	s.wantEnd(t, 128+15, "Error: stopped by SIGTERM\n")
	if out := s.stdout.String(); !regexp.MustCompile(`\nStopped after \d+\.\ds: 0 of 3 machines had rebooted\.\n` +
		`Most down at once: 1\. Max is 1, never exceeded\.\n$`).MatchString(out) {
		t.Errorf("summary:\n%s", out)
	}

	// The same machines on the same data: what was held is found and given back.
	s = begin(t, surroundings{}, "demo", "-machines", "3", "-down", "20ms", "-dir", dir)
	s.wantEnd(t, 0, "")
	out := s.stdout.String()
	states, _ := follow(t, out)
	if !strings.HasPrefix(states[victim], " verifying restoring releasing ") {
		t.Errorf("%s was down when the first demo ended, and went through%s", victim, states[victim])
	}
	if strings.Contains(out, "unlock") {
		t.Errorf("unlocking is suggested without need:\n%s", out)
	}
}

func TestStayAndLookFromOutside(t *testing.T) {
	s := begin(t, surroundings{}, "demo", "-machines", "2", "-max", "2", "-down", "1s", "-stay",
		"-group", "b c,a", "-etcd-listen", "127.0.0.1:0", "-listen", "localhost:0")
	page := s.stdout.await(t, `in a browser:\n\n  (http://127\.0\.0\.1:\d+)/\n`)[1]
	m := s.stdout.await(t, `locksmithctl -endpoint (\S+) -group a status --watch\n.*locksmithctl -endpoint \S+ -group 'b c' status --watch\n`)
	s.stdout.await(t, `Every machine has rebooted\. They stay until Ctrl-C\.\n`)
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{m[1]}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	groups, err := store.Groups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, g := range groups {
		if (g.Group == "a" || g.Group == "b c") && g.Max == 2 && g.Held == 0 && g.Waiting == 0 {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("groups: %+v", groups)
	}
	history, err := store.History(t.Context(), "a", 10)
	if err != nil || len(history) != 5 {
		t.Errorf("history: %v, %v; want set-max, and each machine's lock and unlock", history, err)
	}
	for path, want := range map[string]string{"/": "b c", "/api/v1/groups": `"group":"b c"`} {
		if status, body := get(t, page+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %s", path, status, want)
		}
	}
	s.interrupt(t, syscall.SIGINT)
	s.wantEnd(t, 0, "")
	if out := s.stdout.String(); !strings.HasSuffix(out, "Most down at once in the group a: 2. Max is 2, never exceeded.\n"+
		"Most down at once in the group b c: 2. Max is 2, never exceeded.\n") {
		t.Errorf("summary:\n%s", out)
	}
}

func TestForeignHolderIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := begin(t, surroundings{}, "demo", "-machines", "1", "-down", "20ms", "-stay", "-dir", dir)
	endpoint := s.stdout.await(t, `-endpoint (\S+) `)[1]
	s.stdout.await(t, "Every machine has rebooted")
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.TryAcquire(t.Context(), locksmith.Request{
		Groups: []locksmith.Group{""}, MachineID: "m9", By: locksmith.ByLock}); err != nil {
		t.Fatal(err)
	}
	s.interrupt(t, syscall.SIGINT)
	s.wantEnd(t, 0, "")

	s = begin(t, surroundings{}, "demo", "-machines", "1", "-down", "20ms", "-dir", dir)
	endpoint = s.stdout.await(t, `To free them:\n\n  \S*locksmithctl -endpoint (\S+) unlock m9\n`)[1]
	s.stdout.await(t, "-> queued\n")
	second, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Unlock(t.Context(), "", "m9", locksmith.Result{Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	s.wantEnd(t, 0, "")
}

// full is an output that takes no more.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputGone(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	stderr := newBuffer()
	status := run(t.Context(), []string{"locksmith-server", "demo", "-down", "10m"}, full{}, stderr,
		surroundings{nil, connect})
	if status != 1 || stderr.String() != "Error: writing output failed: no space left\n" {
		t.Errorf("exit status %d, %q", status, stderr)
	}
}

func TestAddressInUse(t *testing.T) {
	first := begin(t, surroundings{}, "demo", "-machines", "1", "-down", "20ms", "-stay")
	address := first.stdout.await(t, `http://(\S+) `)[1]
	second := begin(t, surroundings{}, "demo", "-etcd-listen", address)
	if status := <-second.status; status != 1 {
		t.Errorf("exit status %d", status)
	}
	if got := second.stderr.String(); !strings.HasPrefix(got, "Error: embedded etcd ") || !strings.HasSuffix(got, "address already in use\n") {
		t.Errorf("standard error: %q", got)
	}
	first.stdout.await(t, "Every machine has rebooted")
	first.interrupt(t, syscall.SIGINT)
	first.wantEnd(t, 0, "")
}
