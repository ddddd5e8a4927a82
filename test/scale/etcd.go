package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	return etcdtest.New(etcdtest.Debian, dir)
}

// dial is a connection to it of a machine's own, as a daemon's.
func dial(server *etcdtest.Server) (*etcd.Store, error) {
	return etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint}, Timeout: time.Minute})
}

// counts are what etcd says of itself at one moment.
type counts struct {
	requests    float64 // messages received, but for keep-alives
	keepAlives  float64
	watches     float64
	connections float64 // open files, of which all but a few are connections
	resident    float64 // bytes
	cpu         float64 // seconds
}

// countsOf reads etcd's own metrics.
func countsOf(ctx context.Context, server *etcdtest.Server) (c counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.Endpoint+"/metrics", nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("%s/metrics: %s", server.Endpoint, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
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
	case "process_open_fds":
		to = &c.connections
	case "process_resident_memory_bytes":
		to = &c.resident
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

// patience is how long anything may take that is waited for.
const patience = 4 * time.Minute

// await repeats ok every pause until it is true.
func await(ctx context.Context, what string, pause time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		done, err := ok()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if done {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for %s", what), context.Cause(ctx))
		}
	}
}

// quiet returns what etcd says once it was asked for nothing but keep-alives for a while:
// longer than it takes a presence to be written.
func quiet(ctx context.Context, server *etcdtest.Server) (last counts, err error) {
	const long = 3 * time.Second
	since := time.Now()
	err = await(ctx, "etcd to be left alone", 500*time.Millisecond, func() (bool, error) {
		now, err := countsOf(ctx, server)
		if now.requests != last.requests {
			since = time.Now()
		}
		last = now
		return time.Since(since) > long, err
	})
	return last, err
}
