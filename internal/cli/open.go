package cli

import (
	"log/slog"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// open prepares the reboot lock. Nothing is sent before its first use. What goes
// wrong comes back with each call, so only -debug shows the lock's own log.
func (c *call) open() (Store, error) {
	return c.openLogging(slog.DiscardHandler)
}

// openLogging is open for commands that go on when something goes wrong, and
// want to hear of it.
func (c *call) openLogging(handler slog.Handler) (Store, error) {
	if c.cmd.Bool(options.Debug) {
		handler = slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	log := slog.New(handler)
	through, err := c.throughServer()
	switch {
	case err != nil:
		return nil, err
	case through:
		return c.openServer(log)
	}
	const doing = "initializing etcd client"
	o, err := options.EtcdFrom(c.cmd)
	if err != nil {
		return nil, fail(doing, err)
	}
	s, err := c.deps.Open(o, log)
	if err != nil {
		return nil, fail(doing, err)
	}
	return s, nil
}

func (c *call) openServer(log *slog.Logger) (Store, error) {
	const doing = "initializing the client of locksmith-server"
	o, err := options.ServerFrom(c.cmd, c.prefix, c.deps.LookupEnv)
	if err != nil {
		return nil, fail(doing, err)
	}
	s, err := c.deps.OpenServer(o, log)
	if err != nil {
		return nil, fail(doing, err)
	}
	return s, nil
}

// throughServer says whether the way is through a server, and not to etcd. Of the
// two the command line beats the environment.
func (c *call) throughServer() (bool, error) {
	server, endpoint := c.cmd.String(options.ServerURL) != "", c.cmd.IsSet(options.Endpoint)
	if !server {
		for _, name := range options.ServerCredentials {
			if c.isGiven(name) {
				return false, options.Usagef("-%s is for a server: give -%s, too", name, options.ServerURL)
			}
		}
		return false, nil
	}
	if endpoint && c.isGiven(options.ServerURL) == c.isGiven(options.Endpoint) {
		return false, options.Usagef("-%s and -%s exclude each other: give one of them", options.ServerURL, options.Endpoint)
	}
	return !endpoint || c.isGiven(options.ServerURL), nil
}

// needEtcd refuses what a server does not do for others: it is tied to the process that
// does it, whose end the server would not notice.
func (c *call) needEtcd(what string) error {
	through, err := c.throughServer()
	if err == nil && through {
		err = options.Usagef("%s needs etcd itself: give -%s instead of -%s", what, options.Endpoint, options.ServerURL)
	}
	return err
}
