package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/command"
)

// Defaults of a CommandSpec.
const (
	DefaultInterval = time.Hour
	DefaultTimeout  = 5 * time.Minute
)

// commandRetry is the interval after an answer that was an error, if it is shorter
// than the command's own.
const commandRetry = 10 * time.Minute

const (
	commandLine  = 200 // bytes of a command's output in a reason
	bulletIndent = 4   // spaces before a bullet, at most
)

// CommandSpec is a command that is asked whether a reboot is needed.
type CommandSpec struct {
	Name string   // required: the trigger's
	Path string   // required: of the program, absolute
	Args []string // without the program itself

	// Yes and No are the exit statuses that mean so, at least one each. Any other
	// end of the program is an error: "the program is missing" must never read as
	// "yes".
	Yes, No []int

	// Says, if not empty, is what the output of a yes has to contain. It is for
	// programs that use the same status for a yes and for a failure.
	Says string

	Interval time.Duration // between two questions, ±10 %; 0: DefaultInterval
	Timeout  time.Duration // of one; 0: DefaultTimeout
}

// needsRestarting is yum-utils', and dnf's under the same name. Its status 1 is a
// yes, but also every failure of dnf itself: a repository that is away, a plugin
// that is not installed. Only the sentence tells them apart.
var needsRestarting = CommandSpec{
	Name: "needs-restarting", Path: "/usr/bin/needs-restarting", Args: []string{"-r"},
	Yes: []int{1}, No: []int{0}, Says: "Reboot is required",
}

var zypper = CommandSpec{
	Name: "zypper", Path: "/usr/bin/zypper", Args: []string{"needs-rebooting"},
	Yes: []int{102}, No: []int{0},
}

func (s CommandSpec) check() error {
	switch {
	case s.Name == "" || s.Path == "":
		return errors.New("Name and Path are required")
	case len(s.Yes) == 0 || len(s.No) == 0:
		return errors.New("the exit statuses that mean yes and no are required")
	case slices.ContainsFunc(s.Yes, func(code int) bool { return slices.Contains(s.No, code) }):
		return errors.New("an exit status means yes or no, not both")
	case s.Interval < 0 || s.Timeout < 0:
		return errors.New("durations must not be negative")
	}
	return nil
}

// Runner runs a program, as a *command.Runner does.
type Runner interface {
	Run(ctx context.Context, spec command.Spec) (command.Result, error)
}

var _ agent.Trigger = (*Command)(nil)

// Command is the trigger for a command that answers by its exit status.
type Command struct {
	spec    CommandSpec
	runner  Runner
	log     *slog.Logger
	recheck chan struct{}
	random  func() float64 // 0 to 1; seeded in each process, so that machines differ
}

// NewCommand makes the trigger. A spec without what it requires is refused; a nil log
// discards. NewCommand runs nothing.
func NewCommand(spec CommandSpec, runner Runner, log *slog.Logger) (*Command, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("command %q: %w", spec.Name, err)
	}
	if runner == nil {
		return nil, fmt.Errorf("command %q: there is nothing to run it with", spec.Name)
	}
	if log == nil {
		log = discard
	}
	if spec.Interval == 0 {
		spec.Interval = DefaultInterval
	}
	if spec.Timeout == 0 {
		spec.Timeout = DefaultTimeout
	}
	return &Command{spec: spec, runner: runner, log: log, recheck: make(chan struct{}, 1), random: rand.Float64}, nil
}

// Name implements agent.Trigger.
func (c *Command) Name() string { return c.spec.Name }

// Recheck asks again soon, because something has happened that the answer may depend
// on: a package manager has ended. It does not wait for the answer.
func (c *Command) Recheck() {
	select {
	case c.recheck <- struct{}{}:
	default: // a question is due anyway
	}
}

// Watch implements agent.Trigger. It asks at once and then at the interval, sooner
// after an answer that was an error. It returns nil, once ctx has ended.
func (c *Command) Watch(ctx context.Context, report func(agent.Need)) error {
	var last changes
	for {
		need := c.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if last.differ(need) {
			c.log.Debug("the command answered", "trigger", c.Name(), "needed", need.Needed, "reason", need.Reason, "error", need.Err)
			report(need)
		}
		wait := c.spec.Interval
		if need.Err != nil {
			wait = min(wait, commandRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.recheck:
		case <-time.After(time.Duration(float64(wait) * (0.9 + 0.2*c.random()))):
		}
	}
}

// ask runs the command once.
func (c *Command) ask(ctx context.Context) agent.Need {
	need := agent.Need{Trigger: c.Name()}
	result, err := c.runner.Run(ctx, command.Spec{
		Name:    unitName(c.Name()),
		Path:    c.spec.Path,
		Args:    c.spec.Args,
		Timeout: c.spec.Timeout,
	})
	said := bus.Clean(lastLine(result.Output), commandLine)
	yes := slices.Contains(c.spec.Yes, result.ExitCode)
	switch {
	case err != nil:
		need.Err = fmt.Errorf("%s %w", c.spec.Path, err)
	case slices.Contains(c.spec.No, result.ExitCode):
	case yes && strings.Contains(result.Output, c.spec.Says):
		need.Needed = true
		if names := bulleted(result.Output); names != "" {
			said = names
		}
		need.Reason = after(c.Name(), said)
	case yes:
		need.Err = errors.New(after(fmt.Sprintf("%s ended with status %d and did not say %q", c.spec.Path, result.ExitCode, c.spec.Says), said))
	default:
		need.Err = errors.New(after(fmt.Sprintf("%s ended with status %d", c.spec.Path, result.ExitCode), said))
	}
	return need
}

// after is text, and what was said in addition, if anything was.
func after(text, said string) string {
	if said == "" {
		return text
	}
	return text + ": " + said
}

func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return output[strings.LastIndexByte(output, '\n')+1:]
}

// bulleted lists what output has in lines that begin with an asterisk, as dnf names
// the packages that ask for a reboot.
func bulleted(output string) string {
	var names []string
	for line := range strings.Lines(output) {
		indent, name, ok := strings.Cut(line, "* ")
		if ok && len(indent) <= bulletIndent && strings.TrimSpace(indent) == "" {
			if name = bus.Clean(name, nameLimit); name != "" {
				names = append(names, name)
			}
		}
	}
	return listed(names)
}

// unitName makes a name for the runner, which has units called so.
func unitName(name string) string {
	return "trigger-" + strings.Trim(strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, name), "-")
}
