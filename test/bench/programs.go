package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// build makes a program as scripts/build does for a release: stripped, without paths and
// without gRPC's traces.
func (b *bench) build(ctx context.Context, pkg string) (string, error) {
	out := filepath.Join(b.dir, filepath.Base(pkg))
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, msg)
	}
	return out, nil
}

// usage is what runs of a program took.
type usage struct {
	wall []time.Duration
	rss  []int64 // bytes, the most that was resident
}

// status compares locksmithctl status with programs that do less.
func (b *bench) status(ctx context.Context) error {
	b.say("locksmithctl status")
	ctl, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/cmd/locksmithctl")
	if err != nil {
		return err
	}
	min, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/test/bench/mincli")
	if err != nil {
		return err
	}
	launch, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/test/bench/launch")
	if err != nil {
		return err
	}
	const key = "coreos.com/updateengine/rebootlock/semaphore"
	if err := b.takeSlots(ctx, 5); err != nil {
		return err
	}
	commands := [][]string{{ctl, "-endpoint", b.endpoint, "status"}, {min, b.endpoint, key}}
	if etcdctl, err := exec.LookPath("etcdctl"); err == nil {
		commands = append(commands, []string{etcdctl, "--endpoints", b.endpoint, "get", key})
	}
	runs := make([]usage, len(commands))
	for range b.reps(61, 31) {
		for i, c := range commands { // alternating, so that all see the same machine
			if err := runs[i].run(ctx, launch, c); err != nil {
				return err
			}
		}
	}
	names := []string{"minimal client", "etcdctl get"}
	for i, floor := range runs[1:] {
		b.ratioAtMost(figure{Name: "status against " + names[i] + ", time", Unit: "ms",
			Measured: ms(quantile(runs[0].wall, 0.5)), Floor: ms(quantile(floor.wall, 0.5)), Note: fmt.Sprintf("median of %d", len(floor.wall))}, 1.2)
		b.ratioAtMost(figure{Name: "status against " + names[i] + ", memory", Unit: "MB",
			Measured: mb(quantile(runs[0].rss, 0.5)), Floor: mb(quantile(floor.rss, 0.5))}, 1.2)
	}
	return nil
}

// takeSlots makes the default group one of which n slots are held.
func (b *bench) takeSlots(ctx context.Context, n int) error {
	s, err := etcd.Dial(etcd.Config{Endpoints: []string{b.endpoint}})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.SetMax(ctx, "", n, "bench"); err != nil {
		return err
	}
	for i := range n {
		_, err := s.TryAcquire(ctx, locksmith.Request{Groups: []locksmith.Group{""}, MachineID: fmt.Sprintf("%032d", i), By: locksmith.ByLock})
		if err != nil && !errors.Is(err, locksmith.ErrHolderExists) {
			return err
		}
	}
	return nil
}

func (u *usage) run(ctx context.Context, launch string, command []string) error {
	cmd := exec.CommandContext(ctx, launch, command...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, stderr.String())
	}
	var took time.Duration
	var kb int64
	if _, err := fmt.Sscan(string(out), &took, &kb); err != nil {
		return fmt.Errorf("%s says %q: %w", launch, out, err)
	}
	u.wall, u.rss = append(u.wall, took), append(u.rss, kb<<10)
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// daemon measures locksmithd while nothing happens.
func (b *bench) daemon(ctx context.Context) error {
	idle := time.Duration(b.reps(40, 15)) * time.Second
	b.say("locksmithd idle for %v", idle)
	path, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/cmd/locksmithd")
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	b.atMost(figure{Name: "locksmithd, stripped size", Unit: "MB", Measured: mb(info.Size())}, 17)
	bus, err := startBus(ctx)
	if err != nil {
		return err
	}
	defer bus.stop()
	d, err := b.startDaemon(ctx, path, bus.address, "bench-idle")
	if err != nil {
		return err
	}
	defer d.stop()
	before, err := b.requests(ctx)
	if err != nil {
		return err
	}
	if err := pass(ctx, idle); err != nil {
		return err
	}
	after, err := b.requests(ctx)
	if err != nil {
		return err
	}
	rss, anonymous, err := resident(d.process.Process.Pid)
	if err != nil {
		return err
	}
	b.atMost(figure{Name: "locksmithd idle, resident", Unit: "MB", Measured: mb(rss),
		Note: fmt.Sprintf("of which %.1f its own, the rest the program's file", mb(anonymous))}, 20)
	b.atMost(figure{Name: "locksmithd idle, requests but keep-alives", Unit: "requests", Measured: after["other"] - before["other"],
		Note: fmt.Sprintf("in %v; %g keep-alives", idle, after["keep-alives"]-before["keep-alives"])}, 0)
	return nil
}

// pass returns after d, or with ctx's error.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// requests is how many messages etcd has been sent, by its own count.
func (b *bench) requests(ctx context.Context) (map[string]float64, error) {
	return b.metrics(ctx, func(name, labels string) string {
		switch {
		case name != "grpc_server_msg_received_total":
			return ""
		case strings.Contains(labels, `"LeaseKeepAlive"`):
			return "keep-alives"
		}
		return "other"
	})
}

// resident reads what a process has in memory, and what of it is no file's.
func resident(pid int) (all, anonymous int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "VmRSS" && name != "RssAnon" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if name == "VmRSS" {
			all = kb << 10
		} else {
			anonymous = kb << 10
		}
	}
	return all, anonymous, nil
}

// child is a program that runs in the background.
type child struct {
	process *exec.Cmd
	address string // of a bus
}

func (c *child) stop() {
	_ = c.process.Process.Signal(syscall.SIGTERM)
	_ = c.process.Wait()
}

// startBus runs a message bus of its own for the daemon: nothing is on it, as on a
// machine without an update engine.
func startBus(ctx context.Context) (*child, error) {
	cmd := exec.CommandContext(ctx, "dbus-daemon", "--session", "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("install Debian's dbus: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dbus-daemon: %w", err), cmd.Wait())
	}
	return &child{process: cmd, address: strings.TrimSpace(line)}, nil
}

// startDaemon starts a daemon in a group, which has its files in a directory of that
// name, and returns when the machine's presence is announced and all is quiet.
func (b *bench) startDaemon(ctx context.Context, path, bus, group string, more ...string) (*child, error) {
	dir := filepath.Join(b.dir, group)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-endpoint", b.endpoint, "-reboot-strategy", "etcd-lock", "-group", group,
		"-control-socket", filepath.Join(dir, "locksmithd.sock"), "-coordinator-file", filepath.Join(dir, "coordinator.conf"),
		"-state-dir", dir}, more...)...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+bus)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &child{process: cmd}
	client, err := b.newClient()
	if err != nil {
		d.stop()
		return nil, err
	}
	defer client.Close()
	last := -1.0
	err = await(ctx, "locksmithd to be idle", 3*time.Second, func() (bool, error) {
		m, err := b.requests(ctx)
		quiet := m["other"] > 0 && m["other"] == last
		last = m["other"]
		return quiet, err
	})
	if err != nil {
		d.stop()
		return nil, fmt.Errorf("%w; it says:\n%s", err, log.String())
	}
	return d, nil
}
