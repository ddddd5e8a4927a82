package lockclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// DefaultGroup is the name under which FleetLock servers know the group that has none.
const DefaultGroup = "default"

// How long calls may take.
const (
	steadyTime  = 30 * time.Second // for the server to take a slot back
	leaveTime   = 10 * time.Second // likewise, where somebody waits for this program to end
	confirmTime = 90 * time.Second // for an answer right before the reboot, longer than servers hold requests
	confirmSoon = 5 * time.Second  // after which what was looked at before that is old

	// formerTime is for how long the machine tries to give a slot back to a server that
	// is not the configured one any more.
	formerTime = 10 * time.Minute
)

// Config is what a Lock needs.
type Config struct {
	Client *fleetlock.Client // required: of the server
	ID     string            // required: of the machine, as the server is to know it
	Group  locksmith.Group   // of the machine
	Path   string            // required: of the file; its directory is made if it is missing

	// DefaultGroup is what the group without a name is called at the server; empty:
	// DefaultGroup.
	DefaultGroup string

	Log *slog.Logger // nil: discard
}

// Lock keeps one machine's slot at a FleetLock server. It is an agent.Lock of exactly one
// group; Run belongs to it. Only one process may use the file.
type Lock struct {
	cfg  Config
	log  *slog.Logger
	here place         // where a slot is asked for
	turn chan struct{} // of size 1: one at a time asks, and changes the file
	wake chan struct{} // of size 1: for Run, there is something loose

	mu      sync.Mutex
	stands  *record // what the file holds; nil: there is none
	loose   bool    // nobody wants what stands: Run gives it back
	settled bool    // the server knows that nothing is held, or the file says what is

	failing   bool // a slot at a former place cannot be given back
	failSince time.Time
}

// Open reads the file at cfg.Path, which need not exist, and returns the Lock. It asks
// the server nothing. A file that cannot be understood is an error, in one line that
// names it and says what to do.
func Open(cfg Config) (*Lock, error) {
	if cfg.Client == nil || cfg.Path == "" {
		return nil, errors.New("lockclient: Client and Path are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Client.Check(); err != nil {
		return nil, err
	}
	here := place{URL: cfg.Client.Base(), ID: cfg.ID, Group: cmp.Or(string(cfg.Group), cfg.DefaultGroup, DefaultGroup)}
	if err := here.request().Check(); err != nil {
		return nil, err
	}
	r, err := open(cfg.Path)
	if err != nil {
		return nil, err
	}
	return &Lock{cfg: cfg, log: cfg.Log, here: here, stands: r, turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}, nil
}

// Held is a copy of the slot's record that the machine has as far as it knows, nil if it
// holds none.
func (l *Lock) Held() *locksmith.Holder {
	if r := l.standing(); r != nil && r.State == held {
		return &r.Holder
	}
	return nil
}

// standing is a copy of what the file holds, nil if there is none.
func (l *Lock) standing() *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stands == nil {
		return nil
	}
	r := *l.stands
	return &r
}

// begin waits for this caller's turn; end is to be called after it. The error is ctx's
// cause.
func (l *Lock) begin(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Lock) end() { <-l.turn }

// only refuses groups that are not the Lock's.
func (l *Lock) only(groups []locksmith.Group) error {
	if len(groups) != 1 || groups[0] != l.cfg.Group {
		return fmt.Errorf("the groups %q were given: a FleetLock slot is asked for in %s alone", locksmith.JoinGroups(groups), l.cfg.Group)
	}
	return nil
}

// Place says for people where the machine's slot is, or is asked for.
func (l *Lock) Place() string {
	if r := l.standing(); r != nil {
		return r.place.String()
	}
	return l.here.String()
}

// client is the one for p. Credentials go to the configured server only.
func (l *Lock) client(p place) *fleetlock.Client {
	own := l.cfg.Client
	if p.URL == own.Base() {
		return own
	}
	c := &fleetlock.Client{URL: p.URL, TLS: own.TLS, HTTP: own.HTTP}
	was, errWas := url.Parse(p.URL)
	is, errIs := url.Parse(own.Base())
	if errWas == nil && errIs == nil && was.Scheme == is.Scheme && was.Host == is.Host {
		c.Username, c.Password, c.Token = own.Username, own.Password, own.Token
	}
	return c
}

// Find is what the machine holds, as its file says. Where that says nothing, or that a
// slot may have been granted, the server is told first that the machine needs none: it
// may hold a slot for a machine that was installed anew. Until it has answered that, Find
// fails.
func (l *Lock) Find(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	none := locksmith.Slots{Record: locksmith.Holder{MachineID: machine}}
	if err := l.only(groups); err != nil {
		return locksmith.Slots{}, err
	}
	if err := l.begin(ctx); err != nil {
		return locksmith.Slots{}, err
	}
	defer l.end()
	r := l.standing()
	if r != nil && r.Holder.MachineID != machine {
		// The disk was copied: the slot is the other machine's.
		l.log.Warn("the FleetLock slot in the file is another machine's and is left alone", "path", l.cfg.Path, "other", r.Holder.MachineID)
		if err := l.forget(); err != nil {
			return locksmith.Slots{}, err
		}
		r, l.settled = nil, false
	}
	switch {
	case r != nil && r.State == held:
		if r.place != l.here {
			l.log.Warn("this machine's slot was taken by earlier settings and goes back there", "server", r.URL, "id", r.ID, "group", r.Group)
		}
		return r.slots(), nil
	case r == nil && l.settled:
		return none, nil
	case r == nil:
		r = &record{place: l.here}
	}
	if err := l.giveBack(ctx, r.place, steadyTime); err != nil {
		return locksmith.Slots{}, err
	}
	return none, nil
}

// Withdraw is Find, which gives back first what an earlier process may have asked for: a
// server takes a request out of its queue when whoever sent it goes away.
func (l *Lock) Withdraw(ctx context.Context, machine string, groups []locksmith.Group) (locksmith.Slots, error) {
	return l.Find(ctx, machine, groups)
}

// Release gives the slot back. A slot that somebody else took away meanwhile counts as
// given back.
func (l *Lock) Release(ctx context.Context, _ locksmith.Slots, _ locksmith.Result) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	defer l.end()
	r := l.standing()
	if r == nil {
		r = &record{place: l.here}
	}
	return l.giveBack(ctx, r.place, steadyTime)
}

// FollowPauses reports nothing, because a FleetLock server tells nobody of pauses: it
// refuses a slot while there is one. It returns ctx's cause once ctx has ended.
func (l *Lock) FollowPauses(ctx context.Context, _ string, _ []locksmith.Group, _ func([]locksmith.Pause)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
