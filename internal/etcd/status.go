package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// maxReads bounds the operations of one reading transaction: etcd's default limit
// is 128.
const maxReads = 100

// Semaphore reads a group's semaphore with one request. A group that nobody has
// written yet has one free slot; nothing is created. faults says what is
// inconsistent in the stored document, if anything; one that cannot be understood
// is an *locksmith.UnreadableError.
func (s *Store) Semaphore(ctx context.Context, group locksmith.Group) (sem locksmith.Semaphore, faults []string, err error) {
	resp, err := s.get(ctx, semaphoreKey(group))
	if err != nil {
		return sem, nil, s.explain(ctx, err)
	}
	if len(resp.Kvs) == 0 {
		return locksmith.NewSemaphore(), nil, nil
	}
	return parseSemaphore(resp.Kvs[0])
}

// Status reads everything about a group: its semaphore, holders and queue at one
// revision, and which holders' agents are present.
func (s *Store) Status(ctx context.Context, group locksmith.Group) (locksmith.GroupStatus, error) {
	st := locksmith.GroupStatus{Group: group, Sem: locksmith.NewSemaphore()}
	scopes := groupScopes(group)
	resp, err := s.read(ctx, append([]clientv3.Op{
		clientv3.OpGet(semaphoreKey(group)),
		clientv3.OpGet(holdersPrefix(group), clientv3.WithPrefix()),
		clientv3.OpGet(queuePrefix(group), clientv3.WithPrefix()),
	}, policyOps(scopes)...))
	if err != nil {
		return st, s.explain(ctx, err)
	}
	st.Revision = resp.Header.Revision
	if kv := first(resp.Responses[0]); kv != nil {
		st.Exists = true
		if st.Sem, st.Faults, err = parseSemaphore(kv); err != nil {
			return st, err
		}
	}
	var faults []string
	st.Holders, faults = readHolders(st.Sem, resp.Responses[1].GetResponseRange().Kvs)
	st.Faults = append(st.Faults, faults...)
	st.Queue = readQueue(group, resp.Responses[2].GetResponseRange().Kvs)
	st.Pauses = parsePolicies(scopes, resp.Responses[3:]).active(time.Now())
	if err := s.readPresences(ctx, st.Holders); err != nil {
		return st, s.explain(ctx, err)
	}
	return st, nil
}

// groupScopes are the scopes of the policies that hold for a group.
func groupScopes(group locksmith.Group) []locksmith.PauseScope {
	return []locksmith.PauseScope{{Group: group}, {All: true}}
}

// readHolders joins the semaphore's holders with their records. A record that
// cannot be read, or that has no slot, is a fault.
func readHolders(sem locksmith.Semaphore, kvs []*mvccpb.KeyValue) (holders []locksmith.HolderStatus, faults []string) {
	records := make(map[string]*locksmith.Holder, len(kvs))
	for _, kv := range kvs {
		h, err := parseHolder(kv)
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		records[h.MachineID] = h
	}
	for _, id := range sem.Holders {
		h := locksmith.HolderStatus{Holder: locksmith.Holder{MachineID: id}}
		if r := records[id]; r != nil {
			h.Holder, h.Recorded = *r, true
			delete(records, id)
		}
		holders = append(holders, h)
	}
	for _, id := range slices.Sorted(maps.Keys(records)) {
		faults = append(faults, fmt.Sprintf("machine %s has a holder record but no slot; unlock removes it", id))
	}
	return holders, faults
}

// readQueue sorts waiters as they will be served: by priority, then by the
// revision at which they joined.
func readQueue(group locksmith.Group, kvs []*mvccpb.KeyValue) []locksmith.Waiter {
	var queue []locksmith.Waiter
	for _, kv := range kvs {
		priority, machine, ok := waiterAt(group, kv.Key)
		if !ok {
			continue
		}
		var w locksmith.Waiter
		_ = decode(kv, &w) // an unreadable entry still has its place and goes with its lease
		w.MachineID, w.Priority, w.Revision = machine, priority, kv.CreateRevision
		queue = append(queue, w)
	}
	slices.SortFunc(queue, func(a, b locksmith.Waiter) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Revision, b.Revision))
	})
	return queue
}

// WatchStatus calls changed with the group's status at once and after each change
// of it, until ctx ends or changed fails, and returns that cause. Nothing is
// polled. While etcd is away it waits; changes of that time come as one.
func (s *Store) WatchStatus(ctx context.Context, group locksmith.Group, changed func(locksmith.GroupStatus) error) error {
	back := newRetry()
	for {
		err := s.followStatus(ctx, group, changed, func() { back = newRetry() })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var failed *callbackError
		if errors.As(err, &failed) {
			return failed.err
		}
		if err = s.explain(ctx, err); !transient(err) {
			return err
		}
		s.log.Warn("status not followed, trying again", "group", group, "error", err)
		if !back.sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// callbackError is an error of the caller's own function, which ends the watch.
type callbackError struct{ err error }

func (e *callbackError) Error() string { return e.err.Error() }

func (s *Store) followStatus(ctx context.Context, group locksmith.Group, changed func(locksmith.GroupStatus) error, healthy func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.followConnection(ctx, func(away bool) {
		// A watch only falls silent, and what it showed last looks like the present.
		if away {
			s.log.Warn("etcd is away, what was read last may not be true any more", "endpoints", s.cfg.Endpoints)
		} else {
			s.log.Info("etcd is back", "endpoints", s.cfg.Endpoints)
		}
	})
	wake := make(chan struct{}, 1)
	keys := []string{semaphoreKey(group)}
	for _, scope := range groupScopes(group) {
		keys = append(keys, policyKey(scope))
	}
	prefixes := []string{holdersPrefix(group), queuePrefix(group), presencePrefix()}
	failed := make(chan error, len(keys)+len(prefixes))
	for i, key := range slices.Concat(keys, prefixes) {
		var opts []clientv3.OpOption
		if i >= len(keys) {
			opts = append(opts, clientv3.WithPrefix())
		}
		events, err := s.watch(ctx, key, opts...)
		if err != nil {
			return err
		}
		go func() {
			for {
				resp, open := <-events
				if err := watchErr(ctx, resp, open); err != nil {
					failed <- err
					return
				}
				// That a machine has news of itself is none of the group's.
				if key == presencePrefix() && !slices.ContainsFunc(resp.Events, func(ev *clientv3.Event) bool { return !ev.IsModify() }) {
					continue
				}
				select {
				case wake <- struct{}{}:
				default: // a wake-up is pending: one look serves both
				}
			}
		}()
	}
	for {
		st, err := s.Status(ctx, group)
		if err != nil {
			return err
		}
		healthy()
		if err := changed(st); err != nil {
			return &callbackError{err}
		}
		select {
		case err := <-failed:
			return err
		case <-pausesOver(st.Pauses, time.Now(), math.MaxInt64):
		case <-wake:
		}
	}
}

// Groups lists every group whose semaphore was written, sorted by name, the
// default group first. It reads past what groups hold, so that it costs the same
// however much that is.
func (s *Store) Groups(ctx context.Context) ([]locksmith.GroupSummary, error) {
	names, err := s.groupNames(ctx)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	now := time.Now()
	var groups []locksmith.GroupSummary
	for chunk := range slices.Chunk(names, maxReads/3) {
		var ops []clientv3.Op
		for _, g := range chunk {
			ops = append(ops, clientv3.OpGet(semaphoreKey(g)),
				clientv3.OpGet(queuePrefix(g), clientv3.WithPrefix(), clientv3.WithCountOnly()))
		}
		scopes := scopesOf(chunk, "")[:len(chunk)+1] // but that of a machine
		resp, err := s.read(ctx, append(ops, policyOps(scopes)...))
		if err != nil {
			return nil, s.explain(ctx, err)
		}
		ps := parsePolicies(scopes, resp.Responses[len(ops):])
		all := ps[len(chunk):]
		for i, g := range chunk {
			sum := locksmith.GroupSummary{Group: g, Waiting: int(resp.Responses[2*i+1].GetResponseRange().Count)}
			kv := first(resp.Responses[2*i])
			if kv == nil && sum.Waiting == 0 {
				continue
			}
			sem := locksmith.NewSemaphore()
			if kv != nil {
				sem, _, sum.Err = parseSemaphore(kv)
			}
			sum.Max, sum.Held = sem.Max, len(sem.Holders)
			sum.Paused = ps[i:i+1].err(now) != nil || all.err(now) != nil
			groups = append(groups, sum)
		}
	}
	slices.SortFunc(groups, func(a, b locksmith.GroupSummary) int { return cmp.Compare(a.Group, b.Group) })
	return groups, nil
}

// groupNames lists every group of which anything is stored, the default group first
// and always. Its error is etcd's own.
func (s *Store) groupNames(ctx context.Context) ([]locksmith.Group, error) {
	names := []locksmith.Group{""}
	for from, end := groupsPrefix, clientv3.GetPrefixRangeEnd(groupsPrefix); ; {
		resp, err := s.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		kv := head(resp.Kvs)
		if kv == nil {
			break
		}
		escaped, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), groupsPrefix), "/")
		from = clientv3.GetPrefixRangeEnd(groupsPrefix + escaped + "/")
		if name, err := url.QueryUnescape(escaped); err == nil && name != "" {
			names = append(names, locksmith.Group(name))
		}
	}
	return names, nil
}
