// Package packages says whether a package manager is at work, which a reboot would
// leave half done. It looks at the locks that package managers take themselves: it
// asks who holds them, and never takes one, nor waits.
//
// It must not know what a reboot is. A lock that cannot be looked at counts as held.
package packages

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// name is the check's, and who vetoes.
const name = "package-manager"

// recordLocks are files that package managers lock for writing with fcntl while
// they work. The rpm database is locked for reading too, by queries: these do not
// count.
var recordLocks = []string{
	"/var/lib/dpkg/lock-frontend",  // apt, for all of its work
	"/var/lib/dpkg/lock",           // dpkg itself
	"/var/cache/apt/archives/lock", // apt, while it downloads what it then installs
	"/var/lib/rpm/.rpm.lock",
	"/usr/lib/sysimage/rpm/.rpm.lock",
	"/run/dnf/rpmtransaction.lock",  // dnf 5
	"/run/transactional-update.pid", // no process id in it, for all its name
}

// pidFiles are files in which package managers write their process id while they
// work. They stay behind, empty, outdated or both.
var pidFiles = []string{
	"/run/zypp.pid",
	"/run/zypp-rpm.pid",                // zypp's rpm, which outlives a zypp that is killed
	"/run/yum.pid",                     // yum 3
	"/var/lib/dnf/rpmdb_lock.pid",      // dnf 4
	"/var/cache/dnf/download_lock.pid", // dnf 4, before that
}

var _ agent.Check = (*Check)(nil)

// Check is the agent's check that no package manager is at work. Its methods may be
// called concurrently.
type Check struct {
	root string // "" in production
}

// New makes the check. root is put before every path it looks at; it is empty but
// in tests. New does no I/O.
func New(root string) *Check { return &Check{root: root} }

// Name implements agent.Check.
func (*Check) Name() string { return name }

// Run implements agent.Check: it returns nil where no package manager is at work,
// and else a *agent.Veto that names who holds what.
func (c *Check) Run(context.Context, agent.About) error {
	held, err := c.Held()
	if err != nil {
		return &agent.Veto{By: name, Reason: err.Error()}
	}
	if held != "" {
		return &agent.Veto{By: name, Reason: held}
	}
	return nil
}

// Held says who is at work, in one line: "apt-get (pid 812) holds
// /var/lib/dpkg/lock-frontend"; empty: nobody. Locks that are there but cannot be
// looked at are an error, unless others are known to be held.
func (c *Check) Held() (string, error) {
	var texts []string
	var failed []string
	seen := map[holder]bool{}
	look := func(path string, who func(string) (holder, error)) {
		h, err := who(c.root + path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Of a package manager that this machine does not have, or that has not
			// been used.
		case err != nil:
			failed = append(failed, "cannot look at "+path+": "+reason(err))
		case h.held && (h.pid <= 0 || !seen[h]):
			// apt holds three of them; one is enough to know.
			seen[h] = true
			texts = append(texts, c.describe(h)+" holds "+path)
		}
	}
	for _, path := range recordLocks {
		look(path, writer)
	}
	for _, path := range pidFiles {
		look(path, c.writtenBy)
	}
	if len(texts) > 0 {
		return strings.Join(texts, "; "), nil
	}
	if len(failed) > 0 {
		return "", errors.New(strings.Join(failed, "; "))
	}
	return "", nil
}

// reason is err without the path, which the text around it has.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

func (c *Check) proc(parts ...string) string {
	return filepath.Join(append([]string{c.root, "/proc"}, parts...)...)
}
