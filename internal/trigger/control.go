package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// MaxReason is how long, in bytes, the reason of a request may be.
const MaxReason = 500

// maxFile bounds what is read of a request's file: a reason of MaxReason, each byte
// escaped as JSON may do it, and the rest.
const maxFile = 8 << 10

// defaultReason stands for a request that gives none.
const defaultReason = "requested by an administrator"

var _ agent.Trigger = (*Control)(nil)

// Control is the trigger for requests that an administrator makes by hand. A
// request is kept in a file, so that it outlives the process, but not the boot in
// which it was made. The methods may be called concurrently; only one Control may
// use the file.
type Control struct {
	path   string
	bootID string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
}

// NewControl makes the trigger. The file at path holds the request, if there is
// one; bootID is the present boot's. It does no I/O.
func NewControl(path, bootID string) *Control {
	return &Control{path: path, bootID: bootID, changed: make(chan struct{})}
}

// request is the content of the file.
type request struct {
	BootID string `json:"bootID"` // the boot that is to be ended
	Reason string `json:"reason"`
}

// Name implements agent.Trigger.
func (*Control) Name() string { return "control" }

// Request records that a reboot is needed, in place of an earlier request. reason
// is for people, at most MaxReason bytes on one line; it may be empty. When Request
// returns nil, the request is stored.
func (c *Control) Request(reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	if reason == "" {
		reason = defaultReason
	}
	data, err := json.Marshal(request{BootID: c.bootID, Reason: reason})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := writeFile(c.path, data); err != nil {
		return fmt.Errorf("storing the request for a reboot: %w", err)
	}
	c.tell()
	return nil
}

// Cancel takes the request back, if there is one, whatever state its file is in.
func (c *Control) Cancel() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the request for a reboot: %w", err)
	}
	c.tell()
	return nil
}

// Watch implements agent.Trigger. It always returns nil, when ctx has ended.
func (c *Control) Watch(ctx context.Context, report func(agent.Need)) error {
	var last changes
	for {
		need, changed := c.read()
		if last.differ(need) {
			report(need)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// tell wakes the watchers; c.mu is held.
func (c *Control) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// read returns the present answer, and a channel that is closed when it may have
// changed.
func (c *Control) read() (agent.Need, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := agent.Need{Trigger: c.Name()}
	r, err := readFile(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		need.Err = fmt.Errorf("reading the request for a reboot: %w", err)
	case r.BootID != c.bootID:
		// Of an earlier boot: the reboot it asked for has happened.
		if err := os.Remove(c.path); err != nil {
			need.Err = fmt.Errorf("removing an earlier boot's request for a reboot: %w", err)
		}
	default:
		need.Needed, need.Reason = true, r.Reason
	}
	return need, c.changed
}

func checkReason(reason string) error {
	switch {
	case len(reason) > MaxReason:
		return fmt.Errorf("the reason is %d bytes long, at most %d are allowed", len(reason), MaxReason)
	case !utf8.ValidString(reason):
		return errors.New("the reason is not UTF-8")
	case strings.ContainsFunc(reason, unicode.IsControl):
		return errors.New("the reason holds a control character, give one line of text")
	}
	return nil
}

func readFile(path string) (request, error) {
	f, err := os.Open(path)
	if err != nil {
		return request{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return request{}, err
	}
	var r request
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err = d.Decode(&r); err == nil {
		switch _, more := d.Token(); {
		case more != io.EOF:
			err = errors.New("something follows the request")
		case r.BootID == "" || r.Reason == "":
			err = errors.New("a field is missing")
		default:
			err = checkReason(r.Reason)
		}
	}
	if err != nil {
		return request{}, fmt.Errorf("%s is malformed: %v; cancel the request, or make it again", path, err)
	}
	return r, nil
}

// writeFile puts data at path, readable by its owner only, at once or not at all.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // there no more once it was renamed
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
