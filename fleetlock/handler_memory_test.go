package fleetlock_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// holdEnv makes the test binary a client process that holds requests: their number and
// the server's address follow as arguments of TestHoldingClients.
const holdEnv = "FLEETLOCK_TEST_HOLD"

// heldBudget is what a held request may take at the server, in bytes of heap and stacks,
// with what this test's backend takes. It is 7 to 11 KiB, as the runtime starts goroutines
// with 2 or 4 KiB of stack, and 21 KiB within net/http.
const heldBudget = 13 << 10

// parked holds requests until their contexts end.
type parked struct{ held, ended atomic.Int64 }

func (p *parked) PreReboot(ctx context.Context, _ fleetlock.Request) error {
	p.held.Add(1)
	<-ctx.Done()
	p.ended.Add(1)
	return ctx.Err()
}

func (p *parked) SteadyState(context.Context, fleetlock.Request) error { return nil }

// TestHoldingClients is not a test but the process that holds requests for one.
func TestHoldingClients(t *testing.T) {
	addr, n := os.Getenv(holdEnv), 0
	if addr == "" {
		return
	}
	n, _ = strconv.Atoi(os.Getenv(holdEnv + "_N"))
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, post(fleetlock.PreRebootPath, `{"client_params":{"id":"m`+strconv.Itoa(i)+`","group":"workers"}}`))
	}
	io.Copy(io.Discard, os.Stdin) // until the test is done
}

func TestMemoryOfHeldRequests(t *testing.T) {
	const n = 5000
	backend := new(parked)
	addr := serve(t, &fleetlock.Handler{Backend: backend}, nil)

	before, goroutines := footprint(), runtime.NumGoroutine()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldingClients$")
	cmd.Env = append(os.Environ(), holdEnv+"="+addr, holdEnv+"_N="+strconv.Itoa(n))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "all are held", func() bool { return backend.held.Load() == int64(n) })
	await(t, "none is left with net/http", func() bool { return runtime.NumGoroutine() <= goroutines+2*n })
	after := footprint()
	heap, stacks := (after.heap-before.heap)/int64(n), (after.stacks-before.stacks)/int64(n)
	t.Logf("%d held requests: %d bytes of heap and %d of stacks each, %d goroutines", n, heap, stacks, runtime.NumGoroutine())
	if heap+stacks > heldBudget {
		t.Errorf("a held request takes %d bytes, more than %d", heap+stacks, heldBudget)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	await(t, "all have ended", func() bool { return backend.ended.Load() == int64(n) })
}

type size struct{ heap, stacks int64 }

// footprint is what is in use once garbage is gone. Two collections empty the pools, and
// give stacks the size they need.
func footprint() size {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return size{int64(m.HeapInuse), int64(m.StackInuse)}
}

// BenchmarkHandler asks over 64 connections that are used again and again, as holders do
// that repeat their request.
func BenchmarkHandler(b *testing.B) {
	addr := serve(b, &fleetlock.Handler{Backend: &backend{}, Observe: func(string, int, time.Duration) {}}, nil)
	request := []byte(post(fleetlock.PreRebootPath, good))
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(p *testing.PB) {
		c := dial(b, addr)
		c.SetDeadline(time.Time{})
		for p.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil || resp.StatusCode != 200 {
				b.Error(resp, err)
				return
			}
			io.Copy(io.Discard, resp.Body)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
