package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/embedded"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

const snapshotDescription = `Writes a snapshot of the store to FILE, while the server runs: of the embedded
etcd of this machine, or with -endpoint of a cluster. The file is readable by
its owner only, is complete or not there at all, and is verified. A file that
exists is not overwritten.

Options can be set in the environment, as those of the server.`

func (a *app) snapshot() *cli.Command {
	return &cli.Command{
		Name: "snapshot", ArgsUsage: "FILE",
		Usage:       "save the store while the server runs",
		Description: snapshotDescription,
		Flags: append([]cli.Flag{dataDirFlag()}, etcdFlags(options.Prefix(a.program),
			"etcd endpoint `URL` of a cluster, instead of the embedded etcd; repeatable, or several separated by commas", options.DefaultTimeout)...),
		Action: a.withFile(a.runSnapshot),
	}
}

// withFile is the action of a command on the one file that it is given. A signal ends it.
func (a *app) withFile(do func(ctx context.Context, cmd *cli.Command, file string) error) cli.ActionFunc {
	return a.action(1, func(ctx context.Context, cmd *cli.Command) error {
		file := cmd.Args().First()
		if file == "" {
			return options.Usagef("a file is missing: %s FILE", cmd.FullName())
		}
		if err := a.fromEnv(cmd); err != nil {
			return err
		}
		ctx, release := interruptible(ctx)
		defer release()
		return stopped(ctx, do(ctx, cmd, file))
	})
}

func (a *app) runSnapshot(ctx context.Context, cmd *cli.Command, file string) error {
	store, err := dialStore(cmd)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s exists already: name another file, or remove it", file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A name of its own in the same directory, for two at a time and what a crash leaves.
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := store.Snapshot(ctx, temp); err != nil {
		return err
	}
	if err := errors.Join(temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	info, err := embedded.CheckSnapshot(temp.Name())
	if err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what came into being meanwhile.
	if err := os.Link(temp.Name(), file); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %d keys at revision %d, %d bytes, checksum verified\n", file, info.Keys, info.Revision, info.Size)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// startLimit bounds the start of an embedded etcd that is only looked into.
const startLimit = time.Minute
