package options_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// parse runs a program "locksmithctl" with the shared options and one command
// "status", and returns what the command read.
func parse(t *testing.T, env map[string]string, args ...string) (options.Etcd, *cli.Command, error) {
	t.Helper()
	var got options.Etcd
	var ran *cli.Command
	prefix := options.Prefix("locksmithctl")
	status := &cli.Command{Name: "status", OnUsageError: options.OnUsageError,
		Action: func(_ context.Context, cmd *cli.Command) error {
			lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
			if err := options.FromEnv(cmd.Root().Flags, prefix, lookup); err != nil {
				return err
			}
			ran = cmd
			var err error
			got, err = options.EtcdFrom(cmd)
			return err
		}}
	root := &cli.Command{Name: "locksmithctl", OnUsageError: options.OnUsageError, Commands: []*cli.Command{status},
		Flags:          append(options.EtcdFlags(prefix), options.GroupFlag(), options.DebugFlag()),
		ExitErrHandler: func(context.Context, *cli.Command, error) {}}
	err := root.Run(t.Context(), append([]string{"locksmithctl"}, args...))
	if err == nil && ran == nil {
		t.Fatal("the command did not run")
	}
	return got, ran, err
}

func TestEndpoints(t *testing.T) {
	tests := []struct {
		name string
		env  string
		args string
		want string
	}{
		{"default", "", "status", options.DefaultEndpoint},
		{"before the command", "", "-endpoint http://a:1 status", "http://a:1"},
		{"after the command, two dashes, equals", "", "status --endpoint=http://a:1", "http://a:1"},
		{"repeated", "", "-endpoint http://a:1 status -endpoint http://b:1", "http://a:1 http://b:1"},
		{"commas and spaces", "", "status|-endpoint| http://a:1 , https://b:1,", "http://a:1 https://b:1"},
		{"the same twice", "", "status -endpoint http://a:1,http://a:1", "http://a:1"},
		{"environment", "http://e:1, http://f:1", "status", "http://e:1 http://f:1"},
		{"command line beats environment", "http://e:1", "-endpoint http://a:1 status", "http://a:1"},
		{"and after the command too", "http://e:1", "status -endpoint http://a:1", "http://a:1"},
		{"bad variable that is overridden", "nonsense://", "status -endpoint http://a:1", "http://a:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			if strings.Contains(tt.args, "|") {
				args = strings.Split(tt.args, "|")
			}
			got, _, err := parse(t, map[string]string{"LOCKSMITHCTL_ENDPOINT": tt.env}, args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got.Endpoints); diff != "" {
				t.Error(diff)
			}
			if set := tt.name != "default"; got.EndpointSet != set {
				t.Errorf("EndpointSet is %v", got.EndpointSet)
			}
		})
	}
}

func TestEveryOptionHasItsVariable(t *testing.T) {
	env := map[string]string{
		"LOCKSMITHCTL_ENDPOINT":      "https://e:1",
		"LOCKSMITHCTL_ETCD_CAFILE":   "/ca",
		"LOCKSMITHCTL_ETCD_CERTFILE": "/cert",
		"LOCKSMITHCTL_ETCD_KEYFILE":  "/key",
		"LOCKSMITHCTL_ETCD_USERNAME": "root",
		"LOCKSMITHCTL_ETCD_PASSWORD": "secret",
		"LOCKSMITHCTL_TIMEOUT":       "3s",
		"LOCKSMITHCTL_GROUP":         "web",
		"LOCKSMITHCTL_DEBUG":         "true",
	}
	got, cmd, err := parse(t, env, "status")
	if err != nil {
		t.Fatal(err)
	}
	want := options.Etcd{Endpoints: []string{"https://e:1"}, EndpointSet: true, CAFile: "/ca", CertFile: "/cert",
		KeyFile: "/key", Username: "root", Password: "secret", Timeout: 3 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if cmd.String("group") != "web" || !cmd.Bool("debug") {
		t.Errorf("group %q, debug %v", cmd.String("group"), cmd.Bool("debug"))
	}
}

func TestCommandLineBeatsEnvironment(t *testing.T) {
	env := map[string]string{"LOCKSMITHCTL_TIMEOUT": "nonsense", "LOCKSMITHCTL_GROUP": "web", "LOCKSMITHCTL_DEBUG": "true"}
	got, cmd, err := parse(t, env, "status", "-timeout", "2s", "--group=", "-debug=false")
	if err != nil {
		t.Fatal(err)
	}
	if got.Timeout != 2*time.Second || cmd.String("group") != "" || cmd.Bool("debug") {
		t.Errorf("timeout %v, group %q, debug %v", got.Timeout, cmd.String("group"), cmd.Bool("debug"))
	}
}

func TestEmptyVariableIsUnset(t *testing.T) {
	got, _, err := parse(t, map[string]string{"LOCKSMITHCTL_ENDPOINT": "", "LOCKSMITHCTL_TIMEOUT": "", "LOCKSMITHCTL_DEBUG": ""}, "status")
	if err != nil {
		t.Fatal(err)
	}
	want := options.Etcd{Endpoints: []string{options.DefaultEndpoint}, Timeout: options.DefaultTimeout}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPasswordFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("se cret \r\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := parse(t, nil, "status", "-etcd-username", "root", "-etcd-password-file", file)
	if err != nil {
		t.Fatal(err)
	}
	if got.Password != "se cret " {
		t.Errorf("password is %q", got.Password)
	}
	if _, _, err := parse(t, nil, "status", "-etcd-username", "root", "-etcd-password-file", file+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestWrongCommandLines(t *testing.T) {
	tests := []struct {
		env  string
		args string
		want string
	}{
		{"", "status -tiemout 3s", "unknown option -tiemout, did you mean -timeout?"},
		{"", "--grup x status", "unknown option -grup, did you mean -group?"},
		{"", "status -zzzzz", "unknown option -zzzzz"},
		{"", "status -group", "option -group needs a value"},
		{"", "status -timeout soon", `invalid -timeout "soon": must be a duration such as 10s or 1m30s`},
		{"", "status -timeout 0s", "invalid -timeout 0s: must be more than 0, such as 10s"},
		{"", "status -debug=maybe", `invalid -debug "maybe": must be true or false`},
		{"LOCKSMITHCTL_TIMEOUT=soon", "status", `invalid LOCKSMITHCTL_TIMEOUT "soon": must be a duration such as 10s or 1m30s`},
		{"LOCKSMITHCTL_DEBUG=maybe", "status", `invalid LOCKSMITHCTL_DEBUG "maybe": must be true or false`},
		{"", "status -endpoint ftp://x", `invalid -endpoint "ftp://x": it is neither http nor https; must be like http://127.0.0.1:2379`},
		{"", "status -endpoint http://", `invalid -endpoint "http://": it names no host; must be like http://127.0.0.1:2379`},
		{"", "status -endpoint http://a:b", `invalid -endpoint "http://a:b": invalid port ":b" after host; must be like http://127.0.0.1:2379`},
		{"", "status -endpoint http://a/v2", `invalid -endpoint "http://a/v2": it has more than a host and a port; must be like http://127.0.0.1:2379`},
		{"", "status -endpoint=,", "-endpoint is empty: give at least one, like http://127.0.0.1:2379"},
		{"", "status -endpoint a:2379", `invalid -endpoint "a:2379": it is neither http nor https; must be like http://127.0.0.1:2379`},
		{"", "status -endpoint unix:///s", `invalid -endpoint "unix:///s": it is neither http nor https; must be like http://127.0.0.1:2379`},
		{"", "status -etcd-cafile /ca", "TLS files are given, but -endpoint http://127.0.0.1:2379 means plain text: write https://127.0.0.1:2379"},
		{"", "status -etcd-certfile /c", "-etcd-certfile and -etcd-keyfile belong together: give both or neither"},
		{"", "status -etcd-password p -etcd-password-file f", "give -etcd-password or -etcd-password-file, not both"},
		{"", "status -etcd-username u", "an etcd user and its password belong together: give both or neither"},
	}
	for _, tt := range tests {
		t.Run(tt.env+" "+tt.args, func(t *testing.T) {
			name, value, _ := strings.Cut(tt.env, "=")
			_, _, err := parse(t, map[string]string{name: value}, strings.Fields(tt.args)...)
			var usage *options.UsageError
			if !errors.As(err, &usage) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %v", err, tt.want)
			}
		})
	}
}

func TestPrefixFollowsTheProgram(t *testing.T) {
	for argv0, want := range map[string]string{
		"/usr/bin/locksmithctl": "LOCKSMITHCTL_ETCD_CAFILE",
		"./rebootlockctl":       "REBOOTLOCKCTL_ETCD_CAFILE",
		"rebootlockd":           "REBOOTLOCKD_ETCD_CAFILE",
		"my-lock.ctl":           "MY_LOCK_CTL_ETCD_CAFILE",
	} {
		if got := options.Variable(options.Prefix(options.ProgramName(argv0)), options.EtcdCAFile); got != want {
			t.Errorf("%s: %s, want %s", argv0, got, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"status", "set-max", "lock", "unlock", "history", "watch"}
	for given, want := range map[string]string{
		"stauts": ", did you mean status?", "stat": ", did you mean status?", "loc": ", did you mean lock?",
		"unlokc": ", did you mean unlock?", "setmax": ", did you mean set-max?", "banana": "", "x": "", "": "",
	} {
		if got := options.DidYouMean(given, known, ""); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	flags := append(options.EtcdFlags("LOCKSMITHD_"), options.VersionFlag())
	got := options.Describe(flags, "LOCKSMITHD_")
	want := options.Description{Synopsis: "-endpoint URL", Usage: "etcd endpoint URL; repeatable, or several separated by commas",
		Default: "http://127.0.0.1:2379", Variable: "LOCKSMITHD_ENDPOINT"}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	i := slices.IndexFunc(got, func(d options.Description) bool { return d.Synopsis == "-timeout DURATION" })
	if i < 0 || got[i].Text() != "time limit of each call to etcd, a DURATION (default 10s) [$LOCKSMITHD_TIMEOUT]" {
		t.Errorf("-timeout: %+v", got)
	}
	if last := got[len(got)-1]; last.Variable != "" || last.Text() != "print the version" {
		t.Errorf("-version: %+v", last)
	}
}
