package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

const optDryRun = "dry-run"

const optFromEndpoint = "from-endpoint"

const airlockDescription = `Takes over the groups of an airlock, with their slots and holders: each becomes
a group of the same name here, the one called like -default-group-name the
default group. Machines go on under the ids that they have.

Stop airlock first, or it goes on granting slots that are granted here too.
What it stored stays where it is. A group that exists here already is left
alone, and that is an error, unless it has the same max and the same holders;
so running it again does no harm. Airlock's etcd is the one the groups are put
into, unless -from-endpoint names another; the files and the user of the other
options are for both.

Options can be set in the environment, as those of the server.`

func (a *app) importAirlock() *cli.Command {
	flags := append([]cli.Flag{dataDirFlag()}, etcdFlags(options.Prefix(a.program),
		"etcd endpoint `URL` of the cluster to put the groups into, instead of the embedded etcd; repeatable, or several separated by commas", options.DefaultTimeout)...)
	return &cli.Command{
		Name:        "import-airlock",
		Usage:       "take over the groups of an airlock",
		Description: airlockDescription,
		Flags: append(flags,
			&cli.StringSliceFlag{Name: optFromEndpoint, Config: cli.StringConfig{TrimSpace: true},
				Usage: "etcd endpoint `URL` of airlock's, if it is another etcd; repeatable, or several separated by commas"},
			defaultGroupFlag(),
			&cli.BoolFlag{Name: optDryRun, Usage: "say what would be done, and do nothing"}),
		Action: a.action(0, func(ctx context.Context, cmd *cli.Command) error {
			if err := a.fromEnv(cmd); err != nil {
				return err
			}
			if err := checkDefaultGroup(cmd.String(optDefaultGroup)); err != nil {
				return options.Usagef("%v", err)
			}
			ctx, release := interruptible(ctx)
			defer release()
			return stopped(ctx, a.runImport(ctx, cmd))
		}),
	}
}

func (a *app) runImport(ctx context.Context, cmd *cli.Command) error {
	target, err := dialStore(cmd)
	if err != nil {
		return err
	}
	defer target.Close()
	source := target
	if from := cmd.StringSlice(optFromEndpoint); len(from) > 0 {
		if source, err = dialAirlock(cmd, from); err != nil {
			return err
		}
		defer source.Close()
	}
	groups, err := source.Airlock(ctx)
	switch {
	case err != nil:
		return err
	case len(groups) == 0:
		return fmt.Errorf("airlock has stored no group there: name its etcd with -%s", optFromEndpoint)
	}
	write := !cmd.Bool(optDryRun)
	if write {
		fmt.Fprintln(a.stdout, "Airlock must have been stopped: what it grants from now on is not known here.")
	}
	var failed []error
	for _, g := range groups {
		group := locksmith.Group(g.Name)
		if g.Name == cmd.String(optDefaultGroup) {
			group = ""
		}
		if err := a.importGroup(ctx, target, group, g, write); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", g.Name, err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d groups were not taken over: %w", len(failed), len(groups), errors.Join(failed...))
	}
	if write {
		fmt.Fprintln(a.stdout, "What airlock stored is still there, below com.coreos.airlock/: delete it once nobody goes back.")
	}
	return nil
}

func (a *app) importGroup(ctx context.Context, target *etcd.Store, group locksmith.Group, from etcd.AirlockGroup, write bool) error {
	if _, err := locksmith.ParseGroup(string(group)); err != nil {
		return err
	}
	imported, err := target.ImportAirlock(ctx, group, from, a.actor("import-airlock"), write)
	if err != nil {
		return err
	}
	what := "taken over as"
	switch {
	case !imported:
		what = "was taken over already as"
	case !write:
		what = "would be taken over as"
	}
	as := group.String()
	if group == "" {
		as = "the default group"
	}
	holders := "no holders"
	if len(from.Holders) > 0 {
		holders = count(len(from.Holders), "holder: ", "holders: ") + strings.Join(from.Holders, ", ")
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s %s, max %d, %s\n", from.Name, what, as, from.Slots, holders)
	return err
}

// dialAirlock connects to another etcd with the files and the user of the first.
func dialAirlock(cmd *cli.Command, endpoints []string) (*etcd.Store, error) {
	o := options.Etcd{CAFile: cmd.String(options.EtcdCAFile), CertFile: cmd.String(options.EtcdCertFile), KeyFile: cmd.String(options.EtcdKeyFile)}
	if cmd.IsSet(options.Endpoint) {
		var err error
		if o, err = options.EtcdFrom(cmd); err != nil {
			return nil, err
		}
	}
	o.Endpoints, o.Timeout = nil, cmd.Duration(options.Timeout)
	for _, e := range strings.Split(strings.Join(endpoints, ","), ",") {
		if e = strings.TrimSpace(e); e != "" {
			o.Endpoints = append(o.Endpoints, e)
		}
	}
	store, err := etcd.Dial(clusterConfig(o))
	if err != nil {
		return nil, fmt.Errorf("-%s: %w", optFromEndpoint, err)
	}
	return store, nil
}
