package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/fleet"
)

// stateDown is what is shown of a machine that has no agent because it reboots.
const stateDown = "down"

// stateOf is the phase of a machine's agent, or stateDown.
func stateOf(s fleet.Status) string {
	switch {
	case s.Up:
		return string(s.Agent.Phase)
	case s.Boots > 0:
		return stateDown
	}
	return string(locksmith.PhaseRecovering) // it boots
}

// lines prints one line for each change of phase: "  1.234s  m3  queued -> preparing".
type lines struct {
	out     io.Writer
	began   time.Time
	stay    bool
	width   int // of the longest name
	state   map[string]string
	waiting map[string]string
	left    int // machines that have not rebooted
	done    map[string]bool
}

func newLines(out io.Writer, names []string, began time.Time, stay bool) *lines {
	l := &lines{out: out, began: began, stay: stay, left: len(names),
		state: make(map[string]string), waiting: make(map[string]string), done: make(map[string]bool)}
	for _, n := range names {
		l.width = max(l.width, len(n))
		l.state[n] = string(locksmith.PhaseRecovering)
	}
	return l
}

func (l *lines) show(changes []change, _ time.Time) {
	var b strings.Builder
	say := func(c change, format string, args ...any) {
		fmt.Fprintf(&b, "%8.3fs  %-*s  %s\n", c.at.Sub(l.began).Seconds(), l.width, c.status.Machine, fmt.Sprintf(format, args...))
	}
	for _, c := range changes {
		name, state := c.status.Machine, stateOf(c.status)
		if before := l.state[name]; state != before {
			say(c, "%s -> %s", before, state)
			l.state[name] = state
			l.waiting[name] = ""
		}
		if w := c.status.Agent.Waiting; c.status.Up && w != l.waiting[name] {
			if l.waiting[name] = w; w != "" {
				say(c, "%s: %s", state, oneLine(w))
			}
		}
		if l.stay && c.status.RebootedOnce() && !l.done[name] {
			l.done[name] = true
			if l.left--; l.left == 0 {
				b.WriteString("Every machine has rebooted. They stay until Ctrl-C.\n")
			}
		}
	}
	_, _ = io.WriteString(l.out, b.String())
}

func (l *lines) close(time.Time) { _, _ = io.WriteString(l.out, "\n") }

// oneLine makes an agent's words safe to print on a line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
