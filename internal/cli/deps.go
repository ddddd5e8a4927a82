package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Store is the reboot lock. internal/etcd implements it, and internal/api through a
// server, which refuses what commands that go through needEtcd want.
type Store interface {
	Semaphore(ctx context.Context, group locksmith.Group) (sem locksmith.Semaphore, faults []string, err error)
	Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error)
	WatchStatus(ctx context.Context, group locksmith.Group, changed func(locksmith.GroupStatus) error) error
	Groups(ctx context.Context) ([]locksmith.GroupSummary, error)
	History(ctx context.Context, group locksmith.Group, n int) ([]locksmith.HistoryEntry, error)
	Machines(ctx context.Context) ([]locksmith.MachineStatus, error)
	Machine(ctx context.Context, idOrHostnameOrPrefix string) (locksmith.MachineStatus, error)
	Forget(ctx context.Context, id string) error
	Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error)

	TryAcquire(ctx context.Context, req locksmith.Request) (locksmith.Slots, error)
	Acquire(ctx context.Context, req locksmith.Request, report func(string)) (locksmith.Slots, error)
	Advance(ctx context.Context, slots locksmith.Slots, phase locksmith.Phase, reason string) (locksmith.Slots, error)
	Release(ctx context.Context, slots locksmith.Slots, result locksmith.Result) error
	Unlock(ctx context.Context, group locksmith.Group, machine string, result locksmith.Result) error
	SetMax(ctx context.Context, group locksmith.Group, n int, actor string) (old int, err error)
	Pause(ctx context.Context, p locksmith.Pause) error
	Resume(ctx context.Context, scope locksmith.PauseScope, actor string) error
	Pauses(ctx context.Context) ([]locksmith.Pause, error)
	Close() error
}

// Daemon is the locksmithd of this machine. control.Client implements it.
type Daemon interface {
	NeedReboot(ctx context.Context, reason string) error
	CancelReboot(ctx context.Context) error
	Why(ctx context.Context) (locksmith.Why, error)
	// Windows are as internal/window reads them; none of either: always.
	Windows(ctx context.Context) (allow, deny []string, err error)
}

// Deps is what the commands need from outside.
type Deps struct {
	Open   func(options.Etcd, *slog.Logger) (Store, error) // required
	Daemon func(socket string) Daemon                      // required
	Reboot func(context.Context) error                     // required: asks for a reboot; nil means accepted; see ErrMayReboot

	OpenServer func(options.Server, *slog.Logger) (Store, error) // required; in whose name something is done is the server's knowledge

	LookupEnv     func(string) (string, bool) // nil: os.LookupEnv
	MachineIDFile string                      // empty: /etc/machine-id
	BootIDFile    string                      // empty: /proc/sys/kernel/random/boot_id
	Hostname      func() (string, error)      // nil: os.Hostname
	Euid          func() int                  // nil: os.Geteuid
	Now           func() time.Time            // nil: time.Now
}

func (d Deps) withDefaults() Deps {
	if d.LookupEnv == nil {
		d.LookupEnv = os.LookupEnv
	}
	d.MachineIDFile = cmp.Or(d.MachineIDFile, "/etc/machine-id")
	d.BootIDFile = cmp.Or(d.BootIDFile, "/proc/sys/kernel/random/boot_id")
	if d.Hostname == nil {
		d.Hostname = os.Hostname
	}
	if d.Euid == nil {
		d.Euid = os.Geteuid
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return d
}

// machineID is this machine's id.
func (d Deps) machineID() (string, error) {
	id, err := readLine(d.MachineIDFile)
	if err != nil {
		return "", fmt.Errorf("this machine's id is unknown: %w; name the machine", err)
	}
	if err := locksmith.CheckMachineID(id); err != nil {
		return "", fmt.Errorf("this machine's id is unknown: %s: %v; name the machine", d.MachineIDFile, err)
	}
	return id, nil
}

// hostname is empty where the machine has none: it is only shown to people.
func (d Deps) hostname() string {
	name, err := d.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// actor is who runs the command, for the history.
func (d Deps) actor() string { return fmt.Sprintf("locksmithctl (%s)", d.person()) }

// person is who runs the command, and where: "alice@jump-1". Behind sudo that is
// the person, not root.
func (d Deps) person() string {
	name, _ := d.LookupEnv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		} else {
			name = fmt.Sprintf("uid %d", os.Getuid())
		}
	}
	return name + "@" + d.hostname()
}

// readLine is the text of a one-line file of the system's.
func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// ErrMayReboot is wrapped by an error of Deps.Reboot after which the machine may be
// going down all the same: its slot must stay held.
var ErrMayReboot = errors.New("the machine may be going down")
