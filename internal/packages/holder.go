package packages

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of a process id's file, and of /proc, in bytes.
const maxFile = 4 << 10

// holder is who holds a lock.
type holder struct {
	held bool
	pid  int // 0 or less: a process that cannot be named
}

// writer is the process that holds a lock for writing on any part of the file at
// path. The kernel answers without taking a lock, and also on a file that is only
// open for reading.
func writer(path string) (holder, error) {
	file, err := openRegular(path)
	if err != nil {
		return holder{}, err
	}
	// Closing drops the process's own locks on the file, of which there are none.
	defer file.Close()
	// What would be in the way of a lock for reading: locks for writing.
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	for {
		err = unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return holder{}, err
	}
	// The process id is -1 for a lock of an open file, which has no process, and 0
	// for a process of another container.
	return holder{held: lock.Type != unix.F_UNLCK, pid: int(lock.Pid)}, nil
}

// writtenBy is the process whose id is in the file at path, if it lives and did
// live when the file was written.
func (c *Check) writtenBy(path string) (holder, error) {
	file, err := openRegular(path)
	if err != nil {
		return holder{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return holder{}, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return holder{}, err
	}
	text := strings.TrimSpace(string(data))
	if text == "" || text == "0" {
		return holder{}, nil // zypp's way of giving it back
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return holder{}, fmt.Errorf("it holds %.20q, not a process id; remove it once no package manager is at work", text)
	}
	alive, err := c.aliveSince(pid, info.ModTime())
	return holder{held: alive, pid: pid}, err
}

// openRegular opens the file at path for reading, if it is a regular one.
func openRegular(path string) (*os.File, error) {
	// Not blocking, for a pipe in its place.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// slack is how much the start of a process may seem to lie after the file that it
// wrote: times are rounded, and clocks are corrected.
const slack = 5 * time.Second

// aliveSince says whether process pid is running and was started before t, so that
// it can be who wrote its id at t, and not a later process that was given the same.
func (c *Check) aliveSince(pid int, t time.Time) (bool, error) {
	data, err := readAll(c.proc(strconv.Itoa(pid), "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	state, ticks, err := parseStat(data)
	if err != nil {
		return false, fmt.Errorf("process %d: %w", pid, err)
	}
	if state == 'Z' || state == 'X' {
		return false, nil // dead, and only not buried
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return false, err
	}
	age := time.Duration(up.Nano()) - time.Duration(ticks)*(time.Second/ticksPerSecond)
	return !time.Now().Add(-age).After(t.Add(slack)), nil
}

// ticksPerSecond is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on.
const ticksPerSecond = 100

// parseStat reads a process's state and its start, in ticks since the boot, out of
// its /proc/…/stat.
func parseStat(data []byte) (state byte, start int64, err error) {
	// The name, in parentheses, may hold anything, parentheses too.
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	if end < 0 || len(fields) < 20 || len(fields[0]) != 1 || !isLetter(fields[0][0]) {
		return 0, 0, errors.New("malformed stat")
	}
	start, err = strconv.ParseInt(string(fields[19]), 10, 64)
	if err != nil || start < 0 {
		return 0, 0, errors.New("malformed stat")
	}
	return fields[0][0], start, nil
}

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }

// describe names a holder: "apt-get (pid 812)".
func (c *Check) describe(h holder) string {
	if h.pid <= 0 {
		return "a process that cannot be seen from here"
	}
	data, err := readAll(c.proc(strconv.Itoa(h.pid), "comm"))
	comm := clean(string(data))
	if err != nil || comm == "" {
		comm = "a process"
	}
	return fmt.Sprintf("%s (pid %d)", comm, h.pid)
}

// clean makes a process's name, which it chooses itself, fit for one line.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFile))
}
