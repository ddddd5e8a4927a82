package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/control"
)

// full measures a locksmithd that has everything switched on and nothing to do: hooks
// in all directories, several triggers, windows, metrics over TCP, a presence.
func (b *bench) full(ctx context.Context) error {
	rest, idle := time.Duration(b.reps(60, 10))*time.Second, time.Duration(b.reps(180, 30))*time.Second
	b.say("locksmithd with everything on, idle for %v", rest+idle)
	path, err := b.build(ctx, "github.com/locksmith-reboot/locksmith/cmd/locksmithd")
	if err != nil {
		return err
	}
	bus, err := startBus(ctx)
	if err != nil {
		return err
	}
	defer bus.stop()
	const group = "bench-full"
	metrics, err := freeAddress()
	if err != nil {
		return err
	}
	options, err := everything(filepath.Join(b.dir, group), metrics)
	if err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, path, bus.address, group, options...)
	if err != nil {
		return err
	}
	defer d.stop()
	const asked = 20
	if err := ask(ctx, filepath.Join(b.dir, group, "locksmithd.sock"), metrics, asked); err != nil {
		return err
	}
	if err := pass(ctx, rest); err != nil {
		return err
	}
	pid := d.process.Process.Pid
	rss, anonymous, err := resident(pid)
	if err != nil {
		return err
	}
	b.atMost(figure{Name: "locksmithd with everything on, resident", Unit: "MB", Measured: mb(rss),
		Note: fmt.Sprintf("of which %.1f its own; idle for %v after %d why, status and metrics", mb(anonymous), rest, asked)}, 22)
	before, err := consumed(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pass(ctx, idle); err != nil {
		return err
	}
	after, err := consumed(pid)
	if err != nil {
		return err
	}
	hour := float64(after-before) / time.Since(began).Hours()
	b.atMost(figure{Name: "locksmithd with everything on, idle hour", Unit: "ms CPU", Measured: ms(time.Duration(hour)),
		Note: fmt.Sprintf("from %v in %v, with its children", (after - before).Round(time.Microsecond), idle)}, 1000)
	return nil
}

// everything is the options that switch everything on, with hooks below dir.
func everything(dir, metrics string) ([]string, error) {
	hooks := filepath.Join(dir, "hooks")
	for _, step := range []string{"check", "prepare", "verify", "restore"} {
		for _, name := range []string{"10-first", "20-second"} {
			file := filepath.Join(hooks, step+".d", name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
				return nil, err
			}
		}
	}
	return []string{
		"-trigger", "update-engine;file:/run/reboot-required;file:/run/reboot-needed;kernel;uptime:3650d;command:yes=1,no=0:/bin/true",
		"-reboot-window", "Mon..Fri 22:00 4h", "-reboot-window", "2nd Tue 03:00 2h Europe/Berlin", "-no-reboot-window", "2026-12-20..2027-01-03",
		"-hook-dir", hooks, "-hook-runner", "direct", "-verify-units", "dbus.service", "-verify-system", "running,degraded",
		"-min-uptime", "1h", "-metrics-address", metrics,
	}, nil
}

// freeAddress is one of the loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// ask has the daemon answer everything it can be asked, n times.
func ask(ctx context.Context, socket, metrics string, n int) error {
	client := &control.Client{Path: socket}
	for range n {
		if _, err := client.Status(ctx); err != nil {
			return err
		}
		if _, err := client.Why(ctx); err != nil {
			return err
		}
		if err := get(ctx, "http://"+metrics+"/metrics"); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}

// consumed is the CPU time that a process took, and its children that have ended; theirs
// is counted in hundredths of a second.
func consumed(pid int) (time.Duration, error) {
	const sched = 2 // the kernel's CPUCLOCK_SCHED: nanoseconds, as clock_getcpuclockid(3) has it
	var own unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &own); err != nil {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything: the state is field 3 of proc(5).
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const cutime, cstime = 16 - 3, 17 - 3
	if len(fields) <= cstime {
		return 0, fmt.Errorf("/proc/%d/stat is malformed", pid)
	}
	sum := time.Duration(own.Nano())
	for _, field := range fields[cutime : cstime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}
