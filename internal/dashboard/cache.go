package dashboard

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// Bounds of what looking costs the store.
const (
	// maxAge is how long something that was read is shown again while no change is
	// told of: the store may be away, and what machines say grows old by itself.
	maxAge = time.Second
	// readTime bounds one read: a page is answered within five seconds, come what may.
	readTime = 4 * time.Second
	// share is how much of its time a server reads one thing over and over while the
	// store never rests: one part in so many, but with rests of at most maxRest.
	share   = 4
	maxRest = 500 * time.Millisecond
	// dear is from when on a read takes so long that sums are made of what may be so
	// many times as old, at most maxRough.
	dear     = 50 * time.Millisecond
	rough    = 10
	maxRough = 5 * time.Second
	// maxKept is how many things that were read are kept until old ones are dropped.
	maxKept = 1000
	// historySize is how many entries a group's history has.
	historySize = 1024
)

// reads looks into the store for all browsers together: of any number that want the
// same after the same change, one reads it. Nobody is shown what is older than the
// newest change that was told of before they asked.
type reads struct {
	store   Store
	changes <-chan struct{}

	mu      sync.Mutex
	version int64 // counts changes
	kept    map[string]*kept
}

// kept is one read: under way until done is closed.
type kept struct {
	done    chan struct{}
	version int64 // of the store when it was begun; -1 before
	began   time.Time
	took    time.Duration
	value   any
	err     error
}

func newReads(store Store, changes <-chan struct{}) *reads {
	return &reads{store: store, changes: changes, kept: make(map[string]*kept)}
}

// changed has everything read anew.
func (r *reads) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
}

// current is the version of the store, after changes that were told of. r.mu is held.
func (r *reads) current() int64 {
	select {
	case <-r.changes:
		r.version++
	default:
	}
	return r.version
}

// shared is what read returns, read at most once for all who want it at the same time.
// read is given what it returned before, the zero value the first time, and must not
// change it: nor may those who get it.
func shared[T any](ctx context.Context, r *reads, key string, read func(ctx context.Context, before T) (T, error)) (T, error) {
	r.mu.Lock()
	wanted := r.current()
	for {
		k := r.kept[key]
		if k == nil || k.over() && !k.serves(wanted, clock()) {
			k = startRead(ctx, r, key, k, read)
		}
		r.mu.Unlock()
		select {
		case <-k.done:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
		r.mu.Lock()
		if k.version >= wanted { // also where it failed: the next would, too
			r.mu.Unlock()
			value, _ := k.value.(T)
			return value, k.err
		}
	}
}

// roughly is shared for what may be older than the newest change, where reading it takes
// long.
func roughly[T any](ctx context.Context, r *reads, key string, read func(ctx context.Context, before T) (T, error)) (T, error) {
	r.mu.Lock()
	k := r.kept[key]
	if k != nil && k.over() && k.err == nil && k.took >= dear && clock().Sub(k.began) < min(rough*k.took, maxRough) {
		value, _ := k.value.(T)
		r.mu.Unlock()
		return value, nil
	}
	r.mu.Unlock()
	return shared(ctx, r, key, read)
}

func (k *kept) over() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

func (k *kept) serves(wanted int64, now time.Time) bool {
	return k.err == nil && k.version >= wanted && now.Sub(k.began) < maxAge
}

// startRead reads in a goroutine of its own, which ends by itself: whoever asked first
// may go away, and the others wait for it. r.mu is held.
func startRead[T any](ctx context.Context, r *reads, key string, last *kept, read func(context.Context, T) (T, error)) *kept {
	k := &kept{done: make(chan struct{}), version: -1}
	rest := time.Duration(0)
	var before T
	if last != nil {
		rest = last.began.Add(min(share*last.took, maxRest)).Sub(clock())
		before, _ = last.value.(T)
	}
	if len(r.kept) >= maxKept {
		r.drop()
	}
	r.kept[key] = k
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	go func() {
		defer cancel()
		if rest > 0 {
			<-time.After(rest)
		}
		r.mu.Lock()
		k.version, k.began = r.current(), clock()
		r.mu.Unlock()
		value, err := read(ctx, before)
		r.mu.Lock()
		defer r.mu.Unlock()
		k.value, k.err, k.took = value, err, clock().Sub(k.began)
		close(k.done)
	}()
	return k
}

// drop forgets what nobody has asked for lately. r.mu is held.
func (r *reads) drop() {
	for key, k := range r.kept {
		if k.over() && clock().Sub(k.began) > maxAge {
			delete(r.kept, key)
		}
	}
}

func (r *reads) groups(ctx context.Context) ([]locksmith.GroupSummary, error) {
	return shared(ctx, r, "groups", func(ctx context.Context, _ []locksmith.GroupSummary) ([]locksmith.GroupSummary, error) {
		return r.store.Groups(ctx)
	})
}

func (r *reads) status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error) {
	return shared(ctx, r, "status "+string(group), func(ctx context.Context, _ locksmith.GroupStatus) (locksmith.GroupStatus, error) {
		return r.store.Status(ctx, group)
	})
}

func (r *reads) machines(ctx context.Context) ([]locksmith.MachineStatus, error) {
	return shared(ctx, r, "machines", func(ctx context.Context, _ []locksmith.MachineStatus) ([]locksmith.MachineStatus, error) {
		return r.store.Machines(ctx)
	})
}

// fleet is all machines, and those of each group.
type fleet struct {
	all     []locksmith.MachineStatus
	byGroup map[locksmith.Group][]locksmith.MachineStatus
}

// fleet is what sums are made of. That of many machines, which is dear, may be some
// seconds old.
func (r *reads) fleet(ctx context.Context) (fleet, error) {
	return roughly(ctx, r, "fleet", func(ctx context.Context, _ fleet) (fleet, error) {
		all, err := r.machines(ctx)
		if err != nil {
			return fleet{}, err
		}
		f := fleet{all, make(map[locksmith.Group][]locksmith.MachineStatus)}
		for _, m := range all {
			for _, g := range m.AllGroups() {
				f.byGroup[g] = append(f.byGroup[g], m)
			}
		}
		return f, nil
	})
}

func (r *reads) machine(ctx context.Context, name string) (locksmith.MachineStatus, error) {
	return shared(ctx, r, "machine "+name, func(ctx context.Context, _ locksmith.MachineStatus) (locksmith.MachineStatus, error) {
		return r.store.Machine(ctx, name)
	})
}

// history is all that is kept of a group's. As a rule a few entries are new, and only
// those are read.
func (r *reads) history(ctx context.Context, group locksmith.Group) ([]locksmith.HistoryEntry, error) {
	const few = 20
	type entries = []locksmith.HistoryEntry
	return shared(ctx, r, "history "+string(group), func(ctx context.Context, before entries) (entries, error) {
		if len(before) > few {
			fresh, err := r.store.History(ctx, group, few)
			if err != nil {
				return before, err
			}
			known := func(e locksmith.HistoryEntry) bool { return e.Revision == before[0].Revision }
			if i := slices.IndexFunc(fresh, known); i >= 0 {
				all := slices.Concat(fresh[:i], before)
				return all[:min(len(all), historySize)], nil
			}
		}
		return r.store.History(ctx, group, historySize)
	})
}

func (r *reads) refusals(ctx context.Context) ([]locksmith.HistoryEntry, error) {
	return shared(ctx, r, "refusals", func(ctx context.Context, _ []locksmith.HistoryEntry) ([]locksmith.HistoryEntry, error) {
		return r.store.Refusals(ctx, historySize)
	})
}
