package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// longestWait bounds -fleetlock-wait: Zincati hangs up after half an hour.
const longestWait = 29 * time.Minute

// Bounds of -queue-lease: what is shorter lapses during an election of etcd's, and for as
// long as it lasts nobody is served behind the places of a server that is gone.
const (
	shortestLease = 5 * time.Second
	longestLease  = 10 * time.Minute
)

// groupName is what FleetLock takes as the name of a group.
var groupName = regexp.MustCompile(`^[a-zA-Z0-9.-]{1,253}$`)

// serveSettings is everything that can be set of a server, checked.
type serveSettings struct {
	listen     string
	embedded   bool
	dataDir    string
	etcdListen string // IP:PORT; empty: nowhere
	etcdTLS    bool   // at etcdListen
	etcd       options.Etcd

	fleetLockWait time.Duration
	maxWaiting    int
	queueLease    time.Duration // whole seconds
	createGroups  bool
	defaultGroup  string

	accessFile        string // empty: no authorization
	cert, key, caFile string
	insecure          bool
	maxConnections    int
	logFormat         string
	debug             bool
}

// readServe completes the command line with the environment and checks all of it. A
// value that the command line gave is its fault, a UsageError; any other bad value is
// a wrong configuration.
func (a *app) readServe(cmd *cli.Command) (serveSettings, error) {
	given := make(map[string]bool)
	for _, f := range cmd.Flags {
		given[f.Names()[0]] = f.IsSet()
	}
	if err := a.fromEnv(cmd); err != nil {
		return serveSettings{}, errors.New(err.Error())
	}
	s := serveSettings{
		listen: cmd.String(optListen), dataDir: cmd.String(optDataDir), etcdListen: cmd.String(optEtcdListen),
		embedded:      !cmd.IsSet(options.Endpoint),
		fleetLockWait: cmd.Duration(optFleetLockWait), maxWaiting: cmd.Int(optMaxWaiting), queueLease: cmd.Duration(optQueueLease),
		createGroups: cmd.Bool(optCreateGroups), defaultGroup: cmd.String(optDefaultGroup),
		accessFile: cmd.String(optAccessFile), cert: cmd.String(optTLSCert), key: cmd.String(optTLSKey), caFile: cmd.String(optClientCA),
		insecure: cmd.Bool(optInsecure), maxConnections: cmd.Int(optMaxConnections),
		logFormat: cmd.String(optLogFormat), debug: cmd.Bool(options.Debug),
	}
	for _, part := range []struct {
		check   func(*cli.Command) error
		options []string // that can be at fault
	}{
		{s.checkStore, []string{options.Endpoint, optDataDir, optEtcdListen, options.EtcdCAFile, options.EtcdCertFile,
			options.EtcdKeyFile, options.EtcdUsername, options.EtcdPassword, options.EtcdPasswordFile}},
		{s.checkTLS, []string{optTLSCert, optTLSKey, optClientCA}},
		{s.checkListen, []string{optListen, optEtcdListen}},
		{s.checkFleetLock, []string{optFleetLockWait, optMaxWaiting, optQueueLease, optDefaultGroup}},
		{s.checkRest, []string{optMaxConnections, optLogFormat}},
	} {
		if err := part.check(cmd); err != nil {
			if slices.ContainsFunc(part.options, func(name string) bool { return given[name] }) {
				return serveSettings{}, options.Usagef("%v", err)
			}
			return serveSettings{}, err
		}
	}
	return s, nil
}

// checkStore decides between the embedded etcd and a cluster, whose options do not mix.
func (s *serveSettings) checkStore(cmd *cli.Command) (err error) {
	if s.embedded {
		for _, name := range []string{options.EtcdCAFile, options.EtcdCertFile, options.EtcdKeyFile, options.EtcdUsername, options.EtcdPassword, options.EtcdPasswordFile} {
			if cmd.IsSet(name) {
				return fmt.Errorf("-%s is for an etcd cluster: give its -%s too, or neither", name, options.Endpoint)
			}
		}
		if s.etcd.Timeout = cmd.Duration(options.Timeout); s.etcd.Timeout <= 0 {
			return fmt.Errorf("invalid -%s %v: must be more than 0, such as 3s", options.Timeout, s.etcd.Timeout)
		}
		if s.dataDir == "" {
			return fmt.Errorf("the data directory needs a path: give -%s DIRECTORY", optDataDir)
		}
		return nil
	}
	for _, name := range []string{optDataDir, optEtcdListen} {
		if cmd.IsSet(name) {
			return fmt.Errorf("-%s is for the embedded etcd, and -%s names another one: give one of them", name, options.Endpoint)
		}
	}
	s.dataDir, s.etcdListen = "", ""
	s.etcd, err = options.EtcdFrom(cmd)
	return err
}

func (s *serveSettings) checkTLS(*cli.Command) error {
	switch {
	case (s.cert == "") != (s.key == ""):
		return fmt.Errorf("-%s and -%s belong together: give both or neither", optTLSCert, optTLSKey)
	case s.caFile != "" && s.cert == "":
		return fmt.Errorf("-%s needs TLS: give -%s and -%s too", optClientCA, optTLSCert, optTLSKey)
	}
	return nil
}

func (s *serveSettings) checkListen(*cli.Command) error {
	if err := access.CheckListen(s.listen, s.accessFile != "", s.insecure); err != nil {
		return err
	}
	if !s.embedded || s.etcdListen == etcdListenOff {
		s.etcdListen = ""
		return nil
	}
	address, err := netip.ParseAddrPort(s.etcdListen)
	if err != nil {
		return fmt.Errorf("invalid -%s %q: must be an IP address and a port, such as %s, or off", optEtcdListen, s.etcdListen, defaultEtcdListen)
	}
	if address.Addr().Unmap().IsLoopback() {
		return nil
	}
	s.etcdTLS = s.cert != ""
	if s.insecure || s.cert != "" && s.caFile != "" {
		return nil
	}
	return fmt.Errorf("etcd at %s would let everybody who reaches it change everything: give -%s, -%s and -%s, so that it wants client certificates, "+
		"or listen on %s, or accept it with -%s", s.etcdListen, optTLSCert, optTLSKey, optClientCA,
		net.JoinHostPort("127.0.0.1", fmt.Sprint(address.Port())), optInsecure)
}

func (s *serveSettings) checkFleetLock(*cli.Command) error {
	switch {
	case s.fleetLockWait < 0 || s.fleetLockWait > longestWait:
		return fmt.Errorf("invalid -%s %v: must be 0s to %v, as clients hang up after half an hour", optFleetLockWait, s.fleetLockWait, longestWait)
	case s.maxWaiting < 1:
		return fmt.Errorf("invalid -%s %d: must be 1 or more; for none at all give -%s 0s", optMaxWaiting, s.maxWaiting, optFleetLockWait)
	case s.queueLease < shortestLease || s.queueLease > longestLease || s.queueLease%time.Second != 0:
		return fmt.Errorf("invalid -%s %v: must be whole seconds, %v to %v", optQueueLease, s.queueLease, shortestLease, longestLease)
	}
	return checkDefaultGroup(s.defaultGroup)
}

func checkDefaultGroup(name string) error {
	if !groupName.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("invalid -%s %q: must be letters, digits, dots and dashes, as FleetLock wants its groups", optDefaultGroup, name)
	}
	return nil
}

func (s *serveSettings) checkRest(*cli.Command) error {
	if s.maxConnections < 1 {
		return fmt.Errorf("invalid -%s %d: must be 1 or more", optMaxConnections, s.maxConnections)
	}
	if formats := []string{logAuto, "journal", "text", "json"}; !slices.Contains(formats, s.logFormat) {
		return fmt.Errorf("invalid -%s %q: must be one of %s", optLogFormat, s.logFormat, strings.Join(formats, ", "))
	}
	return nil
}
