package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
)

// Config says what to run.
type Config struct {
	Seed    uint64
	Faults  Schedule
	Length  time.Duration           // how long there are faults, at least
	Groups  [][]locksmith.Group     // required: of each machine on the store itself
	Served  []locksmith.Group       // of each machine that speaks FleetLock
	Server  string                  // the program locksmith-server; required with Served
	Max     map[locksmith.Group]int // required: of each group
	Control string                  // the program locksmithctl; empty: nobody uses it
	Settle  time.Duration           // how long the machines may take after the healing
	Thief   bool                    // see Boot
	Users   time.Duration           // see Boot
	Dir     string                  // required: for data and logs
}

// The nodes' numbers: members have 1 to 9.
const (
	firstMachine = 10
	firstServer  = 200
	observerNode = 250
	members      = 3
	servers      = 2 // that speak FleetLock
)

// startWithin is how long the cluster and the servers may take to start, on a machine
// that others use, too.
const startWithin = 2 * time.Minute

// Result is what a run has shown.
type Result struct {
	Violations []string
	Lines      []Line
	Changes    []Change // of the store
	Reboots    int
	Calls      int // that were held against the model
	Revisions  int64
	Said       []Said        // to users
	Settled    time.Duration // from the healing of the last fault until all were through
}

// run is a run under way.
type run struct {
	Config
	network *Network
	cluster *Cluster
	servers []*Daemon
	callers []*Node
	calls   []Call
	user    *Node
	said    []Said
	settled time.Duration
	fleet   *Fleet
	history *History
	admin   *etcd.Store // an administrator's, from the observer's node
	pausing sync.Mutex  // held while it changes a pause

	mu       sync.Mutex
	unclear  []func() error // undo, once more, what it does not know to have been done
	saidFull []Said         // while the database was full
}

// Run carries out the schedule and judges what happened. An error means that the
// harness failed, or that the machines did not get through in time; the result then
// has what was seen until there.
func Run(ctx context.Context, cfg Config) (result Result, err error) {
	if len(cfg.Served) < servers && slices.ContainsFunc(cfg.Faults, Fault.ofServer) {
		return result, fmt.Errorf("faults of servers need %d machines that speak FleetLock", servers)
	}
	r := &run{Config: cfg, network: NewNetwork(cfg.Seed)}
	defer r.network.Close()
	observer, err := r.network.NewNode("observer", observerNode)
	if err != nil {
		return result, err
	}
	ready, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if r.cluster, err = NewCluster(ready, r.network, observer, cfg.Dir, members); err != nil {
		return result, err
	}
	defer r.cluster.Close()
	client, err := r.cluster.client(r.cluster.Endpoints()...)
	if err != nil {
		return result, err
	}
	defer client.Close()
	r.history = Follow(client)
	defer r.history.Close()
	r.admin = etcd.New(client, etcd.Config{Endpoints: r.cluster.Endpoints(), Timeout: callTimeout})
	for g, n := range cfg.Max {
		if _, err := r.admin.SetMax(ctx, g, n, adminName); err != nil {
			return result, err
		}
	}
	if err := r.populate(ready); err != nil {
		return result, err
	}
	err = r.live(ctx)
	return r.judge(ctx, err)
}

// populate makes the machines, and the servers of those that need them.
func (r *run) populate(ctx context.Context) (err error) {
	r.fleet, err = NewFleet(r.Dir, Boot{Endpoints: r.cluster.Endpoints(), Thief: r.Thief, Users: r.Users})
	if err != nil {
		return err
	}
	for i := range callers {
		node, err := r.network.NewNode(fmt.Sprintf("caller%d", i+1), firstCaller+i)
		if err != nil {
			return err
		}
		r.callers = append(r.callers, node)
	}
	if r.user, err = r.network.NewNode("user", userNode); err != nil {
		return err
	}
	for group, max := range map[locksmith.Group]int{callersGroup: callersMax, userGroup: userMax} {
		if _, err := r.admin.SetMax(ctx, group, max, adminName); err != nil {
			return err
		}
	}
	for _, groups := range r.Groups {
		if _, err := r.fleet.Add(r.network, groups, nil); err != nil {
			return err
		}
	}
	for i, group := range r.Served {
		if i < servers {
			server, err := r.startServer(ctx, i)
			if err != nil {
				return err
			}
			r.servers = append(r.servers, server)
		}
		if _, err := r.fleet.Add(r.network, []locksmith.Group{group}, r.servers[i%len(r.servers)]); err != nil {
			return err
		}
	}
	return nil
}

// live is the machines' time: the schedule, and until all are through.
func (r *run) live(ctx context.Context) error {
	defer r.fleet.Close()
	// What cannot be healed, and who cannot give back what he holds, ends with it.
	ctx, cancel := context.WithTimeoutCause(ctx, r.Length+2*r.Settle, errors.New("the faults could not be healed in time"))
	defer cancel()
	r.fleet.Start()
	calling, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var called, used error
	var others sync.WaitGroup
	others.Go(func() { r.calls, called = r.call(ctx, calling) })
	if r.Control != "" {
		others.Go(func() { r.said, used = r.use(ctx, calling) })
	}
	err := r.inflict(ctx)
	hangUp()
	others.Wait()
	if err := errors.Join(err, called, used); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	return r.giveBack(ctx)
}

// settle returns once all machines are through, after everything was healed.
func (r *run) settle(ctx context.Context) error {
	r.mu.Lock()
	unclear := r.unclear
	r.mu.Unlock()
	for _, heal := range unclear {
		if err := heal(); err != nil {
			return err
		}
	}
	r.fleet.Note("all is healed")
	began := time.Now()
	defer func() { r.settled = time.Since(began) }()
	done := r.fleet.Finish()
	settle := time.NewTimer(r.Settle)
	defer settle.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-settle.C:
		return fmt.Errorf("%v after the last fault was healed not every machine has rebooted: %s", r.Settle, strings.Join(r.fleet.Unfinished(), "; "))
	}
}

// inflict carries out the schedule; when it returns, everything is healed.
func (r *run) inflict(ctx context.Context) error {
	var wg sync.WaitGroup
	failures := make(chan error, len(r.Faults))
	start := time.Now()
	for _, f := range r.Faults {
		wg.Go(func() {
			if !until(ctx, start.Add(f.At)) {
				return
			}
			what, heal, over := r.begin(ctx, f)
			r.fleet.Note("begins: " + what)
			untilOver(ctx, start.Add(f.At+f.For), over)
			if err := heal(); err != nil {
				failures <- fmt.Errorf("healing %s: %w", what, err)
			}
			r.fleet.Note("ends:   " + what)
		})
	}
	wg.Wait()
	until(ctx, start.Add(r.Length))
	close(failures)
	var errs []error
	for err := range failures {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// until waits for a moment; false: ctx ended before.
func until(ctx context.Context, moment time.Time) bool {
	return untilOver(ctx, moment, nil)
}

// untilOver is until that over ends before the moment.
func untilOver(ctx context.Context, moment time.Time, over <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

// judge looks at all there is. failed is why the machines' time ended early.
func (r *run) judge(ctx context.Context, failed error) (Result, error) {
	lines, err := r.fleet.Lines()
	failed = errors.Join(failed, err)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	changes, err := r.history.Changes(ctx)
	failed = errors.Join(failed, err)
	rules := Rules{Groups: make(map[string][]locksmith.Group), Max: maps.Clone(r.Max)}
	for _, f := range r.Faults {
		if f.Act == RaiseMax { // CheckStore judges each grant by the max of its time
			rules.Max[r.group(f)] = r.Max[r.group(f)] + 1
		}
	}
	rules.Max[callersGroup], rules.Max[userGroup] = callersMax, userMax+1
	for _, m := range r.fleet.machines {
		rules.Groups[m.ID] = m.Groups
	}
	result := Result{Lines: lines, Changes: changes, Settled: r.settled}
	for _, l := range lines {
		if l.Kind == KindDown {
			result.Reboots++
		}
	}
	if n := len(changes); n > 0 {
		result.Revisions = changes[n-1].Revision
	}
	holdings, violations := CheckStore(changes, rules)
	if CheckCalls(r.calls, callersMax) == porcupine.Illegal {
		violations = append(violations, fmt.Sprintf("the %d calls of %q cannot have been carried out one after the other", len(r.calls), callersGroup))
	}
	result.Calls = len(r.calls)
	result.Violations = append(violations, CheckDown(lines, rules)...)
	result.Violations = append(result.Violations, CheckHeld(lines, holdings, rules)...)
	result.Violations = append(result.Violations, CheckPaused(lines, rules)...)
	result.Said = append(r.said, r.saidFull...)
	for _, s := range result.Said {
		if why := CheckSaid(s); why != "" {
			result.Violations = append(result.Violations, fmt.Sprintf("what a user was told %s: %v", why, s))
		}
	}
	if failed == nil {
		// What a server granted to a client that had gone is kept until the machine asks
		// again, where it could not be given back at once: users do not ask again.
		holdings = slices.DeleteFunc(holdings, func(h *holding) bool { return h.group == userGroup && h.served })
		result.Violations = append(result.Violations, CheckEnd(holdings)...)
	}
	return result, failed
}

// Save writes everything that happened into dir, for people.
func (result Result) Save(dir string) error {
	var b strings.Builder
	for _, l := range result.Lines {
		fmt.Fprintln(&b, l)
	}
	var said strings.Builder
	for _, s := range result.Said {
		fmt.Fprintln(&said, s)
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "events.log"), []byte(b.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "said.log"), []byte(said.String()), 0o600))
}
