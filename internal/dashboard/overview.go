package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// overviewView is the page at a glance.
type overviewView struct {
	Summary  string
	Troubles []trouble
	More     int // troubles that are not shown
	Busy     []groupCard
	Quiet    []groupCard // nobody holds a slot or waits
	Machines machineCount
	PauseAll *link
	NewGroup *link
}

// groupCard is a group at a glance.
type groupCard struct {
	Group    locksmith.Group
	Name     string
	Max      int
	Held     int
	Free     int
	Down     int // of those that hold: on their way through the reboot itself
	Waiting  int
	Paused   bool
	Err      string // the group cannot be read: of the rest nothing is known
	Slots    []slotView
	Holders  []holderView
	More     int // holders that are not shown
	Next     []waiterView
	Progress progressView
}

// machineCount is how the machines are.
type machineCount struct{ Total, Needed, Stale int }

// Bounds of the overview: all in all, and of one group.
const (
	maxTroubles    = 20
	maxCardHolders = 6
	maxCardNext    = 3
	maxDetailed    = 200 // groups of which more than numbers are shown
)

func (d *dashboard) overview(r *http.Request, who access.Caller) (page, error) {
	ctx, now := r.Context(), clock()
	summaries, err := d.reads.groups(ctx)
	if err != nil {
		return page{}, err
	}
	var seen []locksmith.GroupSummary
	for _, g := range summaries {
		if who.Sees(g.Group) {
			seen = append(seen, g)
		}
	}
	v := overviewView{}
	cards := d.cards(ctx, seen, who, now)
	for _, c := range cards {
		if c.err != nil {
			return page{}, c.err
		}
		v.Troubles = append(v.Troubles, c.troubles...)
		if c.card.Held+c.card.Waiting > 0 || c.card.Paused || c.card.Err != "" {
			v.Busy = append(v.Busy, c.card)
		} else {
			v.Quiet = append(v.Quiet, c.card)
		}
	}
	v.Troubles = tidy(v.Troubles)
	fleet, err := d.reads.fleet(ctx)
	if err != nil {
		return page{}, err
	}
	v.Machines = count(fleet.all, who, now)
	v.Summary = summary(v)
	say := v.Summary
	if n := len(v.Troubles) - maxTroubles; n > 0 {
		v.Troubles, v.More = v.Troubles[:maxTroubles], n
	}
	if mayScope(who, locksmith.PauseScope{All: true}, nil) {
		if !slices.ContainsFunc(v.Troubles, func(t trouble) bool { return t.Key == "pause all groups" }) {
			v.PauseAll = &link{"Pause all groups…", "/act/pause?all=1", "Pause all groups"}
		}
	}
	if who.Is(access.RoleAdmin) {
		v.NewGroup = &link{"New group…", "/act/set-max?new=1", "Make a group"}
	}
	return page{View: "overview", Title: "Overview", Nav: "overview", Say: say, Main: v}, nil
}

// cardRead is what was read of one group.
type cardRead struct {
	card     groupCard
	troubles []trouble
	err      error
}

// cards reads the groups, several at a time. Of a group where nothing happens the
// summary says all.
func (d *dashboard) cards(ctx context.Context, groups []locksmith.GroupSummary, who access.Caller, now time.Time) []cardRead {
	const atATime = 8
	reads, places := make([]cardRead, len(groups)), make(chan struct{}, atATime)
	var all sync.WaitGroup
	detailed := 0
	for i, g := range groups {
		reads[i].card = groupCard{Group: g.Group, Name: sentence(scopeName(g.Group)), Max: g.Max, Held: g.Held,
			Free: max(0, g.Max-g.Held), Waiting: g.Waiting, Paused: g.Paused}
		if g.Held+g.Waiting == 0 && !g.Paused && g.Err == nil || detailed == maxDetailed {
			continue
		}
		detailed++
		places <- struct{}{}
		all.Go(func() {
			reads[i] = d.card(ctx, g, who, now)
			<-places
		})
	}
	all.Wait()
	return reads
}

func (d *dashboard) card(ctx context.Context, g locksmith.GroupSummary, who access.Caller, now time.Time) cardRead {
	c := groupCard{Group: g.Group, Name: sentence(scopeName(g.Group)), Paused: g.Paused}
	s, err := d.reads.status(ctx, g.Group)
	if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
		c.Err = err.Error()
		return cardRead{card: c, troubles: []trouble{unreadable(g.Group, err)}}
	}
	if err != nil {
		return cardRead{err: err}
	}
	c.Max, c.Held, c.Free, c.Waiting = s.Sem.Max, len(s.Holders), max(0, s.Sem.Semaphore), len(s.Queue)
	c.Paused = len(s.Pauses) > 0
	for _, h := range s.Holders {
		hv := holderViewOf(h, g.Group, who, now)
		c.Holders = append(c.Holders, hv)
		if hv.Down {
			c.Down++
		}
	}
	sortHolders(c.Holders)
	c.Slots = slotsOf(s, c.Holders)
	if n := len(c.Holders) - maxCardHolders; n > 0 {
		c.Holders, c.More = c.Holders[:maxCardHolders], n
	}
	c.Next = waiterViews(s.Queue, 0, maxCardNext, who)
	run, err := d.rollout(ctx, s)
	if _, ok := errors.AsType[*locksmith.UnreadableError](err); err != nil && !ok {
		return cardRead{err: err}
	}
	c.Progress = run.Progress
	return cardRead{card: c, troubles: troubles(s, who, now)}
}

// tidy has what is worst first, and each thing once: a pause of all groups holds in
// each of them.
func tidy(list []trouble) []trouble {
	seen := make(map[string]bool)
	list = slices.DeleteFunc(list, func(t trouble) bool {
		twice := seen[t.Key]
		seen[t.Key] = true
		return twice
	})
	slices.SortStableFunc(list, func(a, b trouble) int {
		switch {
		case a.Tone == b.Tone:
			return 0
		case a.Tone == toneBad:
			return -1
		}
		return 1
	})
	return list
}

func count(all []locksmith.MachineStatus, who access.Caller, now time.Time) machineCount {
	var c machineCount
	for _, m := range all {
		if !who.SeesMachine(m.AllGroups()) {
			continue
		}
		c.Total++
		if m.NeededSince > 0 {
			c.Needed++
		}
		if m.Stale(now) {
			c.Stale++
		}
	}
	return c
}

// summary says in a sentence how things are.
func summary(v overviewView) string {
	down, held, waiting, stuck := 0, 0, 0, 0
	for _, c := range v.Busy {
		held += c.Held
		waiting += c.Waiting
		down += c.Down
	}
	for _, t := range v.Troubles {
		if t.Tone == toneBad {
			stuck++
		}
	}
	var parts []string
	switch {
	case held == 0 && waiting == 0:
		parts = append(parts, "no machine is down or waits")
	default:
		parts = append(parts, plural(held, "slot")+" taken", fmt.Sprintf("%d down just now", down), fmt.Sprintf("%d waiting", waiting))
	}
	switch stuck {
	case 0:
		parts = append(parts, "nothing is stuck")
	default:
		parts = append(parts, plural(stuck, "thing")+" stuck")
	}
	return sentence(strings.Join(parts, ", ")) + "."
}
