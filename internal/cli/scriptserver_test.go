package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/api"
	"github.com/locksmith-reboot/locksmith/internal/cli"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/server"
)

// openServer is as in locksmithctl's main.
func openServer(o options.Server, log *slog.Logger) (cli.Store, error) {
	c, err := api.NewClient(api.ClientConfig{URL: o.URL, Token: o.Token, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile,
		Timeout: o.Timeout, Log: log})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// scriptServer is the locksmith-server of a script.
type scriptServer struct {
	address string
	stop    func() error // nil: it does not run
}

// cmdServer runs a locksmith-server on the script's etcd, whose callers are those of an
// access file; its URL is in $SERVER_URL. "server stop" takes it away, and "server FILE"
// brings it back at the same address.
func cmdServer(ts *testscript.TestScript, _ bool, args []string) {
	st := stateOf(ts)
	if st.server == nil {
		st.server = &scriptServer{address: "127.0.0.1:0"}
		ts.Defer(func() { check(ts, st.server.end()) })
	}
	switch {
	case len(args) != 1:
		ts.Fatalf("usage: server ACCESSFILE|stop")
	case args[0] == "stop":
		check(ts, st.server.end())
	default:
		check(ts, os.Chmod(ts.MkAbs(args[0]), 0o600))
		check(ts, st.server.start(st.srv.Endpoint, ts.MkAbs(args[0])))
		ts.Setenv("SERVER_URL", "http://"+st.server.address)
	}
}

func (s *scriptServer) end() error {
	if s.stop == nil {
		return nil
	}
	defer func() { s.stop = nil }()
	return s.stop()
}

func (s *scriptServer) start(endpoint, accessFile string) error {
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	guard, err := access.Open(accessFile, nil)
	if err != nil {
		return err
	}
	feed := admin.NewFeed(store.Follow)
	h, err := server.New(server.Config{Store: store, Admin: admin.New(store, nil), Feed: feed, Guard: guard,
		Ready: func(context.Context) error { return nil }})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancelCause(context.Background())
	fed, served := make(chan error, 1), make(chan error, 1)
	go func() { fed <- feed.Run(ctx) }()
	go func() { served <- server.Serve(ctx, l, h, server.ServeConfig{}) }()
	s.stop = func() error {
		over := errors.New("the script stops it")
		cancel(over)
		if err := <-fed; !errors.Is(err, over) {
			return err
		}
		return errors.Join(<-served, store.Close())
	}
	return nil
}
