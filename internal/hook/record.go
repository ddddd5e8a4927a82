package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// recordName is the file of the record, in the state directory.
const recordName = "prepared.json"

// maxRecord bounds it, in bytes; of names that are in it at most twice each.
const maxRecord = 1 << 20

// record is what was prepared and is not undone yet. That it exists means that
// Prepare was called.
type record struct {
	Present  []string `json:"present"`  // the hooks that prepare.d had, run or not
	Begun    []string `json:"begun"`    // those of them that were started, in this order
	Restored []string `json:"restored"` // the restore hooks that have succeeded since
}

// read returns the record, nil if there is none.
func (h *Hooks) readRecord() (*record, error) {
	path := filepath.Join(h.cfg.StateDir, recordName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var data []byte
	if err == nil {
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, maxRecord+1))
	}
	if err != nil {
		return nil, fmt.Errorf("what was prepared cannot be read: %w", err)
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("%s is malformed (%v), so what was prepared is not known: undo it by hand, then remove the file", path, err)
	}
	return r, nil
}

func parseRecord(data []byte) (*record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("it is larger than %d bytes", maxRecord)
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows its end")
	}
	for _, list := range [][]string{r.Present, r.Begun, r.Restored} {
		if list == nil {
			return nil, errors.New("a field is missing")
		}
		if slices.ContainsFunc(list, func(name string) bool { return name != filepath.Base(name) || name == "." || name == ".." }) {
			return nil, errors.New("it names what is no file name")
		}
	}
	return &r, nil
}

// again is the record at the start of Prepare: what was begun before and not undone
// stays begun, what was undone is over.
func (r *record) again(present []string) *record {
	next := &record{Present: present, Begun: []string{}, Restored: []string{}}
	if r == nil {
		return next
	}
	for _, name := range r.Begun {
		if !slices.Contains(r.Restored, name) {
			next.Begun = append(next.Begun, name)
		}
	}
	return next
}

// due says whether the restore hook of that name has to run: if the prepare hook of
// its name was begun, or there was none of its name, and it has not succeeded yet.
func (r *record) due(name string) bool {
	if slices.Contains(r.Restored, name) {
		return false
	}
	return slices.Contains(r.Begun, name) || !slices.Contains(r.Present, name)
}

// writeRecord makes the record durable before it returns.
func (h *Hooks) writeRecord(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(h.cfg.StateDir, 0o755); err == nil {
		err = replace(filepath.Join(h.cfg.StateDir, recordName), data)
	}
	if err != nil {
		return fmt.Errorf("remembering what was prepared: %w", err)
	}
	return nil
}

func (h *Hooks) removeRecord() error {
	err := os.Remove(filepath.Join(h.cfg.StateDir, recordName))
	if err == nil {
		err = syncDir(h.cfg.StateDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting what was prepared: %w", err)
	}
	return nil
}

// replace puts data at path, readable by its owner only, durably and at once or not at
// all.
func replace(path string, data []byte) error {
	temporary := path + ".new" // ours: there is one daemon, and one step at a time
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(temporary)
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// stateDir is the directory for what hooks want to remember. It is made if it is
// missing.
func (h *Hooks) stateDir() (string, error) {
	dir := filepath.Join(h.cfg.StateDir, "hooks")
	if err := os.MkdirAll(h.cfg.StateDir, 0o755); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, nil
}
