package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/embedded"
	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/options"
	"github.com/locksmith-reboot/locksmith/internal/server"
)

// serve is the server: it runs until it is asked to stop, which is no error, or cannot
// go on.
func (a *app) serve(ctx context.Context, s serveSettings) error {
	log, closeLog := newLog(s, a.stderr)
	defer closeLog()
	ctx, release := interruptible(ctx)
	defer release()
	d := &daemon{settings: s, log: log}
	defer d.close()
	if err := d.assemble(ctx); err != nil {
		return err
	}
	d.announce()
	err := d.run(ctx)
	if i, ok := errors.AsType[*interrupted](context.Cause(ctx)); ok && (err == nil || errors.Is(err, i) || errors.Is(err, context.Canceled)) {
		log.Info("stopped", "cause", i.Error())
		return nil
	}
	return err
}

// daemon is the parts of a running server.
type daemon struct {
	settings serveSettings
	log      *slog.Logger

	listener net.Listener
	tls      *tls.Config // nil: plain text
	etcd     *embedded.Server
	store    *etcd.Store
	site     site
}

// guardian is who may do what, and how people sign in.
type guardian interface {
	access.Guard
	SignIn(w http.ResponseWriter, r *http.Request, token string) (access.Caller, error)
	SignOut(w http.ResponseWriter, r *http.Request)
	NeedsSignIn() bool
}

// assemble makes all parts. What can be refused is refused here; nothing waits for an
// etcd cluster, which may come later.
func (d *daemon) assemble(ctx context.Context) (err error) {
	s := d.settings
	guard, err := d.guard()
	if err != nil {
		return err
	}
	if s.cert != "" {
		if d.tls, err = access.TLS(access.TLSConfig{CertFile: s.cert, KeyFile: s.key, ClientCAFile: s.caFile, Log: d.log}); err != nil {
			return err
		}
	}
	if d.listener, err = net.Listen("tcp", s.listen); err != nil {
		return listenError(optListen, s.listen, err)
	}
	// A name may mean another address than it says.
	if err := access.CheckListen(d.listener.Addr().String(), s.accessFile != "", s.insecure); err != nil {
		return err
	}
	cfg := clusterConfig(s.etcd)
	if s.embedded {
		if cfg.Endpoints, err = d.startEtcd(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
	cfg.Log, cfg.LeaseTTL = d.log, s.queueLease
	if d.store, err = etcd.Dial(cfg); err != nil {
		return err
	}
	d.site, err = newSite(siteConfig{store: d.store, guard: guard, createGroups: s.createGroups, defaultGroup: s.defaultGroup,
		wait: s.fleetLockWait, maxWaiting: s.maxWaiting, log: d.log})
	return err
}

func (d *daemon) guard() (guardian, error) {
	if d.settings.accessFile == "" {
		return access.Anyone(d.settings.listen, d.settings.insecure), nil
	}
	file, err := access.Open(d.settings.accessFile, d.log)
	if err != nil { // or a nil *File in the interface would not be nil
		return nil, err
	}
	return file, nil
}

// etcdStartLimit bounds the start of the embedded etcd, which reads all its data.
const etcdStartLimit = 2 * time.Minute

// startEtcd runs the embedded etcd, and returns where the server reaches it.
func (d *daemon) startEtcd(ctx context.Context) (endpoints []string, err error) {
	s := d.settings
	dir, err := filepath.Abs(s.dataDir)
	if err != nil {
		return nil, err
	}
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	cfg := embedded.Config{Dir: etcdDir(dir), Listen: s.etcdListen, Socket: etcdSocket(dir), Log: d.log}
	if s.etcdTLS {
		cfg.TLS = embedded.TLS{CertFile: s.cert, KeyFile: s.key, ClientCAFile: s.caFile}
	}
	ctx, cancel := context.WithTimeout(ctx, etcdStartLimit)
	defer cancel()
	if d.etcd, err = embedded.Start(ctx, cfg); err != nil {
		inUse, is := errors.AsType[*embedded.InUseError](err)
		switch {
		case is:
			err = fmt.Errorf("another server runs with its data in -%s %s (process %s): stop it first, or give another directory", optDataDir, s.dataDir, cmp.Or(inUse.PID, "unknown"))
		case s.etcdListen != "" && isListenError(err):
			err = listenError(optEtcdListen, s.etcdListen, err)
		}
		return nil, err
	}
	return []string{embedded.SocketEndpoint(cfg.Socket)}, nil
}

func isListenError(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EACCES)
}

// listenError says which option to change where the system does not let us listen.
func listenError(option, address string, err error) error {
	why := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		why = op.Err
	}
	what := "choose another address"
	if errors.Is(err, syscall.EADDRINUSE) {
		what = "stop what listens there, or choose another address"
	}
	if option == optEtcdListen {
		what += ", or none at all: -etcd-listen off"
	}
	return fmt.Errorf("cannot listen at -%s %s: %w; %s", option, address, why, what)
}

// url is where people find the server.
func (d *daemon) url() string {
	scheme := "http://"
	if d.tls != nil {
		scheme = "https://"
	}
	return scheme + d.listener.Addr().String()
}

// announce says in one line what runs, and warns of what is open.
func (d *daemon) announce() {
	s := d.settings
	store, etcdListen := "etcd at "+strings.Join(s.etcd.Endpoints, ", "), ""
	if s.embedded {
		store, etcdListen = "embedded etcd in "+s.dataDir, etcdListenOff
		if s.etcdListen != "" {
			etcdListen = d.etcd.Endpoint()
		}
	}
	authorization := "none"
	if s.accessFile != "" {
		authorization = "access file " + s.accessFile
	}
	d.log.Info("started", "listen", d.url(), "store", store, "etcd_listen", etcdListen, "authorization", authorization,
		"fleetlock_wait", s.fleetLockWait, "version", options.BuildVersion())
	switch {
	case s.insecure && s.accessFile == "":
		d.log.Warn("everybody who reaches this server may take slots, unlock, pause and change the maximum: -insecure-listen is set, and there is no -access-file")
	case s.accessFile != "" && d.tls == nil && access.CheckListen(d.listener.Addr().String(), false, false) != nil:
		d.log.Warn("tokens come in plain text: give -tls-cert and -tls-key, unless a proxy in front of this server speaks TLS")
	}
	if s.insecure && s.etcdListen != "" && s.caFile == "" && access.CheckListen(d.etcd.Address().String(), false, false) != nil {
		d.log.Warn("everybody who reaches the embedded etcd may change everything in it: -insecure-listen is set", "etcd_listen", etcdListen)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(s.maxConnections)+reservedFiles {
		d.log.Warn("fewer connections than -max-connections fit into the limit of open files", "max_connections", s.maxConnections, "limit", files.Cur)
	}
}

// reservedFiles are those that are open beside connections.
const reservedFiles = 200

// run runs all parts until ctx ends or one of them fails; then all of them stop.
func (d *daemon) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	listener := d.listener
	d.listener = nil // the server closes it
	group.Go(func() error {
		return server.Serve(ctx, listener, d.site.handler, server.ServeConfig{TLS: d.tls, MaxConnections: d.settings.maxConnections, Log: d.log})
	})
	group.Go(func() error { return d.site.run(ctx) })
	group.Go(func() error { return watchdog(ctx, d.log) })
	group.Go(func() error { return giveBackMemory(ctx, restCheck) })
	if d.etcd != nil {
		group.Go(func() error {
			select {
			case err := <-d.etcd.Err():
				return fmt.Errorf("the embedded etcd failed: %w", err)
			case <-ctx.Done():
				return nil
			}
		})
	}
	notify(d.log, sdnotify.SdNotifyReady)
	<-ctx.Done()
	notify(d.log, sdnotify.SdNotifyStopping)
	return group.Wait()
}

// close gives back what assemble took, as far as it came. Slots stay held.
func (d *daemon) close() {
	if d.listener != nil {
		d.listener.Close()
	}
	d.site.close()
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Warn("the connection to etcd could not be closed", "error", err)
		}
	}
	if d.etcd != nil {
		d.etcd.Close()
	}
}
