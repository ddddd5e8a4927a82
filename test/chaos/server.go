package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serverPort is where locksmith-server listens.
const serverPort = 8080

func serverURL(node *Node) string { return fmt.Sprintf("http://%s:%d", node.Addr, serverPort) }

// startServer starts locksmith-server number i, from 0, on a node of its own, and
// returns once it takes connections.
func (r *run) startServer(ctx context.Context, i int) (*Daemon, error) {
	name := fmt.Sprintf("server%d", i+1)
	node, err := r.network.NewNode(name, firstServer+i)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(node.Addr.String(), fmt.Sprint(serverPort))
	d := &Daemon{Node: node, log: filepath.Join(r.Dir, name+".log"), args: []string{r.Server,
		"-listen", address, "-insecure-listen", "-endpoint", strings.Join(r.cluster.Endpoints(), ","), "-log-format", "text"}}
	return d, d.startListening(ctx, r.cluster.observer, address)
}

// startListening starts the daemon, and returns once it takes connections at an address.
func (d *Daemon) startListening(ctx context.Context, from *Node, address string) error {
	if err := d.Start(); err != nil {
		return err
	}
	for {
		c, err := from.Dial(ctx, address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-d.proc.Ended:
			said, _ := os.ReadFile(d.log)
			return fmt.Errorf("%s has ended: %s", d.Node.Name, said)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", d.Node.Name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
