package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith"
)

// storePrefix is where everything of locksmith's is in etcd: a contract, docs/design.md.
const storePrefix = "coreos.com/updateengine/rebootlock/"

// lookLimit bounds one question of a sample.
const lookLimit = 5 * time.Second

// sampler takes samples.
type sampler struct {
	server    *server
	processes []*process
	ledger    *ledger
	groups    []locksmith.Group
	rec       *recorder

	client *clientv3.Client
	pages  *http.Client // of etcd
}

func newSampler(s *server, l *ledger, groups []locksmith.Group, rec *recorder) (*sampler, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.etcd}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	pages := &http.Client{Timeout: lookLimit, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket)
		}}}
	return &sampler{server: s, ledger: l, groups: groups, rec: rec, client: client, pages: pages}, nil
}

func (s *sampler) close() error { return s.client.Close() }

// take takes a sample. What cannot be had at the moment is left out.
func (s *sampler) take(ctx context.Context, phase string) sample {
	now := sample{At: s.rec.now(), Phase: phase, Values: make(map[string]float64), Lives: make(map[string]int)}
	for _, p := range append([]*process{s.server.process}, s.processes...) {
		life, pid := p.life()
		now.Lives[p.name] = life
		ofSystem(now.Values, p.name, pid)
	}
	for name, l := range s.ledger.account().stats {
		now.Values[name+".goroutines"], now.Values[name+".heap"] = float64(l.Goroutines), float64(l.Heap)
	}
	_ = s.metrics(ctx, s.server.http, "http://"+s.server.listen+"/metrics", serverMetrics, now.Values)
	_ = s.metrics(ctx, s.pages, "http://etcd/metrics", etcdMetrics, now.Values)
	_ = s.counts(ctx, now.Values)
	s.rec.sample(now)
	return now
}

// ofSystem is what the system knows of a process: bytes, and open files.
func ofSystem(values map[string]float64, name string, pid int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return
	}
	for l := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(l, ":")
		what := map[string]string{"VmRSS": "resident", "RssAnon": "own"}[key]
		kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if what != "" && err == nil {
			values[name+"."+what] = kb * 1024
		}
	}
	if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		values[name+".files"] = float64(len(files))
	}
}

// Which metrics are which values. Those with labels are added up.
var (
	serverMetrics = map[string]string{"go_goroutines": "server.goroutines", "go_memstats_heap_alloc_bytes": "server.heap"}
	etcdMetrics   = map[string]string{
		"etcd_debugging_mvcc_watcher_total":       "etcd.watchers",
		"etcd_debugging_mvcc_watch_stream_total":  "etcd.streams",
		"etcd_debugging_mvcc_slow_watcher_total":  "etcd.slow",
		"etcd_mvcc_db_total_size_in_bytes":        "etcd.size",
		"etcd_mvcc_db_total_size_in_use_in_bytes": "etcd.used",
	}
)

// metrics adds what a page of metrics says of names.
func (s *sampler) metrics(ctx context.Context, client *http.Client, url string, names map[string]string, values map[string]float64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	sums, err := readMetrics(resp.Body, names)
	if err == nil { // half a page would be half the sums
		maps.Copy(values, sums)
	}
	return err
}

func readMetrics(page io.Reader, names map[string]string) (map[string]float64, error) {
	values := make(map[string]float64)
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		metric, value, _ := strings.Cut(lines.Text(), " ")
		name, _, _ := strings.Cut(metric, "{")
		to := names[name]
		if to == "" {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", lines.Text(), err)
		}
		values[to] += v
	}
	return values, lines.Err()
}

// counts adds what etcd keeps: leases, and keys of each kind.
func (s *sampler) counts(ctx context.Context, values map[string]float64) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	leases, err := s.client.Leases(ctx)
	if err != nil {
		return err
	}
	values["etcd.leases"] = float64(len(leases.Leases))
	kinds := []struct{ what, prefix string }{{"all", ""}, {"machines", "machines/"}, {"seen", "seen/"}, {"rings", "all/history/"}, {"fences", "fences/"}}
	for _, g := range s.groups {
		base := ""
		if g != "" {
			base = "groups/" + string(g) + "/" // the names here need no escaping
		}
		kinds = append(kinds, []struct{ what, prefix string }{
			{"queue", base + "queue/"}, {"holders", base + "holders/"}, {"rings", base + "history/"}}...)
	}
	var ops []clientv3.Op
	for _, k := range kinds {
		ops = append(ops, clientv3.OpGet(storePrefix+k.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()))
	}
	resp, err := s.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	for i, k := range kinds {
		values["etcd."+k.what] += float64(resp.Responses[i].GetResponseRange().Count)
		if k.what == "rings" {
			values["etcd.ring"] = max(values["etcd.ring"], float64(resp.Responses[i].GetResponseRange().Count))
		}
	}
	// What holds while nothing is going on: neither who waits, holds or is there, nor the past,
	// nor the fence that a lease has once a reply was lost.
	values["etcd.keys"] = values["etcd.all"] - values["etcd.fences"] - values["etcd.rings"] - values["etcd.machines"] - values["etcd.queue"] - values["etcd.holders"]
	return nil
}
