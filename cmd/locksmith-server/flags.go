package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Names of the server's own options.
const (
	optListen         = "listen"
	optDataDir        = "data-dir"
	optFleetLockWait  = "fleetlock-wait"
	optMaxWaiting     = "max-waiting"
	optQueueLease     = "queue-lease"
	optCreateGroups   = "create-groups"
	optDefaultGroup   = "default-group-name"
	optAccessFile     = "access-file"
	optTLSCert        = "tls-cert"
	optTLSKey         = "tls-key"
	optClientCA       = "client-ca"
	optInsecure       = "insecure-listen"
	optMaxConnections = "max-connections"
	optLogFormat      = "log-format"
)

// Defaults of the server's own options, and the words of those that take one.
const (
	defaultListen         = "127.0.0.1:8080"
	defaultDataDir        = "/var/lib/locksmith-server"
	defaultEtcdListen     = "127.0.0.1:2379"
	defaultFleetLockWait  = 55 * time.Second
	defaultMaxWaiting     = 10_000
	defaultQueueLease     = 10 * time.Second
	defaultMaxConnections = 16_000
	defaultGroupName      = "default"

	// What a request to the store may take: whoever asks over HTTP has his answer
	// within five seconds, be the store away, and finding out why takes two of them.
	defaultServerTimeout = 3 * time.Second

	etcdListenOff = "off"
	logAuto       = "auto"
)

// serveFlags are the server's options, in the order in which help shows them.
func serveFlags(prefix string) []cli.Flag {
	list := []cli.Flag{
		&cli.StringFlag{Name: optListen, Value: defaultListen,
			Usage: "`HOST:PORT` at which FleetLock, the API, the dashboard and the metrics are served"},
		dataDirFlag(),
		&cli.StringFlag{Name: optEtcdListen, Value: defaultEtcdListen,
			Usage: "`IP:PORT` at which the embedded etcd serves locksmithctl and locksmithd; off: nowhere"},
	}
	list = append(list, etcdFlags(prefix, "etcd endpoint `URL` of a cluster to use instead of an embedded etcd; repeatable, or several separated by commas", defaultServerTimeout)...)
	list = append(list,
		&cli.DurationFlag{Name: optFleetLockWait, Value: defaultFleetLockWait,
			Usage: "`DURATION` that a FleetLock request waits for its slot, up to 29m; 0s: it is answered at once"},
		&cli.IntFlag{Name: optMaxWaiting, Value: defaultMaxWaiting,
			Usage: "how many FleetLock requests may wait at a time, a `NUMBER`; more are answered at once"},
		&cli.DurationFlag{Name: optQueueLease, Value: defaultQueueLease,
			Usage: "`DURATION` for which the places of FleetLock requests stay in the queues after this server was killed or cut off from etcd, 5s to 10m"},
		&cli.BoolFlag{Name: optCreateGroups, Usage: "a FleetLock request for an unknown group makes it, with one slot"},
		defaultGroupFlag(),
		&cli.StringFlag{Name: optAccessFile, TakesFile: true,
			Usage: "`FILE` that says who may do what; without it everybody may do everything, and only this machine is listened to"},
		&cli.StringFlag{Name: optTLSCert, TakesFile: true, Usage: "`FILE` with the server's certificate, PEM; with -" + optTLSKey + " the server speaks TLS only"},
		&cli.StringFlag{Name: optTLSKey, TakesFile: true, Usage: "`FILE` with the certificate's key, PEM"},
		&cli.StringFlag{Name: optClientCA, TakesFile: true, Usage: "`FILE` with the authorities that sign client certificates, PEM"},
		&cli.BoolFlag{Name: optInsecure, Usage: "listen beyond this machine without authorization, too"},
		&cli.IntFlag{Name: optMaxConnections, Value: defaultMaxConnections, Usage: "how many connections may be open at a time, a `NUMBER`"},
		&cli.StringFlag{Name: optLogFormat, Value: logAuto,
			Usage: "`FORMAT` of the log: text or json on standard error, journal (fields), or auto: journal under systemd, else text"},
		options.DebugFlag(),
	)
	return append(local(list), options.VersionFlag())
}

func dataDirFlag() cli.Flag {
	return &cli.StringFlag{Name: optDataDir, Value: defaultDataDir, TakesFile: true,
		Usage: "`DIRECTORY` of the embedded etcd's data, which nobody else may enter"}
}

func defaultGroupFlag() cli.Flag {
	return &cli.StringFlag{Name: optDefaultGroup, Value: defaultGroupName, Usage: "`NAME` by which FleetLock's clients know the default group, which has none"}
}

// etcdFlags are the options of the connection to an etcd cluster. There is no default
// endpoint: without one the embedded etcd is meant.
func etcdFlags(prefix, endpoint string, timeout time.Duration) []cli.Flag {
	list := options.EtcdFlags(prefix)
	for _, f := range list {
		switch f := f.(type) {
		case *cli.StringSliceFlag:
			if f.Name == options.Endpoint {
				f.Value, f.Usage = nil, endpoint
			}
		case *cli.DurationFlag:
			f.Value = timeout
		}
	}
	return list
}

// local makes options those of one command alone: the ones below it have their own.
func local(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Local = true
		case *cli.StringSliceFlag:
			f.Local = true
		case *cli.BoolFlag:
			f.Local = true
		case *cli.IntFlag:
			f.Local = true
		case *cli.DurationFlag:
			f.Local = true
		}
	}
	return flags
}

// fromEnv completes a command's options with the environment. A variable with the
// program's prefix that no option of the program has is an error: what looks like a
// setting and is not would leave a server open that somebody meant to close.
func (a *app) fromEnv(cmd *cli.Command) error {
	prefix := options.Prefix(a.program)
	known := make(map[string]bool)
	for _, c := range append([]*cli.Command{cmd.Root()}, cmd.Root().Commands...) {
		for _, f := range c.Flags {
			if name := f.Names()[0]; name != options.Version && name != "help" {
				known[options.Variable(prefix, name)] = true
			}
		}
	}
	vars := make(map[string]string)
	for _, entry := range a.around.environ {
		key, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(key, prefix) || value == "" || isKubernetes(strings.TrimPrefix(key, prefix)) {
			continue
		}
		if !known[key] {
			return fmt.Errorf("environment: unknown setting %s%s", key, options.DidYouMean(key, slices.Sorted(maps.Keys(known)), ""))
		}
		vars[key] = value
	}
	return options.FromEnv(cmd.Flags, prefix, func(name string) (string, bool) { v, ok := vars[name]; return v, ok })
}

// isKubernetes says whether a variable is one of those that Kubernetes sets in every
// pod for a service that is called like this program.
func isKubernetes(rest string) bool {
	return rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || strings.HasPrefix(rest, "SERVICE_PORT_") || rest == "PORT" || strings.HasPrefix(rest, "PORT_")
}

// lookup is the value of an environment variable.
func (s surroundings) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(s.environ) {
		if key, value, ok := strings.Cut(entry, "="); ok && key == name {
			return value, true
		}
	}
	return "", false
}
