package trigger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Where kernels are installed.
var (
	bootDir    = "/boot"
	moduleDirs = []string{"/usr/lib/modules", "/lib/modules"}

	// What a kernel's image is called in bootDir, before its release.
	images = []string{"vmlinuz-", "vmlinux-", "Image-", "kernel-"}
)

// Files in the directory of a kernel's modules.
const (
	moduleImage = "vmlinuz"     // the kernel itself: Fedora, RHEL, SUSE, Arch
	moduleIndex = "modules.dep" // written last, when all is installed
)

var _ agent.Trigger = (*Kernel)(nil)

// Kernel is the trigger for a kernel that is installed and newer than the one that
// runs. Only kernels of the running one's flavour are compared; that the same release
// was built again cannot be seen.
//
// An image says that its kernel can be booted. Only where no image names its release
// are the modules taken instead: Debian leaves the modules of removed kernels behind.
// An image whose modules are not complete is still being installed.
type Kernel struct {
	root    string
	running func() (string, error) // its release
	f       follower
}

// NewKernel makes the trigger. root is put before every path it looks at; it is empty
// but in tests. A nil log discards. NewKernel does no I/O.
func NewKernel(root string, log *slog.Logger) *Kernel {
	if log == nil {
		log = discard
	}
	k := &Kernel{root: root, running: runningKernel}
	k.f = follower{
		targets: k.targets,
		log:     log.With("trigger", k.Name()),
		// An installation takes a minute, and writes to both directories all along.
		quiet: 5 * time.Second,
		most:  time.Minute,
		again: time.Hour,
		poll:  10 * time.Minute,
	}
	return k
}

// runningKernel is what uname -r prints.
func runningKernel() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// Name implements agent.Trigger.
func (*Kernel) Name() string { return "kernel" }

// Watch implements agent.Trigger. It returns nil, once ctx has ended. Only one Watch
// may be running.
func (k *Kernel) Watch(ctx context.Context, report func(agent.Need)) error {
	var last changes
	k.f.run(ctx, func() {
		if need := k.answer(); last.differ(need) {
			report(need)
		}
	})
	return nil
}

func (k *Kernel) answer() agent.Need {
	need := agent.Need{Trigger: k.Name()}
	runs, newest, err := k.kernels()
	switch {
	case err != nil:
		need.Err = fmt.Errorf("cannot tell whether a newer kernel is installed: %w", err)
	case newest.compare(runs) > 0:
		need.Needed = true
		need.Reason = fmt.Sprintf("kernel %s is installed, %s runs", newest.text, runs.text)
		// Not only kexec: nobody has said that the firmware may be left out.
		need.Method = locksmith.MethodReboot
	}
	return need
}

// kernels returns the kernel that runs and the newest installed one of its flavour.
func (k *Kernel) kernels() (runs, newest release, err error) {
	text, err := k.running()
	if err != nil {
		return release{}, release{}, err
	}
	runs, ok := parseRelease(text)
	if !ok {
		return release{}, release{}, fmt.Errorf("the running kernel's release %q has no version", bus.Clean(text, maxRelease))
	}
	list, err := k.installed(runs)
	if err != nil {
		return release{}, release{}, err
	}
	// In an order that is always the same, as the texts that follow are compared.
	slices.SortFunc(list, func(a, b release) int { return cmp.Or(b.compare(a), strings.Compare(a.text, b.text)) })
	if i := slices.IndexFunc(list, func(r release) bool { return r.flavour == runs.flavour }); i >= 0 {
		newest = list[i]
	}
	switch {
	case len(list) == 0:
		err = errors.New("no kernel is installed in " + bootDir + " and " + moduleDirs[0])
	case newest.text == "":
		err = fmt.Errorf("%s runs, and no kernel like it is installed, the newest other one is %s", runs.text, list[0].text)
	}
	return runs, newest, err
}

// installed lists the kernels that are completely installed.
func (k *Kernel) installed(runs release) ([]release, error) {
	booting, err := k.images()
	if err != nil {
		return nil, err
	}
	modules, err := k.modules()
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		if m.image {
			booting[m.release.text] = m.release
		}
	}
	var list []release
	if len(booting) == 0 {
		for _, m := range modules {
			if m.complete {
				list = append(list, m.release)
			}
		}
		return list, nil
	}
	// A kernel without modules is complete without them: if the running one has none
	// either, this machine has no others.
	_, modular := modules[runs.text]
	for name, r := range booting {
		if m, ok := modules[name]; ok && m.complete || !ok && !modular {
			list = append(list, r)
		}
	}
	return list, nil
}

// images lists the images in bootDir, by release.
func (k *Kernel) images() (map[string]release, error) {
	found := map[string]release{}
	entries, err := k.read(bootDir)
	for _, e := range entries {
		for _, prefix := range images {
			name, ok := strings.CutPrefix(e.Name(), prefix)
			if !ok {
				continue
			}
			// SUSE has links to where the modules are.
			if r, ok := parseRelease(name); ok && isFile(filepath.Join(k.root, bootDir, e.Name())) {
				found[name] = r
			}
		}
	}
	return found, err
}

// modules is a directory of modules.
type modules struct {
	release  release
	image    bool // the kernel's image is in it
	complete bool
}

// modules lists the directories of modules, by release.
func (k *Kernel) modules() (map[string]modules, error) {
	found := map[string]modules{}
	for _, dir := range moduleDirs {
		entries, err := k.read(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := filepath.Join(k.root, dir, e.Name())
			r, ok := parseRelease(e.Name())
			if info, err := os.Stat(path); !ok || err != nil || !info.IsDir() {
				continue
			}
			m := found[r.text]
			m.release = r
			m.image = m.image || isFile(filepath.Join(path, moduleImage))
			m.complete = m.complete || isFile(filepath.Join(path, moduleIndex))
			found[r.text] = m
		}
	}
	return found, nil
}

// read lists a directory, which may be missing.
func (k *Kernel) read(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(filepath.Join(k.root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// targets are the directories, and what completes a kernel in them.
func (k *Kernel) targets() []target {
	list := []target{{path: filepath.Join(k.root, bootDir), entries: true}}
	for _, dir := range moduleDirs {
		path := filepath.Join(k.root, dir)
		list = append(list, target{path: path, entries: true})
		entries, err := os.ReadDir(path)
		if err != nil {
			continue // told by the answer
		}
		for _, e := range entries {
			if _, ok := parseRelease(e.Name()); ok {
				list = append(list, target{path: filepath.Join(path, e.Name(), moduleImage)}, target{path: filepath.Join(path, e.Name(), moduleIndex)})
			}
		}
	}
	return list
}
