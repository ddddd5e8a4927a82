package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// policy is what a policy document says, as last read.
type policy struct {
	scope locksmith.PauseScope
	rev   int64            // ModRevision of its key, 0: there is none
	pause *locksmith.Pause // nil: none; may be over
}

// policies are all that hold for one machine, in the order of scopesOf.
type policies []policy

// scopesOf are the scopes of the policies that hold for a machine of these groups.
func scopesOf(groups []locksmith.Group, machine string) []locksmith.PauseScope {
	scopes := make([]locksmith.PauseScope, 0, len(groups)+2)
	for _, g := range groups {
		scopes = append(scopes, locksmith.PauseScope{Group: g})
	}
	return append(scopes, locksmith.PauseScope{All: true}, locksmith.PauseScope{Machine: machine})
}

func policyOps(scopes []locksmith.PauseScope) []clientv3.Op {
	ops := make([]clientv3.Op, len(scopes))
	for i, s := range scopes {
		ops[i] = clientv3.OpGet(policyKey(s))
	}
	return ops
}

func parsePolicies(scopes []locksmith.PauseScope, responses []*pb.ResponseOp) policies {
	ps := make(policies, len(scopes))
	for i, s := range scopes {
		ps[i] = parsePolicy(s, first(responses[i]))
	}
	return ps
}

// parsePolicy reads the policy of a scope; nil: there is none. One that cannot be
// understood may well be a pause, and holds as one: its reason says what is wrong.
func parsePolicy(scope locksmith.PauseScope, kv *mvccpb.KeyValue) policy {
	p := policy{scope: scope}
	if kv == nil {
		return p
	}
	p.rev = kv.ModRevision
	doc, err := decodePolicy(kv)
	switch {
	case err != nil:
		p.pause = &locksmith.Pause{Scope: scope, Reason: err.Error()}
	case doc.pause != nil:
		p.pause = &locksmith.Pause{Scope: scope, By: doc.pause.By, At: doc.pause.At, Until: doc.pause.Until, Reason: doc.pause.Reason}
	}
	return p
}

// policyDoc is a policy document. Fields other than the pause are kept as they are:
// a newer client's must not be dropped.
type policyDoc struct {
	fields map[string]json.RawMessage
	pause  *pauseDoc
}

// pauseDoc is the stored form of locksmith.Pause, whose scope is the key's.
type pauseDoc struct {
	By     string `json:"by,omitempty"`
	At     int64  `json:"at"`
	Until  int64  `json:"until,omitempty"`
	Reason string `json:"reason,omitempty"`
}

const pauseField = "pause"

// decodePolicy reads a document; nil: an empty one. Its error is an
// *locksmith.UnreadableError.
func decodePolicy(kv *mvccpb.KeyValue) (policyDoc, error) {
	if kv == nil {
		return policyDoc{}, nil
	}
	var doc policyDoc
	err := json.Unmarshal(kv.Value, &doc.fields)
	if err == nil && doc.fields == nil {
		err = errors.New("not a policy: null")
	}
	if raw, ok := doc.fields[pauseField]; ok && err == nil {
		err = json.Unmarshal(raw, &doc.pause)
	}
	if err == nil && doc.pause != nil && min(doc.pause.At, doc.pause.Until) < 0 {
		err = errors.New("not a policy: a time before 1970")
	}
	if err != nil {
		return policyDoc{}, &locksmith.UnreadableError{Key: string(kv.Key), Err: err}
	}
	return doc, nil
}

// document is the stored form with another pause, nil: none. It is empty where
// nothing would be left.
func (d policyDoc) document(pause *pauseDoc) string {
	fields := make(map[string]json.RawMessage, len(d.fields)+1)
	for name, value := range d.fields {
		if name != pauseField {
			fields[name] = value
		}
	}
	if pause != nil {
		fields[pauseField] = json.RawMessage(mustJSON(pause))
	}
	if len(fields) == 0 {
		return ""
	}
	return mustJSON(fields)
}

// unchanged compares each policy with what was read.
func (ps policies) unchanged() []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, len(ps))
	for i, p := range ps {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(policyKey(p.scope)), "=", p.rev)
	}
	return cmps
}

// active are the pauses that hold at now.
func (ps policies) active(now time.Time) []locksmith.Pause {
	var active []locksmith.Pause
	for _, p := range ps {
		if p.pause != nil && p.pause.Active(now) {
			active = append(active, *p.pause)
		}
	}
	return active
}

// err is a *locksmith.PausedError while a pause holds, nil otherwise.
func (ps policies) err(now time.Time) error {
	if active := ps.active(now); len(active) > 0 {
		return &locksmith.PausedError{Pauses: active}
	}
	return nil
}

// everywhere says whether no group is left in which anybody could start a reboot
// at now, so that who waits there is in nobody's way.
func (ps policies) everywhere(now time.Time) bool {
	groups, paused := 0, 0
	for _, p := range ps {
		active := p.pause != nil && p.pause.Active(now)
		switch {
		case p.scope.All && active:
			return true
		case p.scope.All, p.scope.Machine != "":
		default:
			groups++
			if active {
				paused++
			}
		}
	}
	return groups == paused
}

// clockCheck is how often the clock is looked at while a pause is to end by itself:
// it may be set meanwhile.
const clockCheck = time.Minute

// over fires when the next pause ends by itself, or at the next look at the clock
// before that; nil: none does.
func (ps policies) over(now time.Time) <-chan time.Time {
	return pausesOver(ps.active(now), now, clockCheck)
}

// pausesOver fires when the next of the pauses ends by itself, or after limit if that
// is earlier; nil: none does.
func pausesOver(pauses []locksmith.Pause, now time.Time, limit time.Duration) <-chan time.Time {
	var next time.Duration
	for _, p := range pauses {
		if p.Until == 0 {
			continue
		}
		if d := max(1, min(time.Unix(p.Until, 0).Sub(now), limit)); next == 0 || d < next {
			next = d
		}
	}
	if next == 0 {
		return nil
	}
	return time.After(next)
}

// apply takes in a change of one policy, unless it is older than what was read at
// revision.
func (ps policies) apply(c change, revision int64) {
	kv := c.policy.Kv
	switch p := &ps[c.index]; {
	case kv.ModRevision <= revision:
	case c.policy.Type == clientv3.EventTypeDelete:
		*p = parsePolicy(p.scope, nil)
	default:
		*p = parsePolicy(p.scope, kv)
	}
}

// policyCache remembers policies as last seen, so that a change can name their
// revisions without a look before it. One that is outdated costs that look.
type policyCache struct {
	mu   sync.Mutex
	docs map[string]policy // by key; only those that exist
}

func (c *policyCache) saw(ps policies) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ps {
		if key := policyKey(p.scope); p.rev == 0 {
			delete(c.docs, key)
		} else {
			if c.docs == nil {
				c.docs = make(map[string]policy)
			}
			c.docs[key] = p
		}
	}
}

func (c *policyCache) last(scopes []locksmith.PauseScope) policies {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps := make(policies, len(scopes))
	for i, s := range scopes {
		ps[i] = policy{scope: s}
		if p, ok := c.docs[policyKey(s)]; ok {
			ps[i] = p
		}
	}
	return ps
}

// followPolicies calls seen with the policies of scopes: at once, after each change
// of one, and when a pause has ended by itself, until ctx ends, seen fails or etcd is
// away.
func (s *Store) followPolicies(ctx context.Context, scopes []locksmith.PauseScope, seen func(policies) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan change)
	for i, scope := range scopes {
		events, err := s.watch(ctx, policyKey(scope))
		if err != nil {
			return err
		}
		go forward(ctx, events, changes, func(ev *clientv3.Event) change { return change{policy: ev, index: i} })
	}
	resp, err := s.read(ctx, policyOps(scopes))
	if err != nil {
		return err
	}
	ps := parsePolicies(scopes, resp.Responses)
	for {
		s.policies.saw(ps)
		if err := seen(slices.Clone(ps)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ps.over(time.Now()):
		case c := <-changes:
			if c.err != nil {
				return c.err
			}
			ps.apply(c, resp.Header.Revision)
		}
	}
}
