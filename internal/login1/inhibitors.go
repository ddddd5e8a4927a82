package login1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// Limits of what a check shows of its findings: at most so many, and of each so many
// bytes. What programs say of themselves is theirs to choose, and ends up in status
// screens and in etcd.
const (
	shownVetoes  = 8
	whoLimit     = 80
	whyLimit     = 200
	shownReasons = 3 // of one program
)

// Inhibitors is a check that fails while somebody holds a block inhibitor against
// shutdowns: with a *agent.Veto for each program that does, joined where there are
// several. Where the inhibitors cannot be listed it fails too.
//
// logind alone does not see to that. Before systemd 257 it let root reboot through
// block inhibitors, and it still lets root through those of mode "block-weak", the
// name that the old behaviour has since. For a reboot that can wait, both mean: not
// now. So does a mode that is not known, unless it only delays.
func (m *Machine) Inhibitors() agent.Check { return inhibitors{m} }

type inhibitors struct{ m *Machine }

func (inhibitors) Name() string { return "inhibitors" }

func (c inhibitors) Run(ctx context.Context, _ agent.About) error {
	ctx, cancel := c.m.limited(ctx)
	defer cancel()
	reply, err := c.m.bus.Call(ctx, manager("ListInhibitors"))
	var held []inhibitor
	if err == nil {
		held, err = decodeInhibitors(reply)
	}
	switch {
	case bus.NotRunning(err):
		return fmt.Errorf("listing inhibitors: logind is not running: %w", err)
	case err != nil:
		return fmt.Errorf("listing inhibitors: %w", err)
	}
	return vetoes(held)
}

// inhibitor is one of logind's, its texts as they came.
type inhibitor struct {
	What, Who, Why, Mode string
	PID                  uint32
}

// blocks says whether a reboot has to wait for i.
func (i inhibitor) blocks() bool {
	return i.Mode != "delay" && slices.Contains(strings.Split(i.What, ":"), "shutdown")
}

// decodeInhibitors reads a(ssssuu): what, who, why, mode, user's number, process.
// One malformed entry makes the whole an error, since it may be one that blocks.
func decodeInhibitors(reply []any) ([]inhibitor, error) {
	entries, err := bus.Value[[][]any](reply, 0)
	if err != nil {
		return nil, err
	}
	list := make([]inhibitor, len(entries))
	for n, entry := range entries {
		i := &list[n]
		for field, into := range []*string{&i.What, &i.Who, &i.Why, &i.Mode} {
			if *into, err = bus.Value[string](entry, field); err != nil {
				return nil, err
			}
		}
		if _, err = bus.Value[uint32](entry, 4); err != nil {
			return nil, err
		}
		if i.PID, err = bus.Value[uint32](entry, 5); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// vetoes are the findings on held: nil, a *agent.Veto, or several joined, one per
// program and in the order of their names.
func vetoes(held []inhibitor) error {
	reasons := map[string][]string{}
	for _, i := range held {
		if !i.blocks() {
			continue
		}
		who := cmp.Or(bus.Clean(i.Who, whoLimit), fmt.Sprintf("pid %d", i.PID))
		why := cmp.Or(bus.Clean(i.Why, whyLimit), "gives no reason")
		if !slices.Contains(reasons[who], why) {
			reasons[who] = append(reasons[who], why)
		}
	}
	var found []error
	for _, who := range slices.Sorted(maps.Keys(reasons)) {
		if len(found) == shownVetoes {
			more := fmt.Sprintf("%d more programs hold one, see systemd-inhibit --list", len(reasons)-shownVetoes)
			found = append(found, &agent.Veto{By: inhibitors{}.Name(), Reason: more})
			break
		}
		found = append(found, &agent.Veto{By: who, Reason: first(reasons[who], shownReasons, "; ")})
	}
	if len(found) == 1 {
		return found[0]
	}
	return errors.Join(found...)
}

// first sorts texts and shows the first of them.
func first(texts []string, shown int, separator string) string {
	slices.Sort(texts)
	more := ""
	if len(texts) > shown {
		more = fmt.Sprintf(" and %d more", len(texts)-shown)
		texts = texts[:shown]
	}
	return strings.Join(texts, separator) + more
}
