package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// screen draws the table over itself, where the cursor stood at first.
type screen struct {
	out   io.Writer
	size  func() int // lines of the terminal; 0: unknown
	above int        // lines above it to keep in sight, where there is room for both
	table *table
	drawn int // lines of the last frame
}

// What moves a terminal's cursor and clears what an earlier frame left behind.
// Lines are cut instead of wrapped, so that they can be counted.
const (
	eraseLine = "\x1b[K"
	eraseRest = "\x1b[J"
	noWrap    = "\x1b[?7l"
	wrapAgain = "\x1b[?7h"
)

func (s *screen) show(changes []change, now time.Time) {
	s.table.apply(changes)
	rows := s.size()
	if rows > 0 {
		rows = max(rows-1, 1) // the cursor's
		s.drawn = min(s.drawn, rows)
		rows = max(rows-s.above, min(rows, 10))
	}
	frame := s.table.render(now, rows)
	var b strings.Builder
	b.WriteString(s.back() + noWrap)
	for _, line := range frame {
		b.WriteString(line + eraseLine + "\n")
	}
	b.WriteString(wrapAgain + eraseRest)
	s.drawn = len(frame)
	_, _ = io.WriteString(s.out, b.String())
}

// close takes the table away: the summary says the same and more.
func (s *screen) close(time.Time) {
	_, _ = io.WriteString(s.out, s.back()+eraseRest)
	s.drawn = 0
}

// back moves to the first line of the last frame.
func (s *screen) back() string {
	if s.drawn == 0 {
		return "\r"
	}
	return fmt.Sprintf("\r\x1b[%dA", s.drawn)
}

// terminal is an output that is one.
type terminal struct{ fd int }

func terminalOf(w io.Writer) (terminal, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return terminal{}, false
	}
	t := terminal{int(f.Fd())}
	_, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	return t, err == nil
}

// size is how many lines the terminal has at this moment, 0 where nobody knows.
func (t terminal) size() int {
	size, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
