package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// terminal is both ends of a pseudo terminal.
type terminal struct {
	master, tty *os.File
	screen      *buffer // everything written to it
}

func newTerminal(t *testing.T, rows uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 200}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, tty: tty, screen: newBuffer()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = term.screen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close() // the reader ends once no process has it open
		<-done
		master.Close()
	})
	return term
}

// run starts a program that must not outlive the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

var escape = regexp.MustCompile("\x1b\\[[?0-9;]*[A-Za-z]")

func TestWatchOnTerminal(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	ctl(t, srv, "lock", "m1")
	for _, noColor := range []string{"", "1"} {
		t.Run("NO_COLOR="+noColor, func(t *testing.T) {
			term := newTerminal(t, 50)
			cmd := prepare(t, srv, "watch")
			cmd.Env = append(cmd.Env, "NO_COLOR="+noColor)
			cmd.Stdout = term.tty
			errs := newBuffer()
			cmd.Stderr = errs
			run(t, cmd)
			term.screen.await(t, "Max: 1")
			term.screen.await(t, "m1")
			ctl(t, srv, "set-max", "2")
			term.screen.await(t, "Max: 2")
			ctl(t, srv, "set-max", "1")
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || errs.String() != "" {
				t.Fatalf("%v: %s", err, errs)
			}
			text := term.screen.String()
			if !strings.HasPrefix(text, "\x1b[H") {
				t.Errorf("does not draw over the state before: %q", text[:20])
			}
			if painted := strings.Contains(text, "\x1b[1mMACHINE ID\x1b[0m"); painted != (noColor == "") {
				t.Errorf("heading in bold: %v\n%q", painted, text)
			}
			if noColor != "" && regexp.MustCompile("\x1b\\[[0-9;]*m").MatchString(text) {
				t.Errorf("a colour in spite of NO_COLOR:\n%q", text)
			}
		})
	}
}

// Ages grow on a terminal without a request to etcd, and a state longer than the
// terminal is cut.
func TestWatchRedrawsAndCuts(t *testing.T) {
	srv := stoppable(t)
	ctl(t, srv, "set-max", "9")
	for i := range 9 {
		ctl(t, srv, "lock", fmt.Sprintf("m%d", i))
	}
	term := newTerminal(t, 12)
	cmd := prepare(t, srv, "watch")
	cmd.Stdout = term.tty
	run(t, cmd)
	term.screen.await(t, "m0")
	srv.Stop()
	first := strings.Count(term.screen.String(), "\x1b[H")
	for strings.Count(term.screen.String(), "\x1b[H") < first+3 {
		<-term.screen.changed
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	frames := strings.Split(term.screen.String(), "\x1b[H")
	frame := escape.ReplaceAllString(frames[1], "")
	if n := strings.Count(frame, "\n"); n != 11 {
		t.Errorf("%d lines on a terminal of 12:\n%s", n, frame)
	}
	if !strings.Contains(frame, "\n… 6 more lines\r\n") {
		t.Errorf("does not say how much is cut:\n%s", frame)
	}
}

// Ctrl-C on a terminal reaches the command once: the terminal sends it to both.
func TestWithLockInterruptedOnTerminal(t *testing.T) {
	srv := etcdtest.Start(t, etcdtest.Embedded)
	term := newTerminal(t, 50)
	cmd := prepare(t, srv, "with-lock", "--", "sh", "-c",
		`n=0; trap 'n=$((n+1)); echo interrupt $n' INT; trap 'echo interrupted $n times; exit 0' USR1; echo ready; while :; do read line; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	run(t, cmd)
	term.screen.await(t, "ready\r\n")
	// Many, because two signals at once may arrive as one.
	for i := range 30 {
		if _, err := term.master.WriteString("\x03"); err != nil {
			t.Fatal(err)
		}
		term.screen.await(t, fmt.Sprintf("interrupt %d\r\n", i+1))
	}
	// Forwarded in order: after this, a second interrupt would have arrived.
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	term.screen.await(t, "interrupted 30 times\r\n")
	if got := ctl(t, srv, "status"); got != free {
		t.Error(got)
	}
}
