// Package memory keeps what a machine remembers across its reboots, in one file
// that is replaced as a whole: after a crash or a power loss at any point it holds
// either the old memory or the new one.
//
// It must not know what the memory means. What it cannot read it does not replace:
// a memory that is lost means that what was prepared is never restored.
package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// MaxSize bounds the file, in bytes. A memory is a few hundred bytes long.
const MaxSize = 1 << 20

// File is where a memory is stored. Its methods may be called concurrently; only
// one process may use the file.
type File struct {
	path string
	mu   sync.Mutex // Save at a time
}

// Open reads the memory stored at path. A file that is missing is no error but the
// zero Memory, and its directory is made, readable by its owner only. A file that
// cannot be read or understood is an error, in one line that names it and says what
// to do; fields that are not known are ignored, so that an older program reads what
// a newer one wrote.
func Open(path string) (*File, agent.Memory, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, agent.Memory{}, fmt.Errorf("making the directory of the machine's memory: %w", err)
	}
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{path: path}, agent.Memory{}, nil
	}
	if err != nil {
		return nil, agent.Memory{}, fmt.Errorf("reading the machine's memory: %w", err)
	}
	m, err := parse(data)
	if err != nil {
		return nil, agent.Memory{}, fmt.Errorf("the machine's memory %s is malformed: %w; undo by hand what was prepared "+
			"for a reboot, if anything was, and remove the file", path, err)
	}
	return &File{path: path}, m, nil
}

// Save replaces the stored memory. When it returns nil, m is on the disk; when it
// returns an error, the earlier memory is there still, or m is.
func (f *File) Save(m agent.Memory) error {
	data, err := json.Marshal(m)
	if err == nil && len(data) >= MaxSize {
		err = fmt.Errorf("%d bytes are more than the %d allowed", len(data), MaxSize)
	}
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		err = replace(f.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("storing the machine's memory: %w", err)
	}
	return nil
}

// read returns the whole content of the regular file at path.
func read(path string) ([]byte, error) {
	// Not blocking, for a pipe that nobody writes to.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; remove it", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s is longer than %d bytes, so nothing of this program wrote it; remove it", path, MaxSize)
	}
	return data, err
}

func parse(data []byte) (agent.Memory, error) {
	// A pointer tells null, which would read as an empty memory, from {}.
	var m *agent.Memory
	d := json.NewDecoder(bytes.NewReader(data))
	err := d.Decode(&m)
	switch {
	case err == io.EOF:
		err = errors.New("it is empty")
	case err == nil && m == nil:
		err = errors.New("it holds null")
	case err == nil:
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows the memory")
		}
	}
	if err != nil {
		return agent.Memory{}, err
	}
	return *m, nil
}

// replace puts data at path in place of what is there, durably.
func replace(path string, data []byte) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	// One name, so that what a crash leaves is overwritten by the next try instead
	// of piling up.
	next := path + ".new"
	if err := write(next, data); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(next)))
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(next)))
	}
	// The new name is durable only once its directory is.
	return dir.Sync()
}

func write(path string, data []byte) error {
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
