package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Network joins nodes. Every packet between two of them passes through this
// process, which drops or delays it: so a fault takes effect at once, in one
// direction where that is wanted, and needs nothing of the kernel but network
// namespaces and TUN devices. (Many kernels of virtual machines come without netem.)
type Network struct {
	mu    sync.Mutex
	nodes map[netip.Addr]*Node
	cut   map[way]int // how many faults cut this way at the moment
	rng   *rand.Rand

	disturbed map[*disturbance]bool
}

// disturbance is what happens to every packet.
type disturbance struct {
	lose  int // one in this many is lost; 0: none
	delay time.Duration
}

// way is one direction between two nodes.
type way struct{ from, to *Node }

// NewNetwork is a network without nodes. seed decides which packets are lost.
func NewNetwork(seed uint64) *Network {
	return &Network{
		nodes: make(map[netip.Addr]*Node), cut: make(map[way]int), disturbed: make(map[*disturbance]bool),
		rng: rand.New(rand.NewPCG(seed, 0x6e6574)),
	}
}

// Cut keeps all packets from one node from reaching the other, until it is mended.
// Cut twice it takes two to mend.
func (n *Network) Cut(from, to *Node) (mend func()) {
	w := way{from, to}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[w]++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.cut[w]--; n.cut[w] == 0 {
			delete(n.cut, w)
		}
	}
}

// Disturb loses one in lose of all packets (0: none) and delays the others by up to
// delay, which also puts them out of order, until it is mended. Disturbances add up.
func (n *Network) Disturb(lose int, delay time.Duration) (mend func()) {
	d := &disturbance{lose, delay}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.disturbed[d] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.disturbed, d)
	}
}

// Close takes all nodes down, with every process that runs there.
func (n *Network) Close() {
	n.mu.Lock()
	nodes := n.nodes
	n.nodes = nil
	n.mu.Unlock()
	for _, node := range nodes {
		node.close()
	}
}

// route says where a packet goes and how long it takes; nil: it is lost.
func (n *Network) route(from *Node, packet []byte) (to *Node, delay time.Duration) {
	const header, version4 = 20, 4
	if len(packet) < header || packet[0]>>4 != version4 {
		return nil, 0 // what IPv6 says to nobody
	}
	dst := netip.AddrFrom4([4]byte(packet[16:20]))
	n.mu.Lock()
	defer n.mu.Unlock()
	to = n.nodes[dst]
	if to == nil || n.cut[way{from, to}] > 0 {
		return nil, 0
	}
	for d := range n.disturbed {
		if d.lose > 0 && n.rng.IntN(d.lose) == 0 {
			return nil, 0
		}
		delay += time.Duration(n.rng.Int64N(int64(d.delay) + 1))
	}
	return to, delay
}

// carry takes what from sends to where it goes, until the node is closed.
func (n *Network) carry(from *Node) {
	buf := make([]byte, mtu)
	for {
		size, err := from.device.Read(buf)
		if err != nil {
			return
		}
		to, delay := n.route(from, buf[:size])
		switch {
		case to == nil:
		case delay > 0:
			packet := append([]byte(nil), buf[:size]...)
			time.AfterFunc(delay, func() { to.deliver(packet) })
		default:
			to.deliver(buf[:size])
		}
	}
}

// deliver hands a packet to the node's kernel. One that does not get through is
// lost, as on any network.
func (n *Node) deliver(packet []byte) { _, _ = n.device.Write(packet) }

// add joins a node to the network.
func (n *Network) add(node *Node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		return fmt.Errorf("the network is closed: %w", os.ErrClosed)
	}
	n.nodes[node.Addr] = node
	return nil
}
