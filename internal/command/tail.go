package command

import (
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tail keeps the end of what is written to it, in constant memory.
type tail struct {
	ring []byte
	next int  // where the next byte goes
	full bool // the ring has been filled once
}

func newTail(size int) *tail { return &tail{ring: make([]byte, size)} }

// fill reads r until it ends or fails: either way there is no more.
func (t *tail) fill(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		t.write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (t *tail) write(p []byte) {
	if over := len(p) - len(t.ring); over > 0 {
		p = p[over:]
		t.full = true
	}
	for len(p) > 0 {
		n := copy(t.ring[t.next:], p)
		p = p[n:]
		if t.next += n; t.next == len(t.ring) {
			t.next, t.full = 0, true
		}
	}
}

// bytes is what is kept, oldest first.
func (t *tail) bytes() []byte {
	if !t.full {
		return t.ring[:t.next]
	}
	return append(append([]byte{}, t.ring[t.next:]...), t.ring[:t.next]...)
}

// escapes are the sequences by which programs colour their output.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// clean makes a program's output fit to be shown: the last limit bytes, valid UTF-8,
// no control characters but newlines.
func clean(output []byte, limit int) string {
	s := string(output)
	// The first character may have been cut.
	for i := 0; i < utf8.UTFMax && s != "" && !utf8.RuneStart(s[0]); i++ {
		s = s[1:]
	}
	s = escapes.ReplaceAllString(strings.ToValidUTF8(s, "?"), "")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\r': // a return alone begins a line anew: progress
			return '\n'
		case c == '\t':
			return ' '
		case unicode.IsControl(c) || !unicode.IsGraphic(c):
			return -1
		}
		return c
	}, s)
	if len(s) > limit {
		s = s[len(s)-limit:]
		for s != "" && !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	return s
}
