// Command bench measures locksmith's figures, each beside its floor: the least that
// the same etcd, or the same kind of program, can do, measured in the same run.
//
// It must not contain what it measures: the lock is internal/etcd, the machines are
// internal/fleet, the programs are built from cmd.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// bench is one run.
type bench struct {
	endpoint string // of the etcd that is measured
	socket   string // of its metrics; empty: they are at the endpoint
	dir      string // for data and programs, removed at the end
	lengths  []int  // of the queues
	quick    bool
	progress io.Writer
	figures  []figure
}

// parts are what can be measured, in this order.
var parts = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"handoff", (*bench).handoffs},
	{"cycle", (*bench).cycle},
	{"rollout", (*bench).rollout},
	{"status", (*bench).status},
	{"daemon", (*bench).daemon},
	{"full", (*bench).full},
	{"fleetlock", (*bench).fleetlock},
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == serveArg {
		return serve(ctx, args[1:], stdin, stdout, stderr)
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	endpoint := flags.String("etcd", "", "`URL` of an etcd to measure, which nobody else uses; empty: one is started, with fsync")
	quick := flags.Bool("quick", false, "a short form: fewer machines, fewer repetitions")
	waiting := flags.String("waiting", "", "measure handoffs with so many waiting, a `list` with commas; empty: 10,100,1000,10000, with -quick 10,1000")
	profile := flags.String("cpuprofile", "", "write a profile of this process, not of etcd, to `FILE`")
	asJSON := flags.Bool("json", false, "print JSON instead of a table")
	only := flags.String("only", strings.Join(names, ","), "measure only these `parts`")
	dir := flags.String("dir", "", "where data and programs go while it runs; empty: the system's temporary directory")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	for part := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(names, part) {
			fmt.Fprintf(stderr, "bench: no part %q: choose from %s\n", part, strings.Join(names, ","))
			return 2
		}
	}
	b := &bench{endpoint: *endpoint, quick: *quick, progress: stderr}
	var err error
	if b.lengths, err = parseLengths(*waiting, *quick); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	err = b.measure(ctx, *dir, strings.Split(*only, ","))
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = errors.Join(err, out.Encode(b.figures))
	} else {
		printTable(stdout, b.figures)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func parseLengths(list string, quick bool) (lengths []int, err error) {
	switch {
	case list == "" && quick:
		list = "10,1000"
	case list == "":
		list = "10,100,1000,10000"
	}
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-waiting %q: must be numbers of 1 or more, with commas", list)
		}
		lengths = append(lengths, n)
	}
	return lengths, nil
}

// measure runs the parts. What was measured before one fails stays.
func (b *bench) measure(ctx context.Context, dir string, only []string) (err error) {
	if b.dir, err = os.MkdirTemp(dir, "locksmith-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, p := range parts {
		if !slices.Contains(only, p.name) {
			continue
		}
		if err := b.part(ctx, p.name, p.run); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// part runs one part, on an etcd of its own unless one was given: the leases of ten
// thousand machines that are gone would otherwise expire during the next.
func (b *bench) part(ctx context.Context, name string, run func(*bench, context.Context) error) error {
	if b.endpoint == "" {
		server, err := startServer(ctx, filepath.Join(b.dir, "etcd-"+name))
		if err != nil {
			return err
		}
		b.endpoint, b.socket = server.endpoint, server.socket
		defer func() {
			server.stop()
			b.endpoint, b.socket = "", ""
		}()
	}
	return run(b, ctx)
}

// say tells who watches what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// reps is n, or less in the short form.
func (b *bench) reps(n, quick int) int {
	if b.quick {
		return quick
	}
	return n
}
