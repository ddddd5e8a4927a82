package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/internal/coordinator"
	"github.com/locksmith-reboot/locksmith/internal/envfile"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/login1"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/systemd"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// serve is the daemon: it runs until it is asked to stop, which is no error, or
// cannot go on.
func serve(ctx context.Context, s settings, h host, stderr io.Writer) error {
	log := newLog(s, stderr)
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
	me.Groups = s.groups
	log = log.With("group", locksmith.JoinGroups(s.groups), "boot_id", me.BootID)
	d := &daemon{me: me, agentLog: log}
	log = log.With("machine", me.MachineID)
	d.log, d.notes = log, newAnnouncer(log)
	defer d.close()
	if err := d.assemble(s, h); err != nil {
		return err
	}
	log.Info("started", "version", options.BuildVersion(), "strategy", s.strategy, "window", windowText(s), "endpoints", s.etcd.Endpoints)
	err = d.run(ctx)
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		log.Info("stopped", "cause", context.Cause(ctx))
		return nil
	}
	return err
}

func newLog(s settings, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if s.debug {
		opts.Level = slog.LevelDebug
	}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func windowText(s settings) string {
	if s.window == nil {
		return "always"
	}
	return s.window.String()
}

// identify finds out which machine this is, and in which of its boots.
func identify(h host) (locksmith.Presence, error) {
	id, err := readLine(h.machineIDFile)
	if err == nil {
		err = locksmith.CheckMachineID(id)
	}
	// What systemd writes until the first boot is done, on every machine.
	if err == nil && id == "uninitialized" {
		err = errors.New("it is not initialized yet")
	}
	if err != nil {
		return locksmith.Presence{}, fmt.Errorf("reading this machine's id from %s: %w", h.machineIDFile, err)
	}
	boot, err := readLine(h.bootIDFile)
	if err == nil && boot == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return locksmith.Presence{}, fmt.Errorf("reading the boot id from %s: %w", h.bootIDFile, err)
	}
	// These two are only shown to people, so the machine may lack them.
	name, _ := h.hostname()
	release, _ := envfile.Read(h.osRelease, func(key string) bool { return key == "PRETTY_NAME" })
	return locksmith.Presence{MachineID: id, BootID: boot, Hostname: name, OS: release["PRETTY_NAME"], Started: time.Now().Unix()}, nil
}

func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// daemon is the parts of a running daemon.
type daemon struct {
	me       locksmith.Presence
	log      *slog.Logger
	agentLog *slog.Logger // without the machine, which the agent adds
	notes    *announcer

	coordinator *coordinator.File
	listener    *control.Listener
	bus         *bus.Bus
	store       *etcd.Store // nil where no strategy needs it
	useLock     func(context.Context) (bool, error)
	agent       *agent.Agent
	server      *control.Server
}

// assemble makes all parts. What can be refused is refused here; nothing waits
// for etcd or the bus, which may come later.
func (d *daemon) assemble(s settings, h host) (err error) {
	// First of all: there must not be two who decide.
	if d.coordinator, err = coordinator.Claim(s.coordinator, string(s.strategy), agent.CoordinatorStarting); err != nil {
		return err
	}
	if d.listener, err = control.Listen(s.control); err != nil {
		return err
	}
	d.bus = bus.New(h.bus, d.log)
	requests := trigger.NewControl(filepath.Join(filepath.Dir(s.control), "reboot-needed"), d.me.BootID)
	cfg := agent.Config{
		MachineID: d.me.MachineID, BootID: d.me.BootID, Hostname: d.me.Hostname,
		Groups: s.groups, Strategy: s.strategy, Priority: s.priority,
		Machine:     login1.New(d.bus),
		Triggers:    []agent.Trigger{trigger.NewUpdateEngine(d.bus, d.log), requests},
		Coordinator: d.coordinator,
		LoginDelay:  s.loginDelay,
		RebootGrace: s.rebootGrace,
		OnChange:    d.notes.changed,
		Log:         d.agentLog,
	}
	if s.window != nil { // a nil *Window in an interface would not be nil
		cfg.Window = s.window
	}
	if s.strategy != locksmith.StrategyReboot {
		if err := d.openStore(s); err != nil {
			return err
		}
		cfg.Lock, cfg.UseLock = d.store, d.useLock
	}
	if d.agent, err = agent.New(cfg); err != nil {
		return err
	}
	d.server = &control.Server{Status: d.agent.Status, Request: requests.Request, Cancel: requests.Cancel, Log: d.log}
	return nil
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
		d.useLock = probe{s.etcd.EndpointSet, s.etcd.Endpoints, systemd.New(d.bus).AnyUnitActive}.useLock
	}
	return err
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
	group.Go(func() error { return d.presence(ctx) })
	group.Go(func() error { return d.notes.run(ctx) })
	group.Go(func() error { return d.notes.watchdog(ctx, func() { d.agent.Status() }) })
	d.notes.notify(sdnotify.SdNotifyReady)
	<-ctx.Done()
	d.notes.notify(sdnotify.SdNotifyStopping)
	return group.Wait()
}

// presence shows in etcd that this machine's agent lives. Where etcd may not even
// exist, it waits until it does.
func (d *daemon) presence(ctx context.Context) error {
	if d.store == nil {
		return nil
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		use, err := d.useLock(ctx)
		if use && err == nil {
			latest := make(chan locksmith.Presence, 1)
			latest <- d.me
			return d.store.KeepPresence(ctx, latest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
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
	if d.coordinator != nil {
		errs = append(errs, d.coordinator.Close())
	}
	if err := errors.Join(errs...); err != nil {
		d.log.Warn("not everything could be closed", "error", err)
	}
}
