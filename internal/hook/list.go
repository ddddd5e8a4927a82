package hook

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

const (
	maxHooks = 100  // in one directory
	maxFiles = 1000 // of any kind
)

// file is an executable in a hook directory.
type file struct {
	name    string
	path    string // without symbolic links
	refused error  // why it must not be run; nil if it may
}

// listing is what a hook directory holds.
type listing struct {
	hooks []file // in lexical order
	off   []string
}

// names are the names of all hooks, also of those that are switched off because they
// are not executable.
func (l listing) names() []string {
	names := append([]string{}, l.off...)
	for _, f := range l.hooks {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

// list reads the directory of a step; there is none of it if it does not exist. The
// error is an *agent.Veto by the directory.
func (h *Hooks) list(step string) (listing, error) {
	dir := filepath.Join(h.cfg.Dir, step+".d")
	found, err := h.read(dir)
	if err != nil {
		return listing{}, &agent.Veto{By: step + ".d", Reason: "refused: " + err.Error()}
	}
	return found, nil
}

func (h *Hooks) read(dir string) (listing, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) && missing(dir) {
		return listing{}, nil
	} else if err != nil {
		return listing{}, err
	}
	entries, err := entries(real)
	if err != nil {
		return listing{}, err
	}
	var l listing
	for _, name := range entries {
		path := filepath.Join(real, name)
		kind, err := os.Stat(path)
		switch {
		case ignored(name):
			h.skip(path, "its name is that of a hidden file or a backup")
		case err == nil && !kind.Mode().IsRegular():
			h.skip(path, "it is no file")
		case err == nil && kind.Mode()&0o111 == 0:
			h.skip(path, "it is not executable")
			l.off = append(l.off, name)
		default:
			l.hooks = append(l.hooks, h.examine(name, path))
		}
	}
	if len(l.hooks) == 0 {
		return l, nil
	}
	if len(l.hooks) > maxHooks {
		return listing{}, fmt.Errorf("%s holds %d hooks, at most %d are allowed", dir, len(l.hooks), maxHooks)
	}
	return l, h.safeDir(real)
}

// missing says whether nothing is at path, not even a link that leads nowhere.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// entries are the names in dir, sorted.
func entries(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s holds more than %d files: keep only hooks in it", dir, maxFiles)
	}
	slices.Sort(names)
	return names, nil
}

// ignored says whether name is one that editors, package managers and people give to
// what is not meant to be run.
func ignored(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~") {
		return true
	}
	switch ext := filepath.Ext(name); ext {
	case ".bak", ".old", ".orig", ".save", ".swp", ".tmp", ".disabled", ".rpmsave", ".rpmnew", ".rpmorig", ".pacnew", ".pacsave":
		return true
	default:
		return strings.HasPrefix(ext, ".dpkg-") || strings.HasPrefix(ext, ".ucf-")
	}
}

// skip logs, once, that a file is no hook.
func (h *Hooks) skip(path, why string) {
	if len(h.said) > maxFiles {
		clear(h.said)
	}
	if key := path + "\x00" + why; !h.said[key] {
		h.said[key] = true
		h.cfg.Log.Info("file in a hook directory is not run", "file", path, "why", why)
	}
}

// examine makes a hook of the file at path, refused unless only root can change what
// would run.
func (h *Hooks) examine(name, path string) file {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	f := file{name: name, path: path}
	if strings.Trim(name, letters+"_.+:@=,-") != "" {
		f.name = oneLine(name, 50)
		f.refused = fmt.Errorf("%q may have only letters, digits and _ . + : @ = , - in its name: rename it", path)
		return f
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		err = h.safeFile(real)
	}
	if err == nil && filepath.Dir(real) != filepath.Dir(path) { // a link; its own directory is looked at for all hooks
		err = h.safeDir(filepath.Dir(real))
	}
	if err != nil {
		f.refused = err
		return f
	}
	f.path = real
	return f
}

func (h *Hooks) safeFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return h.safe(path, info)
}

// safeDir refuses a directory in which others can put files, and one that others can
// put in the place of it. Above dir itself the sticky bit is enough, as in /tmp.
func (h *Hooks) safeDir(dir string) error {
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if sticky := info.Mode()&fs.ModeSticky != 0 && path != dir; !sticky || !h.owned(info) {
			if err := h.safe(path, info); err != nil {
				return err
			}
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

func (h *Hooks) owned(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == h.cfg.Owner)
}

// safe says what is wrong with whom path belongs to and who may write it, and how to
// put it right.
func (h *Hooks) safe(path string, info fs.FileInfo) error {
	if !h.owned(info) {
		return fmt.Errorf("%s is not owned by root: look at what it is, then chown root %s", path, path)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, so others than its owner may change it: look at what it is, then chmod go-w %s", path, mode, path)
	}
	return nil
}
