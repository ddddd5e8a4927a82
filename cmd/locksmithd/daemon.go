package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/coordinator"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/journal"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
	"github.com/locksmith-reboot/locksmith/internal/login1"
	"github.com/locksmith-reboot/locksmith/internal/memory"
	"github.com/locksmith-reboot/locksmith/internal/metrics"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/systemd"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// serve is the daemon: it runs until it is asked to stop, which is no error, or
// cannot go on.
func serve(ctx context.Context, s settings, h host, stderr io.Writer) error {
	log, closeLog := newLog(s, stderr)
	defer closeLog()
	if s.strategy == locksmith.StrategyOff {
		log.Info("reboot strategy is off: this machine is not going to be rebooted, exiting")
		newAnnouncer(log).notify(sdnotify.SdNotifyReady) // or the end would count as a failed start
		return nil
	}
	ctx, release := stoppable(ctx)
	defer release()
	me, err := identify(h)
	if err != nil {
		return err
	}
	me.Groups, me.Strategy = s.groups, s.strategy
	log = log.With("group", locksmith.JoinGroups(s.groups), "boot_id", me.BootID)
	d := &daemon{me: me, agentLog: log}
	log = log.With("machine", me.MachineID)
	d.log, d.notes = log, newAnnouncer(log)
	defer d.close()
	if err := d.assemble(ctx, s, h); err != nil {
		return err
	}
	log.Info("started", agent.EventKey, agent.EventStarted, "version", options.BuildVersion(), "strategy", s.strategy,
		"window", windowText(s), "endpoints", s.endpoints(), "triggers", d.picked, "hooks", d.runner.Describe(), "dry_run", s.dryRun)
	err = d.run(ctx)
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		log.Info("stopped", agent.EventKey, agent.EventStopped, "cause", context.Cause(ctx))
		return nil
	}
	return err
}

// newLog is the log in the format that was chosen, and what closes it.
func newLog(s settings, w io.Writer) (log *slog.Logger, closeLog func()) {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if s.debug {
		opts.Level = slog.LevelDebug
	}
	file, isFile := w.(*os.File)
	switch {
	case s.logFormat == "json":
		return slog.New(slog.NewJSONHandler(w, opts)), func() {}
	case s.logFormat == "journal" || s.logFormat == logAuto && isFile && journal.Under(file):
		h := journal.New(journal.Config{Level: opts.Level, Fallback: w})
		return slog.New(h), func() { h.Close() } // at its end nothing more can be said
	}
	return slog.New(slog.NewTextHandler(w, opts)), func() {}
}

func windowText(s settings) string {
	if s.windows == nil {
		return "always"
	}
	return s.windows.String()
}

// endpoints is where the slots are.
func (s settings) endpoints() []string {
	if s.strategy == locksmith.StrategyFleetLock {
		return []string{s.fleetLock.client.Base()}
	}
	return s.etcd.Endpoints
}

// daemon is the parts of a running daemon.
type daemon struct {
	me       locksmith.Presence
	log      *slog.Logger
	agentLog *slog.Logger // without the machine, which the agent adds
	notes    *announcer
	picked   string // the triggers, for people

	coordinator *coordinator.File
	listener    *control.Listener
	scrapes     net.Listener // of metrics over TCP; nil: not wanted
	bus         *bus.Bus
	systemd     *systemd.Manager
	runner      *command.Runner
	store       *etcd.Store      // nil where no strategy needs it
	fleetLock   *lockclient.Lock // likewise
	useLock     func(context.Context) (bool, error)
	agent       *agent.Agent
	metrics     *metrics.Metrics
	server      *control.Server
	presences   chan locksmith.Presence // of size 1: only the newest is of interest
}

// assemble makes all parts. What can be refused is refused here; nothing waits
// for etcd or the bus, which may come later.
func (d *daemon) assemble(ctx context.Context, s settings, h host) (err error) {
	// First of all: there must not be two who decide.
	if d.coordinator, err = coordinator.Claim(s.coordinator, string(s.strategy), agent.CoordinatorStarting); err != nil {
		return err
	}
	if d.listener, err = control.Listen(s.control); err != nil {
		return err
	}
	if s.metrics != "" {
		if d.scrapes, err = metrics.Listen(s.metrics); err != nil {
			return err
		}
	}
	file, remembered, err := memory.Open(filepath.Join(s.stateDir, "memory.json"))
	if err != nil {
		return err
	}
	d.bus = bus.New(h.bus, d.log)
	d.systemd = systemd.New(d.bus)
	d.runner = command.New(s.hookRunner, d.log)
	space, err := userspaceOf(ctx, d.me.BootID, d.systemd, remembered)
	if err != nil {
		return err
	}
	d.me.BootID = space.boot
	if space.blind && s.method == locksmith.MethodSoftReboot {
		return errors.New("reboot method soft-reboot needs systemd 256 or newer, which counts soft reboots: without that none could be proven")
	}
	if space.blind && s.method == "" {
		s.method = locksmith.MethodReboot // whatever a trigger says is enough
	}
	switch s.strategy {
	case locksmith.StrategyReboot:
	case locksmith.StrategyFleetLock:
		err = d.openFleetLock(s)
	default:
		err = d.openStore(s)
	}
	if err != nil {
		return err
	}
	return d.assembleAgent(ctx, s, h, file, remembered, space)
}

func (d *daemon) assembleAgent(ctx context.Context, s settings, h host, file *memory.File, remembered agent.Memory, space userspace) error {
	requests := trigger.NewControl(filepath.Join(filepath.Dir(s.control), "reboot-needed"), d.me.BootID)
	deps := trigger.Deps{Bus: d.bus, Runner: d.runner, Root: h.root, Log: d.log}
	if space.soft {
		deps.Since = space.began
	}
	triggers, err := trigger.Build(ctx, s.triggers, deps)
	if err != nil {
		return err
	}
	d.picked = triggers.Text
	hooks, err := d.hooks(s)
	if err != nil {
		return err
	}
	machine := login1.New(d.bus)
	cfg := agent.Config{
		MachineID: d.me.MachineID, BootID: d.me.BootID, Hostname: d.me.Hostname,
		Groups: s.groups, Strategy: s.strategy, Priority: s.priority,
		Machine:     rebooter{machine, d.runner, s},
		Triggers:    append(triggers.Triggers, requests),
		Blockers:    d.blockers(s, h, machine, hooks, triggers.Triggers),
		Verifiers:   d.verifiers(s, hooks),
		Coordinator: d.coordinator,
		Method:      s.method,
		RebootGrace: s.rebootGrace,
		Proceed:     s.proceed, VerifyTimeout: s.verifyTimeout, VerifySoak: s.verifySoak,
		CheckTimeout:     s.hookTotalTimeout + time.Minute, // the hooks have a limit of their own
		MaxRebootsPerDay: s.maxPerDay, MinUptime: s.minUptime, Booted: space.began,
		Memory: remembered, Remember: file.Save,
		DryRun:   s.dryRun,
		OnChange: d.changed,
		Log:      d.agentLog,
	}
	if s.loginPolicy == loginDelay {
		cfg.LoginDelay = s.loginDelay
	}
	shown := metrics.Config{Version: options.BuildVersion(), Machine: d.me.MachineID, Strategy: s.strategy, Groups: s.groups, Log: d.log}
	if hooks != nil { // a nil pointer in an interface would not be nil
		cfg.Steps = hooks
	}
	if s.windows != nil {
		cfg.Window, shown.Window = s.windows, s.windows
		cfg.Windows, cfg.DenyWindows = s.windows.Windows(), s.windows.DenyWindows()
	}
	if d.store != nil {
		cfg.Lock, cfg.UseLock, shown.Etcd = newEtcdLock(d.store), d.useLock, d.etcdStats
	}
	if d.fleetLock != nil {
		cfg.Lock, cfg.Keeper = d.fleetLock, d.fleetLock.Place
	}
	d.metrics = metrics.New(shown)
	d.presences = make(chan locksmith.Presence, 1)
	if d.agent, err = agent.New(cfg); err != nil {
		return err
	}
	d.changed(d.agent.Status())
	d.server = &control.Server{
		Status: d.agent.Status, Request: requests.Request, Cancel: requests.Cancel,
		Why: d.why, Metrics: d.metrics.Handler(), Log: d.log,
	}
	return nil
}

// changed is the agent's OnChange: it passes the status on to those who show it, and
// waits for none of them.
func (d *daemon) changed(s agent.Status) {
	d.notes.changed(s)
	d.metrics.Changed(s)
	newest(d.presences, d.presence(s))
}

// newest puts v into a channel of size 1, in the place of what nobody has taken yet.
// It has one caller at a time, so the place it makes is free when it fills it.
func newest[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}

func (d *daemon) openStore(s settings) (err error) {
	d.store, err = etcd.Dial(etcd.Config{
		Endpoints: s.etcd.Endpoints,
		CAFile:    s.etcd.CAFile, CertFile: s.etcd.CertFile, KeyFile: s.etcd.KeyFile,
		Username: s.etcd.Username, Password: s.etcd.Password,
		Timeout: s.etcd.Timeout, LeaseTTL: s.leaseTTL, Log: d.log,
	})
	d.useLock = func(context.Context) (bool, error) { return true, nil }
	if s.strategy == locksmith.StrategyBestEffort {
		d.useLock = probe{s.etcd.EndpointSet, s.etcd.Endpoints, d.systemd.AnyUnitActive}.useLock
	}
	return err
}

func (d *daemon) etcdStats() metrics.EtcdStats {
	s := d.store.Stats()
	return metrics.EtcdStats{Requests: s.Requests, Failures: s.Failures, Connected: s.Connected}
}

// run runs all parts until ctx ends or one of them fails; then all of them stop.
func (d *daemon) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	listener := d.listener
	d.listener = nil // the server closes it
	group.Go(func() error { return d.server.ServeOn(ctx, listener) })
	group.Go(func() error {
		err := d.agent.Run(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the agent ended by itself")
		}
		return err
	})
	group.Go(func() error { return d.keepPresence(ctx) })
	if d.fleetLock != nil {
		group.Go(func() error { return d.fleetLock.Run(ctx) })
	}
	if scrapes := d.scrapes; scrapes != nil {
		d.scrapes = nil // likewise
		group.Go(func() error { return d.metrics.Serve(ctx, scrapes) })
	}
	group.Go(func() error { return d.notes.run(ctx) })
	group.Go(func() error { return d.notes.watchdog(ctx, func() { d.agent.Status() }) })
	d.notes.notify(sdnotify.SdNotifyReady)
	<-ctx.Done()
	d.notes.notify(sdnotify.SdNotifyStopping)
	return group.Wait()
}

// close gives back what assemble took, as far as it came. Slots stay held.
func (d *daemon) close() {
	var errs []error
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.bus != nil {
		errs = append(errs, d.bus.Close())
	}
	if d.listener != nil {
		errs = append(errs, d.listener.Close())
	}
	if d.scrapes != nil {
		errs = append(errs, d.scrapes.Close())
	}
	if d.coordinator != nil {
		errs = append(errs, d.coordinator.Close())
	}
	if err := errors.Join(errs...); err != nil {
		d.log.Warn("not everything could be closed", "error", err)
	}
}
