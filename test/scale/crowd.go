package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// yield is how much nicer the machines' process is than etcd's.
const yield = 10

// crowd is a fleet in a process of its own, and the etcd that it waits at.
type crowd struct {
	*scale
	order  order
	server *etcdtest.Server
	admin  *etcd.Store
	client *clientv3.Client // for what is no Store's to ask

	process *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Scanner
	last    state
}

// gather starts etcd, lets prepare make it ready, and starts the machines' process. Its
// agents begin with fill.
func (s *scale) gather(o order, prepare func(*etcd.Store) error) (c *crowd, err error) {
	c = &crowd{scale: s}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.server, err = s.startEtcd(); err != nil {
		return nil, err
	}
	o.Endpoint, o.Abreast, o.LeaseTTL = c.server.Endpoint, s.abreast, s.lease(o.Machines)
	c.order = o
	if c.admin, err = dial(c.server); err != nil {
		return nil, err
	}
	if c.client, err = newClient(c.server.Endpoint); err != nil {
		return nil, err
	}
	if err := prepare(c.admin); err != nil {
		return nil, err
	}
	return c, c.launch()
}

// Large fleets have longer leases, as docs/performance.md recommends: they need more time
// to come back after a restart than the usual ones last.
const (
	large      = 5000
	largeLease = 2 * time.Minute
)

// lease is how long the leases of so many machines last.
func (s *scale) lease(machines int) time.Duration {
	switch {
	case s.leaseTTL > 0:
		return s.leaseTTL
	case machines > large:
		return largeLease
	}
	return etcd.DefaultLeaseTTL
}

// launch starts the machines' process: this program, called by another name.
func (c *crowd) launch() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.process = exec.Command("nice", "-n", strconv.Itoa(yield), self, agentsArg)
	c.process.Stderr = c.progress
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.ask, err = c.process.StdinPipe(); err != nil {
		return err
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		return err
	}
	c.answers = bufio.NewScanner(out)
	c.answers.Buffer(nil, 1<<24)
	if err := c.process.Start(); err != nil {
		c.process = nil
		return fmt.Errorf("the machines' process: %w", err)
	}
	return json.NewEncoder(c.ask).Encode(c.order)
}

// state asks the machines' process one question. A fleet that has stopped early is an
// error.
func (c *crowd) state(question string) (state, error) {
	if _, err := fmt.Fprintln(c.ask, question); err != nil {
		return c.last, fmt.Errorf("the machines' process is gone: %w", err)
	}
	if !c.answers.Scan() {
		return c.last, errors.Join(errors.New("the machines' process is gone"), c.answers.Err())
	}
	var s state
	if err := json.Unmarshal(c.answers.Bytes(), &s); err != nil {
		return c.last, err
	}
	c.last = s
	if s.Failure != "" {
		return s, fmt.Errorf("the fleet stopped: %s", s.Failure)
	}
	return s, nil
}

// awaitState returns the first state that is as ok says.
func (c *crowd) awaitState(ctx context.Context, what string, pause time.Duration, ok func(state) bool) (s state, err error) {
	err = c.await(ctx, what, pause, func() (bool, error) {
		s, err = c.state(askState)
		return err == nil && ok(s), err
	})
	return s, err
}

// close ends everything that gather began.
func (c *crowd) close() {
	if c.process != nil { // what its agents leave behind goes with etcd
		_ = c.process.Process.Kill()
		_ = c.process.Wait()
	}
	if c.client != nil {
		c.client.Close()
	}
	if c.admin != nil {
		c.admin.Close()
	}
	if c.server != nil {
		c.server.Stop()
	}
}
