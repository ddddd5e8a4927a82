package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/alerts"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/systemd"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
	"github.com/locksmith-reboot/locksmith/internal/window"
)

// list is the values of a repeatable option, which may also be given as one, with
// semicolons between them.
func list(cmd *cli.Command, name string) (values []string) {
	for _, v := range strings.Split(strings.Join(cmd.StringSlice(name), ";"), ";") {
		if v = strings.TrimSpace(v); v != "" {
			values = append(values, v)
		}
	}
	return values
}

func (s *settings) readTriggers(cmd *cli.Command) error {
	for _, text := range list(cmd, optTrigger) {
		spec, err := trigger.Parse(text)
		if err != nil {
			return err
		}
		s.triggers = append(s.triggers, spec)
	}
	return nil
}

// readWindows joins the windows of both ways to give them: the one of the two old
// variables is one more.
func (s *settings) readWindows(cmd *cli.Command) error {
	loc := time.Local
	if name := cmd.String(optWindowTimezone); name != "" {
		var err error
		if loc, err = time.LoadLocation(name); err != nil {
			return fmt.Errorf("invalid reboot window timezone %q: must be a name of the time zone database, such as Europe/Berlin, "+
				"and the database must be installed (package tzdata)", name)
		}
	}
	var allow, deny []*window.Spec
	old, err := window.Parse(cmd.String(optWindowStart), cmd.String(optWindowLength), loc)
	if err != nil {
		return err
	}
	if old != nil {
		allow = append(allow, old.Spec())
	}
	for _, part := range []struct {
		option string
		into   *[]*window.Spec
	}{{optWindow, &allow}, {optDenyWindow, &deny}} {
		for _, text := range list(cmd, part.option) {
			spec, err := window.ParseSpec(text, loc)
			if err != nil {
				return err
			}
			*part.into = append(*part.into, spec)
		}
	}
	s.windows = window.NewSet(allow, deny)
	return nil
}

func (s *settings) readMethod(cmd *cli.Command) (err error) {
	given := cmd.String(optMethod)
	if given == methodAuto {
		return nil
	}
	line, isCommand := strings.CutPrefix(given, "command:")
	if !isCommand {
		if s.method, err = locksmith.ParseMethod(given); err != nil {
			return fmt.Errorf("%w, or %s or command:COMMAND", err, methodAuto)
		}
		return nil
	}
	s.method = locksmith.MethodCommand
	if s.command, err = command.Split(line); err != nil {
		return fmt.Errorf("invalid reboot method %q: %w", given, err)
	}
	if len(s.command) == 0 || !filepath.IsAbs(s.command[0]) {
		return fmt.Errorf("invalid reboot method %q: the command must be an absolute path, such as command:/usr/local/sbin/reboot-via-bmc", given)
	}
	return nil
}

func (s *settings) readHooks(cmd *cli.Command) error {
	s.hookRunner = command.Mode(cmd.String(optHookRunner))
	if err := oneOf("hook runner", string(s.hookRunner), string(command.Auto), string(command.Direct), string(command.Unit)); err != nil {
		return err
	}
	failure := cmd.String(optPrepareFailure)
	s.proceed = failure == prepareProceed
	if err := oneOf("action when prepare fails", failure, prepareAbort, prepareProceed); err != nil {
		return err
	}
	switch {
	case s.hookDir != "" && !filepath.IsAbs(s.hookDir):
		return fmt.Errorf("invalid hook directory %q: must be an absolute path, or empty for no hooks", s.hookDir)
	case s.hookTimeout < time.Second || s.hookTotalTimeout < s.hookTimeout:
		return fmt.Errorf("invalid hook time limits %v each and %v in all: must be at least 1s, and in all not less than each", s.hookTimeout, s.hookTotalTimeout)
	}
	return nil
}

func (s *settings) readVerify(cmd *cli.Command) (err error) {
	if s.verifyUnits, err = systemd.ParseUnits(cmd.String(optVerifyUnits)); err != nil {
		return err
	}
	if s.verifySystem, err = systemd.ParseStates(cmd.String(optVerifySystem)); err != nil {
		return err
	}
	if s.verifyTimeout < 0 || s.verifySoak < 0 {
		return fmt.Errorf("invalid verify times %v and %v: must be 0 or more", s.verifyTimeout, s.verifySoak)
	}
	return nil
}

func (s *settings) readAlerts(cmd *cli.Command) error {
	c := alerts.Config{URL: cmd.String(optAlerts), IncludePending: cmd.Bool(optAlertsPending)}
	for _, part := range []struct {
		option string
		into   **regexp.Regexp
	}{{optAlertsMatch, &c.Match}, {optAlertsIgnore, &c.Ignore}} {
		text := cmd.String(part.option)
		if text == "" {
			continue
		}
		if c.URL == "" {
			return fmt.Errorf("-%s has no meaning without -%s", part.option, optAlerts)
		}
		if _, err := regexp.Compile(text); err != nil { // before it is in brackets, which would show
			return fmt.Errorf("invalid -%s %q: must be a regular expression: %w", part.option, text, err)
		}
		*part.into = regexp.MustCompile("^(?:" + text + ")$")
	}
	if c.URL == "" {
		return nil
	}
	check, err := alerts.New(c)
	if err != nil {
		return fmt.Errorf("-%s: %w", optAlerts, err)
	}
	s.alerts = check
	return nil
}
