// Package command runs one external program of the administrator's for the daemon:
// a hook, a trigger's command. It bounds its time and its output, and sees to it
// that nothing of it keeps running. No shell is involved.
//
// The package must not know what a program is run for, nor what its answer means.
package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mode is where programs run.
type Mode string

// The modes.
const (
	// Auto is Unit where this process is the main process of a systemd service and
	// systemd-run is there, and Direct elsewhere.
	Auto Mode = "auto"

	// Direct runs programs as children of this process, in a process group of their
	// own. They are confined as this process is.
	Direct Mode = "direct"

	// Unit runs programs as transient systemd services, which are not confined by
	// the sandbox of this process's own unit.
	Unit Mode = "unit"
)

// What a program gets to end by itself after SIGTERM, before SIGKILL.
const stopGrace = 5 * time.Second

// MaxOutput is how much of a program's output is kept, in bytes.
const MaxOutput = 4 << 10

// path is the search path of all programs.
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ErrTimeout is that a program was still running when its time was over.
var ErrTimeout = errors.New("timed out")

// ErrNotStarted is that a program did not run at all.
var ErrNotStarted = errors.New("could not be started")

// SignalError is that a program was ended by a signal which Run did not send.
type SignalError struct {
	Signal string // without SIG: "SEGV"
}

func (e *SignalError) Error() string { return "ended by signal " + e.Signal }

// Spec is what to run.
type Spec struct {
	Name    string        // required, short: "prepare-10-drain"; names the unit
	Path    string        // required, absolute
	Args    []string      // without the program itself
	Env     []string      // NAME=value, in addition to PATH, HOME=/root and LANG=C.UTF-8, or in their place
	Timeout time.Duration // required
	Dir     string        // working directory; empty: "/"
}

// Result is what a program did.
type Result struct {
	ExitCode int // 0 where Run returns an error
	// Output is the last MaxOutput bytes of standard output and standard error
	// together: valid UTF-8, without control characters but newlines.
	Output   string
	Duration time.Duration
}

// Runner runs programs. Its methods may be called concurrently.
type Runner struct {
	log     *slog.Logger
	grace   time.Duration // stopGrace, but in tests
	manager *manager      // nil: Direct

	mu      sync.Mutex
	running map[string]bool // by name
}

// New makes a Runner. A nil log discards. It finds out where it runs, and what of
// systemd is there, and starts nothing.
func New(mode Mode, log *slog.Logger) *Runner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{log: log, grace: stopGrace, running: map[string]bool{}}
	own := ownService()
	if mode == Unit || mode == Auto && own.is && systemdRuns() {
		r.manager = newManager(own.unit)
	}
	return r
}

// Describe says how programs are run, for people.
func (r *Runner) Describe() string {
	switch {
	case r.manager == nil:
		return "child processes"
	case r.manager.bind == "":
		return "transient systemd units"
	}
	return "transient systemd units bound to " + r.manager.bind
}

// Run runs a program and returns when it has ended, and with it all that it started
// and did not move elsewhere (out of its process group, or out of its unit): what is
// left running when the program itself ends is ended then.
//
// That the program exits with a status other than zero is no error. The errors are
// ErrNotStarted, ErrTimeout, a *SignalError, ctx's cause, and that the program could
// not be stopped; the Result has the output in every case. Programs of the same name
// do not run at the same time: the second one is not started.
func (r *Runner) Run(ctx context.Context, spec Spec) (Result, error) {
	if err := spec.check(); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if !r.claim(spec.Name) {
		return Result{}, fmt.Errorf("%w: %s is still running", ErrNotStarted, spec.Name)
	}
	defer r.release(spec.Name)
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	run := r.direct
	if r.manager != nil {
		run = r.unit
	}
	began := time.Now()
	result, err := run(ctx, spec)
	result.Duration = time.Since(began)
	r.log.Debug("program ended", "name", spec.Name, "path", spec.Path, "status", result.ExitCode,
		"duration", result.Duration, "error", err)
	return result, err
}

func (r *Runner) claim(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[name] {
		return false
	}
	r.running[name] = true
	return true
}

func (r *Runner) release(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, name)
}

func (s Spec) check() error {
	switch {
	case s.Name == "":
		return errors.New("it has no name")
	case !filepath.IsAbs(s.Path):
		return fmt.Errorf("%q is no absolute path", s.Path)
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return fmt.Errorf("working directory %q is no absolute path", s.Dir)
	case s.Timeout <= 0:
		return errors.New("it has no time limit")
	case slices.ContainsFunc(slices.Concat(s.Args, s.Env, []string{s.Path, s.Dir}), hasNUL):
		return errors.New("it holds a NUL character")
	}
	for _, v := range s.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || !isName(name) {
			return fmt.Errorf("environment variable %q must be NAME=value, the name of letters, digits and underscores", v)
		}
	}
	return nil
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

func isName(s string) bool {
	digits := strings.TrimLeft(s, "0123456789") != s
	return s != "" && !digits && strings.Trim(s, "_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// environment is the whole environment of the program, each name once.
func (s Spec) environment() []string {
	env := []string{"PATH=" + path, "HOME=/root", "LANG=C.UTF-8"}
	for _, v := range s.Env {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, v)
	}
	return env
}

// timedOut is the error of a program whose time was over.
func timedOut(limit time.Duration) error { return fmt.Errorf("%w after %s", ErrTimeout, brief(limit)) }

// brief writes a duration without what is zero in it: "30s", "5m", "1h30m".
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
