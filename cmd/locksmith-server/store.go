package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/embedded"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// What is in a data directory, beside what a later version may put there.
func etcdDir(dataDir string) string    { return filepath.Join(dataDir, "etcd") }
func etcdSocket(dataDir string) string { return filepath.Join(dataDir, "etcd.sock") }

// makeDataDir makes a directory that nobody else may enter. One that others may enter
// is left as it is and refused: it may be in use for something else.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("-%s: %w", optDataDir, err)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("-%s: %w", optDataDir, err)
	case !info.IsDir():
		return fmt.Errorf("-%s: %s is no directory", optDataDir, dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("-%s: others may enter %s (its mode is %04o), and so change every lock: chmod 700 it, or give another one", optDataDir, dir, info.Mode().Perm())
	}
	return nil
}

// clusterConfig is how to reach the cluster that the options name.
func clusterConfig(o options.Etcd) etcd.Config {
	return etcd.Config{Endpoints: o.Endpoints, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile,
		Username: o.Username, Password: o.Password, Timeout: o.Timeout}
}

// dialStore connects to the etcd that the options name, or else to the embedded one of
// the server that runs on this machine, over its socket.
func dialStore(cmd *cli.Command) (*etcd.Store, error) {
	if cmd.IsSet(options.Endpoint) {
		if cmd.IsSet(optDataDir) {
			return nil, options.Usagef("give -%s or -%s, not both", options.Endpoint, optDataDir)
		}
		o, err := options.EtcdFrom(cmd)
		if err != nil {
			return nil, err
		}
		return etcd.Dial(clusterConfig(o))
	}
	timeout := cmd.Duration(options.Timeout)
	if timeout <= 0 {
		return nil, options.Usagef("invalid -%s %v: must be more than 0, such as 10s", options.Timeout, timeout)
	}
	dir, err := filepath.Abs(cmd.String(optDataDir))
	if err != nil {
		return nil, err
	}
	socket := etcdSocket(dir)
	if _, err := os.Stat(socket); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no locksmith-server runs with its data in %s: start it, or name another -%s, or an etcd cluster with -%s", dir, optDataDir, options.Endpoint)
	} else if err != nil {
		return nil, fmt.Errorf("%w; run it as the server's user, or as root", err)
	}
	return etcd.Dial(etcd.Config{Endpoints: []string{embedded.SocketEndpoint(socket)}, Timeout: timeout})
}

// actor is who runs a command, for the history: behind sudo the person, not root.
func (a *app) actor(command string) string {
	name, _ := a.around.lookup("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		} else {
			name = fmt.Sprintf("uid %d", os.Getuid())
		}
	}
	host, _ := os.Hostname() // only shown to people
	return fmt.Sprintf("locksmith-server %s (%s@%s)", command, name, host)
}
