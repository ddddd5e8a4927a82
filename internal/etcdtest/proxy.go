package etcdtest

import (
	"net"
	"sync"
	"testing"
)

// Proxy stands between a client and a server and can take replies, or the whole
// connection, away.
type Proxy struct {
	Endpoint string

	target   string
	listener net.Listener
	mu       sync.Mutex
	deaf     bool // replies are swallowed
	down     bool // connections are refused as soon as they are accepted
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

// NewProxy forwards to address until the test ends.
func NewProxy(t testing.TB, address string) *Proxy {
	t.Helper()
	p, err := OpenProxy(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// OpenProxy forwards to address until Close.
func OpenProxy(address string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Endpoint: "http://" + l.Addr().String(), target: address, listener: l, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	return p, nil
}

// Close takes no more connections, and returns once all are closed.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		down := p.down
		if !down {
			p.conns[client], p.conns[server] = true, true
		}
		p.mu.Unlock()
		if down {
			client.Close()
			server.Close()
			continue
		}
		p.wg.Go(func() { p.forward(server, client, false) })
		p.wg.Go(func() { p.forward(client, server, true) })
	}
}

func (p *Proxy) forward(to, from net.Conn, replies bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		p.mu.Lock()
		swallow := replies && p.deaf
		p.mu.Unlock()
		if swallow {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	p.mu.Lock()
	delete(p.conns, to)
	delete(p.conns, from)
	p.mu.Unlock()
}

// SwallowReplies lets requests through but no answer, until Cut.
func (p *Proxy) SwallowReplies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// Cut closes all connections. New ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = false
	for c := range p.conns {
		c.Close()
	}
}

// Down refuses connections, present and new, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.Cut()
}

// Up ends Down.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
