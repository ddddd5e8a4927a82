package chaos

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// mtu is the longest packet in bytes.
const mtu = 9000

// Node is a place on the network: a network namespace without a name, which goes
// with its last process. One thread of this process lives in it and starts whatever
// runs there.
type Node struct {
	Name string
	Addr netip.Addr

	device *os.File // packets of the node's kernel
	calls  chan func()
	ended  chan struct{}
	once   sync.Once
}

// NewNode makes node number i, 1 to 254. It needs root.
func (n *Network) NewNode(name string, i int) (*Node, error) {
	node := &Node{
		Name: name, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}),
		calls: make(chan func()), ended: make(chan struct{}),
	}
	ready := make(chan error)
	go node.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("making the network node %s: %w", name, err)
	}
	if err := n.add(node); err != nil {
		node.close()
		return nil, err
	}
	go n.carry(node)
	return node, nil
}

// live is the thread that lives on the node. It never gives its thread back: with
// it end the processes that it started. The main thread never ends, and so is kept
// from living anywhere: what it started would run on beside all later nodes.
func (n *Node) live(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go n.live(ready)
		<-n.ended
		runtime.UnlockOSThread()
		return
	}
	defer close(n.ended)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("a network namespace: %w", err)
		return
	}
	if err := n.connect(); err != nil {
		ready <- err
		return
	}
	ready <- nil
	for call := range n.calls {
		call()
	}
}

// connect gives the namespace its device and address.
func (n *Node) connect() error {
	const name = "net0"
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return fmt.Errorf("a TUN device: %w", err)
	}
	// Only now, because a file that cannot be waited for would be a blocking one.
	n.device = os.NewFile(uintptr(fd), "tun "+n.Name)
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(fmt.Sprintf("link set lo up\naddr add %s/24 dev %s\nlink set %s mtu %d up\n", n.Addr, name, name, mtu))
	if out, err := ip.CombinedOutput(); err != nil {
		n.device.Close()
		return fmt.Errorf("setting the address: %w: %s", err, out)
	}
	return nil
}

// do calls f on the node's thread.
func (n *Node) do(f func() error) (err error) {
	done := make(chan struct{})
	n.calls <- func() { err = f(); close(done) }
	<-done
	return err
}

func (n *Node) close() {
	n.once.Do(func() {
		close(n.calls)
		n.device.Close()
		<-n.ended
	})
}

// Dial connects from the node; addr is an IP address with a port. It does not wait
// for an answer on the node's thread, which others need.
func (n *Node) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	var fd int
	if err := n.do(func() error {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	}); err != nil {
		return nil, err
	}
	return connect(ctx, fd, to)
}

// connect carries out a connection on a socket, which it closes when that fails.
func connect(ctx context.Context, fd int, to netip.AddrPort) (net.Conn, error) {
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	file := os.NewFile(uintptr(fd), to.String())
	defer file.Close() // net.FileConn has a copy
	if err != nil && err != unix.EINPROGRESS {
		return nil, fmt.Errorf("connecting to %s: %w", to, err)
	}
	stop := context.AfterFunc(ctx, func() { file.Close() })
	defer stop()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	result := 0
	err = raw.Write(func(fd uintptr) bool { // again and again when the socket becomes writable
		if result, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); result != 0 {
			return true
		}
		_, err := unix.Getpeername(int(fd))
		return err == nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case result != 0:
		return nil, fmt.Errorf("connecting to %s: %w", to, syscall.Errno(result))
	}
	return net.FileConn(file)
}

// Process is a program that runs on a node.
type Process struct {
	cmd   *exec.Cmd
	Ended chan struct{} // closed once it has ended and has been waited for
}

// Start starts cmd on the node. It is killed with the node at the latest.
func (n *Node) Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s on %s: %w", cmd.Path, n.Name, err)
	}
	p := &Process{cmd: cmd, Ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is of no interest: mostly it was killed
		close(p.Ended)
	}()
	return p, nil
}

// Kill ends the process without a chance to do anything more, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.Ended
}

// Pause stops the process where it is, until Resume.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
