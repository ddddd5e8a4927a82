package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// startEtcd runs an etcd of its own, as a process, for one measurement: leases of
// machines that are gone would otherwise end during the next one.
func (s *scale) startEtcd() (*etcdtest.Server, error) {
	dir, err := os.MkdirTemp(s.dir, "etcd-")
	if err != nil {
		return nil, err
	}
	return etcdtest.New(etcdtest.Debian, dir, "--enable-pprof")
}

// dial is a connection to it of a machine's own, as a daemon's.
func dial(server *etcdtest.Server) (*etcd.Store, error) {
	return etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}, Timeout: time.Minute})
}

// counts are what etcd says of itself at one moment.
type counts struct {
	requests   float64 // messages received, but for keep-alives
	keepAlives float64
	watches    float64
	resident   float64 // bytes
	heap       float64 // bytes in use
	stacks     float64 // bytes
	stored     float64 // bytes of the database that are in use
	cpu        float64 // seconds
}

// collected are counts after etcd has collected its garbage.
func collected(ctx context.Context, server *etcdtest.Server) (counts, error) {
	if _, err := fetch(ctx, server.Endpoint+"/debug/pprof/heap?gc=1"); err != nil {
		return counts{}, err
	}
	return countsOf(ctx, server)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// countsOf reads etcd's own metrics.
func countsOf(ctx context.Context, server *etcdtest.Server) (c counts, err error) {
	metrics, err := fetch(ctx, server.Endpoint+"/metrics")
	if err != nil {
		return c, err
	}
	lines := bufio.NewScanner(bytes.NewReader(metrics))
	for lines.Scan() {
		if err := c.add(lines.Text()); err != nil {
			return c, err
		}
	}
	return c, lines.Err()
}

// add takes in one line of the metrics, where it is one that counts.
func (c *counts) add(line string) error {
	metric, value, _ := strings.Cut(line, " ")
	name, labels, _ := strings.Cut(metric, "{")
	var to *float64
	switch name {
	case "grpc_server_msg_received_total":
		to = &c.requests
		if strings.Contains(labels, `"LeaseKeepAlive"`) {
			to = &c.keepAlives
		}
	case "etcd_debugging_mvcc_watcher_total":
		to = &c.watches
	case "process_resident_memory_bytes":
		to = &c.resident
	case "go_memstats_heap_alloc_bytes":
		to = &c.heap
	case "go_memstats_stack_inuse_bytes":
		to = &c.stacks
	case "etcd_mvcc_db_total_size_in_use_in_bytes":
		to = &c.stored
	case "process_cpu_seconds_total":
		to = &c.cpu
	default:
		return nil
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("metric %q: %w", line, err)
	}
	*to += v
	return nil
}

// await repeats ok every pause until it is true, for as long as the part may take.
func (s *scale) await(ctx context.Context, what string, pause time.Duration, ok func() (bool, error)) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		done, err := ok()
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if done {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// pass lets time go by.
func (s *scale) pass(ctx context.Context, d time.Duration) error {
	from := time.Now()
	return s.await(ctx, "time to pass", d, func() (bool, error) { return time.Since(from) >= d, nil })
}

// quiet returns what etcd says once it was asked for nothing but keep-alives for a while:
// longer than it takes a presence to be written.
func (s *scale) quiet(ctx context.Context, server *etcdtest.Server) (last counts, err error) {
	const long = 3 * time.Second
	since := time.Now()
	err = s.await(ctx, "etcd to be left alone", 500*time.Millisecond, func() (bool, error) {
		now, err := countsOf(ctx, server)
		if now.requests != last.requests {
			since = time.Now()
		}
		last = now
		return time.Since(since) > long, err
	})
	return last, err
}
