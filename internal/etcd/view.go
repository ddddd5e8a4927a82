package etcd

import (
	"context"
	"encoding/json"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// groupView is what one machine needs to know of one group to decide.
type groupView struct {
	group   locksmith.Group
	sem     locksmith.Semaphore
	semRev  int64 // ModRevision of the semaphore's key, 0: not written yet
	version int64 // of that key, for the place in the history's ring
	semErr  error // the stored document is unreadable

	record    *locksmith.Holder // nil: none, or unreadable
	recordRev int64             // its ModRevision, 0: none
	recordErr error             // it is unreadable

	entryRev int64 // CreateRevision of our queue entry, 0: none
	urgent   bool  // somebody waits at a more urgent priority
}

// view is that of all groups of a request, at one revision.
type view struct {
	groups   []groupView
	policies policies // those that hold for the machine, where they were asked for
	revision int64
}

// viewer reads views. The same operations serve as a read and as the Else branch
// of a change, so that whoever lost a comparison knows at once what he lost to.
type viewer struct {
	store    *Store
	groups   []locksmith.Group
	machine  string
	priority int  // of the queue entry
	queued   bool // read the queue entry and the more urgent levels too
	reboots  bool // read the policies too
}

// scopes are those of the policies that are read.
func (v viewer) scopes() []locksmith.PauseScope {
	if !v.reboots {
		return nil
	}
	return scopesOf(v.groups, v.machine)
}

func (v viewer) perGroup() int {
	switch {
	case !v.queued:
		return 2
	case v.priority == locksmith.MinPriority:
		return 3
	}
	return 4
}

func (v viewer) ops() []clientv3.Op {
	policies := policyOps(v.scopes())
	ops := make([]clientv3.Op, 0, len(v.groups)*v.perGroup()+len(policies))
	for _, g := range v.groups {
		ops = append(ops, clientv3.OpGet(semaphoreKey(g)), clientv3.OpGet(holderKey(g, v.machine)))
		if !v.queued {
			continue
		}
		ops = append(ops, clientv3.OpGet(queueKey(g, v.priority, v.machine), clientv3.WithKeysOnly()))
		if v.priority > locksmith.MinPriority {
			from, to := urgent(g, v.priority)
			ops = append(ops, clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithLimit(1), clientv3.WithKeysOnly()))
		}
	}
	return append(ops, policies...)
}

// read makes one request, with extra operations after the view's own, whose
// responses it returns.
func (v viewer) read(ctx context.Context, extra ...clientv3.Op) (view, []*pb.ResponseOp, error) {
	ops := v.ops()
	n := len(ops)
	resp, err := v.store.read(ctx, append(ops, extra...))
	if err != nil {
		return view{}, nil, err
	}
	return v.parse(resp.Header.Revision, resp.Responses[:n]), resp.Responses[n:], nil
}

func (v viewer) parse(revision int64, responses []*pb.ResponseOp) view {
	out := view{revision: revision, groups: make([]groupView, len(v.groups))}
	n := v.perGroup()
	for i, g := range v.groups {
		r := responses[i*n : (i+1)*n]
		gv := &out.groups[i]
		gv.group = g
		gv.setSemaphore(v.store, first(r[0]))
		gv.setRecord(first(r[1]))
		if v.queued {
			if kv := first(r[2]); kv != nil {
				gv.entryRev = kv.CreateRevision
			}
			gv.urgent = n == 4 && first(r[3]) != nil
		}
	}
	out.policies = parsePolicies(v.scopes(), responses[n*len(v.groups):])
	v.store.policies.saw(out.policies)
	return out
}

// setSemaphore takes in the semaphore's key as stored; nil: there is none.
func (gv *groupView) setSemaphore(s *Store, kv *mvccpb.KeyValue) {
	gv.sem, gv.semRev, gv.version, gv.semErr = locksmith.NewSemaphore(), 0, 0, nil
	if kv == nil {
		return
	}
	gv.semRev, gv.version = kv.ModRevision, kv.Version
	var faults []string
	gv.sem, faults, gv.semErr = parseSemaphore(kv)
	for _, f := range faults {
		s.log.Warn("inconsistent semaphore, its next change mends it", "group", gv.group, "revision", kv.ModRevision, "fault", f)
	}
}

// setRecord takes in the holder record's key as stored; nil: there is none.
func (gv *groupView) setRecord(kv *mvccpb.KeyValue) {
	gv.record, gv.recordRev, gv.recordErr = nil, 0, nil
	if kv != nil {
		gv.recordRev = kv.ModRevision
		gv.record, gv.recordErr = parseHolder(kv)
	}
}

// holds says whether the machine holds a slot in the group.
func (gv groupView) holds(machine string) bool { return gv.semErr == nil && gv.sem.Holds(machine) }

// ours says whether it does so through the attempt of this nonce. Records of old
// clients have none: for them the nonce is empty.
func (gv groupView) ours(machine, nonce string) bool {
	if !gv.holds(machine) {
		return false
	}
	if gv.record == nil {
		return nonce == ""
	}
	return gv.record.Nonce == nonce
}

// unchanged compares the semaphore with what the view saw.
func (gv groupView) unchanged() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(semaphoreKey(gv.group)), "=", gv.semRev)
}

// write is the operations that store the group's new semaphore together with what
// happened.
func (gv groupView) write(sem locksmith.Semaphore, h historyDoc) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpPut(semaphoreKey(gv.group), sem.Document()),
		clientv3.OpPut(historyKey(gv.group, gv.version+1), h.document()),
	}
}

// first is the key of a read response, nil where it found none.
func first(r *pb.ResponseOp) *mvccpb.KeyValue { return head(r.GetResponseRange().GetKvs()) }

func head(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

func parseSemaphore(kv *mvccpb.KeyValue) (locksmith.Semaphore, []string, error) {
	sem, faults, err := locksmith.ParseSemaphore(kv.Value)
	if err != nil {
		err = &locksmith.UnreadableError{Key: string(kv.Key), Err: err}
	}
	return sem, faults, err
}

// parseHolder reads a holder record.
func parseHolder(kv *mvccpb.KeyValue) (*locksmith.Holder, error) {
	var h locksmith.Holder
	if err := decode(kv, &h); err != nil {
		return nil, err
	}
	if h.MachineID == "" {
		return nil, &locksmith.UnreadableError{Key: string(kv.Key), Err: errors.New("no machineID")}
	}
	return &h, nil
}

// decode reads one of our records. Fields it does not know are a newer client's
// and ignored. Its error is an *locksmith.UnreadableError.
func decode(kv *mvccpb.KeyValue, into any) error {
	if err := json.Unmarshal(kv.Value, into); err != nil {
		return &locksmith.UnreadableError{Key: string(kv.Key), Err: err}
	}
	return nil
}

// mustJSON encodes our own records, whose fields cannot fail to encode.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("etcd: a record did not marshal: " + err.Error())
	}
	return string(b)
}
