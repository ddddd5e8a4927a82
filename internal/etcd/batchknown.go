package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
)

// known is what a desk has last seen of its group. Every decision compares what it rests
// on, so that what is outdated costs another look and nothing else.
type known struct {
	fresh bool // false: read before anything is decided
	sem   groupView
	rev   int64 // of the store, at which the semaphore was so

	policiesRev int64 // of the store, at which the policies were read
	watched     bool  // changes were told since, each by a watch of its own: one may be older than another
	group, all  policy
	machines    map[string]policy // of machines, those that exist

	holders map[string]holding // as long as the semaphore is the same
}

// holding is the record of a holder that somebody asked for.
type holding struct {
	record *locksmith.Holder // nil: none, or unreadable
	rev    int64             // its ModRevision, 0: none
	err    error             // it is unreadable
}

// foreign says whether somebody else than a client of ours holds the slot, and who. Old
// clients, which say nothing of themselves, took theirs for a reboot.
func (h holding) foreign() (by string, ok bool) {
	if h.record == nil || h.record.By == locksmith.ByFleetLock || h.record.By == "" {
		return "", false
	}
	return h.record.By, true
}

// policiesOf are those that hold for a machine.
func (k *known) policiesOf(machine string) policies {
	own, ok := k.machines[machine]
	if !ok {
		own = policy{scope: locksmith.PauseScope{Machine: machine}}
	}
	return policies{k.group, k.all, own}
}

// setSemaphore takes the semaphore in; nil: there is none.
func (d *desk) setSemaphore(kv *mvccpb.KeyValue) {
	var rev int64
	if kv != nil {
		rev = kv.ModRevision
	}
	k := &d.known
	if k.sem.semRev == rev && k.holders != nil {
		return
	}
	k.sem.group = d.group
	k.sem.setSemaphore(d.store, kv)
	k.holders = make(map[string]holding)
	d.review = true
}

// basics are the reads that tell what every decision rests on.
func (d *desk) basics() []clientv3.Op {
	return append(policyOps([]locksmith.PauseScope{{Group: d.group}, {All: true}}),
		clientv3.OpGet(machinePolicyPrefix(), clientv3.WithPrefix()),
		clientv3.OpGet(semaphoreKey(d.group)))
}

const basicsLen = 4

// take takes in what basics have read at revision rev, unless it is older than what is
// known.
func (d *desk) take(rev int64, r []*pb.ResponseOp) {
	k := &d.known
	if rev < k.rev {
		return
	}
	k.fresh, k.rev, k.policiesRev, k.watched = true, rev, rev, false
	k.group = parsePolicy(locksmith.PauseScope{Group: d.group}, first(r[0]))
	k.all = parsePolicy(locksmith.PauseScope{All: true}, first(r[1]))
	k.machines = nil
	for _, kv := range r[2].GetResponseRange().GetKvs() {
		d.setMachinePolicy(kv, false)
	}
	d.setSemaphore(first(r[3]))
}

func (d *desk) setMachinePolicy(kv *mvccpb.KeyValue, gone bool) {
	machine, ok := machineAt(machinePolicyPrefix(), kv.Key)
	if !ok {
		return
	}
	if gone {
		delete(d.known.machines, machine)
		return
	}
	if d.known.machines == nil {
		d.known.machines = make(map[string]policy)
	}
	d.known.machines[machine] = parsePolicy(locksmith.PauseScope{Machine: machine}, kv)
}

// look reads everything anew, with the records of some machines; false: etcd is away.
func (d *desk) look(machines []string) bool {
	ops := d.basics()
	for _, m := range machines {
		ops = append(ops, clientv3.OpGet(holderKey(d.group, m)))
	}
	resp, err := d.exchange(false, func() (*clientv3.TxnResponse, error) {
		return d.store.txn(context.Background(), nil, ops, nil)
	})
	if err != nil {
		return false
	}
	d.take(resp.Header.Revision, resp.Responses[:basicsLen])
	for i, m := range machines {
		var h holding
		if kv := first(resp.Responses[basicsLen+i]); kv != nil {
			h.rev = kv.ModRevision
			h.record, h.err = parseHolder(kv)
		}
		d.known.holders[m] = h
	}
	return true
}

// told takes in what the watches tell of the semaphore and the policies.
func (d *desk) told(ev *clientv3.Event) {
	k, kv := &d.known, ev.Kv
	gone := ev.Type == clientv3.EventTypeDelete
	stored := kv
	if gone {
		stored = nil
	}
	switch key := string(kv.Key); {
	case !k.fresh:
	case key == semaphoreKey(d.group):
		if kv.ModRevision > k.rev {
			k.rev = kv.ModRevision
			d.setSemaphore(stored)
		}
	case kv.ModRevision > k.policiesRev:
		k.watched = true
		switch key {
		case policyKey(k.group.scope):
			k.group = parsePolicy(k.group.scope, stored)
		case policyKey(k.all.scope):
			k.all = parsePolicy(k.all.scope, stored)
		default:
			d.setMachinePolicy(kv, gone)
		}
	}
}
