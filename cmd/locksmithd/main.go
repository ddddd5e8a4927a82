// Command locksmithd reboots the machine it runs on when a reboot is needed and
// allowed: inside the window, and with a slot in each of the machine's groups.
//
// This package reads the settings and wires the parts. It must not decide
// anything about reboots itself; that is internal/agent's business.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

func main() {
	frugal()
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr, thisHost()))
}

// frugal keeps the daemon small, which is idle nearly always and runs on every
// machine. The limit is a soft one, for the collector: 10 MiB is where a scrape of
// the metrics costs 1 ms of CPU time; with 8 the collector never rests and it is 15.
// GOGC and GOMEMLIMIT, where set, stand.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(10 << 20)
	}
}

// host is what the daemon finds around it. Tests have their own.
type host struct {
	environ       []string // KEY=value, as os.Environ returns them
	updateConf    []string // files of settings; later ones win, the environment beats all
	machineIDFile string
	bootIDFile    string
	osRelease     string
	hostname      func() (string, error)
	bus           string // address of the system bus; empty: the usual one
	root          string // of the file system, where triggers and blockers look; empty: "/"
}

func thisHost() host {
	return host{
		environ:       os.Environ(),
		updateConf:    []string{"/etc/coreos/update.conf", "/etc/flatcar/update.conf"},
		machineIDFile: "/etc/machine-id",
		bootIDFile:    "/proc/sys/kernel/random/boot_id",
		osRelease:     "/etc/os-release",
		hostname:      os.Hostname,
	}
}

// run runs one command line and returns the exit status: 0 after a clean stop, 1
// where the daemon could not start or go on, 2 where the command line is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, h host) int {
	program := options.ProgramName(args[0])
	cmd := commandLine(program, func(ctx context.Context, s settings) error {
		return serve(ctx, s, h, stderr)
	}, h)
	cmd.Writer, cmd.ErrWriter = stdout, stderr
	err := cmd.Run(ctx, args)
	if err == nil {
		return 0
	}
	line := strings.Join(strings.Fields(err.Error()), " ")
	if _, ok := errors.AsType[*options.UsageError](err); ok {
		fmt.Fprintf(stderr, "%s: %s (see %s -help)\n", program, line, program)
		return options.ExitUsage
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, line)
	return 1
}

// errStopped is why the daemon's context ends at a clean stop.
var errStopped = errors.New("asked to stop")

// stoppable is ctx until the first SIGINT or SIGTERM. The second one finds its
// default effect restored and ends the process at once.
func stoppable(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			cancel(fmt.Errorf("%w: %s", errStopped, s))
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() { cancel(context.Canceled); <-done }
}
