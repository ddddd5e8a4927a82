package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	clientPort = 2379
	peerPort   = 2380
)

// Member is one member of the cluster.
type Member struct {
	Daemon
	Endpoint string
	Disk     *Disk // with its data
}

// Cluster is an etcd cluster, each member a process of Debian's etcd on a node of
// its own.
type Cluster struct {
	Members []*Member

	observer *Node
	status   []*clientv3.Client // to one member each
}

// NewCluster starts size members, on the nodes 1 to size, and returns once they
// answer. The observer's node stands beside them and is never cut off.
func NewCluster(ctx context.Context, network *Network, observer *Node, dir string, size int) (*Cluster, error) {
	c := &Cluster{observer: observer}
	var all []string
	for i := range size {
		name := fmt.Sprintf("etcd%d", i+1)
		node, err := network.NewNode(name, i+1)
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, name+".mounted")
		disk, err := makeDisk(node, data, filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		c.Members = append(c.Members, &Member{
			Disk:     disk,
			Daemon:   Daemon{Node: node, log: filepath.Join(dir, name+".log"), args: []string{"etcd", "--data-dir", data}},
			Endpoint: fmt.Sprintf("http://%s:%d", node.Addr, clientPort),
		})
		all = append(all, fmt.Sprintf("%s=http://%s:%d", name, node.Addr, peerPort))
	}
	for _, m := range c.Members {
		peer := fmt.Sprintf("http://%s:%d", m.Node.Addr, peerPort)
		m.args = append(m.args, "--name", m.Node.Name, "--logger", "zap",
			"--listen-client-urls", m.Endpoint, "--advertise-client-urls", m.Endpoint,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(all, ","),
			"--quota-backend-bytes", strconv.Itoa(quotaBytes))
		if err := m.Start(); err != nil {
			return nil, err
		}
		client, err := c.client(m.Endpoint)
		if err != nil {
			return nil, err
		}
		c.status = append(c.status, client)
	}
	return c, c.awaitReady(ctx)
}

// Endpoints are those of all members.
func (c *Cluster) Endpoints() []string {
	var list []string
	for _, m := range c.Members {
		list = append(list, m.Endpoint)
	}
	return list
}

// Close closes the connections; the processes end with the network.
func (c *Cluster) Close() {
	for _, client := range c.status {
		client.Close()
	}
}

// client is one from the observer's node.
func (c *Cluster) client(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{c.observer.dialer()},
	})
}

// dialer has gRPC connect from the node.
func (n *Node) dialer() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return n.Dial(ctx, strings.TrimPrefix(addr, "http://"))
	})
}

// Leader is the member that says it leads; nil where none does, or none answers in
// time. Of two that say so, one that was cut off among them, the later term counts.
func (c *Cluster) Leader(ctx context.Context) *Member {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	var leader *Member
	var term uint64
	var wg sync.WaitGroup
	for i, m := range c.Members {
		wg.Go(func() {
			s, err := c.status[i].Status(ctx, m.Endpoint)
			if err != nil || s.Leader != s.Header.MemberId {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if s.RaftTerm > term {
				leader, term = m, s.RaftTerm
			}
		})
	}
	wg.Wait()
	return leader
}

// awaitReady returns when every member answers a linearizable read.
func (c *Cluster) awaitReady(ctx context.Context) error {
	for i, m := range c.Members {
		for {
			try, cancel := context.WithTimeout(ctx, time.Second)
			_, err := c.status[i].Get(try, "ready")
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				log, _ := os.ReadFile(m.log)
				return errors.Join(fmt.Errorf("%s does not answer: %w", m.Node.Name, err), errors.New(string(log)))
			}
		}
	}
	return nil
}
