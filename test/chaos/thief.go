package chaos

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// thief is a broken lock: it takes slots without a comparison, as a careless client
// would, and without a look at whether one is free.
type thief struct {
	agent.Lock
	client *clientv3.Client
}

// Acquire reads, adds the machine and writes.
func (t *thief) Acquire(ctx context.Context, req locksmith.Request, _ func(string)) (locksmith.Slots, error) {
	record := locksmith.Holder{
		MachineID: req.MachineID, StartTime: time.Now().Unix(), BootID: req.BootID, Hostname: req.Hostname,
		Groups: req.Groups, Phase: locksmith.PhaseAcquired, By: req.By, Nonce: locksmith.NewNonce(), Reason: req.Reason,
	}
	doc, err := json.Marshal(record)
	if err != nil {
		return locksmith.Slots{}, err
	}
	var ops []clientv3.Op
	for _, g := range req.Groups {
		resp, err := t.client.Get(ctx, base(g)+"/semaphore")
		if err != nil {
			return locksmith.Slots{}, err
		}
		sem := locksmith.NewSemaphore()
		if len(resp.Kvs) > 0 {
			if sem, _, err = locksmith.ParseSemaphore(resp.Kvs[0].Value); err != nil {
				return locksmith.Slots{}, err
			}
		}
		sem.Holders = append(sem.Holders, req.MachineID)
		slices.Sort(sem.Holders)
		sem.Holders = slices.Compact(sem.Holders)
		sem.Semaphore = sem.Max - len(sem.Holders)
		ops = append(ops, clientv3.OpPut(base(g)+"/semaphore", sem.Document()),
			clientv3.OpPut(base(g)+"/holders/"+req.MachineID, string(doc)))
	}
	resp, err := t.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return locksmith.Slots{}, err
	}
	return locksmith.Slots{Groups: req.Groups, Record: record, Revision: resp.Header.Revision}, nil
}
