package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// Deps is what triggers need.
type Deps struct {
	Bus    *bus.Bus // the system bus; required for update-engine, asked by auto
	Runner Runner   // runs programs; required for command, needs-restarting and zypper

	// Since is when the present userspace began, if that is later than the boot:
	// after a soft reboot. Files of before do not count. Zero: every file counts.
	Since time.Time

	Root string       // put before the paths of the machine's own files; "" but in tests
	Log  *slog.Logger // nil: discard

	running func() (string, error) // the running kernel's release; for tests
}

// Built is the triggers of a machine.
type Built struct {
	Triggers []agent.Trigger // names differ; may be empty
	Text     string          // what they are, and why they were picked, in one line
}

// Build makes the triggers for specs, in their order and each once. In the place of
// auto come those that fit the machine:
//
//	update-engine             where it is installed, or on the bus
//	file:/run/reboot-required where dpkg is
//	file:/run/reboot-needed   where zypper or transactional-update is
//	needs-restarting          where that program is
//	kernel                    where kernels of the running one's flavour are installed,
//	                          but in containers, and not beside update engine or
//	                          /run/reboot-needed, which tell of kernels themselves
//
// It asks the bus for at most 5 s. The error is one of specs that exclude each other, or
// of a missing part of d.
func Build(ctx context.Context, specs []Spec, d Deps) (Built, error) {
	if d.Log == nil {
		d.Log = discard
	}
	var wanted []Spec
	var texts []string
	for _, s := range specs {
		if s.IsAuto() {
			p := d.pick(ctx)
			for _, one := range p.list {
				wanted = append(wanted, one.Spec)
			}
			texts = append(texts, p.text())
			continue
		}
		wanted = append(wanted, s)
		texts = append(texts, s.String())
	}
	var b Built
	seen := map[string]bool{}
	for _, s := range wanted {
		if seen[s.String()] {
			continue
		}
		seen[s.String()] = true
		t, err := d.build(s, b.Triggers)
		if err != nil {
			return Built{}, fmt.Errorf("trigger %s: %w", s, err)
		}
		b.Triggers = append(b.Triggers, t)
	}
	b.Text = strings.Join(texts, "; ")
	return b, nil
}

// build makes one trigger, whose name differs from those of others.
func (d Deps) build(s Spec, others []agent.Trigger) (agent.Trigger, error) {
	taken := func(name string) bool {
		return slices.ContainsFunc(others, func(t agent.Trigger) bool { return t.Name() == name })
	}
	switch s.kind {
	case kindUpdateEngine:
		if d.Bus == nil {
			return nil, errors.New("there is no bus")
		}
		return NewUpdateEngine(d.Bus, d.Log), nil
	case kindFile:
		return NewFile(s.path, d.Since, d.Log), nil
	case kindKernel:
		return d.kernel(), nil
	case kindUptime:
		if taken(kindUptime) {
			return nil, errors.New("another uptime is given, give one")
		}
		return NewUptime(s.uptime), nil
	case kindNeedsRestarting:
		return NewCommand(needsRestarting, d.Runner, d.Log)
	case kindZypper:
		return NewCommand(zypper, d.Runner, d.Log)
	case kindCommand:
		c := s.command
		c.Name = kindCommand + ":" + bus.Clean(c.Path, nameLimit)
		for n := 2; taken(c.Name); n++ {
			c.Name = fmt.Sprintf("%s:%s (%d)", kindCommand, bus.Clean(c.Path, nameLimit), n)
		}
		return NewCommand(c, d.Runner, d.Log)
	}
	return nil, errors.New("it comes from no text, use Parse")
}

func (d Deps) kernel() *Kernel {
	k := NewKernel(d.Root, d.Log)
	if d.running != nil {
		k.running = d.running
	}
	return k
}

// Recheck has those of list that ask at intervals ask again soon, because a package
// manager has ended. It does not wait for the answers.
func Recheck(list []agent.Trigger) {
	for _, t := range list {
		if r, ok := t.(interface{ Recheck() }); ok {
			r.Recheck()
		}
	}
}
