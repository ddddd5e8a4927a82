package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long one record waits for journald, or for the fallback.
const patience = 200 * time.Millisecond

// maxText bounds what is written to the fallback at a time: a pipe that can be
// written to has room for that much.
const maxText = 4 << 10

// sender speaks journald's native protocol: a datagram for each record. (The
// journal package of go-systemd waits for as long as journald does not read, and
// knows only one path.)
type sender struct {
	path string
	lost atomic.Int64 // records that neither journald nor the fallback took

	mu    sync.Mutex
	fd    int  // -1: not open
	stuck bool // the last record waited in vain; the next ones do not wait
}

// appendField adds a field as the protocol has it: NAME=value, or with the value's
// length where it has several lines.
func appendField(b []byte, f field) []byte {
	b = append(b, f.name...)
	if !strings.Contains(f.value, "\n") {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(f.value)))
	}
	b = append(b, f.value...)
	return append(b, '\n')
}

// send hands a record to journald. The socket is not connected to journald, so
// that one that was restarted is found again by its path.
func (s *sender) send(record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return err
	}
	err := s.write(record, nil)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = s.sendFile(record)
	}
	s.stuck = errors.Is(err, unix.EAGAIN)
	if err != nil {
		return fmt.Errorf("journal: %s: %w", s.path, err)
	}
	return nil
}

// sendFile hands over a record that is too long for a datagram, as a sealed file
// in memory.
func (s *sender) sendFile(record []byte) error {
	fd, err := unix.MemfdCreate("locksmith-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "locksmith-journal")
	defer file.Close()
	if _, err := file.Write(record); err != nil {
		return err
	}
	// journald maps the file, and would die if it were cut short meanwhile.
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return s.write(nil, unix.UnixRights(fd))
}

func (s *sender) open() error {
	if s.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		unix.Close(fd)
		return fmt.Errorf("journal: %w", err)
	}
	s.fd = fd
	return nil
}

// write waits for journald, whose queue may be full, for as long as patience
// lasts, and then returns EAGAIN.
func (s *sender) write(b, rights []byte) error {
	flags := unix.MSG_NOSIGNAL
	if s.stuck {
		flags |= unix.MSG_DONTWAIT
	}
	to := &unix.SockaddrUnix{Name: s.path}
	for began := time.Now(); ; {
		_, err := unix.SendmsgN(s.fd, b, rights, to, flags)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Since(began) > patience {
			return unix.EAGAIN
		}
	}
}

func (s *sender) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// errStuck is the fallback's: nobody reads what was written to it before.
var errStuck = errors.New("journal: the fallback cannot be written to")

// bounded writes to w, and where that is a file that may block, such as standard
// error, only while it is ready to be written to. slog's text handler makes one
// call for each record, one at a time.
type bounded struct {
	w     io.Writer
	stuck bool
}

func (b *bounded) Write(p []byte) (int, error) {
	file, ok := b.w.(*os.File)
	if !ok {
		return b.w.Write(p)
	}
	limit := patience
	if b.stuck {
		limit = 0
	}
	if b.stuck = !ready(file, limit); b.stuck {
		return 0, errStuck
	}
	if len(p) > maxText {
		short := append(bytes.Clone(p[:maxText-len("…\n")]), "…\n"...)
		if _, err := file.Write(short); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return file.Write(p)
}

// ready says whether file can be written to without waiting, which it may become
// within limit.
func ready(file *os.File, limit time.Duration) bool {
	conn, err := file.SyscallConn()
	if err != nil {
		return false
	}
	can := false
	err = conn.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for until := time.Now().Add(limit); ; {
			n, err := unix.Poll(poll, int(max(0, time.Until(until)).Milliseconds()))
			if errors.Is(err, unix.EINTR) && time.Now().Before(until) {
				continue
			}
			can = err == nil && n > 0 && poll[0].Revents&unix.POLLOUT != 0
			return
		}
	})
	return err == nil && can
}
