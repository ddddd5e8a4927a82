// Command soak runs a fleet for hours and says whether anything grew: 200 simulated
// machines, which are the real agent, reboot again and again through one
// locksmith-server with its etcd inside, while connections are cut, processes are
// killed and paused, administrators interfere, and readers come and go. Memory,
// goroutines, open files and what etcd keeps are sampled all the time, and judged at
// the end together with what the machines did.
//
// Everything runs as a process of its own, for this one must be able to kill it; the
// program starts itself again for all but the server. It must not contain what it
// measures: the lock is internal/etcd, the machines are internal/fleet.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if doc := os.Getenv(roleVariable); doc != "" {
		os.Exit(runChild(ctx, doc, os.Stdin, os.Stderr))
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are those of the command line.
type options struct {
	duration time.Duration
	seed     uint64
	server   string // the program; empty: it is built
	dir      string
	samples  string
	leak     string
	judge    string
	plot     string
	out      string
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&o.duration, "duration", 2*time.Hour, "how long there are rollouts and faults, 30s or more")
	flags.Uint64Var(&o.seed, "seed", 0, "of the faults; 0: a random one, which is printed")
	flags.StringVar(&o.server, "server", "", "the locksmith-server `PROGRAM` to run; empty: it is built")
	flags.StringVar(&o.dir, "dir", "", "where data goes while it runs; empty: the system's temporary directory")
	flags.StringVar(&o.samples, "samples", "", "`FILE` to write the samples to; empty: none is left")
	flags.StringVar(&o.leak, "leak", "", "`KIND` of thing to leak at each boot of a machine, to see that it is found: "+strings.Join(leakKinds, ", "))
	flags.StringVar(&o.judge, "judge", "", "judge the samples in `FILE` and do nothing else")
	flags.StringVar(&o.plot, "plot", "", "draw the samples in `FILE` and do nothing else")
	flags.StringVar(&o.out, "out", filepath.Join("docs", "images"), "with -plot, the `DIRECTORY` to write to")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.duration < 30*time.Second:
		return o, fmt.Errorf("-duration %v: must be 30s or more", o.duration)
	case o.leak != "" && !slices.Contains(leakKinds, o.leak):
		return o, fmt.Errorf("-leak %q: must be one of %s", o.leak, strings.Join(leakKinds, ", "))
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	return o, nil
}

// run returns the exit status: 0, 1 where something grew, broke or could not be done,
// 2 where the command line is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, "soak:", err)
		}
		return 2
	}
	switch {
	case o.plot != "":
		err = plotFile(o.plot, o.out)
	case o.judge != "":
		err = judgeFile(o.judge, stdout)
	default:
		err = soakFor(ctx, o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return 1
	}
	return 0
}

// judgeFile prints the verdicts on a run that was recorded.
func judgeFile(path string, stdout io.Writer) error {
	r, err := readRecord(path)
	if err != nil {
		return err
	}
	return report(stdout, r)
}

// errFailed is how a run ends whose verdicts, which are printed, are not all good.
var errFailed = errors.New("not everything is as it was, see above")

// report prints a run, and returns errFailed where a verdict is bad.
func report(w io.Writer, r record) error {
	verdicts := judge(r)
	printVerdicts(w, r, verdicts)
	if slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.good }) {
		return errFailed
	}
	return nil
}
