package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmith-reboot/locksmith/internal/embedded"
)

// serveArg, as the first argument, makes this program the etcd that another run of
// it measures: in a process of its own, so that its memory and its garbage are not
// those of what is measured.
const serveArg = "serve-etcd"

// serve runs an etcd with its data in args[0] until standard input ends. It says
// its endpoint and the socket of its metrics, each in a line.
func serve(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintf(stderr, "usage: bench %s DIR\n", serveArg)
		return 2
	}
	started, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := embedded.Start(started, embedded.Config{Dir: args[0]})
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	defer s.Close()
	fmt.Fprintf(stdout, "%s\n%s\n", s.Endpoint(), s.HTTPSocket())
	_, _ = io.Copy(io.Discard, stdin)
	return 0
}

// server is an etcd in a process of its own.
type server struct {
	endpoint string
	socket   string // of its metrics
	cmd      *exec.Cmd
	stdin    io.Closer
}

func startServer(ctx context.Context, dir string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.CommandContext(ctx, self, serveArg, dir)}
	s.cmd.Stderr = os.Stderr
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	for _, into := range []*string{&s.endpoint, &s.socket} {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("etcd did not start: %w", err)
		}
		*into = strings.TrimSpace(line)
	}
	return s, nil
}

func (s *server) stop() {
	s.stdin.Close()
	_ = s.cmd.Wait() // it is over either way
}

func (b *bench) newClient() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{b.endpoint}, Logger: zap.NewNop()})
}

// metrics reads etcd's own counters, summed over their labels as key decides; an
// empty key leaves a line out.
func (b *bench) metrics(ctx context.Context, key func(name, labels string) string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.endpoint+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if b.socket != "" {
		client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", b.socket)
		}}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics: %s", b.endpoint, resp.Status)
	}
	sums := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		metric, value, ok := strings.Cut(lines.Text(), " ")
		name, labels, _ := strings.Cut(metric, "{")
		if k := key(name, labels); ok && name != "#" && k != "" {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("metric %q: %w", lines.Text(), err)
			}
			sums[k] += v
		}
	}
	return sums, nil
}

// await repeats ok every pause until it is true.
func await(ctx context.Context, what string, pause time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for %s", what), ctx.Err())
		}
	}
}
