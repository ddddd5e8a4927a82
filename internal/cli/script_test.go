package cli_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmith-reboot/locksmith/internal/cli"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// The scripts run this binary under the names of the program. What the program
// takes from the machine comes from the directory in testDir instead.
const testDir = "LOCKSMITHTEST_DIR"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"locksmithctl": program, "rebootlockctl": program})
}

func program() {
	dir := os.Getenv(testDir)
	os.Exit(cli.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr, cli.Deps{
		Open:       open,
		OpenServer: openServer,
		Daemon: func(socket string) cli.Daemon {
			if socket == options.DefaultControlSocket { // nothing of this machine's
				socket = filepath.Join(dir, "locksmithd.sock")
			}
			return control.Client{Path: socket}
		},
		MachineIDFile: filepath.Join(dir, "machine-id"),
		BootIDFile:    filepath.Join(dir, "boot-id"),
		Hostname:      func() (string, error) { return "node1", nil },
		Euid: func() int {
			if os.Getenv("LOCKSMITHTEST_EUID") != "" {
				return 1000
			}
			return 0
		},
		Reboot: func(context.Context) error {
			if why := os.Getenv("LOCKSMITHTEST_REBOOT"); why == "perhaps" {
				return fmt.Errorf("no answer: %w", cli.ErrMayReboot)
			} else if why != "" {
				return errors.New(why)
			}
			return os.WriteFile(filepath.Join(dir, "rebooted"), nil, 0o600)
		},
	}))
}

func open(o options.Etcd, log *slog.Logger) (cli.Store, error) {
	s, err := etcd.Dial(etcd.Config{Endpoints: o.Endpoints, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile,
		Username: o.Username, Password: o.Password, Timeout: o.Timeout, Log: log})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func TestScripts(t *testing.T) {
	for _, kind := range etcdtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			needServer(t, kind)
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata/script",
				UpdateScripts:       os.Getenv("LOCKSMITH_UPDATE") != "",
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup: func(env *testscript.Env) error {
					env.Setenv(testDir, env.WorkDir)
					env.Setenv("SUDO_USER", "alice")
					env.Setenv("TERM", "xterm")
					env.Values[stateKey{}] = &state{kind: kind}
					return errors.Join(
						os.WriteFile(filepath.Join(env.WorkDir, "machine-id"), []byte("machine1\n"), 0o600),
						os.WriteFile(filepath.Join(env.WorkDir, "boot-id"), []byte("boot1\n"), 0o600))
				},
				Condition: func(cond string) (bool, error) {
					if cond != "root" {
						return false, errors.New("unknown condition " + cond)
					}
					return os.Geteuid() == 0, nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"etcd": cmdEtcd, "auth": cmdAuth, "tls": cmdTLS, "put": cmdPut, "keys": cmdKeys, "await": cmdAwait,
					"daemon": cmdDaemon, "exits": cmdExits, "timeless": cmdTimeless, "server": cmdServer,
				},
			})
		})
	}
}

// needServer skips, or fails where tests must not be skipped.
func needServer(t testing.TB, kind etcdtest.Kind) {
	t.Helper()
	if kind != etcdtest.Debian {
		return
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		skip.Loudly(t, "against Debian's etcd: apt-get install etcd-server")
	}
}
