package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/embedded"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

const restoreDescription = `Makes a store of the snapshot in FILE: that of an embedded etcd in -data-dir,
which must have none yet while no server runs there; or with -endpoint in an
etcd cluster in which locksmith has no data yet, to grow from the one to the
other. Queues and the presence of machines are not copied to a cluster: they
come back with the machines that run.

Reboots of all groups are paused in what comes of it, unless they were in the
snapshot: slots that were granted or given back since are not in it. Compare
the holders with the machines first, then run locksmithctl resume -all.

Interrupted on the way to a cluster, it goes on when it is run again with the
same FILE. Options can be set in the environment, as those of the server.`

func (a *app) restore() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "FILE",
		Usage:       "make a store of a snapshot, in a data directory or in an etcd cluster",
		Description: restoreDescription,
		Flags: append([]cli.Flag{dataDirFlag()}, etcdFlags(options.Prefix(a.program),
			"etcd endpoint `URL` of the cluster to fill, instead of a data directory; repeatable, or several separated by commas", options.DefaultTimeout)...),
		Action: a.withFile(func(ctx context.Context, cmd *cli.Command, file string) error {
			if cmd.IsSet(options.Endpoint) {
				return a.restoreCluster(ctx, cmd, file)
			}
			return a.restoreDir(ctx, cmd.String(optDataDir), file)
		}),
	}
}

// restoreDir makes the data of an embedded etcd.
func (a *app) restoreDir(ctx context.Context, dataDir, file string) error {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	if err := makeDataDir(dataDir); err != nil {
		return err
	}
	// In another place first, so that a store without the pause is never there.
	temp, err := os.MkdirTemp(dataDir, ".restoring-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := vacant(etcdDir(dataDir)); err != nil {
		return err
	}
	made := filepath.Join(temp, "etcd")
	info, err := embedded.Restore(file, made)
	if err != nil {
		return err
	}
	pause, err := a.look(ctx, made, func(store *etcd.Store) (string, error) { return a.pauseAll(ctx, store, file) })
	if err != nil {
		return err
	}
	if err := giveTo(made, dataDir); err != nil {
		return err
	}
	if err := os.Rename(made, etcdDir(dataDir)); err != nil {
		return err
	}
	if err := syncDir(dataDir); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %d keys of revision %d restored to %s\n%s\n", file, info.Keys, info.Revision, dataDir, pause)
	return err
}

// vacant refuses a directory in which something is.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("there is a store in %s already: a snapshot is restored only where nothing is lost. Stop the server and move that directory away first", dir)
}

// giveTo gives what is below dir to the owner of another directory, where the program
// may: root restores what the server's user is to run.
func giveTo(dir, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// restoreCluster fills an etcd cluster.
func (a *app) restoreCluster(ctx context.Context, cmd *cli.Command, file string) error {
	target, err := dialStore(cmd)
	if err != nil {
		return err
	}
	defer target.Close()
	temp, err := os.MkdirTemp("", "locksmith-restore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	dir := filepath.Join(temp, "etcd")
	info, err := embedded.Restore(file, dir)
	if err != nil {
		return err
	}
	var done etcd.Copied
	pause, err := a.look(ctx, dir, func(source *etcd.Store) (pause string, err error) {
		done, err = source.CopyTo(ctx, target, info.Sum, func(ctx context.Context) (err error) {
			pause, err = a.pauseAll(ctx, target, file)
			return err
		})
		return pause, err
	})
	if err != nil {
		return err
	}
	resumed := ""
	if done.Resumed > 0 {
		resumed = fmt.Sprintf(" (%d of them by an earlier run)", done.Resumed)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %d keys of revision %d copied to the cluster%s and verified\n%s\n", file, done.Keys, info.Revision, resumed, pause)
	return err
}

// look runs an embedded etcd on a directory for as long as do takes.
func (a *app) look(ctx context.Context, dir string, do func(*etcd.Store) (string, error)) (string, error) {
	started, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	socket := filepath.Join(dir, "s")
	server, err := embedded.Start(started, embedded.Config{Dir: dir, Socket: socket})
	if err != nil {
		return "", err
	}
	defer server.Close()
	store, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		return "", err
	}
	defer store.Close()
	return do(store)
}

// pauseAll pauses reboots of all groups, unless they are, and says so.
func (a *app) pauseAll(ctx context.Context, store *etcd.Store, file string) (string, error) {
	pauses, err := store.Pauses(ctx)
	if err != nil {
		return "", err
	}
	const advice = "Compare the holders with the machines (locksmithctl groups, status), then run: locksmithctl resume -all"
	if slices.ContainsFunc(pauses, func(p locksmith.Pause) bool { return p.Scope.All }) {
		return "Reboots are paused, as they were in the snapshot. " + advice, nil
	}
	err = store.Pause(ctx, locksmith.Pause{Scope: locksmith.PauseScope{All: true}, By: a.actor("restore"), At: time.Now().Unix(),
		Reason: "restored from a snapshot: compare the holders with the machines, then resume"})
	return "Reboots are paused: what was granted or given back since the snapshot is not in it. " + advice, err
}
