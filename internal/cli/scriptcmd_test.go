package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// state is what a script's commands share.
type state struct {
	kind etcdtest.Kind
	srv  *etcdtest.Server // nil until "etcd"

	server *scriptServer // nil until "server"
}

type stateKey struct{}

func stateOf(ts *testscript.TestScript) *state { return ts.Value(stateKey{}).(*state) }

func check(ts *testscript.TestScript, err error) {
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

// cmdEtcd starts the script's etcd and points the programs at it; "etcd stop"
// and "etcd start" take it away and bring it back.
func cmdEtcd(ts *testscript.TestScript, _ bool, args []string) {
	st := stateOf(ts)
	switch {
	case len(args) == 0 && st.srv == nil:
		dir := ts.MkAbs("etcd-data")
		check(ts, os.Mkdir(dir, 0o700))
		srv, err := etcdtest.New(st.kind, dir)
		check(ts, err)
		ts.Defer(srv.Stop)
		st.srv = srv
		ts.Setenv("LOCKSMITHCTL_ENDPOINT", srv.Endpoint)
		ts.Setenv("REBOOTLOCKCTL_ENDPOINT", srv.Endpoint)
	case len(args) == 1 && args[0] == "stop":
		st.srv.Stop()
	case len(args) == 1 && args[0] == "start":
		check(ts, st.srv.Restart())
	default:
		ts.Fatalf("usage: etcd [stop|start]")
	}
}

// client is a plain connection to the script's etcd.
func client(ts *testscript.TestScript) *clientv3.Client {
	cfg := clientv3.Config{Endpoints: []string{stateOf(ts).srv.Endpoint}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second}
	if ts.Getenv("ROOT_PASSWORD") != "" {
		cfg.Username, cfg.Password = "root", ts.Getenv("ROOT_PASSWORD")
	}
	c, err := clientv3.New(cfg)
	check(ts, err)
	ts.Defer(func() { c.Close() })
	return c
}

func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// cmdAuth turns authentication on: root with everything, guest with nothing.
func cmdAuth(ts *testscript.TestScript, _ bool, _ []string) {
	c := client(ts)
	ctx, cancel := patience()
	defer cancel()
	steps := []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "guest", "guest"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	}
	_, _ = c.RoleAdd(ctx, "root") // some versions have it from the start
	for _, step := range steps {
		check(ts, step())
	}
	ts.Setenv("ROOT_PASSWORD", "secret")
}

// cmdPut stores a value behind the program's back.
func cmdPut(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := patience()
	defer cancel()
	value := strings.ReplaceAll(args[1], "NOW", strconv.FormatInt(time.Now().Unix(), 10))
	_, err := client(ts).Put(ctx, args[0], value)
	check(ts, err)
}

// cmdKeys writes all keys and, with -values, what they hold to a file.
func cmdKeys(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := patience()
	defer cancel()
	resp, err := client(ts).Get(ctx, "", clientv3.WithPrefix())
	check(ts, err)
	var b strings.Builder
	for _, kv := range resp.Kvs {
		b.Write(kv.Key)
		if args[0] == "-values" {
			b.WriteString(" " + string(kv.Value))
		}
		b.WriteByte('\n')
	}
	check(ts, os.WriteFile(ts.MkAbs(args[len(args)-1]), []byte(b.String()), 0o600))
}

// cmdAwait blocks until a key with the prefix exists; "! await" until none does.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, awaitKey(client(ts), args[0], !neg))
}

func awaitKey(c *clientv3.Client, prefix string, want bool) error {
	ctx, cancel := patience()
	defer cancel()
	for {
		resp, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || resp.Count > 0 == want {
			return err
		}
		<-c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	}
}

// cmdExits runs a program that must end with the given status.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		check(ts, err)
	}
	if want, _ := strconv.Atoi(args[0]); status != want {
		ts.Fatalf("%s ended with status %d, want %s", args[1], status, args[0])
	}
}

var (
	times   = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?`)
	ages    = regexp.MustCompile(`(?m)  (\d+d\d+h|\d+h\d+m|(\d+m)?\d+s)( +|$)`)
	seconds = regexp.MustCompile(`("(held|waited)Seconds": )[\d.]+`)
	spans   = regexp.MustCompile(`\b\d+ (s|min|h|d)( \d+ (h|min))?\b`)
	clocks  = regexp.MustCompile(`\b((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?\d\d:\d\d\b`)
	gaps    = regexp.MustCompile(`(?m)(\S)  +`)
)

// cmdTimeless copies a file with TIME, AGE, SPAN, CLOCK and N in the place of what
// differs from run to run, and two spaces between columns.
func cmdTimeless(ts *testscript.TestScript, _ bool, args []string) {
	text := times.ReplaceAllString(ts.ReadFile(args[0]), "TIME")
	text = ages.ReplaceAllString(text, "  AGE$3")
	text = spans.ReplaceAllString(text, "SPAN")
	text = clocks.ReplaceAllString(text, "CLOCK")
	text = seconds.ReplaceAllString(text, "${1}N")
	text = gaps.ReplaceAllString(text, "$1  ")
	check(ts, os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// cmdDaemon answers on the control socket of the script's machine, as root's
// locksmithd would, and notes requests in a file. A second file is its answer to
// why, and a third its status, in JSON.
func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	l, err := control.Listen(ts.MkAbs("locksmithd.sock"))
	check(ts, err)
	note := func(text string) error {
		return os.WriteFile(ts.MkAbs(args[0]), []byte(text+"\n"), 0o600)
	}
	var status agent.Status
	srv := &control.Server{
		Status:  func() agent.Status { return status },
		Request: func(reason string) error { return note("requested: " + reason) },
		Cancel:  func() error { return note("cancelled") },
	}
	if len(args) > 1 {
		var why locksmith.Why
		check(ts, json.Unmarshal([]byte(ts.ReadFile(args[1])), &why))
		srv.Why = func(context.Context) locksmith.Why { return why }
	}
	if len(args) > 2 {
		check(ts, json.Unmarshal([]byte(ts.ReadFile(args[2])), &status))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.ServeOn(ctx, l) }()
	ts.Defer(func() {
		cancel()
		check(ts, <-done)
	})
}
