package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// Callers are clients that do nothing but call the lock, each on a node of its own,
// with a group to themselves: what they are told is held against a model.
const (
	callers      = 3
	callersGroup = locksmith.Group("jobs")
	callersMax   = 2
	firstCaller  = 220
)

// call has the callers call until calling ends, and returns all calls.
func (r *run) call(ctx, calling context.Context) (calls []Call, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range callers {
		node := r.callers[i]
		store, err := etcd.Dial(etcd.Config{Endpoints: r.cluster.Endpoints(), Timeout: callTimeout, DialOptions: []grpc.DialOption{node.dialer()}})
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			defer store.Close()
			rng := rand.New(rand.NewPCG(r.Seed, uint64(i)))
			for until(calling, time.Now().Add(between(rng, 50, 150))) {
				c := carryOut(ctx, store, Call{Op: anyOp(rng), Machine: node.Name, Max: rng.IntN(callersMax + 1)})
				mu.Lock()
				calls = append(calls, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return calls, nil
}

// giveBack has each caller give back what it holds. It is called when all has settled: a
// lock without an answer, sent as a member was cut off, may reach it seconds after it is back,
// and after an unlock that found nothing. Whether that is how a caller came to its slot is
// for the model to say: these are calls like the others.
func (r *run) giveBack(ctx context.Context) error {
	for _, node := range r.callers {
		unlock := r.insist(ctx, func() error {
			c := carryOut(ctx, r.admin, Call{Op: OpUnlock, Machine: node.Name})
			r.calls = append(r.calls, c)
			return c.Err
		}, locksmith.ErrNotHolder)
		if err := unlock(); err != nil {
			return fmt.Errorf("%s: giving back what it held: %w", node.Name, err)
		}
	}
	return nil
}

func anyOp(rng *rand.Rand) string {
	return []string{OpLock, OpLock, OpUnlock, OpUnlock, OpRead, OpSetMax}[rng.IntN(6)]
}

// carryOut makes a call and notes when, and what it was told.
func carryOut(ctx context.Context, store *etcd.Store, c Call) Call {
	c.From = monotonic()
	switch c.Op {
	case OpLock:
		_, c.Err = store.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{callersGroup}, MachineID: c.Machine, By: locksmith.ByLock})
	case OpUnlock:
		c.Err = store.Unlock(ctx, callersGroup, c.Machine, locksmith.Result{Actor: c.Machine})
	case OpSetMax:
		_, c.Err = store.SetMax(ctx, callersGroup, c.Max, c.Machine)
	case OpRead:
		var sem locksmith.Semaphore
		sem, _, c.Err = store.Semaphore(ctx, callersGroup)
		c.Max, c.Holders = sem.Max, strings.Join(sem.Holders, ",")
	}
	c.To = monotonic()
	return c
}
