package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// fullDuration is that of the full form. Shorter runs have shorter pauses, faults and
// reboots, in the same proportion as far as that makes sense.
const fullDuration = 2 * time.Hour

// patience is how long a rollout may take, and what is waited for at the end, beyond
// what faults and administrators hold up.
const patience = 15 * time.Minute

// frozen is the group whose machines wait for their slot the whole time.
const frozen locksmith.Group = "frozen"

// steady is how many of each group may be down while no administrator interferes.
var steady = map[locksmith.Group]int{"": 3, "rack": 3, "web": 3, "db": 3, "fl": 2, "idle": 5, frozen: 0}

// groups are all of them, in the order in which they are shown.
var groups = []locksmith.Group{"", "rack", "web", "db", "fl", "idle", frozen}

// part is a process of machines, or of readers.
type part struct {
	*process
	members []member
	going   int // how many of the members, the first ones, go through rollouts
	wave    int
}

// soak is one run.
type soak struct {
	options
	rec    *recorder
	ledger *ledger
	rng    *rand.Rand // of the faults
	whims  *rand.Rand // of the administrator
	say    func(format string, args ...any)

	server *server
	store  *etcd.Store // the administrator's
	etcd   *etcdtest.Proxy
	web    *etcdtest.Proxy
	lines  *os.File // where everybody tells
	read   chan struct{}

	rolling  []*part // have one rollout after the other
	standing *part   // has one, and waits
	readers  *part
	sampler  *sampler

	rollouts, faults atomic.Int64
	referee          referee
}

// soakFor makes a run and prints what came of it.
func soakFor(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	h := head{Started: time.Now(), Duration: o.duration.Seconds(), Seed: o.seed, Leak: o.leak}
	s := &soak{options: o, ledger: newLedger(), referee: newReferee(), rng: rand.New(rand.NewPCG(o.seed, 1)), whims: rand.New(rand.NewPCG(o.seed, 2)), read: make(chan struct{})}
	s.say = func(format string, args ...any) {
		fmt.Fprintf(stderr, "%8.1fs  %s\n", time.Since(h.Started).Seconds(), fmt.Sprintf(format, args...))
	}
	s.define(&h)
	if s.rec, err = newRecorder(o.samples, h); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(o.dir, "locksmith-soak-"); err != nil {
		return err
	}
	s.say("seed %d, %v, files in %s", o.seed, o.duration, s.dir)
	err = s.all(ctx)
	account := s.ledger.account()
	e := ending{Reboots: account.reboots, Rollouts: int(s.rollouts.Load()), Faults: int(s.faults.Load()), Broken: account.broken}
	if err != nil {
		e.Short = err.Error()
	}
	rec, recErr := s.rec.end(e)
	err = errors.Join(err, recErr)
	if reported := report(stdout, rec); err == nil {
		err = reported
	}
	if err != nil {
		return fmt.Errorf("%w (seed %d; the logs are in %s)", err, o.seed, s.dir)
	}
	return os.RemoveAll(s.dir)
}

// define says who there is.
func (s *soak) define(h *head) {
	for n := range 2 {
		p := &part{}
		for i := range 70 {
			of := [][]locksmith.Group{{"web"}, {"db"}, {"", "rack"}}[i%3]
			p.members = append(p.members, member{fmt.Sprintf("r%d-%02d", n+1, i+1), of})
		}
		s.rolling = append(s.rolling, p)
	}
	callers := &part{}
	for i := range 20 {
		callers.members = append(callers.members, member{fmt.Sprintf("f%02d", i+1), []locksmith.Group{"fl"}})
	}
	s.rolling = append(s.rolling, callers)
	s.standing = &part{going: 20}
	for i := range 40 {
		of := []locksmith.Group{"idle"}
		if i >= s.standing.going {
			of = []locksmith.Group{frozen}
		}
		s.standing.members = append(s.standing.members, member{fmt.Sprintf("s%02d", i+1), of})
	}
	s.readers = &part{}
	for _, p := range s.parts() {
		if p != s.standing {
			p.going = len(p.members)
		}
		h.Machines += len(p.members)
	}
}

func (s *soak) parts() []*part {
	return append(append([]*part{}, s.rolling...), s.standing, s.readers)
}

// scaled is d of the full form, in the form that runs.
func (s *soak) scaled(d, least time.Duration) time.Duration {
	return min(d, max(time.Duration(float64(d)*s.duration.Seconds()/fullDuration.Seconds()), least))
}

// every is the time between two samples.
func (s *soak) every() time.Duration { return s.scaled(10*time.Second, time.Second) }

// all is a run from its first process to its last.
func (s *soak) all(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.startServer(ctx); err != nil {
		return err
	}
	if err := s.rest(ctx, phaseEmpty); err != nil {
		return err
	}
	if err := s.startParts(); err != nil {
		return err
	}
	s.say("all machines reboot once")
	if err := s.first(ctx); err != nil {
		return err
	}
	if err := s.rest(ctx, phaseBefore); err != nil {
		return err
	}
	s.say("rollouts and faults for %v", s.duration)
	if err := s.body(ctx); err != nil {
		return err
	}
	s.say("rest")
	if err := s.rest(ctx, phaseAfter); err != nil {
		return err
	}
	if err := s.thaw(ctx); err != nil {
		return err
	}
	s.say("all leave")
	for _, p := range s.parts() {
		if err := p.stop(); err != nil {
			return err
		}
		s.ledger.forgetStats(p.name)
	}
	return s.rest(ctx, phaseVacated)
}

// startServer starts the server, what stands before it, and who looks.
func (s *soak) startServer(ctx context.Context) (err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.lines = w
	go s.listen(r)
	if s.server, err = newServer(ctx, s.dir, s.options.server); err != nil {
		return err
	}
	if err := s.server.up(ctx); err != nil {
		return err
	}
	if s.etcd, err = etcdtest.OpenProxy(s.server.etcd); err != nil {
		return err
	}
	if s.web, err = etcdtest.OpenProxy(s.server.listen); err != nil {
		return err
	}
	if s.store, err = etcd.Dial(etcd.Config{Endpoints: []string{"http://" + s.server.etcd}}); err != nil {
		return err
	}
	if s.sampler, err = newSampler(s.server, s.ledger, groups, s.rec); err != nil {
		return err
	}
	return s.prepareGroups(ctx)
}

// listen takes in the lines until nobody can write any more.
func (s *soak) listen(r *os.File) {
	defer close(s.read)
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			s.ledger.blame("a process tells what nobody understands: %q", lines.Text())
			continue
		}
		s.ledger.take(l)
	}
}

func (s *soak) startParts() error {
	names := []string{"rolling-1", "rolling-2", "callers", "standing", "readers"}
	for i, p := range s.parts() {
		r := role{Name: names[i], Machines: p.members, Etcd: s.etcd.Endpoint, Server: s.web.Endpoint, FleetLock: names[i] == "callers",
			Dir: filepath.Join(s.dir, "machines"), Down: s.scaled(2*time.Second, 300*time.Millisecond), Every: min(s.every(), 2*time.Second)}
		if i == 0 {
			r.Leak = s.leak
		}
		var err error
		if p.process, err = newChild(s.dir, r, s.lines); err != nil {
			return err
		}
		s.sampler.processes = append(s.sampler.processes, p.process)
		if err := p.launch(); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a part's next rollout.
func (s *soak) begin(p *part) <-chan struct{} {
	p.wave++
	ended := s.ledger.begin(p.name, p.wave, p.members)
	for _, m := range p.members[p.going:] { // who is not expected to go through it, yet
		s.ledger.take(line{Kind: lineReleased, Process: p.name, Machine: m.ID, Wave: p.wave})
	}
	p.say(fmt.Sprintf("%s %d", wordWave, p.wave))
	return ended
}

// first has every machine reboot once, with nothing in the way.
func (s *soak) first(ctx context.Context) error {
	var wait []func() error
	for _, p := range append(append([]*part{}, s.rolling...), s.standing) {
		ended := s.begin(p)
		wait = append(wait, func() error { return s.finish(ctx, p, ended) })
	}
	for _, w := range wait {
		if err := w(); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for the end of a rollout.
func (s *soak) finish(ctx context.Context, p *part, ended <-chan struct{}) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
		s.rollouts.Add(1)
		return nil
	case <-timer.C:
		return fmt.Errorf("rollout %d of %s has not ended after %v: left are %q", p.wave, p.name, patience, s.ledger.unfinished(p.name))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends whatever runs.
func (s *soak) stop() error {
	var errs []error
	for _, p := range s.parts() {
		if p.process != nil {
			errs = append(errs, p.stop())
		}
	}
	if s.sampler != nil {
		errs = append(errs, s.sampler.close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	for _, p := range []*etcdtest.Proxy{s.etcd, s.web} {
		if p != nil {
			p.Close()
		}
	}
	if s.server != nil {
		errs = append(errs, s.server.stop())
	}
	if s.lines != nil {
		s.lines.Close()
		<-s.read
	}
	return errors.Join(errs...)
}
