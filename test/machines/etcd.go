package machines

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Etcd is a real etcd server beside a fleet, on the loopback that the machines
// share. It ends with the fleet.
type Etcd struct {
	Endpoint string // "http://127.0.0.1:…"
	Client   *clientv3.Client

	cmd *exec.Cmd
}

// intoGroup enters the control groups before the first "--" and becomes the
// command after it.
const intoGroup = `set -e
while [ "$1" != -- ]; do
	echo $$ >"$1/cgroup.procs"
	shift
done
shift
exec "$@"
`

// StartEtcd starts an etcd with an empty store and returns once it answers.
func (f *Fleet) StartEtcd(ctx context.Context) (*Etcd, error) {
	g, err := newCgroup(filepath.Join(f.name, "etcd"))
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	client, peer := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	args := append([]string{"-c", intoGroup, "sh"}, g...)
	args = append(args, "--", "etcd", "--data-dir", filepath.Join(f.dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default="+peer, "--log-level", "error")
	log, err := os.Create(filepath.Join(f.dir, "etcd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &Etcd{Endpoint: client, cmd: cmd}
	f.mu.Lock()
	f.closers = append(f.closers, e.close)
	f.mu.Unlock()
	e.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{client}, Logger: zap.NewNop(), DialTimeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = Poll(ctx, "etcd to answer", func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := e.Client.Get(ctx, "x")
		return err == nil, err
	})
	if err != nil {
		text, _ := readTail(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, tail(text, 30))
	}
	return e, nil
}

// Pause stops etcd's process: connections stay open and nothing is answered.
func (e *Etcd) Pause() error { return e.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (e *Etcd) Resume() error { return e.cmd.Process.Signal(syscall.SIGCONT) }

func (e *Etcd) close() error {
	var err error
	if e.Client != nil {
		err = e.Client.Close()
	}
	e.cmd.Process.Kill()
	e.cmd.Wait() // "signal: killed", as was asked for
	return err
}

// freePorts returns n ports of the loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		// Closed only at the end: the next one must be another port.
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
