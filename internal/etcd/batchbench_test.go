package etcd

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/embedded"
)

// connections is how many clients ask at the same time.
const connections = 64

// durable is a store on an embedded etcd that syncs what it writes, in this process.
func durable(b *testing.B) (*Store, *clientv3.Client) {
	b.Helper()
	srv, err := embedded.Start(b.Context(), embedded.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(srv.Close)
	s := dial(b, srv.Endpoint())
	cl, err := s.client()
	if err != nil {
		b.Fatal(err)
	}
	return s, cl
}

// measure runs b.N calls of do from as many goroutines as there are connections, and
// reports the rate and the slowest of a hundred.
func measure(b *testing.B, do func(conn, i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	took := make([][]time.Duration, connections)
	b.ResetTimer()
	for conn := range connections {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				began := time.Now()
				if err := do(conn, int(i)); err != nil {
					b.Error(err)
					return
				}
				took[conn] = append(took[conn], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// Repeated requests of holders, and beside them the same number of plain reads.
func BenchmarkBatchRepeat(b *testing.B) {
	b.Run("requests", func(b *testing.B) {
		s, _ := durable(b)
		batcher := newBatcher(b, s)
		setMax(b, s, "g", connections)
		for conn := range connections {
			batcher.get(b, "g", fmt.Sprint("m", conn))
		}
		measure(b, func(conn, _ int) error {
			return batcher.Acquire(b.Context(), asks(fmt.Sprint("m", conn), "g"), time.Minute)
		})
	})
	b.Run("floor", func(b *testing.B) {
		_, cl := durable(b)
		measure(b, func(conn, _ int) error {
			_, err := cl.Get(b.Context(), semaphoreKey("g"))
			return err
		})
	})
}

// Complete cycles of distinct machines, and beside them as many pairs of plain
// transactions.
func BenchmarkBatchCycle(b *testing.B) {
	b.Run("requests", func(b *testing.B) {
		s, _ := durable(b)
		batcher := newBatcher(b, s)
		setMax(b, s, "g", 1_000_000)
		measure(b, func(_, i int) error {
			m := fmt.Sprint("machine-", i)
			if err := batcher.Acquire(b.Context(), asks(m, "g"), time.Minute); err != nil {
				return err
			}
			return batcher.Release(b.Context(), "g", m, locksmith.Result{Outcome: "steady"})
		})
	})
	b.Run("floor", func(b *testing.B) {
		_, cl := durable(b)
		measure(b, func(_, i int) error {
			key := holderKey("g", fmt.Sprint("machine-", i))
			if _, err := cl.Txn(b.Context()).Then(clientv3.OpPut(key, "{}")).Commit(); err != nil {
				return err
			}
			_, err := cl.Txn(b.Context()).Then(clientv3.OpDelete(key)).Commit()
			return err
		})
	})
}

// Handoffs while some wait: how many must not matter.
func BenchmarkBatchHandoff(b *testing.B) {
	for _, waiting := range []int{10, 5000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			s, _ := durable(b)
			batcher := newBatcher(b, s)
			setMax(b, s, "g", 1)
			batcher.get(b, "g", "holder")
			granted := make(chan string)
			stop := make(chan struct{})
			serial := 0
			wait := func() {
				m := fmt.Sprint("m", serial)
				serial++
				go func() {
					if batcher.Acquire(b.Context(), asks(m, "g"), time.Hour) == nil {
						select {
						case granted <- m:
						case <-stop:
						}
					}
				}()
			}
			for range waiting {
				wait()
			}
			awaitQueue(b, s, "g", waiting)
			holder := "holder"
			b.ResetTimer()
			for range b.N {
				batcher.put(b, "g", holder)
				holder = <-granted
				b.StopTimer()
				wait()
				awaitWaiting(b, batcher, "g", waiting)
				b.StartTimer()
			}
			b.StopTimer()
			close(stop)
		})
	}
}
