package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// screen draws every state of a group over the one before it. In between it draws
// again once a second, because ages grow; that asks etcd for nothing.
type screen struct {
	c       *call
	form    form
	states  chan locksmith.GroupStatus
	notices chan string
	quit    chan struct{}
	done    chan struct{}
}

func (c *call) newScreen(f form) *screen {
	s := &screen{c: c, form: f, states: make(chan locksmith.GroupStatus), notices: make(chan string),
		quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// stop ends the drawing and waits for it.
func (s *screen) stop() {
	close(s.quit)
	<-s.done
}

func (s *screen) show(state locksmith.GroupStatus) error {
	select {
	case s.states <- state:
	case <-s.quit:
	}
	return nil
}

// notice shows text until the next state: what is on the screen may be old.
func (s *screen) notice(text string) {
	select {
	case s.notices <- text:
	case <-s.quit:
	}
}

func (s *screen) run() {
	defer close(s.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var state locksmith.GroupStatus
	var notice string
	for known := false; ; {
		select {
		case state = <-s.states:
			known, notice = true, ""
		case notice = <-s.notices:
		case <-tick.C:
		case <-s.quit:
			return
		}
		if known {
			s.draw(state, notice)
		}
	}
}

// What moves a terminal's cursor home and clears what an earlier, longer state
// left behind. Lines are cut instead of wrapped, so that the rows are countable.
const (
	home      = "\x1b[H"
	eraseLine = "\x1b[K"
	eraseRest = "\x1b[J"
	noWrap    = "\x1b[?7l"
	wrapAgain = "\x1b[?7h"
)

func (s *screen) draw(state locksmith.GroupStatus, notice string) {
	head := fmt.Sprintf("%s  %s  Ctrl-C ends", clock(s.c.deps.Now()), oneLine(state.Group.String()))
	lines := []string{painted(cell{head, faint}, s.c.colours()), painted(cell{oneLine(notice), red}, s.c.colours())}
	text, err := s.c.statusText(state, s.form)
	if err != nil {
		text = err.Error()
	}
	lines = append(lines, strings.Split(strings.TrimRight(text, "\n"), "\n")...)
	for _, fault := range state.Faults {
		lines = append(lines, "inconsistent: "+oneLine(fault))
	}
	if rows, _ := terminalSize(s.c.stdout); rows > 4 && len(lines) >= rows {
		hidden := len(lines) - (rows - 2)
		lines = append(lines[:rows-2], fmt.Sprintf("… %d more lines", hidden))
	}
	frame := home + noWrap
	for _, line := range lines {
		frame += line + eraseLine + "\n"
	}
	// A terminal that goes away ends the program with a signal.
	_, _ = io.WriteString(s.c.stdout, frame+wrapAgain+eraseRest)
}
