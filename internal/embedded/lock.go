package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file that says who has a data directory. It stays when nobody has it:
// removing it would let two lock two files of the same name.
const lockName = "lock"

// lock is the claim of one process on a directory. It ends with the process.
type lock struct{ file *os.File }

// lockDir claims a directory. It returns an *InUseError if another process has it.
func lockDir(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintln(f, os.Getpid())
		}
	}
	if err == nil {
		return &lock{f}, nil
	}
	defer f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		who, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, &InUseError{Dir: dir, PID: strings.TrimSpace(string(who))}
	}
	return nil, fmt.Errorf("embedded etcd: locking %s: %w", f.Name(), err)
}

func (l *lock) release() { l.file.Close() }
