package trigger

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// target is a file or directory to be watched, which need not exist.
type target struct {
	path    string // absolute
	entries bool   // also what comes and goes directly in it
}

// place is a directory in which names decide what becomes of a target.
type place struct {
	dir      string // its real path, without symbolic links
	dev, ino uint64
	names    map[string]bool
	all      bool // every name matters
}

func (p *place) wants(name string) bool { return p.all || p.names[name] }

func (p *place) equal(o *place) bool {
	return p.dir == o.dir && p.dev == o.dev && p.ino == o.ino
}

// maxLinks is how many symbolic links are followed in one path, as the kernel has
// it.
const maxLinks = 40

// places lists, sorted, the directories through which the targets are found. As the
// root directory is always among them, whatever happens on the way to a target
// happens in one of them: it is made, removed, renamed, or a link on the way is
// turned. Only mounts go unseen.
func places(targets []target) []*place {
	found := map[[2]uint64]*place{}
	for _, t := range targets {
		last := walk(filepath.Clean(t.path), func(dir, name string) bool {
			p := add(found, dir)
			if p != nil {
				p.names[name] = true
			}
			return p != nil
		})
		if last != "" && t.entries {
			if p := add(found, last); p != nil {
				p.all = true
			}
		}
	}
	list := make([]*place, 0, len(found))
	for _, p := range found {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *place) int { return cmp.Compare(a.dir, b.dir) })
	return list
}

// add returns the place for dir, nil where it is gone. A directory that is found on
// two paths is one place.
func add(found map[[2]uint64]*place, dir string) *place {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return nil
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	id := [2]uint64{stat.Dev, stat.Ino}
	p := found[id]
	if p == nil {
		p = &place{dir: dir, dev: stat.Dev, ino: stat.Ino, names: map[string]bool{}}
		found[id] = p
	}
	return p
}

// walk looks path up name by name, as the kernel does, and tells visit each
// directory and the name that is looked up in it, until visit returns false. It
// returns the path it ends at, without symbolic links, or "" where there is nothing.
func walk(path string, visit func(dir, name string) bool) string {
	dir, rest, links := "/", path, 0
	for {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch name {
		case "":
			return dir
		case ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		if !visit(dir, name) {
			return ""
		}
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		if err != nil {
			return ""
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			dir = next
			continue
		}
		link, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return ""
		}
		if filepath.IsAbs(link) {
			dir = "/"
		}
		rest = link + "/" + rest
	}
}
