// Package trigger watches for reasons to reboot the machine: the CoreOS update
// engine on the system bus, and requests of an administrator. Each type implements
// agent.Trigger.
//
// It must not know what follows from an answer. What it cannot find out is an
// error, never "needed".
package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

const (
	updateService = "com.coreos.update1"
	updatePath    = dbus.ObjectPath("/com/coreos/update1")
	updateIface   = "com.coreos.update1.Manager"

	needReboot = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
)

// versionLimit bounds the version shown in a reason, in bytes.
const versionLimit = 64

var _ agent.Trigger = (*UpdateEngine)(nil)

// UpdateEngine is the trigger for an update that the CoreOS update engine has
// installed and that waits for a reboot.
type UpdateEngine struct {
	bus *bus.Bus
	log *slog.Logger

	timeout time.Duration // of one question
	retry   time.Duration // until the question is repeated after an error
}

// NewUpdateEngine makes the trigger on b, the system bus. A nil log discards. It
// does no I/O.
func NewUpdateEngine(b *bus.Bus, log *slog.Logger) *UpdateEngine {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &UpdateEngine{bus: b, log: log, timeout: 10 * time.Second, retry: 30 * time.Second}
}

// Name implements agent.Trigger.
func (*UpdateEngine) Name() string { return "update-engine" }

// Watch implements agent.Trigger. It asks the update engine at the beginning, after
// each of its signals, and when it or the bus come back; what a signal says is not
// even looked at, so forged and malformed ones change nothing. Where update engine
// is not running, or its answer is malformed, the answer is an error. Watch returns
// nil when ctx has ended, and an error only when the bus was closed.
func (u *UpdateEngine) Watch(ctx context.Context, report func(agent.Need)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	watching := make(chan error, 1)
	go func() {
		watching <- u.bus.Watch(ctx, bus.Signals{
			Service:   updateService,
			Path:      updatePath,
			Interface: updateIface,
			Members:   []string{"StatusUpdate"},
		}, func() {
			select {
			case wake <- struct{}{}:
			default: // a question is due anyway; bursts of signals become one
			}
		})
	}()

	var last changes
	var retry <-chan time.Time
	for {
		select {
		case err := <-watching:
			return err
		case <-wake:
		case <-retry:
		}
		need := u.ask(ctx)
		if ctx.Err() != nil {
			return <-watching
		}
		retry = nil
		if need.Err != nil {
			retry = time.After(u.retry)
		}
		if last.differ(need) {
			u.log.Debug("update engine answered", "needed", need.Needed, "reason", need.Reason, "error", need.Err)
			report(need)
		}
	}
}

// ask asks update engine, wherever the name is at this moment.
func (u *UpdateEngine) ask(ctx context.Context) agent.Need {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	need := agent.Need{Trigger: u.Name()}
	body, err := u.bus.Call(ctx, bus.Method{
		Service: updateService,
		Path:    updatePath,
		Name:    updateIface + ".GetStatus",
		NoStart: true,
	})
	var s status
	if err == nil {
		s, err = decodeStatus(body)
	}
	switch {
	case bus.NotRunning(err):
		need.Err = errors.New("update engine is not running")
	case errors.Is(err, context.DeadlineExceeded):
		need.Err = fmt.Errorf("update engine did not answer within %v", u.timeout)
	case err != nil:
		need.Err = fmt.Errorf("asking update engine: %w", err)
	case s.operation == needReboot:
		need.Needed, need.Reason = true, s.reason()
	}
	return need
}

// status is what update engine says of itself, as far as it matters here.
type status struct {
	operation string // as sent
	version   string // cleaned; may be empty
}

func (s status) reason() string {
	if s.version == "" {
		return "update engine: an update is installed"
	}
	return fmt.Sprintf("update engine: version %s is installed", s.version)
}

// decodeStatus reads xdssx: when it last checked (seconds since the epoch), progress
// (0 to 1), current operation, new version, the new version's size (bytes).
func decodeStatus(body []any) (status, error) {
	if len(body) != 5 {
		return status{}, fmt.Errorf("malformed reply: %d values, 5 expected", len(body))
	}
	_, err0 := bus.Value[int64](body, 0)
	_, err1 := bus.Value[float64](body, 1)
	operation, err2 := bus.Value[string](body, 2)
	version, err3 := bus.Value[string](body, 3)
	_, err4 := bus.Value[int64](body, 4)
	for _, err := range []error{err0, err1, err2, err3, err4} {
		if err != nil {
			return status{}, err
		}
	}
	return status{operation: operation, version: bus.Clean(version, versionLimit)}, nil
}
