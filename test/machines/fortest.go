package machines

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// ForTest makes a fleet that is closed when t ends, also by a signal. Where real
// machines cannot run, t ends as Require says. When t fails, the observations
// and the journal of each machine's locksmithd are logged.
//
// With LOCKSMITH_MACHINES_KEEP set, the end of t waits for Ctrl-C and says how
// to enter the machines. Give go test -timeout=0 then.
func ForTest(t testing.TB, cfg Config) *Fleet {
	t.Helper()
	Require(t)
	f, err := NewFleet(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeOnSignal(f)
	t.Cleanup(func() {
		if t.Failed() {
			f.logFailure(t)
		}
		if os.Getenv("LOCKSMITH_MACHINES_KEEP") != "" {
			f.keep()
		}
		if err := closeNow(f); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *Fleet) logFailure(t testing.TB) {
	t.Logf("observed:\n%s", Format(f.Events()))
	for _, m := range f.Machines() {
		t.Logf("%s (machine id %s), journal of locksmithd:\n%s", m.Name, m.ID,
			m.Journal(context.Background(), "locksmithd.service"))
	}
}

// keep tells a person how to look at the machines, and waits for the signal that
// ends the process.
func (f *Fleet) keep() {
	for _, m := range f.Machines() {
		if pid, err := m.leader(); err == nil {
			fmt.Fprintf(os.Stderr, "%s: nsenter -t %d -a bash -l\n", m.Name, pid)
		} else {
			fmt.Fprintf(os.Stderr, "%s is off, its disk is %s/upper\n", m.Name, m.dir)
		}
	}
	fmt.Fprintln(os.Stderr, "Ctrl-C ends them.")
	select {}
}

// open is what a signal has to close and remove.
var open struct {
	sync.Mutex
	fleets []*Fleet
	dirs   []string
	listen sync.Once
}

// RemoveOnSignal has a signal that ends the tests also remove dir, which several
// tests share.
func RemoveOnSignal(dir string) {
	open.Lock()
	defer open.Unlock()
	open.dirs = append(open.dirs, dir)
}

func closeOnSignal(f *Fleet) {
	open.listen.Do(func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		go func() {
			s := <-signals
			// Never unlocked: whoever closes a fleet meanwhile waits for the end.
			open.Lock()
			for _, f := range open.fleets {
				if err := f.Close(); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
			for _, dir := range open.dirs {
				os.RemoveAll(dir)
			}
			os.Exit(128 + int(s.(syscall.Signal)))
		}()
	})
	open.Lock()
	defer open.Unlock()
	open.fleets = append(open.fleets, f)
}

func closeNow(f *Fleet) error {
	open.Lock()
	defer open.Unlock()
	open.fleets = slices.DeleteFunc(open.fleets, func(o *Fleet) bool { return o == f })
	return f.Close()
}
