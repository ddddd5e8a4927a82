package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/alerts"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
	"github.com/locksmith-reboot/locksmith/internal/window"
)

// Defaults of the daemon's own options, and the words of those that take one.
const (
	defaultHookDir          = "/etc/locksmith/hooks"
	defaultStateDir         = "/var/lib/locksmith"
	defaultHookTimeout      = 5 * time.Minute
	defaultHookTotalTimeout = 30 * time.Minute
	defaultVerifyTimeout    = 5 * time.Minute
	defaultMaxPerDay        = 3

	methodAuto = "auto"
	logAuto    = "auto"

	prepareAbort   = "abort"
	prepareProceed = "proceed"

	loginDelay  = "delay"
	loginBlock  = "block"
	loginIgnore = "ignore"
)

// settings is everything that can be set, checked.
type settings struct {
	etcd     options.Etcd
	groups   []locksmith.Group
	strategy locksmith.Strategy
	priority int
	dryRun   bool
	triggers []trigger.Spec
	windows  *window.Set
	method   locksmith.Method // empty: what the trigger says is enough
	command  []string         // of locksmith.MethodCommand

	fleetLock fleetLock

	hookDir          string
	hookTimeout      time.Duration
	hookTotalTimeout time.Duration
	hookRunner       command.Mode
	proceed          bool

	verifyUnits   []string
	verifySystem  []string
	verifyTimeout time.Duration
	verifySoak    time.Duration

	maxPerDay   int
	minUptime   time.Duration
	alerts      *alerts.Check // nil: not asked
	loginPolicy string
	loginDelay  time.Duration

	rebootGrace time.Duration
	leaseTTL    time.Duration
	control     string
	metrics     string
	stateDir    string
	coordinator string
	logFormat   string
	debug       bool
}

// readSettings completes the command line with the environment and the settings
// files, and checks all of it. A value that the command line gave is its fault, a
// UsageError; any other bad value is a wrong configuration.
func readSettings(cmd *cli.Command, prefix string, h host) (settings, error) {
	given := map[string]bool{}
	for _, f := range cmd.Flags {
		given[f.Names()[0]] = f.IsSet()
	}
	env, err := readEnvironment(h, cmd.Flags, prefix)
	if err != nil {
		return settings{}, err
	}
	if err := options.FromEnv(cmd.Flags, prefix, env.lookup(prefix)); err != nil {
		return settings{}, errors.New(err.Error())
	}
	s := settings{
		priority: cmd.Int(optPriority), dryRun: cmd.Bool(optDryRun),
		hookDir: cmd.String(optHookDir), hookTimeout: cmd.Duration(optHookTimeout), hookTotalTimeout: cmd.Duration(optHookTotalTimeout),
		verifyTimeout: cmd.Duration(optVerifyTimeout), verifySoak: cmd.Duration(optVerifySoak),
		maxPerDay: cmd.Int(optMaxPerDay), minUptime: cmd.Duration(optMinUptime),
		loginPolicy: cmd.String(optLoginPolicy), loginDelay: cmd.Duration(optLoginDelay),
		rebootGrace: cmd.Duration(optRebootGrace), leaseTTL: cmd.Duration(optLeaseTTL),
		control: cmd.String(optControlSocket), metrics: cmd.String(optMetricsAddress), stateDir: cmd.String(optStateDir),
		coordinator: cmd.String(optCoordinator), logFormat: cmd.String(optLogFormat), debug: cmd.Bool(options.Debug),
	}
	for _, part := range []struct {
		read    func(*cli.Command) error
		options []string // that can be at fault
	}{
		{s.readEtcd, nil},
		{s.readGroups, []string{options.Group}},
		{s.readStrategy, []string{optStrategy}},
		{s.readFleetLock, []string{optFleetLockURL, optFleetLockCredentials, optFleetLockID, optFleetLockCAFile, optFleetLockCertFile,
			optFleetLockKeyFile, optStrategy, options.Group}},
		{s.readTriggers, []string{optTrigger}},
		{s.readWindows, []string{optWindow, optDenyWindow, optWindowStart, optWindowLength, optWindowTimezone}},
		{s.readMethod, []string{optMethod}},
		{s.readHooks, []string{optHookDir, optHookTimeout, optHookTotalTimeout, optHookRunner, optPrepareFailure}},
		{s.readVerify, []string{optVerifyUnits, optVerifySystem, optVerifyTimeout, optVerifySoak}},
		{s.readAlerts, []string{optAlerts, optAlertsMatch, optAlertsIgnore, optAlertsPending}},
		{s.checkNumbers, []string{optPriority, optMaxPerDay}},
		{s.checkTimes, []string{optLoginDelay, optRebootGrace, optLeaseTTL, optMinUptime}},
		{s.checkRest, []string{optLogFormat, optControlSocket, optCoordinator, optStateDir, optMetricsAddress, optLoginPolicy}},
	} {
		if err := part.read(cmd); err != nil {
			for _, name := range part.options {
				if given[name] {
					return settings{}, options.Usagef("%v", err)
				}
			}
			return settings{}, err
		}
	}
	return s, nil
}

func (s *settings) readEtcd(cmd *cli.Command) (err error) {
	s.etcd, err = options.EtcdFrom(cmd)
	return err
}

func (s *settings) readGroups(cmd *cli.Command) (err error) {
	s.groups, err = locksmith.ParseGroups(cmd.String(options.Group))
	return err
}

func (s *settings) readStrategy(cmd *cli.Command) (err error) {
	s.strategy, err = locksmith.ParseStrategy(cmd.String(optStrategy))
	return err
}

func (s *settings) checkNumbers(*cli.Command) error {
	if s.priority < locksmith.MinPriority || s.priority > locksmith.MaxPriority {
		return fmt.Errorf("invalid priority %d: must be %d (most urgent) to %d", s.priority, locksmith.MinPriority, locksmith.MaxPriority)
	}
	if s.maxPerDay < 0 {
		return fmt.Errorf("invalid number of reboots per day %d: must be 0 (any number) or more", s.maxPerDay)
	}
	return nil
}

func (s *settings) checkTimes(*cli.Command) error {
	switch {
	case s.loginDelay < 0:
		return fmt.Errorf("invalid login delay %v: must be 0 or more", s.loginDelay)
	case s.minUptime < 0:
		return fmt.Errorf("invalid minimum uptime %v: must be 0 or more", s.minUptime)
	case s.rebootGrace <= 0:
		return fmt.Errorf("invalid reboot grace %v: must be more than 0", s.rebootGrace)
	case s.leaseTTL < time.Second || s.leaseTTL > time.Hour || !whole(s.leaseTTL):
		return fmt.Errorf("invalid lease time to live %v: must be whole seconds from 1s to 1h", s.leaseTTL)
	}
	return nil
}

func (s *settings) checkRest(*cli.Command) error {
	if err := oneOf("log format", s.logFormat, logAuto, "journal", "text", "json"); err != nil {
		return err
	}
	if err := oneOf("login policy", s.loginPolicy, loginDelay, loginBlock, loginIgnore); err != nil {
		return err
	}
	if s.control == "" || s.coordinator == "" || s.stateDir == "" {
		return fmt.Errorf("the control socket, the coordinator file and the state directory need a path")
	}
	return nil
}

// oneOf refuses a word that is not among those allowed.
func oneOf(what, given string, allowed ...string) error {
	if slices.Contains(allowed, given) {
		return nil
	}
	last := len(allowed) - 1
	return fmt.Errorf("invalid %s %q: must be %s or %s", what, given, strings.Join(allowed[:last], ", "), allowed[last])
}
