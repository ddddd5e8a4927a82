package trigger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// The files that distributions make when a reboot is needed, by their last name.
const (
	rebootRequired = "reboot-required" // Debian, Ubuntu
	rebootNeeded   = "reboot-needed"   // SUSE
)

const (
	maxSentinel = 64 << 10 // bytes that are read of a file
	maxNames    = 10       // packages that a reason names
	nameLimit   = 80       // bytes of each
)

var _ agent.Trigger = (*File)(nil)

// File is the trigger for a file that somebody makes when a reboot is needed, and
// removes when it is not: the reboot is needed while the file exists, whatever is in
// it. Two files say more:
//
//   - …/reboot-required has beside it …/reboot-required.pkgs, the packages that asked
//     for the reboot, which become the reason;
//   - …/reboot-needed holds which kind of reboot is enough: "soft-reboot", "kexec" or
//     "reboot". Anything else means "reboot".
type File struct {
	path  string
	since time.Time
	f     follower
}

// NewFile makes the trigger for the file at path, which is absolute. A file that was
// last modified before since was made in an earlier userspace and does not count;
// with the zero time every file counts. A nil log discards. NewFile does no I/O.
func NewFile(path string, since time.Time, log *slog.Logger) *File {
	if log == nil {
		log = discard
	}
	t := &File{path: filepath.Clean(path), since: since}
	t.f = follower{
		targets: t.targets,
		log:     log.With("trigger", t.Name()),
		// A package manager makes the file, and adds its packages one by one.
		quiet: 200 * time.Millisecond,
		most:  2 * time.Second,
		again: 10 * time.Minute,
		poll:  time.Minute,
	}
	return t
}

// Name implements agent.Trigger.
func (t *File) Name() string { return "file:" + t.path }

// Watch implements agent.Trigger. It returns nil, once ctx has ended. Only one Watch
// may be running.
func (t *File) Watch(ctx context.Context, report func(agent.Need)) error {
	var last changes
	t.f.run(ctx, func() {
		if need := t.answer(); last.differ(need) {
			report(need)
		}
	})
	return nil
}

func (t *File) targets() []target {
	list := []target{{path: t.path}}
	if filepath.Base(t.path) == rebootRequired {
		list = append(list, target{path: t.packagesPath()})
	}
	return list
}

func (t *File) packagesPath() string { return t.path + ".pkgs" }

func (t *File) answer() agent.Need {
	need := agent.Need{Trigger: t.Name()}
	info, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return need
	case err == nil && !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", t.path)
	case err == nil && t.outdated(info):
		return need
	}
	need.Reason = t.path
	if err == nil {
		switch filepath.Base(t.path) {
		case rebootRequired:
			need.Reason = t.reason()
		case rebootNeeded:
			need.Method, err = t.method()
		}
	}
	if errors.Is(err, fs.ErrNotExist) { // removed since it was looked at
		return agent.Need{Trigger: t.Name()}
	}
	if err != nil {
		return agent.Need{Trigger: t.Name(), Err: err}
	}
	need.Needed = true
	return need
}

// outdated says whether the file was made before the present userspace began.
func (t *File) outdated(info fs.FileInfo) bool {
	newest := info.ModTime()
	// The same packages may only have been added to.
	if filepath.Base(t.path) == rebootRequired {
		if added, err := os.Stat(t.packagesPath()); err == nil && added.ModTime().After(newest) {
			newest = added.ModTime()
		}
	}
	return newest.Before(t.since)
}

// reason names the packages that asked for the reboot. Where they cannot be read,
// the reboot is needed all the same.
func (t *File) reason() string {
	data, err := readSentinel(t.packagesPath())
	if names := packageNames(data); err == nil && names != "" {
		return t.path + ": " + names
	}
	return t.path
}

// packageNames lists what is in data, one name a line, sorted and each once: the
// first ten, and how many more there are.
func packageNames(data []byte) string {
	if len(data) == maxSentinel {
		data = data[:bytes.LastIndexByte(data, '\n')+1] // the last one may be cut
	}
	var names []string
	for line := range bytes.Lines(data) {
		if name := bus.Clean(string(line), nameLimit); name != "" {
			names = append(names, name)
		}
	}
	return listed(names)
}

// listed is names, sorted and each once: the first ten, and how many more there are.
func listed(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	if more := len(names) - maxNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), more)
	}
	return strings.Join(names, ", ")
}

// method reads which kind of reboot is enough.
func (t *File) method() (locksmith.Method, error) {
	data, err := readSentinel(t.path)
	if err != nil {
		return "", err
	}
	return sentinelMethod(data), nil
}

// sentinelMethod is what data asks for. What is not known asks for a whole reboot,
// so that a file that is half written never makes a lesser one.
func sentinelMethod(data []byte) locksmith.Method {
	method, err := locksmith.ParseMethod(strings.TrimSpace(string(data)))
	if err != nil {
		return locksmith.MethodReboot
	}
	return method
}

// readSentinel reads the beginning of the regular file at path.
func readSentinel(path string) ([]byte, error) {
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
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return io.ReadAll(io.LimitReader(file, maxSentinel))
}
