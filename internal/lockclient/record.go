package lockclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/durable"
)

// maxFile bounds the file, in bytes. A record is a few hundred bytes long.
const maxFile = 64 << 10

// place is where a slot is asked for, and under which name.
type place struct {
	URL   string `json:"url"`   // of the server, without user and password
	ID    string `json:"id"`    // of the machine, as the server knows it
	Group string `json:"group"` // likewise
}

func (p place) request() fleetlock.Request { return fleetlock.Request{ID: p.ID, Group: p.Group} }

func (p place) String() string {
	return fmt.Sprintf("the FleetLock server %s, in its group %s as %s", p.URL, p.Group, p.ID)
}

// standing is how far a request for a slot has come.
type standing string

const (
	asking standing = "asking" // the slot may have been granted
	held   standing = "held"   // it was
)

// record is what the file holds. Where there is no file, nothing was asked for.
type record struct {
	place
	State  standing         `json:"state"`
	Holder locksmith.Holder `json:"holder"`
}

// slots is the record as the agent knows it.
func (r record) slots() locksmith.Slots {
	return locksmith.Slots{Groups: r.Holder.Groups, Record: r.Holder}
}

// open reads the record at path, nil where there is none, and makes its directory.
func open(path string) (*record, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the machine's FleetLock slot: %w", err)
	}
	data, err := durable.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the machine's FleetLock slot: %w", err)
	}
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("the machine's FleetLock slot %s is malformed: %w; remove the file, and the slot is given back at the next start", path, err)
	}
	return &r, nil
}

// parse reads a record. Fields that are not known are ignored, so that an older program
// reads what a newer one wrote.
func parse(data []byte) (record, error) {
	var r *record // a pointer tells null from {}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&r); err != nil || r == nil {
		return record{}, errors.New("it is no JSON object of this program's")
	}
	if _, more := d.Token(); more != io.EOF {
		return record{}, errors.New("something follows the object")
	}
	return *r, r.check()
}

func (r record) check() error {
	if err := (&fleetlock.Client{URL: r.URL}).Check(); err != nil {
		return err
	}
	if err := r.request().Check(); err != nil {
		return err
	}
	if err := locksmith.CheckMachineID(r.Holder.MachineID); err != nil {
		return err
	}
	switch {
	case r.State != asking && r.State != held:
		return fmt.Errorf("its state is %q: must be %s or %s", r.State, asking, held)
	case r.Holder.Nonce == "" || r.Holder.BootID == "":
		return errors.New("its holder lacks a nonce or a bootID")
	case len(r.Holder.Groups) != 1:
		return fmt.Errorf("its holder is in %d groups: must be 1", len(r.Holder.Groups))
	case !r.Holder.Own():
		return fmt.Errorf("its holder is %q, not this program", r.Holder.By)
	}
	return nil
}

// keep makes r durable, in place of what the file holds.
func (l *Lock) keep(r record) error {
	data, err := json.Marshal(r)
	if err == nil && len(data) >= maxFile {
		err = fmt.Errorf("%d bytes are more than the %d allowed", len(data), maxFile)
	}
	if err == nil {
		err = durable.Replace(l.cfg.Path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("storing the machine's FleetLock slot: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stands = &r
	return nil
}

// forget removes the file.
func (l *Lock) forget() error {
	if err := durable.Remove(l.cfg.Path); err != nil {
		return fmt.Errorf("forgetting the machine's FleetLock slot: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stands, l.settled, l.failing = nil, true, false
	return nil
}
