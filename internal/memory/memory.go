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

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/durable"
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
	data, err := durable.Read(path, MaxSize)
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
		err = durable.Replace(f.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("storing the machine's memory: %w", err)
	}
	return nil
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
