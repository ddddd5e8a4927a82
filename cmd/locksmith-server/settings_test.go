package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// read reads a server's settings from a command line and an environment.
func read(t *testing.T, environ []string, args ...string) (serveSettings, error) {
	t.Helper()
	a := &app{program: "locksmith-server", around: surroundings{environ: environ}}
	var s serveSettings
	root := a.root()
	root.Action = func(_ context.Context, cmd *cli.Command) (err error) {
		s, err = a.readServe(cmd)
		return err
	}
	return s, root.Run(t.Context(), append([]string{"locksmith-server"}, args...))
}

func TestDefaults(t *testing.T) {
	s, err := read(t, []string{"HOME=/", "LOCKSMITH_SERVER_LISTEN=", "LOCKSMITH_SERVER_PORT_8080_TCP=tcp://10.0.0.1:8080", "LOCKSMITH_SERVER_SERVICE_HOST=10.0.0.1"})
	want := serveSettings{listen: "127.0.0.1:8080", embedded: true, dataDir: "/var/lib/locksmith-server", etcdListen: "127.0.0.1:2379",
		etcd: options.Etcd{Timeout: 3 * time.Second}, fleetLockWait: 55 * time.Second, maxWaiting: 10_000, queueLease: 10 * time.Second, defaultGroup: "default", maxConnections: 16_000, logFormat: "auto"}
	if err != nil || !equal(s, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, s, want)
	}
}

func equal(a, b serveSettings) bool {
	same := slices.Equal(a.etcd.Endpoints, b.etcd.Endpoints)
	a.etcd.Endpoints, b.etcd.Endpoints = nil, nil
	return same && a.etcd.CAFile == b.etcd.CAFile && a.etcd.Timeout == b.etcd.Timeout && a.etcd.Username == b.etcd.Username &&
		a.etcd.Password == b.etcd.Password && a.etcd.CertFile == b.etcd.CertFile && a.etcd.KeyFile == b.etcd.KeyFile && without(a) == without(b)
}

// comparable settings, without the etcd options.
func without(s serveSettings) [18]any {
	return [18]any{s.listen, s.embedded, s.dataDir, s.etcdListen, s.etcdTLS, s.fleetLockWait, s.maxWaiting, s.queueLease, s.createGroups, s.defaultGroup,
		s.accessFile, s.cert, s.key, s.caFile, s.insecure, s.maxConnections, s.logFormat, s.debug}
}

// Every option can be given either way, and the command line wins.
func TestEverySetting(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range [][2]string{
		{"-listen [::1]:1 -data-dir /d -etcd-listen off -fleetlock-wait 0s -max-waiting 7 -queue-lease 5s -create-groups -default-group-name all " +
			"-access-file /a -tls-cert /c -tls-key /k -client-ca /ca -max-connections 9 -log-format json -debug -timeout 2s", ""},
		{"-endpoint https://a:1,https://b:2 -etcd-cafile /ca -etcd-certfile /c -etcd-keyfile /k -etcd-username u -etcd-password-file " + password + " -insecure-listen -listen :1", ""},
		{"-listen 0.0.0.0:1 -etcd-listen 0.0.0.0:2 -access-file /a -tls-cert /c -tls-key /k -client-ca /ca", ""},
		{"-listen 0.0.0.0:1 -etcd-listen 0.0.0.0:2 -insecure-listen", ""},
	} {
		args := strings.Fields(set[0])
		want, err := read(t, nil, args...)
		if err != nil {
			t.Errorf("%s: %v", set[0], err)
		}
		var environ []string
		for i := 0; i < len(args); i++ {
			value := "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				value = args[i+1]
			}
			environ = append(environ, options.Variable("LOCKSMITH_SERVER_", args[i][1:])+"="+value)
			if value != "true" {
				i++
			}
		}
		got, err := read(t, environ)
		if err != nil || !equal(got, want) {
			t.Errorf("%q: %v\ngot  %+v\nwant %+v", environ, err, got, want)
		}
	}
	s, err := read(t, []string{"LOCKSMITH_SERVER_MAX_WAITING=7"}, "-max-waiting", "8")
	if err != nil || s.maxWaiting != 8 {
		t.Errorf("the command line loses: %d, %v", s.maxWaiting, err)
	}
	if s, err = read(t, nil, "-etcd-listen", "0.0.0.0:1", "-tls-cert", "/c", "-tls-key", "/k", "-client-ca", "/ca"); err != nil || !s.etcdTLS {
		t.Errorf("etcd beyond loopback, with TLS: %v, %v", s.etcdTLS, err)
	}
	if s, err = read(t, nil, "-tls-cert", "/c", "-tls-key", "/k"); err != nil || s.etcdTLS {
		t.Errorf("etcd on loopback, with TLS: %v, %v", s.etcdTLS, err)
	}
}

func TestWrongSettings(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-listen nonsense", `invalid listening address "nonsense": must be HOST:PORT, as in 127.0.0.1:8080 or [::]:8080`},
		{"-listen 0.0.0.0:80", `listening on "0.0.0.0:80" without authorization would let everybody who reaches it unlock, pause and take slots: give -access-file, or listen on 127.0.0.1:80, or accept it with -insecure-listen`},
		{"-etcd-listen here", `invalid -etcd-listen "here": must be an IP address and a port, such as 127.0.0.1:2379, or off`},
		{"-etcd-listen 0.0.0.0:2379", `etcd at 0.0.0.0:2379 would let everybody who reaches it change everything: give -tls-cert, -tls-key and -client-ca, so that it wants client certificates, or listen on 127.0.0.1:2379, or accept it with -insecure-listen`},
		{"-etcd-listen 0.0.0.0:2379 -access-file /a -tls-cert /c -tls-key /k", `etcd at 0.0.0.0:2379 would let everybody who reaches it change everything: give -tls-cert, -tls-key and -client-ca, so that it wants client certificates, or listen on 127.0.0.1:2379, or accept it with -insecure-listen`},
		{"-data-dir=", `the data directory needs a path: give -data-dir DIRECTORY`},
		{"-endpoint http://a:1 -data-dir /d", `-data-dir is for the embedded etcd, and -endpoint names another one: give one of them`},
		{"-endpoint http://a:1 -etcd-listen off", `-etcd-listen is for the embedded etcd, and -endpoint names another one: give one of them`},
		{"-endpoint nonsense", `invalid -endpoint "nonsense": it is neither http nor https; must be like http://127.0.0.1:2379`},
		{"-etcd-cafile /c", `-etcd-cafile is for an etcd cluster: give its -endpoint too, or neither`},
		{"-etcd-username u", `-etcd-username is for an etcd cluster: give its -endpoint too, or neither`},
		{"-tls-cert /c", `-tls-cert and -tls-key belong together: give both or neither`},
		{"-client-ca /c", `-client-ca needs TLS: give -tls-cert and -tls-key too`},
		{"-fleetlock-wait 30m", `invalid -fleetlock-wait 30m0s: must be 0s to 29m0s, as clients hang up after half an hour`},
		{"-fleetlock-wait=-1s", `invalid -fleetlock-wait -1s: must be 0s to 29m0s, as clients hang up after half an hour`},
		{"-max-waiting 0", `invalid -max-waiting 0: must be 1 or more; for none at all give -fleetlock-wait 0s`},
		{"-queue-lease 4s", `invalid -queue-lease 4s: must be whole seconds, 5s to 10m0s`},
		{"-queue-lease 601s", `invalid -queue-lease 10m1s: must be whole seconds, 5s to 10m0s`},
		{"-queue-lease 7500ms", `invalid -queue-lease 7.5s: must be whole seconds, 5s to 10m0s`},
		{"-max-connections 0", `invalid -max-connections 0: must be 1 or more`},
		{"-default-group-name a/b", `invalid -default-group-name "a/b": must be letters, digits, dots and dashes, as FleetLock wants its groups`},
		{"-default-group-name ..", `invalid -default-group-name "..": must be letters, digits, dots and dashes, as FleetLock wants its groups`},
		{"-log-format xml", `invalid -log-format "xml": must be one of auto, journal, text, json`},
		{"-timeout 0s", `invalid -timeout 0s: must be more than 0, such as 3s`},
	} {
		_, err := read(t, nil, strings.Fields(tt.args)...)
		var usage *options.UsageError
		if tt.args != "-timeout 0s" && !errors.As(err, &usage) || err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v\nwant %s", tt.args, err, tt.want)
		}

		// From the environment it is a wrong configuration, not a wrong command line.
		var environ []string
		for _, set := range strings.Split(" "+tt.args, " -")[1:] {
			name, value, _ := strings.Cut(strings.Replace(set, "=", " ", 1), " ")
			environ = append(environ, options.Variable("LOCKSMITH_SERVER_", name)+"="+value)
		}
		if tt.args == "-data-dir=" { // an empty variable counts as unset
			continue
		}
		if _, err := read(t, environ); errors.As(err, &usage) && !strings.Contains(tt.args, "-endpoint") || err == nil || err.Error() != tt.want {
			t.Errorf("%q: %v\nwant %s", environ, err, tt.want)
		}
	}
}

func TestUnknownVariable(t *testing.T) {
	_, err := read(t, []string{"LOCKSMITH_SERVER_ACESS_FILE=/a"})
	if want := "environment: unknown setting LOCKSMITH_SERVER_ACESS_FILE, did you mean LOCKSMITH_SERVER_ACCESS_FILE?"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := read(t, []string{"LOCKSMITH_SERVER_MAX_WAITING=many"}); err == nil || err.Error() != `invalid LOCKSMITH_SERVER_MAX_WAITING "many": must be a whole number` {
		t.Error(err)
	}
	var usage *options.UsageError
	if errors.As(err, &usage) {
		t.Error("a variable counts as a wrong command line")
	}
}
