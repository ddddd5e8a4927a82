package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// maxStrangers bounds the open connections of users other than root, so that
// nobody can use up the daemon's file descriptors and lock root out.
const maxStrangers = 32

// Listener accepts connections on a unix socket and knows who the peers are.
// Close it to remove the socket.
type Listener struct {
	*net.UnixListener
	lock *os.File // held as long as the socket is ours

	mu        sync.Mutex
	strangers int
}

// Listen makes the socket, with mode 0666 in a directory made with mode 0755
// where it is missing. The socket that a crashed daemon left is replaced; one
// that is in use, and anything that is no socket, is refused.
//
// Who owns the socket is settled by a lock on the file path + ".lock", which
// the kernel drops when the owner dies. That file stays: removing it would let
// two daemons lock two files of one name.
func Listen(path string) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := listenLocked(path, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

func listenLocked(path string, lock *os.File) (*Listener, error) {
	err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("control socket %s: another locksmithd is running; stop it first", path)
	} else if err != nil {
		return nil, fmt.Errorf("control socket: locking %s: %w", lock.Name(), err)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("control socket %s: the file exists and is no socket; remove it", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Anybody may connect: what they may do is decided by who they are.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Listener{UnixListener: l, lock: lock}, nil
}

// Accept waits for the next connection that may be served.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err != nil || !l.admit(uid) {
			c.Close()
			continue
		}
		return &peerConn{UnixConn: c, uid: uid, gone: sync.OnceFunc(func() { l.leave(uid) })}, nil
	}
}

// Close removes the socket and stops listening.
func (l *Listener) Close() error {
	return errors.Join(l.UnixListener.Close(), l.lock.Close())
}

func (l *Listener) admit(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 && l.strangers >= maxStrangers {
		return false
	}
	if uid != 0 {
		l.strangers++
	}
	return true
}

func (l *Listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 {
		l.strangers--
	}
}

// peerConn is a connection whose peer is known.
type peerConn struct {
	*net.UnixConn
	uid  uint32
	gone func()
}

func (c *peerConn) Close() error {
	defer c.gone()
	return c.UnixConn.Close()
}

// peerUID is the user who connected, as the kernel recorded it at that moment.
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}
