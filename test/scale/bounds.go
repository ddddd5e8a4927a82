package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sizes are the fleets that wait.
func (s *scale) sizes() (list []int) {
	for _, n := range []int{100, 1000, 10_000} {
		if n >= s.smallest && n <= s.largest {
			list = append(list, n)
		}
	}
	return list
}

// within runs one fleet within the time that it may take, and notes how busy the machine
// was. Where time runs out the error says how far it came and who had the processors.
func (s *scale) within(ctx context.Context, what string, n int, run func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	before, err := processors()
	if err != nil {
		return err
	}
	s.reached = "it was not under way yet"
	err = run(limited)
	after, e := processors()
	if e != nil {
		return errors.Join(err, e)
	}
	used := after.minus(before)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%s: this machine does not carry %d machines within %v (-limit): %s; %s. %w", what, n, s.limit, s.reached, used, err)
	} else if err != nil {
		return fmt.Errorf("%s, %d machines: %w", what, n, err)
	}
	s.add(figure{Name: what + ", processors that others had", Machines: n, Measured: 100 * used.others() / used.all, Unit: "%", Note: used.String()})
	return nil
}

// use is how much processor time was used, in seconds.
type use struct {
	all  float64 // that there was
	idle float64
	ours float64 // by this process and those that it started and that have ended
}

func (u use) minus(v use) use { return use{u.all - v.all, u.idle - v.idle, u.ours - v.ours} }

func (u use) others() float64 { return max(0, u.all-u.idle-u.ours) }

func (u use) String() string {
	per := func(v float64) float64 { return 100 * v / u.all }
	return fmt.Sprintf("of %d processors etcd and the machines had %.0f %%, others %.0f %%, nobody %.0f %%", runtime.NumCPU(), per(u.ours), per(u.others()), per(u.idle))
}

// userHz is the unit of /proc/stat: a hundredth of a second on every Linux.
const userHz = 100

// processors reads /proc/stat.
func processors() (u use, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 || fields[0] != "cpu" {
		return u, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for i, field := range fields[1:9] { // those after are parts of these
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/stat begins with %q: %w", first, err)
		}
		u.all += v / userHz
		if i == 3 || i == 4 { // idle, and waiting for disks
			u.idle += v / userHz
		}
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			return u, err
		}
		u.ours += time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
	}
	return u, nil
}
