package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// TestNetwork holds what the faults do against real connections: if a cut did
// nothing, no schedule would test anything.
func TestNetwork(t *testing.T) {
	require(t)
	network := chaos.NewNetwork(1)
	defer network.Close()
	a, err := network.NewNode("a", 1)
	must(t, err)
	b, err := network.NewNode("b", 2)
	must(t, err)
	echo(t, b)
	connects := func(want bool) {
		t.Helper()
		limit := 5 * time.Second
		if !want {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		c, err := a.Dial(ctx, "10.77.0.2:7")
		if err == nil {
			c.Close()
		}
		if got := err == nil; got != want || !want && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("connected is %v (%v), want %v", got, err, want)
		}
	}
	connects(true)
	for _, way := range [][2]*chaos.Node{{a, b}, {b, a}} {
		once, twice := network.Cut(way[0], way[1]), network.Cut(way[0], way[1])
		connects(false)
		once()
		connects(false)
		twice()
		connects(true)
	}
	mend := network.Disturb(1, 0)
	connects(false)
	mend()
	connects(true)
	if _, err := a.Dial(t.Context(), "10.77.0.2:8"); err == nil {
		t.Error("connected to a port where nobody listens")
	}
	const delay = 20 * time.Millisecond
	mend = network.Disturb(0, delay)
	defer mend()
	began := time.Now()
	for range 20 { // each takes two delays of 10 ms on average
		connects(true)
	}
	if took := time.Since(began); took < 5*delay {
		t.Errorf("twenty connections over a slow network took %v", took)
	}
}

// echo has somebody listen on a node's port 7, until the test ends.
func echo(t *testing.T, node *chaos.Node) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(cmd.Environ(), listenVariable+"="+node.Addr.String()+":7")
	var said bytes.Buffer
	cmd.Stderr = &said
	ready, err := cmd.StdoutPipe()
	must(t, err)
	process, err := node.Start(cmd)
	must(t, err)
	t.Cleanup(process.Kill)
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatalf("nobody listens: %v: %s", err, &said)
	}
}

const listenVariable = "LOCKSMITH_CHAOS_LISTEN"

// listen is the process that echo starts; it says when it listens.
func listen(addr string, ready func()) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ready()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}
