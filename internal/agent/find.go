package agent

import (
	"context"
	"slices"

	"github.com/locksmith-reboot/locksmith"
)

// find asks what the machine holds. Slots that an earlier run took in other groups than are
// configured now are its own, too, and have to go back: those of its record, and of the
// groups in which it was when it was last seen.
func (l *loop) find(ctx context.Context, ask func(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error)) evFound {
	slots, err := ask(ctx, l.cfg.MachineID, l.cfg.Groups)
	others := slots.Earlier
	if slots.Record.Own() {
		others = slices.Concat(slots.Record.Groups, others)
	}
	all := union(l.cfg.Groups, others)
	all = all[:min(len(all), 2*locksmith.MaxGroups)] // one request has room for so many
	if err == nil && len(all) > len(l.cfg.Groups) {
		// What an administrator holds there in its name is no business of its own.
		if more, failed := ask(ctx, l.cfg.MachineID, all); failed != nil || more.Record.Own() {
			slots, err = more, failed
		}
	}
	return evFound{slots, err}
}

// union is groups with those of more that are not among them.
func union(groups, more []locksmith.Group) []locksmith.Group {
	all := slices.Clone(groups)
	for _, g := range more {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}
