package main

import (
	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/coordinator"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// Names of the daemon's own options.
const (
	optStrategy = "reboot-strategy"
	optPriority = "priority"
	optTrigger  = "trigger"
	optMethod   = "reboot-method"
	optDryRun   = "dry-run"

	optWindow         = "reboot-window"
	optDenyWindow     = "no-reboot-window"
	optWindowStart    = "reboot-window-start"
	optWindowLength   = "reboot-window-length"
	optWindowTimezone = "reboot-window-timezone"

	optHookDir          = "hook-dir"
	optHookTimeout      = "hook-timeout"
	optHookTotalTimeout = "hook-total-timeout"
	optHookRunner       = "hook-runner"
	optPrepareFailure   = "prepare-failure"

	optVerifyUnits   = "verify-units"
	optVerifySystem  = "verify-system"
	optVerifyTimeout = "verify-timeout"
	optVerifySoak    = "verify-soak"

	optMaxPerDay = "max-reboots-per-day"
	optMinUptime = "min-uptime"

	optAlerts        = "block-on-alerts"
	optAlertsMatch   = "alerts-match"
	optAlertsIgnore  = "alerts-ignore"
	optAlertsPending = "alerts-pending"

	optLoginPolicy = "login-policy"
	optLoginDelay  = "login-delay"
	optRebootGrace = "reboot-grace"
	optLeaseTTL    = "lease-ttl"

	optControlSocket  = options.ControlSocket
	optMetricsAddress = "metrics-address"
	optStateDir       = "state-dir"
	optCoordinator    = "coordinator-file"
	optLogFormat      = "log-format"
)

// flags is all options, in the order in which help shows them.
func flags(prefix string) []cli.Flag {
	list := append(options.EtcdFlags(prefix), options.GroupFlag())
	for _, more := range [][]cli.Flag{fleetLockFlags(), whenFlags(), aroundFlags(), blockFlags(), runFlags()} {
		list = append(list, more...)
	}
	return append(list, options.DebugFlag(), options.VersionFlag())
}

// whenFlags are about when a reboot is needed and allowed, and how it is done.
func whenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: optStrategy, Value: string(locksmith.StrategyBestEffort),
			Usage: "`STRATEGY` of coordination: etcd-lock, reboot, best-effort, fleet-lock or off"},
		&cli.IntFlag{Name: optPriority, Value: locksmith.DefaultPriority,
			Usage: "place in the queue, a `NUMBER` from 0 (most urgent) to 9"},
		&cli.StringSliceFlag{Name: optTrigger, Value: []string{"auto"}, Config: cli.StringConfig{TrimSpace: true},
			Usage: "what says that a reboot is needed, a `TRIGGER`: " + trigger.Syntax + "; repeatable, or several separated by semicolons"},
		&cli.StringFlag{Name: optMethod, Value: methodAuto,
			Usage: "`METHOD` of reboots: auto (what the trigger says is enough, else reboot), reboot, soft-reboot, kexec or command:COMMAND"},
		&cli.BoolFlag{Name: optDryRun,
			Usage: "go through every step, but take no slot, prepare nothing and reboot nothing; the log says what would have been done"},
		&cli.StringSliceFlag{Name: optWindow, Config: cli.StringConfig{TrimSpace: true},
			Usage: `when reboots are allowed, a ` + "`WINDOW`" + ` such as "Mon..Fri 22:00 4h" or "2nd Tue 03:00 2h Europe/Berlin"; repeatable, or several separated by semicolons`},
		&cli.StringSliceFlag{Name: optDenyWindow, Config: cli.StringConfig{TrimSpace: true},
			Usage: "when they are not allowed, a `WINDOW` or dates such as 2026-12-20..2027-01-03; repeatable, or several separated by semicolons"},
		&cli.StringFlag{Name: optWindowStart,
			Usage: "`START` of the reboot window, [Day ]HH:MM, Day one of Sun Mon Tue Wed Thu Fri Sat; with a day once a week, else every day"},
		&cli.StringFlag{Name: optWindowLength,
			Usage: "length of the reboot window, a `DURATION` such as 1h30m; less than 24h, with a day less than 168h"},
		&cli.StringFlag{Name: optWindowTimezone,
			Usage: "time `ZONE` of windows that name none, such as Europe/Berlin; without it local time"},
	}
}

// aroundFlags are about what comes before and after the reboot.
func aroundFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: optHookDir, Value: defaultHookDir, TakesFile: true,
			Usage: "`DIRECTORY` with the hooks, in check.d, prepare.d, verify.d and restore.d"},
		&cli.DurationFlag{Name: optHookTimeout, Value: defaultHookTimeout,
			Usage: "`DURATION` that one hook or command may take"},
		&cli.DurationFlag{Name: optHookTotalTimeout, Value: defaultHookTotalTimeout,
			Usage: "`DURATION` that all hooks of a directory together may take"},
		&cli.StringFlag{Name: optHookRunner, Value: "auto",
			Usage: "how hooks and commands are run: unit (each in a transient unit of its own), direct (inside locksmithd's own unit, with its limits) or auto, a `WAY`"},
		&cli.StringFlag{Name: optPrepareFailure, Value: prepareAbort,
			Usage: "what follows when a prepare hook fails, an `ACTION`: abort (restore, give the slot back, try later) or proceed (reboot nevertheless)"},
		&cli.StringFlag{Name: optVerifyUnits,
			Usage: "`UNITS` that must be active after the reboot, separated by commas"},
		&cli.StringFlag{Name: optVerifySystem,
			Usage: "`STATES` that systemd may be in after the reboot: running, or running,degraded; empty: any"},
		&cli.DurationFlag{Name: optVerifyTimeout, Value: defaultVerifyTimeout,
			Usage: "`DURATION` after the boot until which checks may fail before the phase is failed"},
		&cli.DurationFlag{Name: optVerifySoak,
			Usage: "`DURATION` for which the checks have to keep passing before the slot is given back"},
	}
}

// blockFlags are about what keeps the machine from rebooting.
func blockFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: optMaxPerDay, Value: defaultMaxPerDay,
			Usage: "most reboots in any 24 hours, a `NUMBER`; 0: any number"},
		&cli.DurationFlag{Name: optMinUptime,
			Usage: "`DURATION` that the machine must have been up before it reboots"},
		&cli.StringFlag{Name: optAlerts,
			Usage: "`URL` of a Prometheus whose firing alerts block the reboot; with a user and password in it, set it in the environment file"},
		&cli.StringFlag{Name: optAlertsMatch,
			Usage: "only alerts whose whole name matches block, a regular `EXPRESSION`"},
		&cli.StringFlag{Name: optAlertsIgnore,
			Usage: "alerts whose whole name matches do not block, a regular `EXPRESSION`, such as Watchdog"},
		&cli.BoolFlag{Name: optAlertsPending, Usage: "alerts block too that are pending"},
		&cli.StringFlag{Name: optLoginPolicy, Value: loginDelay,
			Usage: "what logged-in users mean for the reboot, a `POLICY`: delay (they are told and given time), block or ignore"},
		&cli.DurationFlag{Name: optLoginDelay, Value: agent.DefaultLoginDelay,
			Usage: "`DURATION` that logged-in users are given before the reboot; 0: no delay and no message"},
	}
}

// runFlags are about the daemon itself.
func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: optRebootGrace, Value: agent.DefaultRebootGrace,
			Usage: "`DURATION` after which a reboot that was accepted and did not happen has failed"},
		&cli.DurationFlag{Name: optLeaseTTL, Value: etcd.DefaultLeaseTTL,
			Usage: "`DURATION`, in whole seconds, after which a machine that fell silent counts as gone and leaves the queue; slots are not affected"},
		options.ControlSocketFlag(),
		&cli.StringFlag{Name: optMetricsAddress,
			Usage: "`ADDRESS` on which metrics are served over TCP too, such as :9480; without it only on the control socket"},
		&cli.StringFlag{Name: optStateDir, Value: defaultStateDir, TakesFile: true,
			Usage: "`DIRECTORY` of what is remembered across reboots"},
		&cli.StringFlag{Name: optCoordinator, Value: coordinator.DefaultPath, TakesFile: true,
			Usage: "`FILE` in which the update engine is told about this coordinator"},
		&cli.StringFlag{Name: optLogFormat, Value: logAuto,
			Usage: "`FORMAT` of the log: text or json on standard error, journal (fields and message ids), or auto: journal under systemd, else text"},
	}
}
