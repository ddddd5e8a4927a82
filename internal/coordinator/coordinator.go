// Package coordinator keeps coordinator.conf, the file in which whoever decides
// about reboots tells the update engine its name, its strategy and its state. The
// lock on that file makes sure that there is only one such program.
//
// The package knows the file and nothing of what the states mean.
package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// DefaultPath is where the update engine looks.
const DefaultPath = "/run/update-engine/coordinator.conf"

// name is the value of NAME.
const name = "locksmithd"

// File is the claimed coordinator.conf. Its methods may be called concurrently.
type File struct {
	path     string
	strategy string

	mu   sync.Mutex
	file *os.File // what path names, locked; nil once closed
}

// Claim takes path for this process and writes the first state into it. The
// directory is made with mode 0755 where it is missing, the file gets mode 0644.
//
// Where another process holds the file, the error names both. What a crashed
// coordinator left is taken over.
func Claim(path, strategy, state string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("coordinator file: %w", err)
	}
	file, err := lock(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, strategy: strategy, file: file}
	if err := f.SetState(state); err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

// lock opens and locks the file that path names at the moment the lock is held:
// one that was opened before its owner replaced or removed it would be locked
// for nothing.
func lock(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("coordinator file: %w", err)
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("coordinator file %s is held by another coordinator%s: stop it first", path, owner(file))
			file.Close()
			return nil, err
		}
		if err == nil && isAt(file, path) {
			return file, nil
		}
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("coordinator file: locking %s: %w", path, err)
		}
	}
}

// isAt says whether path names the open file.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(open, named)
}

// owner is ", NAME" of the file's present owner, or nothing if it does not say.
func owner(file *os.File) string {
	head, err := io.ReadAll(io.NewSectionReader(file, 0, 4096))
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(head) {
		if value, ok := bytes.CutPrefix(line, []byte("NAME=")); ok {
			return fmt.Sprintf(", %q", bytes.TrimSpace(value))
		}
	}
	return ""
}

// SetState writes a new state. It refuses what a shell that sources the file
// could take for anything but a word.
func (f *File) SetState(state string) error {
	for _, word := range []string{f.strategy, state} {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("coordinator file: %q must be lower-case letters, digits and dashes", word)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return errors.New("coordinator file: it is closed")
	}
	if _, err := os.Lstat(f.path); err == nil && !isAt(f.file, f.path) {
		return fmt.Errorf("coordinator file %s was replaced by somebody else", f.path)
	}
	next, err := f.replace(fmt.Sprintf("NAME=%s\nSTRATEGY=%s\nSTATE=%s\n", name, f.strategy, state))
	if err != nil {
		return fmt.Errorf("coordinator file: %w", err)
	}
	f.file.Close() // and with it the lock of a file that has no name any more
	f.file = next
	return nil
}

// replace puts a new file in the place of the present one. It is complete and
// locked before it gets the name, so that readers never see half a state (in a
// file that is overwritten they do: a read and a write of the same page mix) and
// the name never stands for a file that is not locked.
func (f *File) replace(text string) (*os.File, error) {
	temporary := f.path + ".new" // ours: whoever writes it holds the lock
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Chmod(0o644) // whatever the umask is
	}
	if err == nil {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(temporary, f.path)
	}
	if err != nil {
		file.Close()
		os.Remove(temporary)
		return nil, err
	}
	return file, nil
}

// Close withdraws the claim: it removes the file, so that the update engine does
// not count on a coordinator that is gone, and drops the lock. A second Close
// does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	var err error
	if isAt(file, f.path) { // an administrator may have removed it, and another begun
		err = os.Remove(f.path)
	}
	return errors.Join(err, file.Close())
}
