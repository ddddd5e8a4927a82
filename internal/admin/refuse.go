package admin

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// Bounds of what refusals cost the store: the same one is noted once in a minute, and
// a minute has room for so many. What they cost the log is bounded apart.
const (
	refusalEvery = time.Minute
	maxRefusals  = 60
)

// refusals remembers which were noted lately.
type refusals struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// isNew says whether a refusal is to be noted, and remembers that it was.
func (r *refusals) isNew(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.seen, func(_ string, at time.Time) bool { return now.Sub(at) >= refusalEvery })
	if _, old := r.seen[key]; old || len(r.seen) >= maxRefusals {
		return false
	}
	r.seen[key] = now
	return true
}

// Refused notes that somebody was refused something: in the log, and in the history. who
// may be a caller of whom only the address is known. group is nil where it is about none.
// what says what was asked for and why it was refused, without secrets.
func (a *Admin) Refused(ctx context.Context, who access.Caller, group *locksmith.Group, machine, what string) {
	if who.Name == "" {
		who.Name = "unknown"
	}
	args := []any{"by", who.Name, "from", who.From, "reason", what}
	if group != nil {
		args = append(args, "group", *group)
	}
	now := a.now()
	if logged, unlogged := a.lines.next(who.Actor(), now); logged {
		if args = append(args, "machine", machine); unlogged > 0 {
			args = append(args, "unlogged", unlogged)
		}
		a.log.Warn("refused", args...)
	}
	key := who.Actor() + "\x00" + machine + "\x00" + what
	if group != nil {
		key += "\x00" + string(*group)
	}
	if !a.refusals.isNew(key, now) {
		return
	}
	err := a.store.Refuse(ctx, locksmith.HistoryEntry{Time: now, Group: group, Actor: who.Actor(),
		Action: locksmith.ActionRefuse, Machine: machine, Outcome: what})
	if err != nil {
		a.log.Warn("a refusal is not in the history", "error", err)
	}
}

func (a *Admin) forbid(ctx context.Context, f *Forbidden, group *locksmith.Group, machine string) error {
	a.Refused(ctx, f.Who, group, machine, f.Error())
	return f
}
