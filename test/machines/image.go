package machines

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Suite is the release of Debian that machines run.
type Suite string

// The suites. Each has a base image of its own, which is made for the first fleet
// that asks for it.
const (
	Bookworm Suite = "bookworm" // systemd 252
	Trixie   Suite = "trixie"   // systemd 257, which makes soft reboots and counts them
)

// The recipe of the base images, which with the suite's name is everything that goes
// into one. Its hash is part of the cached image's name, so a change here makes a
// new image.
var (
	debootstrapArgs = []string{"--variant=minbase", "--include=systemd,systemd-sysv,dbus,libpam-systemd"}

	// masked units do nothing for a test and cost time at each boot.
	masked = []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
		"e2scrub_reap.service", "fstrim.timer", "systemd-tmpfiles-clean.timer", "systemd-pstore.service",
		"getty.target", "console-getty.service", "getty-static.service", "systemd-update-utmp.service",
		"systemd-update-utmp-runlevel.service", "systemd-ask-password-wall.path",
		"systemd-ask-password-console.path", "remote-fs.target", "systemd-initctl.socket",
		"systemd-firstboot.service", "systemd-binfmt.service",
	}

	// setup runs in the image with sh.
	setup = `set -e
useradd --create-home --shell /bin/bash tester
mkdir -p /var/log/journal /observe
rm -f /etc/machine-id /etc/hostname /var/cache/apt/archives/*.deb
rm -rf /var/lib/apt/lists/*
`
)

// units that are enabled on every machine, and those of the release layer.
var (
	harnessUnits = []string{"observe-up.service", "observe-down.service"}
	releaseUnits = []string{"update-engine.service", "locksmithd.service"}

	// shutdownTargets start observe-shutdown.service.
	shutdownTargets = []string{"reboot.target", "soft-reboot.target", "poweroff.target", "halt.target"}
)

//go:embed rootfs
var rootfs embed.FS

// BaseImage returns the directory of the base image of suite (empty: Bookworm),
// which it makes first where it is not cached: that takes about a minute and fetches
// some 60 MB of Debian packages, from DEBOOTSTRAP_MIRROR if set. The cache is the
// directory LOCKSMITH_MACHINES_CACHE, or else /var/cache/locksmith-test. Runs at the
// same time make it once.
func BaseImage(ctx context.Context, suite Suite) (string, error) {
	if suite == "" {
		suite = Bookworm
	}
	bootstrap := append(slices.Clone(debootstrapArgs), string(suite))
	cache := envOr("LOCKSMITH_MACHINES_CACHE", "/var/cache/locksmith-test")
	sum := sha256.Sum256(fmt.Append(nil, bootstrap, masked, setup))
	image := filepath.Join(cache, fmt.Sprintf("base-%x", sum[:6]))
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"), syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	// Whoever holds the lock owns all half-made images.
	if old, _ := filepath.Glob(filepath.Join(cache, "making-*")); len(old) > 0 {
		for _, dir := range old {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
	}
	dir, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	if err := makeBase(ctx, dir, bootstrap); err != nil {
		return "", errors.Join(fmt.Errorf("making the base image of the test machines (%s): %w", suite, err), os.RemoveAll(dir))
	}
	return image, os.Rename(dir, image)
}

// makeBase fills dir. debootstrap mounts things below it, so it runs in a mount
// namespace of its own: nothing stays mounted however it ends.
func makeBase(ctx context.Context, dir string, bootstrap []string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	args := append([]string{"--mount", "debootstrap"}, bootstrap...)
	args = append(args, dir)
	if mirror := os.Getenv("DEBOOTSTRAP_MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	if err := run(ctx, "unshare", args...); err != nil {
		return err
	}
	if err := run(ctx, "chroot", dir, "/bin/sh", "-c", setup); err != nil {
		return err
	}
	for _, unit := range masked {
		if err := symlink("/dev/null", filepath.Join(dir, "etc/systemd/system", unit)); err != nil {
			return err
		}
	}
	return nil
}

// writeHarnessLayer writes what every machine needs for being observed into dir,
// a layer above the base image.
func writeHarnessLayer(dir string) error {
	err := fs.WalkDir(rootfs, "rootfs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := rootfs.ReadFile(path)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(dir, strings.TrimPrefix(path, "rootfs")), data, 0o644)
	})
	if err != nil {
		return err
	}
	for _, target := range shutdownTargets {
		if err := enable(dir, target, []string{"observe-shutdown.service"}); err != nil {
			return err
		}
	}
	return enable(dir, "multi-user.target", harnessUnits)
}

// BuildRelease writes what a machine under test has installed into dir, a layer
// for Config.Layers: locksmithd and locksmithctl built from the module in
// directory module, the unit as shipped, and the stand-ins for the update engine and
// for a package manager at work.
func BuildRelease(ctx context.Context, module, dir string) error {
	unit, err := os.ReadFile(filepath.Join(module, "dist/locksmithd.service"))
	if err != nil {
		return err
	}
	bin, err := unitProgram(string(unit))
	if err != nil {
		return err
	}
	policy, err := os.ReadFile(filepath.Join(module, "test/machines/updateengine/com.coreos.update1.conf"))
	if err != nil {
		return err
	}
	err = errors.Join(
		goBuild(ctx, module, filepath.Join(dir, bin), "./cmd/locksmithd"),
		goBuild(ctx, module, filepath.Join(dir, "usr/bin/locksmithctl"), "./cmd/locksmithctl"),
		goBuild(ctx, module, filepath.Join(dir, "usr/bin/updateengine"), "./test/machines/updateengine"),
		goBuild(ctx, module, filepath.Join(dir, "usr/bin/holdlock"), "./test/machines/holdlock"),
		writeFile(filepath.Join(dir, "etc/systemd/system/locksmithd.service"), unit, 0o644),
		writeFile(filepath.Join(dir, "etc/dbus-1/system.d/com.coreos.update1.conf"), policy, 0o644),
	)
	if err != nil {
		return err
	}
	return enable(dir, "multi-user.target", releaseUnits)
}

func goBuild(ctx context.Context, module, output, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", output, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return runCmd(cmd)
}

// unitProgram is the absolute path of the program that a unit starts.
func unitProgram(unit string) (string, error) {
	for line := range strings.Lines(unit) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
			if words := strings.Fields(command); len(words) > 0 && filepath.IsAbs(words[0]) {
				return words[0], nil
			}
		}
	}
	return "", errors.New("locksmithd.service: no ExecStart= with an absolute path")
}

// enable has target start units, in the layer dir.
func enable(dir, target string, units []string) error {
	for _, unit := range units {
		link := filepath.Join(dir, "etc/systemd/system", target+".wants", unit)
		if err := symlink("/etc/systemd/system/"+unit, link); err != nil {
			return err
		}
	}
	return nil
}
