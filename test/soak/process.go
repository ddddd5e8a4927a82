package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// process is one process of a run, through all of its lives.
type process struct {
	name  string
	start func() (*exec.Cmd, error) // makes a command that is ready to start
	log   string                    // the file of its standard error

	mu     sync.Mutex
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ended  chan struct{} // closed once cmd has ended
	lives  int           // how often it was started
	killed bool          // on purpose
}

// launch starts it.
func (p *process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd, err := p.start()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // that it ended is what counts; why stands in its log
		close(ended)
	}()
	p.cmd, p.ended, p.killed = cmd, ended, false
	p.lives++
	return nil
}

// say has the process read a word. To one that has just died it is lost.
func (p *process) say(word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.stdin, word+"\n")
}

// kill ends it at once and returns when it has ended.
func (p *process) kill() {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.killed = true
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-ended
}

// signal sends it sig.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(sig)
}

// stop has it end by itself.
func (p *process) stop() error {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.killed = true
	if cmd != nil {
		_ = p.stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	const patience = 30 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %v", p.name, patience)
	}
}

// life says which one of its lives this is, from 1, and its number at the system.
func (p *process) life() (life, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, 0
	}
	return p.lives, p.cmd.Process.Pid
}

// died says whether it ended although nobody wanted it to.
func (p *process) died() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.killed {
		return false
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// newChild is a process of this program's own. lines is the pipe to tell into.
func newChild(dir string, r role, lines *os.File) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return &process{name: r.Name, log: filepath.Join(dir, r.Name+".log"), start: func() (*exec.Cmd, error) {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), roleVariable+"="+string(doc))
		cmd.ExtraFiles = []*os.File{lines}
		return cmd, nil
	}}, nil
}

// server is locksmith-server with its etcd inside.
type server struct {
	*process
	listen, etcd string // HOST:PORT
	socket       string // of etcd's own metrics
	http         *http.Client
}

const serverName = "server"

func newServer(ctx context.Context, dir, program string) (*server, error) {
	if program == "" {
		program = filepath.Join(dir, "locksmith-server")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/locksmith-reboot/locksmith/cmd/locksmith-server")
		if msg, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building locksmith-server: %w\n%s", err, msg)
		}
	}
	data := filepath.Join(dir, "data")
	s := &server{socket: filepath.Join(data, "etcd", "http.sock"), http: &http.Client{Timeout: 5 * time.Second}}
	for _, to := range []*string{&s.listen, &s.etcd} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		*to = l.Addr().String()
	}
	s.process = &process{name: serverName, log: filepath.Join(dir, "server.log"), start: func() (*exec.Cmd, error) {
		return exec.Command(program, "-listen", s.listen, "-etcd-listen", s.etcd, "-data-dir", data, "-log-format", "text"), nil
	}}
	return s, nil
}

// up starts the server and returns once it is ready.
func (s *server) up(ctx context.Context) error {
	if err := s.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("locksmith-server does not get ready"))
	defer cancel()
	gone := false
	err := until(ctx, 100*time.Millisecond, func() bool {
		if gone = s.died(); gone {
			return true
		}
		resp, err := s.http.Get("http://" + s.listen + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if gone {
		return fmt.Errorf("locksmith-server has ended by itself: see %s", s.log)
	}
	return err
}

// until repeats ok every pause until it is true, or ctx ends.
func until(ctx context.Context, pause time.Duration, ok func() bool) error {
	for tick := time.NewTicker(pause); ; {
		if ok() {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return context.Cause(ctx)
		}
	}
}

// pass returns after d, or with ctx's cause.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
