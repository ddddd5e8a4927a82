package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/envfile"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/systemd"
)

// identify finds out which machine this is, and in which of its boots.
func identify(h host) (locksmith.Presence, error) {
	id, err := readLine(h.machineIDFile)
	if err == nil {
		err = locksmith.CheckMachineID(id)
	}
	// What systemd writes until the first boot is done, on every machine.
	if err == nil && id == "uninitialized" {
		err = errors.New("it is not initialized yet")
	}
	if err != nil {
		return locksmith.Presence{}, fmt.Errorf("reading this machine's id from %s: %w", h.machineIDFile, err)
	}
	boot, err := readLine(h.bootIDFile)
	if err == nil && boot == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return locksmith.Presence{}, fmt.Errorf("reading the boot id from %s: %w", h.bootIDFile, err)
	}
	// These two are only shown to people, so the machine may lack them.
	name, _ := h.hostname()
	release, _ := envfile.Read(h.osRelease, func(key string) bool { return key == "PRETTY_NAME" })
	return locksmith.Presence{MachineID: id, BootID: boot, Hostname: name, OS: release["PRETTY_NAME"], Kernel: kernel(),
		Version: options.BuildVersion(), Started: time.Now().Unix()}, nil
}

func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// kernel is the running kernel's release, empty where it cannot be read.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// softRebootWait bounds the questions to systemd at the start.
const softRebootWait = 10 * time.Second

// userspace is the present run of userspace.
type userspace struct {
	boot  string    // as locksmith.Boot names it
	began time.Time // when it did
	soft  bool      // by a soft reboot, so that what is in /run may be older
	blind bool      // systemd does not count soft reboots, so that none could be proven
}

// userspaceOf tells the runs of userspace within one boot of the kernel apart. Where
// systemd cannot be asked that matters only to a machine that is back from a soft
// reboot of ours, which then must not go on: it would take it for one that did not
// happen.
func userspaceOf(ctx context.Context, bootID string, manager *systemd.Manager, mem agent.Memory) (userspace, error) {
	ctx, cancel := context.WithTimeout(ctx, softRebootWait)
	defer cancel()
	u := userspace{boot: bootID, began: kernelStart()}
	count, supported, err := manager.SoftReboots(ctx)
	u.blind = err == nil && !supported
	if err == nil && supported && count > 0 {
		u.boot, u.soft = locksmith.Boot(bootID, count), true
		u.began, err = manager.UserspaceStart(ctx)
	}
	if c := mem.Cycle; err != nil && (u.soft || c != nil && c.Method.KeepsBoot()) {
		return u, fmt.Errorf("this machine was to make a soft reboot, and whether it did is not known: %w", err)
	}
	return u, nil
}

// kernelStart is when this boot began.
func kernelStart() time.Time {
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(up.Nano()))
}
