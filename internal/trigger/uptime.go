package trigger

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// MinUptime is the shortest limit of Uptime. A shorter one would reboot a machine
// again before anybody could stop it.
const MinUptime = time.Hour

const (
	// uptimeCheck bounds one wait: timers stand still while a machine is suspended,
	// its uptime does not.
	uptimeCheck = 6 * time.Hour
	uptimeRetry = time.Minute
)

var _ agent.Trigger = (*Uptime)(nil)

// Uptime is the trigger for a machine that has been up for long.
type Uptime struct {
	limit time.Duration
	up    func() (time.Duration, error)
}

// NewUptime makes the trigger for a machine that is up for limit.
func NewUptime(limit time.Duration) *Uptime { return &Uptime{limit: limit, up: bootTime} }

// bootTime is the time since the kernel was booted, suspended or not.
func bootTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, fmt.Errorf("reading the uptime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// Name implements agent.Trigger.
func (*Uptime) Name() string { return "uptime" }

// Watch implements agent.Trigger. It returns nil, once ctx has ended.
func (u *Uptime) Watch(ctx context.Context, report func(agent.Need)) error {
	var last changes
	for {
		up, err := u.up()
		need := agent.Need{Trigger: u.Name(), Err: err}
		wait := uptimeRetry
		if err == nil {
			need.Needed = up >= u.limit
			wait = min(u.limit-up, uptimeCheck)
		}
		var due <-chan time.Time // once it is needed, nothing but the reboot changes that
		if need.Needed {
			need.Reason = "up for more than " + spoken(u.limit)
		} else {
			due = time.After(wait)
		}
		if last.differ(need) {
			report(need)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
		}
	}
}

// spoken is d for people: "30 days", "36 hours".
func spoken(d time.Duration) string {
	count, unit := d/time.Hour, "hour"
	switch {
	case d%time.Hour != 0:
		return d.String()
	case d%oneDay == 0:
		count, unit = d/oneDay, "day"
	}
	if count == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", count, unit)
}
