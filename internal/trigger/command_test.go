package trigger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
)

// answers is a runner that answers in turn, the last answer for ever.
type answers struct {
	list  []answer
	asked []time.Time
	specs []command.Spec
}

type answer struct {
	status int
	output string
	err    error
}

func (a *answers) Run(_ context.Context, spec command.Spec) (command.Result, error) {
	a.asked = append(a.asked, time.Now())
	a.specs = append(a.specs, spec)
	next := a.list[0]
	if len(a.list) > 1 {
		a.list = a.list[1:]
	}
	return command.Result{ExitCode: next.status, Output: next.output}, next.err
}

func newCommand(t *testing.T, spec CommandSpec, r Runner) *Command {
	t.Helper()
	c, err := NewCommand(spec, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const dnfSays = `Core libraries or services have been updated since boot-up:
  * kernel
  * glibc
  * kernel

Reboot is required to fully utilize these updates.
More information: https://access.redhat.com/solutions/27943
`

func TestCommandAnswers(t *testing.T) {
	custom := CommandSpec{Name: "command:/usr/bin/ask", Path: "/usr/bin/ask", Yes: []int{0, 7}, No: []int{1}}
	for _, test := range []struct {
		spec   CommandSpec
		answer answer
		want   string
	}{
		{needsRestarting, answer{1, dnfSays, nil}, "needed: needs-restarting: glibc, kernel"},
		{needsRestarting, answer{1, "Reboot is required to ensure that your system benefits from these updates.\n", nil},
			"needed: needs-restarting: Reboot is required to ensure that your system benefits from these updates."},
		{needsRestarting, answer{0, "Reboot should not be necessary.\n", nil}, "not needed"},

		// The classic faults: dnf fails, and the program is missing.
		{needsRestarting, answer{1, "No such command: needs-restarting. Please use /usr/bin/dnf --help\n", nil},
			`error: /usr/bin/needs-restarting ended with status 1 and did not say "Reboot is required": No such command: ` +
				`needs-restarting. Please use /usr/bin/dnf --help`},
		{needsRestarting, answer{1, "", nil}, `error: /usr/bin/needs-restarting ended with status 1 and did not say "Reboot is required"`},
		{needsRestarting, answer{0, "", fmt.Errorf("%w: no such file", command.ErrNotStarted)},
			"error: /usr/bin/needs-restarting could not be started: no such file"},
		{needsRestarting, answer{127, "not found", nil}, "error: /usr/bin/needs-restarting ended with status 127: not found"},
		{needsRestarting, answer{0, dnfSays, command.ErrTimeout}, "error: /usr/bin/needs-restarting timed out"},

		{zypper, answer{102, "Core libraries or services have been updated.\nReboot is required.\n", nil}, "needed: zypper: Reboot is required."},
		{zypper, answer{0, "Reboot is probably not necessary.\n", nil}, "not needed"},
		{zypper, answer{1, "", nil}, "error: /usr/bin/zypper ended with status 1"},
		{zypper, answer{7, "System management is locked\n", nil}, "error: /usr/bin/zypper ended with status 7: System management is locked"},

		{custom, answer{0, "", nil}, "needed: command:/usr/bin/ask"},
		{custom, answer{7, "because\x1b[0m\u2028\n\n", nil}, "needed: command:/usr/bin/ask: because [0m"},
		{custom, answer{7, "3 * 4 is 12", nil}, "needed: command:/usr/bin/ask: 3 * 4 is 12"},
		{custom, answer{1, "", nil}, "not needed"},
		{custom, answer{2, strings.Repeat("x", 1000), nil}, "error: /usr/bin/ask ended with status 2: " + strings.Repeat("x", 197) + "…"},
	} {
		a := &answers{list: []answer{test.answer}}
		need := newCommand(t, test.spec, a).ask(t.Context())
		if got := text(need); got != test.want {
			t.Errorf("%s, %+v:\n got %s\nwant %s", test.spec.Name, test.answer, got, test.want)
		}
		if need.Trigger != test.spec.Name || need.Method != "" {
			t.Errorf("%+v", need)
		}
		if test.answer.err != nil && !errors.Is(need.Err, test.answer.err) {
			t.Errorf("%v hides %v", need.Err, test.answer.err)
		}
		if s := a.specs[0]; s.Path != test.spec.Path || s.Timeout != DefaultTimeout || strings.ContainsAny(s.Name, ":/ ") {
			t.Errorf("ran %+v", s)
		}
	}
}

func text(n agent.Need) string {
	switch {
	case n.Err != nil && (n.Needed || n.Reason != ""):
		return "an error and more"
	case n.Err != nil:
		return "error: " + n.Err.Error()
	case n.Needed:
		return "needed: " + n.Reason
	}
	return "not needed"
}

func TestCommandIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{list: []answer{{0, "", nil}, {0, "", nil}, {1, "a", nil}, {1, "b", nil}, {9, "", nil}, {9, "", nil}, {0, "", nil}}}
		c := newCommand(t, CommandSpec{Name: "x", Path: "/x", Yes: []int{1}, No: []int{0}, Interval: time.Hour}, a)
		var got []string
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
		defer cancel()
		began := time.Now()
		c.random = func() float64 { return 0.5 }
		if err := c.Watch(ctx, func(n agent.Need) { got = append(got, text(n)) }); err != nil {
			t.Error(err)
		}
		want := []string{"not needed", "needed: x: a", "needed: x: b", "error: /x ended with status 9", "not needed"}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("reported %q", got)
		}
		var at []time.Duration
		for _, when := range a.asked {
			at = append(at, when.Sub(began))
		}
		h, m := time.Hour, time.Minute
		times := []time.Duration{0, h, 2 * h, 3 * h, 4 * h, 4*h + 10*m, 4*h + 20*m, 5*h + 20*m} // errors sooner
		if fmt.Sprint(at) != fmt.Sprint(times) {
			t.Errorf("asked at %v, want %v", at, times)
		}
	})
}

func TestCommandJitter(t *testing.T) {
	gaps := map[time.Duration]bool{}
	synctest.Test(t, func(t *testing.T) {
		a := &answers{list: []answer{{0, "", nil}}}
		c := newCommand(t, CommandSpec{Name: "x", Path: "/x", Yes: []int{1}, No: []int{0}, Interval: 10 * time.Hour}, a)
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		c.Watch(ctx, func(agent.Need) {})
		for i, when := range a.asked[1:] {
			gap := when.Sub(a.asked[i])
			if gap < 9*time.Hour || gap > 11*time.Hour {
				t.Errorf("asked again after %v", gap)
			}
			gaps[gap] = true
		}
	})
	if len(gaps) < 50 {
		t.Errorf("only %d different intervals", len(gaps))
	}
}

func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{list: []answer{{0, "", nil}, {1, "", nil}}}
		c := newCommand(t, CommandSpec{Name: "x", Path: "/x", Yes: []int{1}, No: []int{0}}, a)
		ctx, cancel := context.WithCancel(t.Context())
		reported := make(chan agent.Need, 10)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Watch(ctx, func(n agent.Need) { reported <- n })
		}()
		began := time.Now()
		<-reported
		c.Recheck()
		c.Recheck()
		if n := <-reported; !n.Needed || time.Since(began) > 0 {
			t.Errorf("%+v after %v", n, time.Since(began))
		}
		cancel()
		<-ended
	})
}

// Whatever an ended question answers is not reported.
func TestCommandEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := newCommand(t, needsRestarting, runnerFunc(func(ctx context.Context, _ command.Spec) (command.Result, error) {
		cancel()
		return command.Result{}, context.Cause(ctx)
	}))
	if err := c.Watch(ctx, func(n agent.Need) { t.Errorf("reported %+v", n) }); err != nil {
		t.Error(err)
	}
}

type runnerFunc func(context.Context, command.Spec) (command.Result, error)

func (f runnerFunc) Run(ctx context.Context, s command.Spec) (command.Result, error) {
	return f(ctx, s)
}

// With real programs, run as the daemon runs them.
func TestCommandForReal(t *testing.T) {
	script := filepath.Join(t.TempDir(), "ask")
	runner := command.New(command.Direct, nil)
	spec := CommandSpec{Name: "ask", Path: script, Args: []string{"why"}, Yes: []int{3}, No: []int{0}, Timeout: 20 * time.Second}
	c := newCommand(t, spec, runner)
	if n := c.ask(t.Context()); n.Needed || !errors.Is(n.Err, command.ErrNotStarted) {
		t.Errorf("a program that is missing: %+v", n)
	}
	for content, want := range map[string]string{
		"echo first; echo \"$1 not\" >&2; exit 3": "needed: ask: why not",
		"exit 0":              "not needed",
		"exit 4":              "error: " + script + " ended with status 4",
		"kill -9 $$":          "error: " + script + " ended by signal KILL",
		"echo out; sleep 100": "error: " + script + " timed out after 100ms",
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+content+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		spec := spec
		if strings.Contains(content, "sleep") {
			spec.Timeout = 100 * time.Millisecond
		}
		if got := text(newCommand(t, spec, runner).ask(t.Context())); got != want {
			t.Errorf("%s: %s, want %s", content, got, want)
		}
	}
}

func TestCommandSpecs(t *testing.T) {
	ok := CommandSpec{Name: "x", Path: "/x", Yes: []int{1}, No: []int{0}}
	for _, change := range []func(*CommandSpec){
		func(s *CommandSpec) { s.Name = "" },
		func(s *CommandSpec) { s.Path = "" },
		func(s *CommandSpec) { s.Yes = nil },
		func(s *CommandSpec) { s.No = nil },
		func(s *CommandSpec) { s.No = []int{5, 1} },
		func(s *CommandSpec) { s.Interval = -1 },
	} {
		spec := ok
		change(&spec)
		if _, err := NewCommand(spec, &answers{}, nil); err == nil {
			t.Errorf("%+v was accepted", spec)
		}
	}
	if _, err := NewCommand(ok, nil, nil); err == nil {
		t.Error("a command without a runner was accepted")
	}
}
