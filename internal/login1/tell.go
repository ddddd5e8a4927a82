package login1

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// timeFormat shows the zone twice, since its name alone is ambiguous.
const timeFormat = "2006-01-02 15:04:05 -0700 MST"

// terminalName is what a session's terminal may be called: pseudo terminals,
// virtual consoles, serial lines, and the consoles of hypervisors and mainframes.
// A list of what is allowed, because the name comes from whoever logged in, and
// opening a device can have effects: /dev/watchdog starts counting.
var terminalName = regexp.MustCompile(`^(pts/[0-9]+|tty[A-Za-z0-9_]*|console|hvc[0-9]+|xvc[0-9]+|sclp_line[0-9]+|3270/tty[0-9]+)$`)

// Tell writes message to the terminals of sessions, each once, all at the same
// time. Sessions without a terminal are passed over. A terminal that is gone, or
// takes no output within a few seconds, fails alone: the error names on one line
// what failed, and everybody else was told.
func (m *Machine) Tell(ctx context.Context, sessions []agent.Session, message string) error {
	text := broadcast(m.now(), message)
	ctx, cancel := context.WithTimeout(ctx, m.writeLimit)
	defer cancel()

	told := map[string]bool{}
	results := make(chan error, len(sessions))
	for _, s := range sessions {
		if s.TTY == "" || told[s.TTY] {
			continue
		}
		told[s.TTY] = true
		go func() { results <- m.tell(ctx, s, text) }()
	}
	var failed []string
	for range told {
		if err := <-results; err != nil {
			failed = append(failed, err.Error())
		}
	}
	if len(failed) == 0 {
		return nil
	}
	slices.Sort(failed)
	return errors.New(strings.Join(failed, "; "))
}

// broadcast is what is written: the lines that wall(1) made familiar. Control
// characters in message could take over the terminal, so only line breaks are
// left.
func broadcast(now time.Time, message string) string {
	message = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, message)
	message = strings.ReplaceAll(message, "\n", "\r\n")
	return fmt.Sprintf("\r\nBroadcast message from locksmithd at %s:\r\n\r\n%s\r\n", now.Format(timeFormat), message)
}

// tell writes text to one terminal, until ctx ends.
func (m *Machine) tell(ctx context.Context, s agent.Session, text string) error {
	if !terminalName.MatchString(s.TTY) {
		return fmt.Errorf("session %s: %q is not the name of a terminal", s.ID, s.TTY)
	}
	// Writing and even closing can block in the driver, for which no deadline
	// helps; then this goroutine returns and the driver is left its own time.
	done := make(chan error, 1)
	go func() { done <- writeTerminal(ctx, filepath.Join(m.dev, s.TTY), text) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done: // both at once: what happened says more
		case <-time.After(100 * time.Millisecond):
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx) // which ended the writing
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("it takes no output")
	}
	if err != nil {
		return fmt.Errorf("telling %s on %s: %w", s.User, s.TTY, err)
	}
	return nil
}

// writeTerminal opens without becoming the terminal's session, and without waiting
// for a line or for a reader.
func writeTerminal(ctx context.Context, path, text string) error {
	// Looked at before it is opened, as opening a pipe or a link has effects too.
	info, err := os.Lstat(path)
	if err != nil {
		return bare(err)
	}
	if info.Mode()&fs.ModeCharDevice == 0 {
		return errors.New("it is not a character device")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return bare(err)
	}
	defer f.Close()
	if !isTerminal(f) {
		return errors.New("it is not a terminal")
	}
	if err := f.SetWriteDeadline(time.Time{}); err != nil {
		return bare(err) // it cannot be interrupted; do not begin
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = f.WriteString(text)
	return bare(err)
}

func isTerminal(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var asked error
	err = raw.Control(func(fd uintptr) { _, asked = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	return err == nil && asked == nil
}

// bare takes the path off an error that names it again.
func bare(err error) error {
	var perr *fs.PathError
	var errno syscall.Errno
	if errors.As(err, &perr) && errors.As(err, &errno) {
		return errno
	}
	return err
}
