// Package hook runs the site's own programs around a reboot: executables in the
// directories check.d, prepare.d, verify.d and restore.d. It remembers across the
// reboot what was begun, so that it is undone, and undone once.
//
// The package must not know when a step is due, what a failing one means for the
// reboot, or how a program is kept in bounds.
package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/command"
)

// The defaults of Config.
const (
	DefaultDir          = "/etc/locksmith/hooks"
	DefaultStateDir     = "/var/lib/locksmith"
	DefaultTimeout      = 5 * time.Minute
	DefaultTotalTimeout = 30 * time.Minute
)

// The steps, whose directories have ".d" added.
const (
	check   = "check"
	prepare = "prepare"
	verify  = "verify"
	restore = "restore"
)

// Runner runs one program. *command.Runner implements it.
type Runner interface {
	Run(ctx context.Context, spec command.Spec) (command.Result, error)
}

// Config is what Hooks need.
type Config struct {
	Dir string // of the hook directories; empty: DefaultDir
	// StateDir holds prepared.json, the memory of what was begun, and hooks/, which
	// is for what hooks want to remember. Empty: DefaultStateDir.
	StateDir string
	Runner   Runner // required

	MachineID string            // required
	Groups    []locksmith.Group // required

	Timeout      time.Duration // of one hook; 0: DefaultTimeout
	TotalTimeout time.Duration // of all hooks of a step together; 0: DefaultTotalTimeout

	Owner int          // the user who may own hooks, besides root: in tests
	Log   *slog.Logger // nil: discard
}

// Hooks are the hooks of a machine. The methods may be called concurrently; one step
// runs at a time.
type Hooks struct {
	cfg Config

	mu   sync.Mutex
	said map[string]bool // what was logged of files that are no hooks
}

var (
	_ agent.Steps     = (*Hooks)(nil)
	_ agent.Rehearser = (*Hooks)(nil)
)

// New makes Hooks. It does no I/O: directories may come and go, and are read at each
// step.
func New(cfg Config) (*Hooks, error) {
	if cfg.Runner == nil {
		return nil, errors.New("hook: Runner is required")
	}
	if cfg.MachineID == "" || len(cfg.Groups) == 0 {
		return nil, errors.New("hook: MachineID and Groups are required")
	}
	if cfg.Timeout < 0 || cfg.TotalTimeout < 0 {
		return nil, errors.New("hook: time limits must not be negative")
	}
	if cfg.Dir == "" {
		cfg.Dir = DefaultDir
	}
	if cfg.StateDir == "" {
		cfg.StateDir = DefaultStateDir
	}
	if !filepath.IsAbs(cfg.Dir) || !filepath.IsAbs(cfg.StateDir) {
		return nil, fmt.Errorf("hook: %q and %q must be absolute paths", cfg.Dir, cfg.StateDir)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.TotalTimeout == 0 {
		cfg.TotalTimeout = DefaultTotalTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Hooks{cfg: cfg, said: map[string]bool{}}, nil
}

// Checks is the check that passes if all hooks in check.d do.
func (h *Hooks) Checks() agent.Check { return checks{h, check} }

// Verifier is the check that passes if all hooks in verify.d do.
func (h *Hooks) Verifier() agent.Check { return checks{h, verify} }

// checks runs all hooks of a step.
type checks struct {
	hooks *Hooks
	step  string
}

// Name implements agent.Check.
func (c checks) Name() string { return c.step + ".d" }

// Run implements agent.Check. All hooks run, and each that fails or is refused is an
// *agent.Veto among the joined errors; that ctx ended is its cause.
func (c checks) Run(ctx context.Context, about agent.About) error {
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	files, err := c.hooks.list(c.step)
	if err != nil {
		return err
	}
	var errs []error
	step := c.hooks.begin(c.step, about)
	for _, f := range files.hooks {
		errs = append(errs, step.run(ctx, f))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// run is one step under way.
type run struct {
	hooks *Hooks
	step  string
	about agent.About
	end   time.Time // of the time for all hooks
}

func (h *Hooks) begin(step string, about agent.About) *run {
	return &run{hooks: h, step: step, about: about, end: time.Now().Add(h.cfg.TotalTimeout)}
}

// run runs one hook. Its error is an *agent.Veto, or ctx's cause.
func (r *run) run(ctx context.Context, f file) error {
	cfg := r.hooks.cfg
	if f.refused != nil {
		return &agent.Veto{By: f.name, Reason: "refused: " + f.refused.Error()}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	limit := min(cfg.Timeout, time.Until(r.end))
	if limit <= 0 {
		return &agent.Veto{By: f.name, Reason: fmt.Sprintf("not run: the time limit of %s for all %s hooks is over", cfg.TotalTimeout, r.step)}
	}
	state, err := r.hooks.stateDir()
	if err != nil {
		return fmt.Errorf("the hooks' own directory: %w", err)
	}
	result, err := cfg.Runner.Run(ctx, command.Spec{
		Name: r.step + "-" + f.name, Path: f.path, Env: r.environment(state), Timeout: limit,
	})
	passed, failed := slog.LevelInfo, slog.LevelWarn
	if r.step == check || r.step == verify { // they run again and again, and the agent says why it waits
		passed, failed = slog.LevelDebug, slog.LevelInfo
	}
	said := []any{"hook", r.step + ".d/" + f.name, "duration", result.Duration.Round(time.Millisecond)}
	if err == nil && result.ExitCode == 0 {
		cfg.Log.Log(ctx, passed, "hook passed", said...)
		return nil
	}
	reason := reasonOf(result, err)
	cfg.Log.Log(ctx, failed, "hook failed", append(said, "error", reason, "output", result.Output)...)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return &agent.Veto{By: f.name, Reason: reason}
}

// environment is what hooks are told, besides what every program gets.
func (r *run) environment(state string) []string {
	cfg := r.hooks.cfg
	return []string{
		"LOCKSMITH_STEP=" + r.step,
		"LOCKSMITH_PHASE=" + string(r.about.Phase),
		"LOCKSMITH_GROUPS=" + locksmith.JoinGroups(cfg.Groups),
		"LOCKSMITH_MACHINE_ID=" + cfg.MachineID,
		"LOCKSMITH_REASON=" + oneLine(r.about.Reason, maxVariable),
		"LOCKSMITH_OUTCOME=" + oneLine(r.about.Outcome, maxVariable),
		"LOCKSMITH_STATE_DIR=" + state,
	}
}

const (
	maxVariable = 1000 // of a text in the environment, in bytes
	maxReason   = 200  // of a hook's output that is shown as the reason
)

// reasonOf is why a hook failed: the last line of its output if it ran to its end, or
// else how it ended.
func reasonOf(result command.Result, err error) string {
	if err != nil {
		return oneLine(err.Error(), 2*maxReason)
	}
	lines := strings.Split(result.Output, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if text := oneLine(lines[i], maxReason); text != "" {
			return text
		}
	}
	return fmt.Sprintf("exit status %d", result.ExitCode)
}

// oneLine is s with single spaces for all space and control characters, and cut to
// at most limit bytes.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(c rune) bool {
		return unicode.IsSpace(c) || unicode.IsControl(c)
	}), " ")
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}
