package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// takePlace waits until few enough read more than one group.
func (s *server) takePlace(ctx context.Context) (leave func(), err error) {
	select {
	case s.wide <- struct{}{}:
		return func() { <-s.wide }, nil
	case <-ctx.Done():
		return nil, &problem{api.CodeBusy, "too many requests at a time read all groups or machines: try again"}
	}
}

// group is the parameter of that name, which the caller may see. Without it, it is the
// default group.
func (s *server) group(q query) (locksmith.Group, error) {
	g, err := locksmith.ParseGroup(q.values.Get("group"))
	if err != nil {
		return "", invalid("%v", err)
	}
	return g, s.sees(q.r, q.who, g)
}

func (s *server) statusOf(ctx context.Context, q query) (api.Status, error) {
	g, err := s.group(q)
	if err != nil {
		return api.Status{}, err
	}
	st, err := s.cfg.Store.Status(ctx, g)
	return api.StatusFrom(st, s.now()), err
}

func (s *server) status(ctx context.Context, q query) (any, error) { return s.statusOf(ctx, q) }

func (s *server) holders(ctx context.Context, q query) (any, error) {
	d, err := s.statusOf(ctx, q)
	return api.HolderList{Group: d.Group, Revision: d.Revision, Available: d.Available, Max: d.Max, Holders: d.Holders}, err
}

func (s *server) queue(ctx context.Context, q query) (any, error) {
	d, err := s.statusOf(ctx, q)
	return api.WaiterList{Group: d.Group, Revision: d.Revision, Queue: d.Queue}, err
}

func (s *server) groups(ctx context.Context, q query) (any, error) {
	leave, err := s.takePlace(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	list, err := s.visibleGroups(ctx, q.who)
	return api.GroupsFrom(list), err
}

func (s *server) visibleGroups(ctx context.Context, who access.Caller) ([]locksmith.GroupSummary, error) {
	list, err := s.cfg.Store.Groups(ctx)
	return slices.DeleteFunc(list, func(g locksmith.GroupSummary) bool { return !who.Sees(g.Group) }), err
}

func (s *server) visibleMachines(ctx context.Context, who access.Caller) ([]locksmith.MachineStatus, error) {
	leave, err := s.takePlace(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	list, err := s.cfg.Store.Machines(ctx)
	return slices.DeleteFunc(list, func(m locksmith.MachineStatus) bool { return !who.SeesMachine(api.GroupsOf(m)) }), err
}

func (s *server) machines(ctx context.Context, q query) (any, error) {
	list, err := s.visibleMachines(ctx, q.who)
	if err != nil {
		return nil, err
	}
	docs := api.MachineList{Machines: make([]api.Machine, 0, len(list))}
	for _, m := range list {
		docs.Machines = append(docs.Machines, api.MachineFrom(m, s.now()))
	}
	return docs, nil
}

func (s *server) machine(ctx context.Context, q query) (any, error) {
	name := q.values.Get("name")
	if err := locksmith.CheckMachineID(name); err != nil {
		return nil, invalid("parameter name: %v", err)
	}
	m, err := s.findMachine(ctx, q.who, name)
	if err != nil {
		return nil, err
	}
	return api.MachineFrom(m, s.now()), nil
}

// findMachine finds a machine by its id, host name or the beginning of its id. To a
// caller who may see only some, it is as if there were no others.
func (s *server) findMachine(ctx context.Context, who access.Caller, name string) (locksmith.MachineStatus, error) {
	if who.Everywhere() {
		return s.cfg.Store.Machine(ctx, name)
	}
	list, err := s.visibleMachines(ctx, who)
	if err != nil {
		return locksmith.MachineStatus{}, err
	}
	for _, fits := range []func(locksmith.MachineStatus) bool{
		func(m locksmith.MachineStatus) bool { return m.MachineID == name },
		func(m locksmith.MachineStatus) bool { return m.Hostname == name },
		func(m locksmith.MachineStatus) bool { return strings.HasPrefix(m.MachineID, name) },
	} {
		first := slices.IndexFunc(list, fits)
		switch {
		case first < 0:
		case slices.ContainsFunc(list[first+1:], fits):
			return locksmith.MachineStatus{}, &problem{api.CodeConflict, fmt.Sprintf("%q could be several machines: give the whole id", name)}
		default:
			return list[first], nil
		}
	}
	return locksmith.MachineStatus{}, fmt.Errorf("%w %q: no machine in your groups has this id, this host name or an id that begins so",
		locksmith.ErrUnknownMachine, name)
}

func (s *server) pauses(ctx context.Context, q query) (any, error) {
	list, err := s.cfg.Store.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	var groups map[string][]locksmith.Group // of machines
	if !q.who.Everywhere() && slices.ContainsFunc(list, func(p locksmith.Pause) bool { return p.Scope.Machine != "" }) {
		machines, err := s.visibleMachines(ctx, q.who)
		if err != nil {
			return nil, err
		}
		groups = make(map[string][]locksmith.Group, len(machines))
		for _, m := range machines {
			groups[m.MachineID] = api.GroupsOf(m)
		}
	}
	list = slices.DeleteFunc(list, func(p locksmith.Pause) bool {
		switch {
		case p.Scope.All:
			return false
		case p.Scope.Machine != "":
			return !q.who.SeesMachine(groups[p.Scope.Machine])
		}
		return !q.who.Sees(p.Scope.Group)
	})
	return api.PauseList{Pauses: api.PausesFrom(list)}, nil
}

func (s *server) history(ctx context.Context, q query) (any, error) {
	limit := api.DefaultHistory
	if text := q.values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > api.MaxHistory {
			return nil, invalid("invalid limit %.20q: must be 1 to %d", text, api.MaxHistory)
		}
		limit = n
	}
	var entries []locksmith.HistoryEntry
	var err error
	if q.values.Has("group") {
		entries, err = s.groupHistory(ctx, q, limit)
	} else {
		entries, err = s.wholeHistory(ctx, q.who, limit)
	}
	if err != nil {
		return nil, err
	}
	return api.HistoryFrom(entries), nil
}

func (s *server) groupHistory(ctx context.Context, q query, limit int) ([]locksmith.HistoryEntry, error) {
	g, err := s.group(q)
	if err != nil {
		return nil, err
	}
	entries, err := s.cfg.Store.History(ctx, g, limit)
	return inGroup(entries, g), err
}

// inGroup names the group in its entries, of which only refusals do so themselves.
func inGroup(entries []locksmith.HistoryEntry, g locksmith.Group) []locksmith.HistoryEntry {
	for i := range entries {
		entries[i].Group = &g
	}
	return entries
}

// wholeHistory is that of all groups that the caller may see, with the refusals of groups
// that do not exist and, for who sees every group, of none.
func (s *server) wholeHistory(ctx context.Context, who access.Caller, limit int) ([]locksmith.HistoryEntry, error) {
	leave, err := s.takePlace(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	groups, err := s.visibleGroups(ctx, who)
	if err != nil {
		return nil, err
	}
	lists := make([][]locksmith.HistoryEntry, len(groups)+1)
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(4)
	for i, g := range groups {
		reading.Go(func() error {
			entries, err := s.cfg.Store.History(ctx, g.Group, limit)
			lists[i] = inGroup(entries, g.Group)
			return err
		})
	}
	reading.Go(func() error {
		refusals, err := s.cfg.Store.Refusals(ctx, api.MaxHistory)
		lists[len(groups)] = slices.DeleteFunc(refusals, func(e locksmith.HistoryEntry) bool {
			if e.Group == nil {
				return !who.Everywhere()
			}
			listed := func(g locksmith.GroupSummary) bool { return g.Group == *e.Group }
			return !who.Sees(*e.Group) || slices.ContainsFunc(groups, listed)
		})
		return err
	})
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b locksmith.HistoryEntry) int { return cmp.Compare(b.Revision, a.Revision) })
	return all[:min(limit, len(all))], nil
}

func whoami(_ context.Context, q query) (any, error) {
	d := api.Caller{Name: q.who.Name, From: q.who.From, Role: string(q.who.Role), AllGroups: q.who.Everywhere(), Groups: []string{}, Open: q.who.Open}
	for _, g := range q.who.Groups {
		d.Groups = append(d.Groups, string(g))
	}
	return d, nil
}
