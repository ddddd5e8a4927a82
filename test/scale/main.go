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
	{"waiting", (*scale).waiting},
	{"rollouts", (*scale).rollouts},
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == agentsArg {
		return simulate(ctx, stdin, stdout, stderr)
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "a short form: smaller fleets")
	asJSON := flags.Bool("json", false, "print JSON instead of tables")
	largest := flags.Int("largest", 10_000, "leave out fleets of more simulated `machines`; with -quick at most 100")
	smallest := flags.Int("smallest", 0, "leave out fleets of fewer simulated `machines`")
	only := flags.String("only", strings.Join(names, ","), "run only these `parts`")
	limit := flags.Duration("limit", 10*time.Minute, "give up on a fleet after this `time`, and say how far it came")
	abreast := flags.Int("abreast", 100, "let so many `machines` look for their places in the queue at a time")
	plots := flags.String("plots", "", "write the plots to `DIR` and do nothing else")
	dir := flags.String("dir", "", "where data goes while it runs; empty: the system's temporary directory")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	fail := func(code int, err error) int {
		fmt.Fprintln(stderr, "scale:", err)
		return code
	}
	chosen := strings.Split(*only, ",")
	for _, part := range chosen {
		if !slices.Contains(names, part) {
			return fail(2, fmt.Errorf("no part %q: choose from %s", part, strings.Join(names, ",")))
		}
	}
	if flags.NArg() > 0 {
		return fail(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	if *plots != "" {
		if err := writePlots(*plots); err != nil {
			return fail(1, err)
		}
		return 0
	}
	s := &scale{quick: *quick, smallest: *smallest, largest: *largest, limit: *limit, abreast: *abreast, away: 5 * time.Second, watched: 10 * time.Second, progress: stderr}
	if s.quick {
		s.largest, s.away, s.watched = min(s.largest, 100), time.Second, 2*time.Second
	}
	err := s.measure(ctx, *dir, chosen)
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = errors.Join(err, out.Encode(s.result))
	} else {
		s.print(stdout)
	}
	if err != nil {
		return fail(1, err)
	}
	return 0
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
