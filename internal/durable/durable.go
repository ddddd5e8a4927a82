// Package durable keeps small files that are replaced as a whole: after a crash or a
// loss of power at any point there is either the old content or the new one.
//
// It must not know what the files mean.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Read returns the whole content of the regular file at path, of at most limit bytes.
// Where there is none, the error wraps fs.ErrNotExist.
func Read(path string, limit int64) ([]byte, error) {
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
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes, so nothing of this program wrote it; remove it", path, limit)
	}
	return data, err
}

// Replace puts data at path in place of what is there, readable by its owner only. When
// it returns nil, data is on the disk; when it returns an error, the earlier content is
// there still, or data is. One caller at a time.
func Replace(path string, data []byte) error {
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

// Remove removes the file at path, durably. That there is none is no error.
func Remove(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return err
	}
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
