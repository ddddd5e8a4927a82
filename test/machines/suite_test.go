package machines_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/control"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

const (
	daemon = "locksmithd.service"
	engine = "update-engine.service"
)

// release is the layer with the programs under test, built once.
var release struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if release.dir != "" {
		if err := os.RemoveAll(release.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func releaseLayer(t *testing.T) string {
	t.Helper()
	release.Do(func() {
		if release.dir, release.err = os.MkdirTemp("", "locksmith-release-"); release.err != nil {
			return
		}
		machines.RemoveOnSignal(release.dir)
		// Not of t: the layer outlives it.
		release.err = machines.BuildRelease(context.Background(), "../..", release.dir)
	})
	must(t, release.err)
	return release.dir
}

// cluster is machines with locksmithd, an etcd, and somebody who watches both.
type cluster struct {
	t     *testing.T
	fleet *machines.Fleet
	etcd  *machines.Etcd
	audit *machines.Audit
	ms    []*machines.Machine
}

// newCluster boots one machine per element of groups, named m1, m2, …, in these
// groups (comma-separated), and returns when every locksmithd is idle. env is
// added to the environment of each.
func newCluster(t *testing.T, env string, groups ...string) *cluster {
	t.Helper()
	return newClusterOf(t, machines.Bookworm, env, groups...)
}

func newClusterOf(t *testing.T, suite machines.Suite, env string, groups ...string) *cluster {
	t.Helper()
	machines.Require(t)
	c := &cluster{t: t, fleet: machines.ForTest(t, machines.Config{
		Suite:  suite,
		Layers: []string{releaseLayer(t)},
		// Long enough that machines which may be down together are.
		Firmware: 500 * time.Millisecond,
	})}
	var err error
	c.etcd, err = c.fleet.StartEtcd(within(t, limit))
	must(t, err)
	c.audit, err = c.fleet.StartAudit(within(t, limit), c.etcd)
	must(t, err)
	for i, group := range groups {
		m := add(t, c.fleet, fmt.Sprintf("m%d", i+1))[0]
		m.Groups = strings.Split(group, ",")
		must(t, m.WriteFile("/etc/locksmith/locksmithd.env", []byte(c.env(m, env))))
		c.ms = append(c.ms, m)
	}
	// Registered after the fleet's clean-up and so run before it.
	t.Cleanup(func() {
		for _, v := range c.audit.Violations() {
			t.Error("a guarantee was broken:", v)
		}
	})
	must(t, c.fleet.Start(within(t, 3*limit), c.ms...))
	for _, m := range c.ms {
		c.waitPhase(m, locksmith.PhaseIdle)
	}
	return c
}

func (c *cluster) env(m *machines.Machine, more string) string {
	return fmt.Sprintf("REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=%s\nLOCKSMITHD_GROUP=%s\nLOCKSMITHD_LEASE_TTL=5s\n%s\n",
		c.etcd.Endpoint, strings.Join(m.Groups, ","), more)
}

// need has m's update engine say that a reboot is needed. It forgets with the
// reboot, as the real one does.
func (c *cluster) need(ms ...*machines.Machine) {
	c.t.Helper()
	for _, m := range ms {
		must(c.t, m.WriteFile("/run/update-engine-test/operation", []byte("UPDATE_STATUS_UPDATED_NEED_REBOOT\n")))
	}
	for _, m := range ms {
		must(c.t, m.Kill(engine, syscall.SIGHUP))
	}
}

func (c *cluster) status(ctx context.Context, m *machines.Machine) (agent.Status, error) {
	socket, err := m.Path("/run/locksmith/locksmithd.sock")
	if err != nil {
		return agent.Status{}, err
	}
	return (&control.Client{Path: socket}).Status(ctx)
}

// waitPhase waits until m's locksmithd says that it is in phase.
func (c *cluster) waitPhase(m *machines.Machine, phase locksmith.Phase) {
	c.t.Helper()
	ctx := within(c.t, limit)
	must(c.t, machines.Poll(ctx, fmt.Sprintf("%s to be %s", m.Name, phase), func() (bool, error) {
		s, err := c.status(ctx, m)
		if err == nil && s.Phase != phase {
			err = fmt.Errorf("it is %s: %s", s.Phase, s.Waiting)
		}
		return err == nil, err
	}))
}

// kill kills m's locksmithd with SIGKILL and waits until systemd has started
// another one and that answers.
func (c *cluster) kill(m *machines.Machine) {
	c.t.Helper()
	c.killAtOnce(m)
	ctx := within(c.t, limit)
	must(c.t, machines.Poll(ctx, "an answer of locksmithd on "+m.Name, func() (bool, error) {
		_, err := c.status(ctx, m)
		return err == nil, err
	}))
}

// killAtOnce kills m's locksmithd and returns when another process has taken its
// place, which may not have come far.
func (c *cluster) killAtOnce(m *machines.Machine) {
	c.t.Helper()
	old := m.Pids(daemon)
	must(c.t, m.Kill(daemon, syscall.SIGKILL))
	must(c.t, machines.Poll(within(c.t, limit), "another locksmithd on "+m.Name, func() (bool, error) {
		pids := m.Pids(daemon)
		return len(pids) == 1 && !slices.Equal(pids, old), nil
	}))
}

// ctl runs locksmithctl on the host and returns its standard output.
func (c *cluster) ctl(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(within(c.t, limit), filepath.Join(release.dir, "usr/bin/locksmithctl"), args...)
	cmd.Env = append(os.Environ(), "LOCKSMITHCTL_ENDPOINT="+c.etcd.Endpoint)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("locksmithctl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// rebooted waits until each of ms has come up boots times, has given its slots
// back and is idle, and fails if one came up more often.
func (c *cluster) rebooted(boots int, ms ...*machines.Machine) {
	c.t.Helper()
	must(c.t, c.fleet.Wait(within(c.t, 2*limit), fmt.Sprintf("boot number %d of %s", boots, names(ms)), func(e []machines.Event) bool {
		for _, m := range ms {
			if machines.Boots(e, m.Name) < boots || !machines.IsUp(e, m.Name) {
				return false
			}
		}
		return true
	}))
	must(c.t, c.audit.Wait(within(c.t, limit), "the slots of "+names(ms).String()+" to be free", func(s machines.Store) bool {
		for _, m := range ms {
			for _, group := range m.Groups {
				if slices.Contains(s.Holders(group), m.ID) {
					return false
				}
			}
		}
		return true
	}))
	for _, m := range ms {
		c.waitPhase(m, locksmith.PhaseIdle)
	}
	must(c.t, c.fleet.Sync(c.t.Context()))
	for _, m := range ms {
		if n := machines.Boots(c.fleet.Events(), m.Name); n != boots {
			c.t.Errorf("%s came up %d times, want %d", m.Name, n, boots)
		}
	}
}

// neverMoreDown checks from the observations that never more than limit of ms
// were down at once.
func (c *cluster) neverMoreDown(limit int, ms ...*machines.Machine) int {
	c.t.Helper()
	most, which := machines.MostDown(c.fleet.Events(), names(ms))
	if most > limit {
		c.t.Errorf("%d machines were down at once (%v), at most %d may be", most, which, limit)
	}
	return most
}

type nameList []string

func (n nameList) String() string { return strings.Join(n, ", ") }

func names(ms []*machines.Machine) nameList {
	var list nameList
	for _, m := range ms {
		list = append(list, m.Name)
	}
	return list
}
