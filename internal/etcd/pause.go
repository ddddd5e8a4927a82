package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// maxReason bounds the reason of a pause, in bytes: it is shown in one line.
const maxReason = 500

// Pause keeps everybody in the scope of p from starting a reboot until it is resumed
// or over, in place of an earlier pause of the same scope. It needs a reason, in one
// line, and refuses a time that is past; an At of 0 is the present. Machines that are
// on their way down already are not held up.
//
// The history of a group tells of it, for all groups that of each, and for a machine
// that of those groups it is known to be in. It returns an
// *locksmith.UnreadableError where the policy cannot be understood.
func (s *Store) Pause(ctx context.Context, p locksmith.Pause) error {
	now := time.Now()
	if err := checkPause(p, now); err != nil {
		return err
	}
	if p.At == 0 {
		p.At = now.Unix()
	}
	next := pauseDoc{By: p.By, At: p.At, Until: p.Until, Reason: p.Reason}
	return s.changePause(ctx, pauseChange{
		scope: p.Scope, action: locksmith.ActionPause, actor: p.By, reason: p.Reason,
		decide: func(c *pauseChange, now *pauseDoc) (*pauseDoc, error) {
			if now != nil && *now == next { // an earlier try wrote it
				return nil, errNoChange
			}
			return &next, nil
		},
	})
}

// Resume ends the pause of a scope before its time. It returns
// locksmith.ErrNotPaused if there is none, or one that is over, and an
// *locksmith.UnreadableError where the policy cannot be understood.
func (s *Store) Resume(ctx context.Context, scope locksmith.PauseScope, actor string) error {
	if err := checkScope(scope); err != nil {
		return err
	}
	return s.changePause(ctx, pauseChange{
		scope: scope, action: locksmith.ActionResume, actor: actor,
		decide: func(c *pauseChange, now *pauseDoc) (*pauseDoc, error) {
			switch {
			case now != nil && (locksmith.Pause{Until: now.Until}).Active(time.Now()):
				c.reason = now.Reason
				return nil, nil
			case c.sent:
				return nil, errNoChange
			}
			return nil, fmt.Errorf("%s: %w", scope, locksmith.ErrNotPaused)
		},
	})
}

func checkPause(p locksmith.Pause, now time.Time) error {
	if err := checkScope(p.Scope); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(p.Reason) == "":
		return errors.New("a pause needs a reason, for those who wait")
	case len(p.Reason) > maxReason:
		return fmt.Errorf("the reason of the pause is %d bytes long, at most %d are allowed", len(p.Reason), maxReason)
	case strings.ContainsFunc(p.Reason+p.By, unicode.IsControl):
		return fmt.Errorf("the reason of the pause must be one line: %q", p.Reason)
	case !p.Active(now) || p.Until < 0:
		return fmt.Errorf("a pause until %s would be over already", time.Unix(p.Until, 0).Format(time.DateTime+" MST"))
	case p.At < 0:
		return errors.New("a pause must not begin before 1970")
	}
	return nil
}

func checkScope(scope locksmith.PauseScope) error {
	switch {
	case scope.All && (scope.Machine != "" || scope.Group != ""), scope.Machine != "" && scope.Group != "":
		return errors.New("a pause is for all groups, one group or one machine: choose one of them")
	case scope.All:
		return nil
	case scope.Machine != "":
		return locksmith.CheckMachineID(scope.Machine)
	}
	_, err := locksmith.ParseGroup(string(scope.Group))
	return err
}

// errNoChange: what is stored is as it shall be.
var errNoChange = errors.New("nothing to change")

// pauseChange is one change of one policy's pause, with its retries.
type pauseChange struct {
	scope         locksmith.PauseScope
	action        locksmith.Action
	actor, reason string

	// decide is the pause to be, nil for none, after the one that is; or
	// errNoChange.
	decide func(c *pauseChange, now *pauseDoc) (*pauseDoc, error)

	sent     bool // a change was sent, so that what is stored may be its effect
	told     bool // the history was written with it
	groups   []locksmith.Group
	hostname string
}

func (s *Store) changePause(ctx context.Context, c pauseChange) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	lost := false
	err := s.insist(ctx, &lost, func(ctx context.Context) error { return c.once(ctx, s, &lost) })
	if err != nil || !c.sent || c.told {
		return err
	}
	// The policy is in force by now; that its scope is large must not delay it.
	if c.scope.All {
		c.groups, err = s.groupNames(ctx)
	}
	if err == nil {
		err = s.record(ctx, c.groups, c.entry())
	}
	if err != nil {
		return fmt.Errorf("%s of %s is in force, but not the history of every group says so: %w", c.action, c.scope, s.explain(ctx, err))
	}
	return nil
}

func (c *pauseChange) entry() historyDoc {
	return historyDoc{Time: time.Now(), Actor: c.actor, Action: c.action, Machine: c.scope.Machine, Hostname: c.hostname, Outcome: c.reason}
}

// ops read the policy and beside it, for a group, the semaphore, or, for a machine,
// what is known of it.
func (c *pauseChange) ops() []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpGet(policyKey(c.scope))}
	switch {
	case c.scope.All:
	case c.scope.Machine != "":
		ops = append(ops, clientv3.OpGet(presenceKey(c.scope.Machine)), clientv3.OpGet(seenKey(c.scope.Machine)))
	default:
		ops = append(ops, clientv3.OpGet(semaphoreKey(c.scope.Group)))
	}
	return ops
}

// once reads and writes until it is not in somebody else's way. lost tells insist
// that the reply to a change may have been lost.
func (c *pauseChange) once(ctx context.Context, s *Store, lost *bool) error {
	resp, err := s.read(ctx, c.ops())
	for err == nil {
		kvs := make([]*mvccpb.KeyValue, len(resp.Responses))
		for i, r := range resp.Responses {
			kvs[i] = first(r)
		}
		cmps, then, planErr := c.plan(s, kvs)
		if errors.Is(planErr, errNoChange) {
			return nil
		}
		if planErr != nil {
			return planErr
		}
		before := c.sent
		c.sent, *lost = true, true
		if resp, err = s.change(ctx, cmps, then, c.ops()); err != nil {
			c.sent = before || !refused(err)
			return err
		}
		if *lost = false; resp.Succeeded {
			return nil
		}
		c.sent = before
	}
	return err
}

// plan is the transaction that follows from what is stored, in the order of ops.
func (c *pauseChange) plan(s *Store, kvs []*mvccpb.KeyValue) (cmps []clientv3.Cmp, then []clientv3.Op, err error) {
	key := policyKey(c.scope)
	doc, err := decodePolicy(kvs[0])
	if err != nil {
		return nil, nil, err
	}
	next, err := c.decide(c, doc.pause)
	if err != nil {
		return nil, nil, err
	}
	cmps = policies{parsePolicy(c.scope, kvs[0])}.unchanged()
	put := clientv3.OpDelete(key)
	if text := doc.document(next); text != "" {
		put = clientv3.OpPut(key, text)
	}
	then = []clientv3.Op{put}
	switch {
	case c.scope.All:
	case c.scope.Machine != "":
		if p := newest(kvs[1], kvs[2]); p != nil {
			c.groups, c.hostname = p.Groups, p.Hostname
		}
	default:
		gv := groupView{group: c.scope.Group}
		gv.setSemaphore(s, kvs[1])
		c.told = true
		if gv.semErr == nil { // a pause must be possible whatever else is broken
			cmps = append(cmps, gv.unchanged())
			then = append(then, gv.write(gv.sem, c.entry())...)
		}
	}
	return cmps, then, nil
}

// record writes an entry into the history of those groups whose semaphores exist.
func (s *Store) record(ctx context.Context, groups []locksmith.Group, entry historyDoc) error {
	for chunk := range slices.Chunk(groups, maxReads/2) {
		ops := opsFor(chunk, func(g locksmith.Group) clientv3.Op { return clientv3.OpGet(semaphoreKey(g)) })
		resp, err := s.read(ctx, ops)
		for done := false; !done; done = resp.Succeeded {
			if err != nil {
				return err
			}
			var cmps []clientv3.Cmp
			var then []clientv3.Op
			for i, g := range chunk {
				gv := groupView{group: g}
				gv.setSemaphore(s, first(resp.Responses[i]))
				if gv.semErr == nil && gv.semRev > 0 {
					cmps = append(cmps, gv.unchanged())
					then = append(then, gv.write(gv.sem, entry)...)
				}
			}
			if len(then) == 0 {
				break
			}
			if resp, err = s.change(ctx, cmps, then, ops); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pauses reads all pauses that are active: of all groups, then of groups and of
// machines, each sorted. A policy that cannot be read counts as a pause whose reason
// says so.
func (s *Store) Pauses(ctx context.Context) ([]locksmith.Pause, error) {
	names, err := s.groupNames(ctx)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	slices.Sort(names)
	scopes := []locksmith.PauseScope{{All: true}}
	for _, g := range names {
		scopes = append(scopes, locksmith.PauseScope{Group: g})
	}
	var all policies
	for chunk := range slices.Chunk(scopes, maxReads) {
		resp, err := s.read(ctx, policyOps(chunk))
		if err != nil {
			return nil, s.explain(ctx, err)
		}
		all = append(all, parsePolicies(chunk, resp.Responses)...)
	}
	_, err = s.pages(ctx, machinePolicyPrefix(), 0, func(kv *mvccpb.KeyValue) {
		if machine, ok := machineAt(machinePolicyPrefix(), kv.Key); ok {
			all = append(all, parsePolicy(locksmith.PauseScope{Machine: machine}, kv))
		}
	})
	return all.active(time.Now()), s.explain(ctx, err)
}

// pageSize bounds how many keys one request for many reads.
const pageSize = 1000

// pages calls each for every key below a prefix, sorted, all at one revision, which it
// returns; 0: the present one. Its error is etcd's own.
func (s *Store) pages(ctx context.Context, below string, revision int64, each func(*mvccpb.KeyValue)) (int64, error) {
	for from, end := below, clientv3.GetPrefixRangeEnd(below); ; {
		resp, err := s.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
		if err != nil {
			return revision, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			each(kv)
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return revision, nil
		}
	}
}

// machineAt is the machine of a key that is the prefix and an escaped machine id.
func machineAt(below string, key []byte) (machine string, ok bool) {
	escaped, ok := strings.CutPrefix(string(key), below)
	machine, err := url.QueryUnescape(escaped)
	return machine, ok && err == nil && machine != ""
}

// FollowPauses calls changed with the pauses that hold for machine and groups, at
// once and after each change, until ctx ends, and returns its cause. A policy that
// cannot be read counts as a pause whose reason says so. It survives etcd being
// away: what changed meanwhile comes as one.
func (s *Store) FollowPauses(ctx context.Context, machine string, groups []locksmith.Group, changed func([]locksmith.Pause)) error {
	var last []locksmith.Pause
	known, failing := false, false
	back := newRetry()
	for {
		err := s.followPolicies(ctx, scopesOf(groups, machine), func(ps policies) error {
			back, failing = newRetry(), false
			if active := ps.active(time.Now()); !known || !slices.Equal(active, last) {
				known, last = true, active
				changed(slices.Clone(active))
			}
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = s.explain(ctx, err); !failing {
			s.log.Warn("pauses not followed, trying again", "machine", machine, "error", err)
		}
		failing = true
		if !back.sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}
