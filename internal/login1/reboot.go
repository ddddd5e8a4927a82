package login1

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	errorInProgress      = "org.freedesktop.login1.OperationInProgress"
	errorUnknownMethod   = "org.freedesktop.DBus.Error.UnknownMethod"
	errorUnknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"
	errorInvalidArgs     = "org.freedesktop.DBus.Error.InvalidArgs"
)

// Flags of RebootWithFlags, as org.freedesktop.login1(5) has them. Only these two
// are ever sent. Not SD_LOGIND_SOFT_REBOOT_IF_NEXTROOT_SET_UP (1<<3) above all,
// which systemctl reboot adds where /run/nextroot is a mount point: with it, a real
// reboot turns into a soft one whenever somebody has prepared another root there.
// Without it, nothing but MethodSoftReboot makes a soft reboot.
const (
	flagKexec      = uint64(1) << 1 // SD_LOGIND_KEXEC_REBOOT
	flagSoftReboot = uint64(1) << 2 // SD_LOGIND_SOFT_REBOOT
)

// request is how logind is asked for a reboot.
type request struct {
	method string
	arg    any
	since  int // the first systemd that understands it; 0: every one
}

var requests = map[locksmith.Method]request{
	// The argument: nobody is there to type a password.
	locksmith.MethodReboot: {"Reboot", false, 0},
	// RebootWithFlags came with systemd 248, the flags came with these.
	locksmith.MethodKexec:      {"RebootWithFlags", flagKexec, 249},
	locksmith.MethodSoftReboot: {"RebootWithFlags", flagSoftReboot, 254},
}

// Reboot asks logind for a reboot by method and waits for its answer. The empty
// method counts as MethodReboot; MethodCommand is refused. A nil error means that
// logind accepted, not that the machine is going down. Where the bus goes away
// before the answer, the reboot may be under way, and the error says so.
//
// A method that logind does not know, or for which no kernel is loaded, is an error
// and nothing is done: no method ever stands in for another.
//
// A machine that logind is shutting down already needs no second request, and
// logind refuses one: that counts as accepted. It is how a daemon that was
// restarted after its request finds the machine, where an inhibitor delays the
// shutdown; giving the slot back then would be giving it back while the machine
// goes down. Not so where a soft reboot is under way and another method was asked
// for, as far as logind can say (since systemd 255).
func (m *Machine) Reboot(ctx context.Context, method locksmith.Method) error {
	if method == "" {
		method = locksmith.MethodReboot
	}
	r, known := requests[method]
	if !known {
		return fmt.Errorf("cannot reboot: logind has no method %q, only %s, %s and %s", method,
			locksmith.MethodReboot, locksmith.MethodSoftReboot, locksmith.MethodKexec)
	}
	if method == locksmith.MethodKexec {
		if err := m.kernelLoaded(); err != nil {
			return fmt.Errorf("cannot reboot by kexec: %w", err)
		}
	}
	_, err := m.bus.Call(ctx, manager(r.method), r.arg)
	name := bus.ErrorName(err)
	switch {
	case err == nil:
		return nil
	case name == errorInProgress:
		return m.busy(ctx, method, err)
	case r.since > 0 && (name == errorUnknownMethod || name == errorInvalidArgs):
		return fmt.Errorf("cannot reboot by %s: logind is too old, systemd %d or newer is needed: %w", method, r.since, err)
	}
	return rebootError(ctx, err)
}

// kernelLoaded returns nil if a kernel is loaded for kexec. Where none is, logind
// takes SD_LOGIND_KEXEC_REBOOT for a wish and reboots through the firmware: it asks
// the same file of the kernel. A kernel that is unloaded after this look, or that
// the kernel then refuses to start, still means a full reboot, which renews more
// than was asked for, never less.
func (m *Machine) kernelLoaded() error {
	text, err := os.ReadFile(m.kexecLoaded)
	switch said := strings.TrimSpace(string(text)); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the running kernel was built without kexec: there is no %s", m.kexecLoaded)
	case err != nil:
		return err
	case said == "0":
		return errors.New("no kernel is loaded: load one with kexec -l, or with the service of kexec-tools")
	case said != "1":
		return fmt.Errorf("%s says %q, neither 0 nor 1", m.kexecLoaded, bus.Clean(said, 80))
	}
	return nil
}

// busy finds out whether the operation that keeps logind from accepting a reboot by
// method is as good as that.
func (m *Machine) busy(ctx context.Context, method locksmith.Method, refusal error) error {
	down, err := m.GoingDown(ctx)
	if err != nil || !down {
		return rebootError(ctx, refusal)
	}
	if method == locksmith.MethodSoftReboot {
		return nil
	}
	soft, err := m.softRebooting(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("cannot reboot: a shutdown is under way already, and logind does not say which: %w", err)
	case soft:
		return fmt.Errorf("cannot reboot: a soft reboot is under way already, after which the kernel is still the same: %w", refusal)
	}
	return nil
}

// softRebooting says whether the shutdown under way is a soft reboot. Where logind
// cannot say, before systemd 255, it is taken for none.
func (m *Machine) softRebooting(ctx context.Context) (bool, error) {
	value, err := m.property(ctx, "PreparingForShutdownWithMetadata")
	if bus.ErrorName(err) == errorUnknownProperty {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	metadata, ok := value.(map[string]dbus.Variant)
	kind, isText := metadata["type"].Value().(string)
	if !ok || !isText {
		return false, fmt.Errorf("malformed reply: PreparingForShutdownWithMetadata is %s",
			bus.Clean(fmt.Sprint(value), textLimit))
	}
	return kind == "soft-reboot", nil
}

// GoingDown says whether logind has accepted a shutdown that is under way, be it
// held up by an inhibitor. Where logind does not run, none is.
func (m *Machine) GoingDown(ctx context.Context) (bool, error) {
	value, err := m.property(ctx, "PreparingForShutdown")
	if bus.NotRunning(err) {
		return false, nil
	}
	down, ok := value.(bool)
	if err == nil && !ok {
		err = errors.New("its answer is not of the expected form")
	}
	if err != nil {
		return false, fmt.Errorf("asking logind whether the machine is going down: %w", err)
	}
	return down, nil
}

func rebootError(ctx context.Context, err error) error {
	name := bus.ErrorName(err)
	switch {
	case bus.NotRunning(err):
		return fmt.Errorf("cannot reboot: logind is not running: %w", err)
	case name == bus.ErrorAccessDenied, name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return fmt.Errorf("cannot reboot: logind does not permit it, run as root: %w", err)
	case strings.HasSuffix(name, ".BlockedByInhibitorLock"):
		return fmt.Errorf("cannot reboot: blocked by an inhibitor, see systemd-inhibit --list: %w", err)
	case name == errorInProgress:
		return fmt.Errorf("cannot reboot: logind is busy with another operation, such as suspending: %w", err)
	case name != "" && name != bus.ErrorNoReply:
		return fmt.Errorf("cannot reboot: logind refused: %w", err)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("logind did not answer the request to reboot: %w", err)
	case name == bus.ErrorNoReply, errors.Is(err, bus.ErrAway):
		return fmt.Errorf("no answer to the request to reboot, which may be under way: %w", err)
	}
	return fmt.Errorf("cannot reboot: %w", err)
}
