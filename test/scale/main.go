// Command scale says how locksmith behaves as fleets grow: on virtual time, held against
// the ways in which its peers wait (package sim), and with simulated machines, which are
// the real agent, on a real etcd in a process of its own.
//
// It must not contain what it measures: the lock is internal/etcd, the machines are
// internal/fleet.
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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// scale is one run.
type scale struct {
	dir      string // for data, removed at the end
	quick    bool
	smallest int // fleet of simulated machines
	largest  int
	limit    time.Duration // for each fleet
	abreast  int           // agents on their way into the queue at a time
	leaseTTL time.Duration // of each machine's lease; 0: as lease says
	away     time.Duration // how long etcd is, where it is killed
	watched  time.Duration // how long a fleet is looked at that waits, and that is back
	progress io.Writer
	result   result

	reached string // how far the present fleet has come, in words
}

// result is what a run prints as JSON.
type result struct {
	Policies []outcome `json:"policies,omitempty"`
	Figures  []figure  `json:"figures,omitempty"`
	Restarts []series  `json:"restarts,omitempty"`
}

// parts are what can be run, in this order.
var parts = []struct {
	name string
	run  func(*scale, context.Context) error
}{
	{"policies", (*scale).policies},
	{"entries", (*scale).entries},
	{"waiting", (*scale).waiting},
	{"rollouts", (*scale).rollouts},
	{"servers", (*scale).servers},
}

// options are what the command line says beyond what a scale has.
type options struct {
	json        bool
	only        []string
	plots, page string
	record, dir string
}

// parse reads the command line. Its errors are said already.
func parse(args []string, stderr io.Writer) (*scale, options, error) {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	s, o, only := &scale{away: 5 * time.Second, watched: 10 * time.Second, progress: stderr}, options{}, ""
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&s.quick, "quick", false, "a short form: smaller fleets")
	flags.IntVar(&s.largest, "largest", 10_000, "leave out fleets of more simulated `machines`; with -quick at most 100")
	flags.IntVar(&s.smallest, "smallest", 0, "leave out fleets of fewer simulated `machines`")
	flags.DurationVar(&s.limit, "limit", 10*time.Minute, "give up on a fleet after this `time`, and say how far it came")
	flags.IntVar(&s.abreast, "abreast", 100, "let so many `machines` look for their places in the queue at a time")
	flags.DurationVar(&s.leaseTTL, "lease-ttl", 0, "give the machines leases of this `time`, as locksmithd's option of that name does; 0: of 30s, in fleets of more than 5000 of 2m")
	flags.BoolVar(&o.json, "json", false, "print JSON instead of tables")
	flags.StringVar(&only, "only", strings.Join(names, ","), "run only these `parts`")
	flags.StringVar(&o.plots, "plots", "", "write the plots to `DIR`, and run nothing")
	flags.StringVar(&o.page, "page", "", "write the recorded figures into the page `FILE`, and run nothing")
	flags.StringVar(&o.record, "record", "", "record what is measured in `FILE`, beside what it has of other runs")
	flags.StringVar(&o.dir, "dir", "", "where data goes while it runs; empty: the system's temporary directory")
	if err := flags.Parse(args); err != nil {
		return nil, o, err
	}
	var err error
	o.only = strings.Split(only, ",")
	for _, part := range o.only {
		if !slices.Contains(names, part) {
			err = fmt.Errorf("no part %q: choose from %s", part, strings.Join(names, ","))
		}
	}
	if flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(stderr, "scale:", err)
	}
	if s.quick {
		s.largest, s.away, s.watched = min(s.largest, 100), time.Second, 2*time.Second
	}
	return s, o, err
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == agentsArg {
		return simulate(ctx, stdin, stdout, stderr)
	}
	s, o, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	if o.plots != "" || o.page != "" {
		err = document(o.plots, o.page)
	} else {
		err = s.report(stdout, o, s.measure(ctx, o.dir, o.only))
	}
	if err != nil {
		fmt.Fprintln(stderr, "scale:", err)
		return 1
	}
	return 0
}

// report shows and records what was measured, and returns all that went wrong.
func (s *scale) report(stdout io.Writer, o options, err error) error {
	if o.record != "" {
		err = errors.Join(err, s.result.record(o.record))
	}
	if !o.json {
		s.print(stdout)
		return err
	}
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	return errors.Join(err, out.Encode(s.result))
}

// document writes the plots and the page, where they are asked for.
func document(plots, page string) error {
	if plots != "" {
		if err := writePlots(plots); err != nil {
			return err
		}
	}
	if page != "" {
		return writePage(page)
	}
	return nil
}

// measure runs the parts. One that fails keeps what it has measured, and keeps none of
// the others from running.
func (s *scale) measure(ctx context.Context, dir string, only []string) (err error) {
	if s.dir, err = os.MkdirTemp(dir, "locksmith-scale-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	for _, p := range parts {
		if !slices.Contains(only, p.name) || ctx.Err() != nil {
			continue
		}
		if e := p.run(s, ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.name, e))
		}
	}
	return err
}

func (s *scale) print(w io.Writer) {
	if len(s.result.Policies) > 0 {
		printOutcomes(w, s.result.Policies)
	}
	if len(s.result.Figures) > 0 {
		printFigures(w, s.result.Figures)
	}
}

// say tells who watches what is going on.
func (s *scale) say(format string, args ...any) {
	fmt.Fprintf(s.progress, format+"\n", args...)
}

// policies compares the ways to wait, on virtual time.
func (s *scale) policies(context.Context) error {
	sizes := compareSizes
	if s.quick {
		sizes = []int{10, 100, 1000}
	}
	for _, share := range []float64{0.01, 0.05} {
		s.say("policies on virtual time, max %g %%", 100*share)
		outcomes, err := compare(sizes, share)
		if err != nil {
			return err
		}
		s.result.Policies = append(s.result.Policies, outcomes...)
	}
	return nil
}
