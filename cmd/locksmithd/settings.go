package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/window"
)

// settings is everything that can be set, checked.
type settings struct {
	etcd        options.Etcd
	groups      []locksmith.Group
	strategy    locksmith.Strategy
	window      *window.Window // nil: always open
	priority    int
	loginDelay  time.Duration
	rebootGrace time.Duration
	leaseTTL    time.Duration
	control     string
	coordinator string
	logJSON     bool
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
		priority:    cmd.Int(optPriority),
		loginDelay:  cmd.Duration(optLoginDelay),
		rebootGrace: cmd.Duration(optRebootGrace),
		leaseTTL:    cmd.Duration(optLeaseTTL),
		control:     cmd.String(optControlSocket),
		coordinator: cmd.String(optCoordinator),
		logJSON:     cmd.String(optLogFormat) == "json",
		debug:       cmd.Bool(options.Debug),
	}
	for _, part := range []struct {
		read    func(*cli.Command) error
		options []string // that can be at fault
	}{
		{s.readEtcd, nil},
		{s.readGroups, []string{options.Group}},
		{s.readStrategy, []string{optStrategy}},
		{s.readWindow, []string{optWindowStart, optWindowLength, optWindowTimezone}},
		{s.checkPriority, []string{optPriority}},
		{s.checkTimes, []string{optLoginDelay, optRebootGrace, optLeaseTTL}},
		{s.checkRest, []string{optLogFormat, optControlSocket, optCoordinator}},
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

func (s *settings) readWindow(cmd *cli.Command) (err error) {
	loc := time.Local
	if name := cmd.String(optWindowTimezone); name != "" {
		if loc, err = time.LoadLocation(name); err != nil {
			return fmt.Errorf("invalid reboot window timezone %q: must be a name of the time zone database, such as Europe/Berlin, "+
				"and the database must be installed (package tzdata)", name)
		}
	}
	s.window, err = window.Parse(cmd.String(optWindowStart), cmd.String(optWindowLength), loc)
	return err
}

func (s *settings) checkPriority(*cli.Command) error {
	if s.priority < locksmith.MinPriority || s.priority > locksmith.MaxPriority {
		return fmt.Errorf("invalid priority %d: must be %d (most urgent) to %d", s.priority, locksmith.MinPriority, locksmith.MaxPriority)
	}
	return nil
}

func (s *settings) checkTimes(*cli.Command) error {
	switch {
	case s.loginDelay < 0:
		return fmt.Errorf("invalid login delay %v: must be 0 or more", s.loginDelay)
	case s.rebootGrace <= 0:
		return fmt.Errorf("invalid reboot grace %v: must be more than 0", s.rebootGrace)
	case s.leaseTTL < time.Second || s.leaseTTL > time.Hour || !whole(s.leaseTTL):
		return fmt.Errorf("invalid lease time to live %v: must be whole seconds from 1s to 1h", s.leaseTTL)
	}
	return nil
}

func (s *settings) checkRest(cmd *cli.Command) error {
	if format := cmd.String(optLogFormat); format != "text" && format != "json" {
		return fmt.Errorf("invalid log format %q: must be text or json", format)
	}
	if s.control == "" || s.coordinator == "" {
		return fmt.Errorf("the control socket and the coordinator file need a path")
	}
	return nil
}
