package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

func (a *app) why() *cli.Command {
	return &cli.Command{
		Name:      "why",
		Usage:     "say why a machine has or has not rebooted, and what it does next",
		ArgsUsage: "[MACHINE]",
		Flags:     []cli.Flag{outputFlag()},
		Description: `Without an argument it asks the locksmithd of this machine. MACHINE is any machine's
id, the start of its id, or its host name: that answer is read from etcd, also
where the machine is down.

Each condition is ok, waits (it will be met by itself), is blocked (somebody has to
end it), is unknown (which counts as not met), or has - where its turn has not come.`,
		Action: a.action(1, runWhy),
	}
}

func runWhy(ctx context.Context, c *call) error {
	json, err := c.json()
	if err != nil {
		return err
	}
	var w locksmith.Why
	if len(c.args) == 0 {
		w, err = c.ownWhy(ctx)
	} else {
		w, err = c.storedWhy(ctx, c.args[0])
	}
	if err != nil {
		return err
	}
	text := ""
	if !json {
		text = c.whyText(w)
	} else if text, err = encode(w, true); err != nil {
		return fail("writing the answer", err)
	}
	return c.write(text)
}

// ownWhy is what this machine's locksmithd says.
func (c *call) ownWhy(ctx context.Context) (locksmith.Why, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cmd.Duration(options.Timeout))
	defer cancel()
	w, err := c.daemon().Why(ctx)
	if err != nil {
		id, idErr := c.deps.machineID()
		if idErr != nil {
			id = "MACHINE"
		}
		err = fmt.Errorf("%w; what etcd knows of this machine: %s why %s", err, c.program, quote(id))
	}
	return w, fail("asking locksmithd", err)
}

// storedWhy puts together what etcd knows of a machine. A group that cannot be
// read takes nothing from the rest of the answer.
func (c *call) storedWhy(ctx context.Context, name string) (locksmith.Why, error) {
	store, err := c.open()
	if err != nil {
		return locksmith.Why{}, err
	}
	defer store.Close()
	m, err := store.Machine(ctx, name)
	if err != nil {
		return locksmith.Why{}, c.machineError("reading the machine", err)
	}
	w := locksmith.Why{Time: c.deps.Now().Unix(), Machine: m}
	var errs []string
	for _, g := range m.AllGroups() {
		s, err := store.Status(ctx, g)
		if err != nil {
			errs = append(errs, fmt.Sprintf("%s: %v", groupName(g), err))
			continue
		}
		c.warnFaults(s)
		w.Places = append(w.Places, locksmith.PlaceOf(s, m.MachineID))
	}
	w.StoreError = strings.Join(errs, "; ")
	return w, nil
}

// machineError reports what is wrong with a machine that was named.
func (c *call) machineError(doing string, err error) error {
	if errors.Is(err, locksmith.ErrUnknownMachine) {
		err = fmt.Errorf("%w; those that etcd knows: %s machines", err, c.program)
	}
	return fail(doing, err)
}
