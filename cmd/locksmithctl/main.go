// Command locksmithctl lets an administrator watch and steer the reboots of a
// fleet. Its commands are in internal/cli; here they meet etcd,
// locksmith-server, the daemon's control socket and logind.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/api"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/cli"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/login1"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr, cli.Deps{
		Open:   open,
		Daemon: func(socket string) cli.Daemon { return control.Client{Path: socket} },
		Reboot: reboot,

		OpenServer: openServer,
	}))
}

func open(o options.Etcd, log *slog.Logger) (cli.Store, error) {
	s, err := etcd.Dial(etcd.Config{
		Endpoints: o.Endpoints,
		CAFile:    o.CAFile,
		CertFile:  o.CertFile,
		KeyFile:   o.KeyFile,
		Username:  o.Username,
		Password:  o.Password,
		Timeout:   o.Timeout,
		Log:       log,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openServer(o options.Server, log *slog.Logger) (cli.Store, error) {
	c, err := api.NewClient(api.ClientConfig{
		URL:      o.URL,
		Token:    o.Token,
		CAFile:   o.CAFile,
		CertFile: o.CertFile,
		KeyFile:  o.KeyFile,
		Timeout:  o.Timeout,
		Log:      log,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// reboot asks logind for a reboot. After an answer that was lost it asks whether the
// machine is going down.
func reboot(ctx context.Context) error {
	b := bus.New("", slog.New(slog.DiscardHandler))
	defer b.Close()
	machine := login1.New(b)
	err := machine.Reboot(ctx, locksmith.MethodReboot)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	switch down, downErr := machine.GoingDown(ctx); {
	case downErr != nil:
		return fmt.Errorf("%w; %w", err, cli.ErrMayReboot)
	case down:
		return nil
	}
	return err
}
