package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Every machine gets a control group of its own. Without one, nspawn would put
// the process 1 of all machines into the same group, and their systemds would
// see each other's services as theirs. It also names every process of a machine
// for sure, which is what the power cord needs, and the clean-up after a run that
// was killed.

// cgroupParent is the directory in each hierarchy under which all fleets live.
const cgroupParent = "locksmith-machines"

// findHierarchies returns the mount points of the hierarchies that systemd uses
// in a machine, the one it tracks processes with first: the unified one, and the
// old "name=systemd" beside it on hosts that still have that.
func findHierarchies() ([]string, error) {
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	var unified, named []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 4:
		case f[2] == "cgroup2":
			unified = append(unified, f[1])
		case f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), "name=systemd"):
			named = append(named, f[1])
		}
	}
	all := append(unified, named...)
	if len(all) == 0 {
		return nil, errors.New("a cgroup hierarchy: mount cgroup2 on /sys/fs/cgroup")
	}
	return all, nil
}

// cgroup is one control group in each hierarchy.
type cgroup []string

// newCgroup makes the group name ("fleet/machine") below cgroupParent.
func newCgroup(name string) (cgroup, error) {
	g, err := namedCgroup(name)
	if err != nil {
		return nil, err
	}
	for _, dir := range g {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func namedCgroup(name string) (cgroup, error) {
	mounts, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	var g cgroup
	for _, mount := range mounts {
		g = append(g, filepath.Join(mount, cgroupParent, name))
	}
	return g, nil
}

// pids are the processes in the subgroup, without those of groups below it, as
// the host numbers them. A group that is not there has none.
func (g cgroup) pids(sub string) []int {
	data, err := os.ReadFile(filepath.Join(g[0], sub, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, word := range strings.Fields(string(data)) {
		// 0 is a process of another PID namespace: not one to signal.
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// allPids are the processes in the group and all groups below it.
func (g cgroup) allPids() []int {
	var pids []int
	filepath.WalkDir(g[0], func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			rel, _ := filepath.Rel(g[0], path)
			pids = append(pids, g.pids(rel)...)
		}
		return nil // groups come and go while they are walked
	})
	return pids
}

// cpu is the CPU time that the subgroup's processes took, with those that have ended.
// Only the unified hierarchy counts it without a controller.
func (g cgroup) cpu(sub string) (time.Duration, error) {
	data, err := os.ReadFile(filepath.Join(g[0], sub, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if usec, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(usec), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, errors.New("cpu.stat has no usage_usec")
}

// kill ends every process in the group at once and returns when all are gone.
func (g cgroup) kill(ctx context.Context) error {
	return Poll(ctx, "killing the processes of "+g[0], func() (bool, error) {
		pids := g.allPids()
		if len(pids) == 0 {
			return true, nil
		}
		err := os.WriteFile(filepath.Join(g[0], "cgroup.kill"), []byte("1"), 0)
		if err == nil {
			return false, nil
		}
		// Kernels before 5.14, and the old hierarchy, have no such file.
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return false, err
			}
		}
		return false, nil
	})
}

// remove ends every process in the group and removes it. A process that no list
// shows any more can keep its group busy while the kernel still takes it down.
func (g cgroup) remove(ctx context.Context) error {
	return Poll(ctx, "removing the control groups "+g[0], func() (bool, error) {
		if err := g.kill(ctx); err != nil {
			return false, err
		}
		err := g.removeEmpty()
		return err == nil, err
	})
}

// removeEmpty removes the group, which must be empty of processes.
func (g cgroup) removeEmpty() error {
	var errs []error
	for _, dir := range g {
		var dirs []string
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, d := range dirs {
			if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// nspid is the number of process pid in its innermost PID namespace.
func nspid(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			numbers := strings.Fields(string(rest))
			return strconv.Atoi(numbers[len(numbers)-1])
		}
	}
	return 0, fmt.Errorf("process %d: no NSpid in its status", pid)
}
