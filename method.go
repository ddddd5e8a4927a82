package locksmith

import (
	"fmt"
	"slices"
	"strings"
)

// Method is how a machine reboots.
type Method string

// The methods, from the one that renews least to the one that renews all.
const (
	MethodSoftReboot Method = "soft-reboot" // only userspace; the kernel and the boot ID stay
	MethodKexec      Method = "kexec"       // a new kernel, without the firmware
	MethodReboot     Method = "reboot"      // everything
	MethodCommand    Method = "command"     // a command of the administrator's
)

var methods = []Method{MethodSoftReboot, MethodKexec, MethodReboot, MethodCommand}

// ParseMethod accepts the exact name of a method but command, which needs one.
func ParseMethod(s string) (Method, error) {
	if m := Method(s); m != MethodCommand && slices.Contains(methods, m) {
		return m, nil
	}
	return "", fmt.Errorf("invalid reboot method %q: must be %s, %s or %s", s, MethodReboot, MethodSoftReboot, MethodKexec)
}

// Covers says whether a reboot by m renews at least what one by other does, so
// that it may stand in for it. The empty method counts as MethodReboot.
func (m Method) Covers(other Method) bool {
	rank := func(m Method) int {
		if m == "" {
			m = MethodReboot
		}
		return slices.Index(methods, m)
	}
	return rank(m) >= rank(other)
}

// KeepsBoot says whether the boot ID stays the same over a reboot by m, so that
// only systemd's count of soft reboots proves it.
func (m Method) KeepsBoot() bool { return m == MethodSoftReboot }

// Boot names one run of a machine's userspace: the kernel's boot ID, and, once
// systemd has made soft reboots in it, "+" and their number. It differs after
// every reboot of either kind.
func Boot(bootID string, softReboots uint32) string {
	if softReboots == 0 {
		return bootID
	}
	return fmt.Sprintf("%s+%d", bootID, softReboots)
}

// KernelBoot is the kernel's boot ID in a Boot.
func KernelBoot(boot string) string {
	id, _, _ := strings.Cut(boot, "+")
	return id
}
